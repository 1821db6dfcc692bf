//! Programs over the vhost-user transport whose connection is tried: no
//! backend, a backend or worker that dies in the middle of a call, many
//! threads, a fork, an exit with everything left open.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use paravane_tests::backend::{Backend, children, executable, kill, without_symbols};
use rustix::process::Signal;

/// Starts `guest-program` over a socket.
fn program(scenario: &str, socket: &Path) -> Child {
    let shim = executable().with_file_name("libcuda.so");
    Command::new(env!("CARGO_BIN_EXE_guest-program"))
        .arg(scenario)
        .arg(shim)
        .env("PARAVANE_SOCKET", socket)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What it printed, once it has ended well.
fn output(mut child: Child) -> String {
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert!(child.wait().unwrap().success(), "{errors}");
    text.trim().to_string()
}

#[test]
fn without_a_backend_there_is_no_device() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("gpu.sock");
    assert_eq!(output(program("init", &nowhere)), "CUDA_ERROR_NO_DEVICE");
    // A socket on which nobody answers.
    let _silent = std::os::unix::net::UnixListener::bind(&nowhere).unwrap();
    assert_eq!(output(program("init", &nowhere)), "CUDA_ERROR_NO_DEVICE");
}

#[test]
fn a_synchronise_in_one_thread_waits_for_a_launch_in_another() {
    let backend = Backend::start(&[]);
    assert_eq!(output(program("order", &backend.socket())), "10000 in order");
}

#[test]
fn a_libcuda_that_cannot_tell_parameters_launches_kernels() {
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("libcuda-12.2.so");
    // As the libcuda of Debian 12, which lacks what CUDA 12.4 brought.
    without_symbols(&old, &["cuFuncGetParamInfo", "cuKernelGetParamInfo"]);
    // SAFETY: our own library, whose initialisers do nothing.
    let library = unsafe { libloading::Library::new(&old) }.unwrap();
    for (symbol, there) in [("cuFuncGetParamInfo", false), ("cuKernelGetParamInfo", false), ("cuInit", true)] {
        // SAFETY: only looked up.
        let found = unsafe { library.get::<*const ()>(symbol.as_bytes()) };
        assert_eq!(found.is_ok(), there, "{symbol}");
    }
    let backend = Backend::start(&["--libcuda", old.to_str().unwrap()]);
    assert_eq!(output(program("order", &backend.socket())), "10000 in order");
    assert_eq!(output(program("threads", &backend.socket())), "20 threads");
}

#[test]
fn more_threads_than_rings_get_more_rings() {
    let backend = Backend::start(&[]);
    assert_eq!(output(program("threads", &backend.socket())), "20 threads");
}

#[test]
fn a_forked_child_is_not_initialised() {
    let backend = Backend::start(&[]);
    assert_eq!(output(program("fork", &backend.socket())), "CUDA_ERROR_NOT_INITIALIZED");
}

#[test]
fn nothing_is_left_of_a_program_that_ends_or_is_killed() {
    let backend = Backend::start(&[]);
    // What the backend keeps for good is there after the first program.
    assert_eq!(output(program("exit", &backend.socket())), "left");
    let before = backend.settled();
    assert_eq!(before.children, 1, "the spare worker");
    for _ in 0..5 {
        assert_eq!(output(program("exit", &backend.socket())), "left");
    }
    for number in 0..8 {
        // In the middle of a kernel, and somewhere in a copy.
        let mut child = waiting(&backend, ["forever", "copying"][number % 2]);
        std::thread::sleep(Duration::from_millis(7 * number as u64));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    backend.assert_nothing_leaked(&before);
}

/// A program that is in the middle of something that does not end.
fn waiting(backend: &Backend, scenario: &str) -> Child {
    let mut child = program(scenario, &backend.socket());
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    errors.read_line(&mut line).unwrap();
    assert_eq!(line.trim(), "waiting");
    child.stderr = Some(errors.into_inner());
    child
}

#[test]
fn a_backend_that_dies_ends_the_wait() {
    let mut backend = Backend::start(&[]);
    let child = waiting(&backend, "forever");
    backend.signal(Signal::KILL);
    backend.wait();
    let text = output(child);
    assert_eq!(text, "CUDA_ERROR_DEVICE_UNAVAILABLE then CUDA_ERROR_DEVICE_UNAVAILABLE");
}

#[test]
fn a_worker_that_dies_ends_its_programs_wait_and_nobody_elses() {
    let backend = Backend::start(&[]);
    let first = waiting(&backend, "forever");
    // Its worker was started before the spare one.
    let worker = backend.children().into_iter().min().expect("it has a worker");
    let second = waiting(&backend, "forever");
    kill(worker, Signal::KILL);
    assert_eq!(output(first), "CUDA_ERROR_LAUNCH_FAILED then CUDA_ERROR_LAUNCH_FAILED");
    let mut second = second;
    assert_eq!(second.try_wait().unwrap(), None, "the other program still waits");
    assert!(children(backend.pid()).len() >= 2);
    second.kill().unwrap();
    second.wait().unwrap();
}
