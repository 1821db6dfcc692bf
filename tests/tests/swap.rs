//! Memory that moves to the host and back: VMs that have more together than the
//! device, programs that do not notice, workers that are killed on the way.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use paravane_backend::lease::VmPage;
use paravane_tests::backend::{Backend, eventually, executable, kill};
use paravane_tests::daemon::Daemon;
use rustix::process::Signal;

const MIB: u64 = 1 << 20;
/// Of cpu-driver's device here, and what a VM's program fills of it: three quarters.
const DEVICE: u64 = 64 * MIB;
const FILLS: u64 = DEVICE * 3 / 4;
/// Each VM's memory goes and comes so often.
const ROUNDS: u64 = 10;
/// A wait that takes longer has hung; moves wait for each other.
const HANG: Duration = Duration::from_secs(60);

/// The device is small, so that moves take no time.
fn small(command: &mut Command) {
    command.env("PARAVANE_CPU_MEMORY", DEVICE.to_string());
}

fn backend(daemon: &Daemon, name: &str) -> Backend {
    let socket = daemon.socket();
    let arguments = ["--paravaned", socket.to_str().unwrap(), "--name", name, "--swap", "1G", "--log-level", "warn"];
    let backend = Backend::start_with(&arguments, small);
    eventually("it is registered", || daemon.vm(name).is_some());
    backend
}

/// A program that checks its memory again and again.
struct Program {
    child: Child,
    checks: std::sync::Arc<AtomicU64>,
}

impl Program {
    fn start(backend: &Backend, pause_ms: u64) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_swap-program"));
        command.arg(executable().with_file_name("libcuda.so")).args([FILLS.to_string(), pause_ms.to_string()]);
        command.env("PARAVANE_SOCKET", backend.socket()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let checks = std::sync::Arc::new(AtomicU64::new(0));
        let (lines, told) = (BufReader::new(child.stdout.take().unwrap()).lines(), std::sync::Arc::clone(&checks));
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                told.store(line.parse().unwrap(), Ordering::SeqCst);
            }
        });
        Self { child, checks }
    }

    fn checks(&self) -> u64 {
        self.checks.load(Ordering::SeqCst)
    }

    /// Waits until it has checked its memory again.
    #[track_caller]
    fn gets_on(&mut self, what: &str) {
        let (before, since) = (self.checks(), Instant::now());
        while self.checks() < before + 2 {
            assert!(self.child.try_wait().unwrap().is_none(), "{what}: the program has ended");
            assert!(since.elapsed() < HANG, "{what}: nothing goes on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it; its memory was right to the last byte.
    fn end(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Of several pages the sum of what is, or may come to be, on the device: looked at twice, because the arbiter takes
/// from one before it gives to another.
fn on_the_device(pages: &[VmPage]) -> u64 {
    let look = || pages.iter().map(|page| page.held().resident.max(page.allowed()));
    let first: Vec<u64> = look().collect();
    look().zip(first).map(|(now, before)| now.min(before)).fold(0, u64::saturating_add)
}

fn used(daemon: &Daemon, vm: &str, what: &str) -> u64 {
    daemon.vm(vm).unwrap()["used"][what].as_u64().unwrap()
}

#[test]
fn two_vms_of_three_quarters_of_the_device_each_keep_every_byte() {
    let daemon = Daemon::start("");
    let names = ["one", "other"];
    let backends = names.map(|name| backend(&daemon, name));
    let pages = backends.each_ref().map(Backend::lease_page);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most = 0;
            while !over.load(Ordering::SeqCst) {
                most = most.max(on_the_device(&pages));
                std::thread::sleep(Duration::from_millis(1));
            }
            most
        });
        let mut programs = backends.each_ref().map(|backend| Program::start(backend, 150));
        let since = Instant::now();
        while names.iter().any(|name| used(&daemon, name, "swapped_in_bytes") < ROUNDS * FILLS) && since.elapsed() < HANG {
            programs.iter_mut().for_each(|program| program.gets_on("with the other's memory on the device"));
        }
        programs.into_iter().for_each(Program::end);
        over.store(true, Ordering::SeqCst);
        let most = watch.join().unwrap();
        assert!(most <= DEVICE, "{most} bytes on a device of {DEVICE}");
    });
    for name in names {
        let (out, back) = (used(&daemon, name, "swapped_out_bytes"), used(&daemon, name, "swapped_in_bytes"));
        assert!(back >= ROUNDS * FILLS && out >= back, "{name}: {out} out, {back} in");
    }
    eventually("all memory is back", || daemon.vms().iter().all(|vm| vm["memory_bytes"] == 0));
    assert!(pages.iter().all(|page| page.held() == Default::default()));
}

#[test]
fn who_is_killed_on_its_way_out_leaves_its_room() {
    let daemon = Daemon::start("");
    let (victims, others) = (backend(&daemon, "victim"), backend(&daemon, "other"));
    let page = victims.lease_page();
    let mut other = Program::start(&others, 0);
    other.gets_on("alone");
    for _ in 0..3 {
        let victim = Program::start(&victims, 0);
        eventually("the victim is in, and told to go", || {
            std::thread::sleep(Duration::from_micros(200));
            page.held().resident > FILLS && page.allowed() == 0
        });
        let worker = daemon.vm("victim").unwrap()["processes"][0]["worker"].as_u64().unwrap();
        kill(u32::try_from(worker).unwrap(), Signal::KILL);
        other.gets_on("after the kill");
        drop(victim);
        eventually("the victim's room is free", || page.held() == Default::default());
    }
    other.end();
}

/// Work that waits for its own program: the device is not done until a thread at the closed gate has been let in.
#[test]
fn a_thread_is_not_kept_out_for_what_it_is_to_bring_itself() {
    let backend = Backend::start(&["--swap", "1G"]);
    let page = backend.lease_page();
    for scenario in ["value", "function", "graphs"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lease-program"));
        command.arg(scenario).arg(executable().with_file_name("libcuda.so")).arg("1500");
        let mut child = command.env("PARAVANE_SOCKET", backend.socket()).spawn().unwrap();
        let since = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            assert!(since.elapsed() < HANG, "{scenario} hangs");
            page.allow(0);
            std::thread::sleep(Duration::from_millis(30));
            page.allow(u64::MAX);
            std::thread::sleep(Duration::from_millis(10));
        };
        assert!(status.success(), "{scenario}");
    }
}

#[test]
fn more_than_the_device_has_is_refused_and_memory_beyond_the_setting_stays() {
    let start = |swap: &str| {
        Backend::start_with(&["--swap", swap], small)
    };
    let run = |backend: &Backend, bytes: u64| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_swap-program"));
        command.arg(executable().with_file_name("libcuda.so")).arg(bytes.to_string());
        let output = command.env("PARAVANE_SOCKET", backend.socket()).stdin(Stdio::null()).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (well, said) = run(&start("1G"), DEVICE + 10 * MIB);
    assert!(!well && said.contains("CUDA_ERROR_OUT_OF_MEMORY"), "{said}");
    // 40 MiB may move, what is more stays: it all works.
    let backend = start("40M");
    assert!(run(&backend, FILLS).0);
    let page = backend.lease_page();
    let mut program = Program::start(&backend, 0);
    program.gets_on("with memory of both kinds");
    let held = page.held();
    assert!(held.swappable <= 40 * MIB && held.swappable > 20 * MIB && held.claim > FILLS, "{held:?}");
    page.allow(0);
    std::thread::sleep(Duration::from_millis(300));
    page.allow(u64::MAX);
    program.gets_on("with a part that has come back");
    program.end();
}
