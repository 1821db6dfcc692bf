//! Careless programs, on the CPU device alone and forwarded: a shim must bear
//! what libcuda bears.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Stdio};

use paravane_tests::backend::{Backend, executable};

/// What works before cuInit, as in NVIDIA's library of release 535, measured
/// without a GPU.
const EARLY: &[&str] = &[
    "cuDriverGetVersion",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuGetExportTable",
    "cuGetProcAddress",
    "cuGetProcAddress_v2",
];

/// What a scenario prints, which must end well within two minutes.
fn said(scenario: &str, library: &Path, socket: Option<&Path>) -> String {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "120", env!("CARGO_BIN_EXE_rough-program"), scenario]).arg(library);
    command.env_remove("PARAVANE_SOCKET").stdin(Stdio::null());
    if let Some(socket) = socket {
        command.env("PARAVANE_SOCKET", socket);
    }
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{scenario}, {}: {}\n{errors}", library.display(), output.status);
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// What a scenario prints on both libraries, the same.
fn both(scenario: &str) -> String {
    let alone = said(scenario, &executable().with_file_name("libparavane_cpu.so"), None);
    let backend = Backend::start(&[]);
    let forwarded = said(scenario, &executable().with_file_name("libcuda.so"), Some(&backend.socket()));
    assert_eq!(alone, forwarded, "alone and forwarded differ");
    alone
}

#[test]
fn every_call_before_cuinit_says_so() {
    let backend = Backend::start(&[]);
    let text = said("early", &executable().with_file_name("libcuda.so"), Some(&backend.socket()));
    let others: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    let unexpected: Vec<&&str> = others.iter().filter(|name| !EARLY.contains(name)).collect();
    assert!(unexpected.is_empty(), "answered otherwise: {unexpected:?}");
    assert_eq!(others.len(), EARLY.len(), "{text}");
}

#[test]
fn null_pointers_everywhere_harm_nothing() {
    assert_eq!(both("nothing"), "all");
}

#[test]
fn a_library_that_is_unloaded_can_come_again() {
    assert_eq!(both("unload"), "three times");
}

#[test]
fn calls_at_exit_end() {
    assert_eq!(both("late"), "freed at exit");
}

#[test]
fn signals_disturb_no_call() {
    assert_eq!(both("signals"), "400 signals");
}

#[test]
fn first_calls_may_come_together() {
    assert_eq!(both("together"), "16 threads");
}

#[test]
fn threads_that_come_and_go_leave_nothing() {
    assert_eq!(both("one-by-one"), "0 more descriptors");
}

#[test]
fn a_child_of_a_fork_disturbs_nobody() {
    assert_eq!(both("fork"), "true true 16 threads");
}
