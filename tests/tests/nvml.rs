//! NVML in the guest: two processes of one VM and one of another, beside CUDA's
//! own figures, after a fork, without a host, and with a host whose NVML is a
//! stand-in with known figures.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use paravane_tests::backend::{Backend, eventually, executable, without_symbols};
use paravane_tests::nvml::{host_with_nvml, install};
use tempfile::TempDir;

/// A folder with the guest's libraries.
fn libraries() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    install(folder.path());
    folder
}

/// What `nvml-program` prints.
fn says(scenario: &str, folder: &Path, socket: &Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nvml-program"));
    let output = command.arg(scenario).arg(folder).env("PARAVANE_SOCKET", socket).output().unwrap();
    assert!(output.status.success(), "{scenario}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A CUDA program that is there until it is dropped.
struct Program(Child);

impl Program {
    /// Runs a scenario of `guest-program` up to its first line on stderr.
    fn start(scenario: &str, backend: &Backend) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_guest-program"));
        command.arg(scenario).arg(executable().with_file_name("libcuda.so"));
        command.env("PARAVANE_SOCKET", backend.socket()).stderr(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "waiting");
        Self(child)
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It waits for ever; its end is nobody's concern.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `look`'s line: bytes used, and of each process its pid and bytes.
fn parse(line: &str) -> (u64, Vec<(u32, u64)>) {
    let mut words = line.split(' ');
    let used = words.next().unwrap().parse().unwrap();
    let process = |word: &str| {
        let (pid, bytes) = word.split_once(':')?;
        Some((pid.parse().unwrap(), bytes.parse().unwrap()))
    };
    (used, words.filter_map(process).collect())
}

#[test]
fn a_vm_sees_its_own_processes_and_no_others() {
    let folder = libraries();
    let (backend, other) = (Backend::start(&[]), Backend::start(&[]));
    let looks = |at: &Backend| parse(&says("look", folder.path(), &at.socket()));
    assert_eq!(looks(&backend), (0, vec![]), "who asks has no context");
    let first = Program::start("forever", &backend);
    let second = Program::start("forever", &backend);
    let third = Program::start("forever", &other);
    let (used, processes) = looks(&backend);
    let mut expected = [first.pid(), second.pid()];
    expected.sort_unstable();
    assert_eq!(processes.iter().map(|(pid, _)| *pid).collect::<Vec<_>>(), expected);
    assert!(processes.iter().all(|(_, bytes)| *bytes > 0), "{processes:?}");
    assert_eq!(used, processes.iter().map(|(_, bytes)| bytes).sum::<u64>());
    let (others, processes) = looks(&other);
    assert_eq!(processes, [(third.pid(), others)]);
    drop(first);
    eventually("its process is gone", || looks(&backend).1.iter().all(|(pid, _)| *pid == second.pid()));
}

#[test]
fn work_is_seen_in_its_own_vm() {
    let folder = libraries();
    let (backend, other) = (Backend::start(&[]), Backend::start(&[]));
    let program = Program::start("forever", &backend);
    // Its kernel never ends, so a whole sample period is work at last.
    let all = format!("100 {} 100", program.pid());
    eventually("all of a sample period is work", || {
        says("busy", folder.path(), &backend.socket()) == all
    });
    assert_eq!(says("busy", folder.path(), &other.socket()), "0 nobody");
}

#[test]
fn nvml_and_cuda_tell_the_same() {
    let folder = libraries();
    let backend = Backend::start(&[]);
    assert_eq!(says("cuda", folder.path(), &backend.socket()), "equal");
}

#[test]
fn a_child_of_a_process_that_used_nvml_uses_cuda() {
    let folder = libraries();
    let backend = Backend::start(&[]);
    assert_eq!(says("fork", folder.path(), &backend.socket()), "equal\n0");
}

#[test]
fn what_is_absent_or_wrong_is_refused() {
    let folder = libraries();
    let backend = Backend::start(&[]);
    assert_eq!(says("absent", folder.path(), &backend.socket()), "refused");
}

#[test]
fn without_a_host_there_is_no_driver() {
    let folder = libraries();
    let nowhere = folder.path().join("gpu.sock");
    assert_eq!(says("early", folder.path(), &nowhere), "Driver Not Loaded");
    let backend = Backend::start(&[]);
    assert_eq!(says("early", folder.path(), &backend.socket()), "Success");
}

#[test]
fn without_the_hosts_nvml_the_hardware_is_not_read() {
    let folder = libraries();
    let backend = Backend::start(&[]);
    let expected = format!("Not Supported {}", env!("CARGO_PKG_VERSION"));
    assert_eq!(says("hardware", folder.path(), &backend.socket()), expected);
}

#[test]
fn the_hardware_is_read_by_the_hosts_nvml() {
    let (folder, host) = (libraries(), host_with_nvml());
    let backend = Backend::start_with(&[], |command| {
        command.env("LD_LIBRARY_PATH", host.path());
    });
    let expected = "999.42 41 350000 1099511627776 S-1 42 The provided version is invalid/unsupported 166 233010de Not Supported";
    assert_eq!(says("hardware", folder.path(), &backend.socket()), expected);
}

#[test]
fn a_guests_own_library_on_the_host_is_not_taken_for_the_hosts() {
    let (folder, host) = (libraries(), libraries());
    std::fs::remove_file(host.path().join("libcuda.so.1")).unwrap();
    let backend = Backend::start_with(&[], |command| {
        command.env("LD_LIBRARY_PATH", host.path());
    });
    let expected = format!("Not Supported {}", env!("CARGO_PKG_VERSION"));
    assert_eq!(says("hardware", folder.path(), &backend.socket()), expected);
}

#[test]
fn where_libcuda_keeps_no_account_the_hosts_nvml_tells_by_worker() {
    let (folder, host) = (libraries(), host_with_nvml());
    let silent = host.path().join("libcuda-silent.so");
    without_symbols(&silent, &["paravane_cpu_memory_bytes", "paravane_cpu_contexts", "paravane_cpu_busy_ns"]);
    let backend = Backend::start_with(&["--libcuda", silent.to_str().unwrap()], |command| {
        command.env("LD_LIBRARY_PATH", host.path());
    });
    // The stand-in names the worker that asks, and a process of somebody else's.
    let (used, processes) = parse(&says("look", folder.path(), &backend.socket()));
    assert_eq!(used, 77_000_000);
    assert_eq!(processes.iter().map(|(_, bytes)| *bytes).collect::<Vec<_>>(), [77_000_000]);
    let busy = says("busy", folder.path(), &backend.socket());
    let words: Vec<&str> = busy.split(' ').collect();
    assert_eq!((words[0], words[2]), ("30", "30"), "the newest sample of its own");
}
