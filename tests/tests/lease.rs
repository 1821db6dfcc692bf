//! Leases of GPU time over cpu-driver: caps hold, results stay right, nobody
//! waits for himself, and VMs under one arbiter share by weight. Shares are
//! ratios of the account to what passed; their bounds are wide, because the
//! machine does other things too: it may be slow, and a cap holds all the same.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use paravane_tests::backend::{Backend, eventually, executable, without_symbols};
use paravane_tests::daemon::Daemon;
use paravane_tests::report::Report;

const SECOND: &str = "1000";

/// A program that runs beside others.
struct Program(Child);

impl Program {
    fn start(scenario: &str, socket: &Path, milliseconds: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lease-program"));
        command.arg(scenario).arg(executable().with_file_name("libcuda.so")).arg(milliseconds);
        command.env("PARAVANE_SOCKET", socket).stdout(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    /// Nanoseconds and commands.
    fn end(self) -> (f64, u32) {
        let output = self.0.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let line = String::from_utf8(output.stdout).unwrap();
        let (passed, done) = line.trim().split_once(' ').unwrap();
        (passed.parse().unwrap(), done.parse().unwrap())
    }
}

/// A backend that reports what its VM has used.
struct Vm {
    backend: Backend,
    report: Report,
    /// Keeps the library that its workers load.
    #[allow(dead_code, reason = "a guard")]
    library: Option<tempfile::TempDir>,
}

impl Vm {
    fn start(arguments: &[&str]) -> Self {
        let report = Report::default();
        let backend = Backend::start(&[arguments, &report.arguments()].concat());
        Self { backend, report, library: None }
    }

    /// One without the library's own clock.
    fn without_clock(arguments: &[&str]) -> Self {
        let library = tempfile::tempdir().unwrap();
        let path = library.path().join("libcuda-clockless.so");
        without_symbols(&path, &["paravane_cpu_busy_ns"]);
        let with = ["--libcuda", path.to_str().unwrap()];
        Self { library: Some(library), ..Self::start(&[arguments, &with].concat()) }
    }

    fn program(&self, scenario: &str) -> (f64, u32) {
        Program::start(scenario, &self.backend.socket(), SECOND).end()
    }

    /// GPU time of the programs that have ended.
    fn gpu_ns(&self) -> f64 {
        self.figure("gpu_time_ns")
    }

    /// A figure of theirs.
    fn figure(&self, name: &str) -> f64 {
        let report = self.report.when(|report| report["totals"]["kernels"].as_u64() > Some(0));
        report["totals"][name].as_f64().unwrap()
    }
}

fn assert_a_tenth(vm: &Vm, scenario: &str) {
    let (passed, done) = vm.program(scenario);
    let share = vm.gpu_ns() / passed;
    assert!(done > 0 && (0.005..0.2).contains(&share), "{scenario}: {share} with {done} commands");
    assert!(vm.figure("throttled_ns") > 0.2 * passed, "{scenario}: who is at a cap waits most of the time");
}

#[test]
fn a_cap_holds_for_a_stream_of_launches() {
    assert_a_tenth(&Vm::start(&["--cap", "10"]), "stream");
}

#[test]
fn a_cap_holds_for_launches_that_are_awaited() {
    assert_a_tenth(&Vm::start(&["--cap", "10"]), "await");
}

#[test]
fn a_cap_holds_for_graphs_and_captures_are_let_alone() {
    assert_a_tenth(&Vm::start(&["--cap", "10"]), "graphs");
}

#[test]
fn a_cap_holds_where_events_measure() {
    assert_a_tenth(&Vm::without_clock(&["--cap", "10"]), "stream");
}

#[test]
fn gpu_time_is_measured_where_the_library_has_no_clock() {
    let vm = Vm::without_clock(&[]);
    let (passed, _) = vm.program("stream");
    let share = vm.gpu_ns() / passed;
    assert!((0.05..1.05).contains(&share), "{share}");
}

#[test]
fn without_a_clock_graphs_and_captures_work() {
    let vm = Vm::without_clock(&[]);
    let (passed, done) = vm.program("graphs");
    assert!(done > 0 && vm.gpu_ns() > 0.01 * passed);
    // A round is a launch, and four of a graph of eight.
    assert_eq!(vm.figure("graph_launches"), f64::from(done / (1 + 4 * 8) * 4));
}

#[test]
fn a_thread_is_not_held_for_what_it_is_to_bring_itself() {
    for arguments in [&[][..], &["--cap", "25"]] {
        let vm = Vm::start(arguments);
        assert!(vm.program("value").1 > 0);
        assert!(vm.program("function").1 > 0);
    }
}

#[test]
fn a_kernel_beyond_the_limit_ends_its_process_and_no_other() {
    for vm in [Vm::start(&["--kernel-limit", "0.2"]), Vm::without_clock(&["--kernel-limit", "0.2"])] {
        let beside = Program::start("await", &vm.backend.socket(), SECOND);
        assert_eq!(vm.program("limit").1, 1);
        assert!(beside.end().1 > 0);
        assert!(vm.program("stream").1 > 0);
    }
}

#[test]
fn the_log_says_what_a_worker_has_to_say() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let file = log.reopen().unwrap();
    let backend = Backend::start_with(&["--kernel-limit", "0.2"], |command| {
        command.stderr(file);
    });
    assert_eq!(Program::start("limit", &backend.socket(), SECOND).end().1, 1);
    let said = std::fs::read_to_string(log.path()).unwrap();
    assert!(said.contains("a kernel has run longer than the VM's limit"), "{said}");
}

#[test]
fn processes_and_vms_together_are_told_of_no_more_time_than_has_passed() {
    let vm = Vm::without_clock(&[]);
    let begun = Instant::now();
    let programs = [(); 3].map(|()| Program::start("stream", &vm.backend.socket(), SECOND));
    assert!(programs.into_iter().all(|program| program.end().1 > 0));
    let passed = begun.elapsed().as_secs_f64() * 1e9;
    assert!((0.3 * passed..1.02 * passed).contains(&vm.gpu_ns()), "{} of {passed}", vm.gpu_ns());

    let daemon = Daemon::start("");
    let socket = daemon.socket();
    let vms = [(); 2].map(|()| Vm::without_clock(&["--paravaned", socket.to_str().unwrap()]));
    eventually("both are registered", || daemon.vms().len() == 2);
    let begun = Instant::now();
    let programs = vms.each_ref().map(|vm| Program::start("long", &vm.backend.socket(), "2000"));
    assert!(programs.into_iter().all(|program| program.end().1 > 0));
    let passed = begun.elapsed().as_secs_f64() * 1e9;
    let told: f64 = vms.iter().map(Vm::gpu_ns).sum();
    assert!((0.6 * passed..1.25 * passed).contains(&told), "{told} of {passed}");
}

/// A device that can be divided to the single multiprocessor.
const DIVISIBLE: (&str, &str) = ("PARAVANE_CPU_CAPABILITY", "6.1");

#[test]
fn a_vm_has_as_many_multiprocessors_as_it_is_given() {
    let start = |arguments: &[&str]| {
        Backend::start_with(arguments, |command| {
            command.env(DIVISIBLE.0, DIVISIBLE.1);
        })
    };
    let part = start(&["--sms", "1"]);
    assert_eq!(Program::start("one-multiprocessor", &part.socket(), SECOND).end().1, 1);
    let daemon = Daemon::start("[vm.small]\nsms = 1\n[vm.wrong]\nsms = 5000\n");
    let registered = |name: &str| start(&["--name", name, "--paravaned", daemon.socket().to_str().unwrap()]);
    let (small, wrong) = (registered("small"), registered("wrong"));
    eventually("both are registered", || daemon.vms().len() == 2);
    let sms = || -> Vec<_> { daemon.vms().iter().map(|vm| vm["set"]["sms"].clone()).collect() };
    assert_eq!(sms(), [serde_json::json!(1), serde_json::Value::Null], "what cannot be is not in force");
    assert_eq!(Program::start("one-multiprocessor", &small.socket(), SECOND).end().1, 1);
    let said = daemon.refused("set wrong --sms 4999");
    assert!(said.contains("sms = 4999: must be from 1 to"), "{said}");
    daemon.said("set wrong --sms 1");
    eventually("it is in force", || {
        let mut program = Program::start("one-multiprocessor", &wrong.socket(), SECOND);
        program.0.wait().unwrap().success()
    });
}

/// The first one's part of a figure of two VMs of weights 3:1 whose programs run
/// side by side.
fn three_to_one(scenario: &str, figure: &str) -> f64 {
    let daemon = Daemon::start("");
    let socket = daemon.socket();
    let with = |weight: &'static str| ["--weight", weight, "--paravaned", socket.to_str().unwrap()];
    let vms = [Vm::start(&with("300")), Vm::start(&with("100"))];
    eventually("both are registered", || daemon.vms().len() == 2);
    let programs = vms.each_ref().map(|vm| Program::start(scenario, &vm.backend.socket(), "2000"));
    for program in programs {
        program.end();
    }
    let waited = vms.each_ref().map(|vm| vm.figure("waited_ns"));
    assert!(waited.iter().all(|waited| *waited > 0.0), "each waits for the other: {waited:?}");
    eventually("each program's waits are booked for it", || {
        let booked = daemon.usage("--by process");
        waited.iter().all(|waited| booked.iter().any(|row| row["ended"] == true && row["waited_ns"].as_f64() == Some(*waited)))
    });
    let [first, second] = vms.each_ref().map(|vm| vm.figure(figure));
    first / (first + second)
}

#[test]
fn vms_under_one_arbiter_share_by_weight() {
    let share = three_to_one("stream", "gpu_time_ns");
    assert!((0.6..0.9).contains(&share), "{share}");
    let share = three_to_one("copies", "bytes_to_device");
    assert!((0.6..0.9).contains(&share), "copied: {share}");
}

#[test]
fn shares_that_cannot_be_are_refused() {
    let refused = |arguments: &[&str], why: &str| {
        let (status, _, said) =
            paravane_tests::backend::run(&[&["--socket-path", "/nowhere/gpu.sock"], arguments].concat());
        assert!(!status.success() && said.contains(why), "{said}");
    };
    refused(&["--weight", "0"], "weight 0");
    refused(&["--minimum", "50", "--cap", "25"], "above the cap");
    refused(&["--mode", "fixed-share"], "fixed-share needs cap");
    refused(&["--kernel-limit", "0"], "from 0.1 to 86400");
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("gpu.sock");
    let (status, _, said) =
        paravane_tests::backend::run(&["--socket-path", socket.to_str().unwrap(), "--sms", "99999"]);
    assert!(!status.success() && said.contains("sms = 99999: must be from"), "{said}");
}
