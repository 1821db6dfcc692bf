//! A VM on several devices has a lease of each: its cap holds on each by itself,
//! and what is done on a device is told to that one's arbiter, whichever context
//! is current. What the lease pages say is compared, not how long it took.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Stdio};
use std::time::Instant;

use paravane_backend::lease::VmPage;
use paravane_backend::lease::page::Wants;
use paravane_tests::backend::{Backend, executable, without_symbols};

const MILLISECONDS: &str = "1000";

/// A back end with two devices of cpu-driver's.
struct Vm {
    backend: Backend,
    /// Keeps the library that its workers load.
    #[allow(dead_code, reason = "a guard")]
    library: Option<tempfile::TempDir>,
}

impl Vm {
    fn start(arguments: &[&str]) -> Self {
        let two = |command: &mut Command| {
            command.env("PARAVANE_CPU_DEVICES", "2");
        };
        Self { backend: Backend::start_with(arguments, two), library: None }
    }

    /// One without the library's own clocks.
    fn without_clock(arguments: &[&str]) -> Self {
        let library = tempfile::tempdir().unwrap();
        let path = library.path().join("libcuda-clockless.so");
        without_symbols(&path, &["paravane_cpu_busy_ns"]);
        let with = ["--libcuda", path.to_str().unwrap()];
        Self { library: Some(library), ..Self::start(&[arguments, &with].concat()) }
    }

    /// Runs a program to its end: nanoseconds that passed, commands on each device,
    /// and what the devices' pages say then.
    fn run(&self, scenario: &str) -> (f64, [u32; 2], [Wants; 2]) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_devices-program"));
        command.arg(scenario).arg(executable().with_file_name("libcuda.so")).arg(MILLISECONDS);
        command.env("PARAVANE_SOCKET", self.backend.socket()).stdout(Stdio::piped());
        let before = Instant::now();
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let passed = before.elapsed().as_secs_f64() * 1e9;
        let line = String::from_utf8(output.stdout).unwrap();
        let (first, second) = line.trim().split_once(' ').unwrap();
        let pages: [VmPage; 2] = self.backend.lease_pages().try_into().unwrap();
        (passed, [first.parse().unwrap(), second.parse().unwrap()], pages.map(|page| page.wants()))
    }
}

fn assert_both_are_capped(vm: &Vm) {
    let (passed, done, pages) = vm.run("both");
    assert!(done[0] > 0 && done[0].abs_diff(done[1]) <= 16, "{done:?}");
    for page in pages {
        let share = page.gpu_ns as f64 / passed;
        assert!((0.005..0.2).contains(&share), "a cap of 10 %: {share} of {done:?}");
    }
    // One thread serves both: while it waits for one device, the other may stay under its cap.
    assert!(pages.iter().any(|page| page.throttled_ns > 0), "{pages:?}");
}

#[test]
fn a_cap_holds_on_each_device_by_itself() {
    assert_both_are_capped(&Vm::start(&["--cap", "10"]));
}

#[test]
fn a_cap_holds_on_each_device_where_events_measure() {
    assert_both_are_capped(&Vm::without_clock(&["--cap", "10"]));
}

/// The least that tells work from what a program's start does on a device.
const WORK_NS: u64 = 10_000_000;

#[test]
fn the_second_devices_work_is_not_the_firsts() {
    for vm in [Vm::start(&[]), Vm::without_clock(&[])] {
        let (_, done, [first, second]) = vm.run("second");
        assert!(done == [0, done[1]] && second.gpu_ns > WORK_NS, "{done:?}: {second:?}");
        assert!(first.gpu_ns < second.gpu_ns / 8, "{first:?} and {second:?}");
    }
}

#[test]
fn copies_are_counted_where_they_go() {
    let (_, done, [first, second]) = Vm::start(&[]).run("copies");
    let copied = u64::from(done[1]) * (4 << 20);
    assert!(done[1] > 0 && first.copied_bytes < 1 << 20, "{first:?}");
    assert!((copied..copied + (1 << 20)).contains(&second.copied_bytes), "{copied} and {second:?}");
}

#[test]
fn a_copy_on_a_stream_of_another_context_is_that_ones() {
    for vm in [Vm::start(&[]), Vm::without_clock(&[])] {
        let (_, done, [first, second]) = vm.run("aside");
        assert!(done[1] > 0 && second.gpu_ns > WORK_NS, "{done:?}: {second:?}");
        assert!(first.gpu_ns < second.gpu_ns / 8, "{first:?} and {second:?}");
    }
}
