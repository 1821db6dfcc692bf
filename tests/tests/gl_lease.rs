//! OpenGL under leases: a renderer draws when its VM may, is charged for it, and
//! gives back what it held. The GPU is a thread that sleeps, everything else is
//! the product's.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use paravane_protocol::channel::Status;
use paravane_protocol::virtio_gpu::ctrl;
use paravane_tests::backend::{Backend, eventually, executable, kill};
use paravane_tests::daemon::Daemon;
use paravane_tests::frontend::FrontEnd;
use paravane_tests::gl::{Renderer, context, context_of, put, stream, submit};
use paravane_tests::guest::ready_channel;
use paravane_tests::report::Report;
use rustix::process::Signal;
use serde_json::Value;

const CONTEXT: u32 = 5;

fn renderer() -> Renderer {
    Renderer::new(env!("CARGO_BIN_EXE_timed-renderer"))
}

/// Draws for so long and waits for it.
fn draw(guest: &mut FrontEnd, milliseconds: u32) {
    assert_eq!(submit(guest, CONTEXT, 1, &milliseconds.to_le_bytes()), ctrl::OK_NODATA);
}

/// A VM called vm at a daemon of its own.
struct Vm {
    daemon: Daemon,
    renderer: Renderer,
    backend: Backend,
    guest: FrontEnd,
}

impl Vm {
    fn start(arguments: &[&str]) -> Self {
        let (daemon, renderer) = (Daemon::start(""), renderer());
        let socket = daemon.socket();
        let registered = ["--name", "vm", "--paravaned", socket.to_str().unwrap()];
        let backend = renderer.backend(&[arguments, &registered].concat());
        let mut guest = FrontEnd::connect(&backend.socket());
        context(&mut guest, CONTEXT);
        eventually("it is registered", || daemon.vm("vm").is_some());
        Self { daemon, renderer, backend, guest }
    }

    /// The renderer's row.
    fn row(&self) -> Option<Value> {
        let vm = self.daemon.vm("vm")?;
        vm["processes"].as_array()?.iter().find(|process| process["name"] == "OpenGL").cloned()
    }

    /// Has drawn beyond its cap for long, and wants to draw more.
    fn waits(&mut self) {
        draw(&mut self.guest, 300);
        put(&mut self.guest, ctrl::SUBMIT_3D, CONTEXT, 2, &stream(&1_u32.to_le_bytes())[..]);
        self.guest.kick(0);
        eventually("it waits at the gate", || self.daemon.vm("vm").unwrap()["waiting"] == 1);
        assert_eq!(self.renderer.told(), ["draws 300 ms"]);
    }
}

#[test]
fn drawing_is_charged_and_shown() {
    let mut vm = Vm::start(&[]);
    let before = Instant::now();
    (0..3).for_each(|_| draw(&mut vm.guest, 20));
    let passed = u64::try_from(before.elapsed().as_nanos()).unwrap();
    let time = |row: Value| row["used"]["gpu_time_ns"].as_u64().unwrap();
    eventually("the row shows it", || vm.row().is_some_and(|row| time(row) >= 60_000_000));
    assert!(time(vm.row().unwrap()) <= passed);
    assert!(vm.daemon.said("info vm").contains("OpenGL"));
}

#[test]
fn programs_that_draw_are_told_apart_by_their_names() {
    let mut vm = Vm::start(&[]);
    for (id, program) in [(11, "glxgears"), (12, "glmark2-es2-drm"), (13, "glxgears")] {
        assert_eq!(context_of(&mut vm.guest, id, program), ctrl::OK_NODATA);
    }
    for (context, milliseconds) in [(11, 10_u32), (12, 50), (13, 10)] {
        assert_eq!(submit(&mut vm.guest, context, 1, &milliseconds.to_le_bytes()), ctrl::OK_NODATA);
    }
    let time = |vm: &Vm, name: &str| {
        let vm = vm.daemon.vm("vm")?;
        let row = vm["processes"].as_array()?.iter().find(|process| process["name"] == name)?;
        row["used"]["gpu_time_ns"].as_u64()
    };
    let (gears, mark) = ("OpenGL: glxgears", "OpenGL: glmark2-es2-drm");
    eventually("both have rows", || {
        time(&vm, gears).is_some_and(|time| time >= 20_000_000) && time(&vm, mark).is_some_and(|time| time >= 50_000_000)
    });
    // What has no name, or is one program too many, is the renderer's own.
    assert_eq!(time(&vm, "OpenGL"), Some(0));
    for id in 100..200 {
        assert_eq!(context_of(&mut vm.guest, id, &format!("program {id}")), ctrl::OK_NODATA);
        assert_eq!(submit(&mut vm.guest, id, 1, &1_u32.to_le_bytes()), ctrl::OK_NODATA);
    }
    eventually("the rest is the renderer's", || time(&vm, "OpenGL").is_some_and(|time| time >= 30_000_000));
    assert_eq!(vm.daemon.vm("vm").unwrap()["processes"].as_array().unwrap().len(), 1 + 64);
}

