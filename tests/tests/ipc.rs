//! Memory of one process in another: on cpu-driver alone, through shim, backend
//! and workers, and never from one VM to another.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use paravane_tests::backend::{Backend, executable};

/// A `guest-program` that is talked to.
struct Program {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Program {
    /// On a libcuda; through a backend where a socket is given.
    fn start(scenario: &str, socket: Option<&Path>) -> Self {
        let libcuda = if socket.is_some() { "libcuda.so" } else { "libparavane_cpu.so" };
        let mut command = Command::new(env!("CARGO_BIN_EXE_guest-program"));
        command.arg(scenario).arg(executable().with_file_name(libcuda));
        if let Some(socket) = socket {
            command.env("PARAVANE_SOCKET", socket);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, input, output }
    }

    fn says(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    fn end(mut self) {
        drop(self.input);
        assert!(self.child.wait().unwrap().success());
    }
}

/// The user opens the owner's memory, sees its bytes and leaves its own.
fn share(owner: Option<PathBuf>) {
    let socket = owner.as_deref();
    let mut owner = Program::start("ipc-owner", socket);
    let handles = owner.says();
    let mut user = Program::start("ipc-user", socket);
    user.tell(&handles);
    assert_eq!(user.says(), "true true CUDA_ERROR_INVALID_VALUE");
    user.end();
    owner.tell("look");
    assert_eq!(owner.says(), "true true", "what the user wrote is not there");
    owner.tell("end");
    owner.end();
}

#[test]
fn two_processes_share_memory_on_cpu_driver_alone() {
    share(None);
}

#[test]
fn two_processes_of_one_vm_share_memory() {
    let backend = Backend::start(&[]);
    share(Some(backend.socket()));
}

#[test]
fn a_handle_opens_nothing_in_another_vm() {
    let (backend, other) = (Backend::start(&[]), Backend::start(&[]));
    let mut owner = Program::start("ipc-owner", Some(&backend.socket()));
    let handles = owner.says();
    let mut user = Program::start("ipc-user", Some(&other.socket()));
    user.tell(&handles);
    assert_eq!(user.says(), "CUDA_ERROR_INVALID_VALUE CUDA_ERROR_INVALID_VALUE");
    user.end();
    owner.tell("look");
    assert_eq!(owner.says(), "false false", "the other VM has written here");
    owner.tell("end");
    owner.end();
}

#[test]
fn a_handle_ends_with_its_owner() {
    let backend = Backend::start(&[]);
    let mut owner = Program::start("ipc-owner", Some(&backend.socket()));
    let handles = owner.says();
    let mut user = Program::start("ipc-user", Some(&backend.socket()));
    // The descriptor is the guest's own file, which needs its owner; the user has opened none yet.
    let shared = handles.rsplit(' ').take(2).collect::<Vec<_>>();
    let path = format!("/proc/{}/fd/{}", shared[1], shared[0]);
    let kept = std::fs::File::open(path).unwrap();
    owner.tell("look");
    owner.says();
    owner.tell("end");
    owner.end();
    backend.settled();
    let own = format!("{} {}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&kept));
    let hex = handles.split(' ').next().unwrap();
    user.tell(&format!("{hex} {own}"));
    assert_eq!(user.says(), "CUDA_ERROR_INVALID_VALUE CUDA_ERROR_INVALID_VALUE");
    user.end();
}

/// The user sees the event before and after its stream has come by.
fn wait(socket: Option<&Path>) {
    let mut owner = Program::start("event-owner", socket);
    let handle = owner.says();
    let mut user = Program::start("event-user", socket);
    user.tell(&handle);
    assert_eq!(user.says(), "CUDA_ERROR_NOT_READY CUDA_ERROR_NOT_READY");
    owner.tell("go");
    assert_eq!(owner.says(), "over");
    assert_eq!(user.says(), "CUDA_SUCCESS");
    user.end();
    owner.tell("end");
    owner.end();
}

#[test]
fn an_event_is_waited_for_in_another_process() {
    wait(None);
    let backend = Backend::start(&[]);
    wait(Some(&backend.socket()));
}

/// The user imports the owner's pool and memory of it; what it says.
fn pool(owner: Option<&Path>, user: Option<&Path>) -> String {
    let mut owner = Program::start("pool-owner", owner);
    let handles = owner.says();
    let mut user = Program::start("pool-user", user);
    user.tell(&handles);
    let said = user.says();
    user.end();
    owner.tell("look");
    assert_eq!(owner.says(), said, "what the user says of the memory");
    owner.tell("end");
    owner.end();
    said
}

#[test]
fn two_processes_share_a_pool() {
    assert_eq!(pool(None, None), "true");
    let backend = Backend::start(&[]);
    assert_eq!(pool(Some(&backend.socket()), Some(&backend.socket())), "true");
}

#[test]
fn a_pool_is_nothing_in_another_vm() {
    let (backend, other) = (Backend::start(&[]), Backend::start(&[]));
    let mut owner = Program::start("pool-owner", Some(&backend.socket()));
    let handles = owner.says();
    let mut user = Program::start("pool-user", Some(&other.socket()));
    user.tell(&handles);
    assert_eq!(user.says(), "CUDA_ERROR_INVALID_VALUE");
    user.end();
    owner.tell("look");
    assert_eq!(owner.says(), "false", "the other VM has written here");
    owner.tell("end");
    owner.end();
}