#[test]
fn the_report_has_what_was_drawn() {
    let (renderer, report) = (renderer(), Report::default());
    let backend = renderer.backend(&[&["--cap", "25"], &report.arguments()[..]].concat());
    let mut guest = FrontEnd::connect(&backend.socket());
    context(&mut guest, CONTEXT);
    let before = Instant::now();
    while before.elapsed() < Duration::from_secs(1) {
        draw(&mut guest, 5);
    }
    let passed = before.elapsed().as_secs_f64() * 1e9;
    drop(guest);
    let row = &report.processes(1)[0];
    assert_eq!(row["name"], "OpenGL");
    let share = row["gpu_time_ns"].as_f64().unwrap() / passed;
    assert!((0.01..0.35).contains(&share), "a cap of 25 %: {share}");
}

#[test]
fn cuda_and_opengl_run_at_once_under_one_lease() {
    let (renderer, report) = (renderer(), Report::default());
    let backend = renderer.backend(&[&["--cap", "50"], &report.arguments()[..]].concat());
    let mut guest = FrontEnd::connect(&backend.socket());
    context(&mut guest, CONTEXT);
    let mut program = Command::new(env!("CARGO_BIN_EXE_lease-program"));
    program.arg("stream").arg(executable().with_file_name("libcuda.so")).arg("1000");
    let before = Instant::now();
    let program = program.env("PARAVANE_SOCKET", backend.socket()).stdout(Stdio::null()).spawn();
    while before.elapsed() < Duration::from_secs(1) {
        draw(&mut guest, 2);
    }
    drop(guest);
    // It looks at its results itself.
    assert!(program.unwrap().wait().unwrap().success());
    let passed = before.elapsed().as_secs_f64() * 1e9;
    report.when(|report| report["totals"]["kernels"].as_u64() > Some(0));
    for row in report.processes(2) {
        let share = row["gpu_time_ns"].as_f64().unwrap() / passed;
        assert!((0.005..0.65).contains(&share), "a cap of 50 %: {share} of {}", row["name"]);
    }
}

#[test]
fn who_has_no_lease_does_not_draw() {
    let mut vm = Vm::start(&["--cap", "0.1"]);
    vm.waits();
    // The rest of the device does not wait.
    let channel = ready_channel(&mut vm.guest, 1);
    assert_eq!(channel.status(&vm.guest), Status::Ready);
    vm.daemon.said("set vm --cap 100");
    assert_eq!(vm.guest.wait(0).kind, ctrl::OK_NODATA);
    assert_eq!(vm.renderer.told(), ["draws 300 ms", "draws 1 ms"]);
}

#[test]
fn a_renderer_that_is_killed_gives_everything_back() {
    let mut vm = Vm::start(&["--cap", "0.1"]);
    vm.waits();
    let pid = vm.row().unwrap()["worker"].as_u64().unwrap();
    assert!(vm.backend.children().contains(&u32::try_from(pid).unwrap()));
    kill(u32::try_from(pid).unwrap(), Signal::KILL);
    assert_eq!(vm.guest.wait(0).kind, ctrl::ERR_UNSPEC);
    let idle = || vm.daemon.vm("vm").unwrap()["waiting"] == 0 && vm.row().is_none();
    eventually("nothing of it waits", idle);
}
