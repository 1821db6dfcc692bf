//! The memory quota of a VM: every kind of allocation, several processes with
//! several threads each, processes that are killed, pools, caching allocators, a
//! quota that changes, and the figures that programs and the host are told.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};

use paravane_tests::backend::{Backend, eventually, executable, kill, without_symbols};
use paravane_tests::nvml::install;
use paravane_tests::report::Report;
use rustix::process::Signal;
use serde_json::Value;

const MIB: u64 = 1 << 20;

fn program(scenario: &str, backend: &Backend, rest: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quota-program"));
    command.arg(scenario).arg(executable().with_file_name("libcuda.so")).args(rest);
    command.env("PARAVANE_SOCKET", backend.socket());
    command
}

/// What the program prints.
fn says(scenario: &str, backend: &Backend) -> String {
    let output = program(scenario, backend, &[]).output().unwrap();
    assert!(output.status.success(), "{scenario}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn free(backend: &Backend) -> u64 {
    says("free", backend).parse().unwrap()
}

/// A program that goes on until it is dropped.
struct Running {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// Lets it go on.
    fn end_input(&mut self) {
        drop(self.child.stdin.take());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end_input();
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The backend's budget page: its first word is the quota, as paravaned changes it.
fn budget_page(backend: &Backend) -> File {
    let folder = format!("/proc/{}/fd", backend.pid());
    let is_budget = |path: &std::path::Path| {
        fs::read_link(path).is_ok_and(|target| target.to_string_lossy().starts_with("/memfd:paravane-budget"))
    };
    let mut paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let path = paths.find(|path| is_budget(path)).unwrap();
    File::options().read(true).write(true).open(path).unwrap()
}

#[test]
fn every_kind_of_allocation_counts() {
    let backend = Backend::start(&["--memory-quota", "64M"]);
    assert_eq!(free(&backend), 64 * MIB);
    assert_eq!(says("kinds", &backend), "all");
    assert_eq!(free(&backend), 64 * MIB);
}

#[test]
fn every_kind_counts_where_the_library_tells_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let silent = folder.path().join("libcuda-silent.so");
    without_symbols(&silent, &["paravane_cpu_memory_bytes"]);
    let backend = Backend::start(&["--memory-quota", "64M", "--libcuda", silent.to_str().unwrap()]);
    assert_eq!(says("known", &backend), "all");
    assert_eq!(free(&backend), 64 * MIB);
}

#[test]
fn processes_and_threads_share_the_quota_to_the_granule() {
    filled("fill");
}

#[test]
fn pools_of_several_processes_share_it_too() {
    filled("fill-pools");
}

fn filled(scenario: &str) {
    const QUOTA: u64 = 64 * MIB + (64 << 10);
    let backend = Backend::start(&["--memory-quota", &QUOTA.to_string()]);
    let mut programs: Vec<Running> = (0..3).map(|_| Running::start(program(scenario, &backend, &[]))).collect();
    let held: u64 = programs.iter_mut().map(|program| program.line().parse::<u64>().unwrap()).sum();
    assert_eq!(held, QUOTA);
    assert_eq!(free(&backend), 0);
    let mut peak = [0; 8];
    budget_page(&backend).read_exact_at(&mut peak, 16).unwrap();
    assert_eq!(u64::from_ne_bytes(peak), QUOTA, "never beyond the quota");
    drop(programs);
    eventually("all is given back", || free(&backend) == QUOTA);
    assert_eq!(says("kinds", &backend), "all");
}

#[test]
fn killed_processes_leave_nothing() {
    let backend = Backend::start(&["--memory-quota", "8M"]);
    let mut survivor = Running::start(program("figures", &backend, &["65536", "65536"]));
    assert_eq!(survivor.line(), format!("{} {}", 8 * MIB - 131_072, 8 * MIB));
    for _ in 0..5 {
        let mut programs: Vec<Running> = (0..3).map(|_| Running::start(program("churn", &backend, &[]))).collect();
        for program in &mut programs {
            assert_eq!(program.line(), "churning");
        }
        for program in &mut programs {
            kill(program.child.id(), Signal::KILL);
        }
        drop(programs);
    }
    eventually("all but the survivor's is given back", || free(&backend) == 8 * MIB - 131_072);
    survivor.end_input();
    assert_eq!(survivor.line(), format!("{} {}", 8 * MIB - 131_072, 8 * MIB));
    drop(survivor);
    eventually("all is given back", || free(&backend) == 8 * MIB);
}

#[test]
fn killed_workers_leave_nothing() {
    let backend = Backend::start(&["--memory-quota", "8M"]);
    for _ in 0..5 {
        // The spare becomes the program's worker.
        eventually("there is the spare alone", || backend.children().len() == 1);
        let worker = backend.children();
        let mut running = Running::start(program("churn", &backend, &[]));
        assert_eq!(running.line(), "churning");
        worker.into_iter().for_each(|worker| kill(worker, Signal::KILL));
        assert!(!running.child.wait().unwrap().success());
    }
    eventually("all is given back", || free(&backend) == 8 * MIB);
}

#[test]
fn a_pool_that_keeps_its_memory_hides_nothing() {
    let backend = Backend::start(&["--memory-quota", "64M"]);
    assert_eq!(says("pool", &backend), "given");
    eventually("all is given back", || free(&backend) == 64 * MIB);
}

#[test]
fn caching_allocators_get_memory_back() {
    let backend = Backend::start(&["--memory-quota", "40M"]);
    assert_eq!(says("caching", &backend), "1");
}

#[test]
fn a_quota_that_is_lowered_ends_nothing() {
    let backend = Backend::start(&["--memory-quota", "64M"]);
    let page = budget_page(&backend);
    let mut holder = Running::start(program("figures", &backend, &["33554432", "4096"]));
    assert_eq!(holder.line(), format!("{} {}", 32 * MIB - 4096, 64 * MIB));
    page.write_all_at(&(16 * MIB).to_ne_bytes(), 0).unwrap();
    assert_eq!(free(&backend), 0);
    holder.end_input();
    assert_eq!(holder.line(), format!("0 {}", 16 * MIB));
    drop(holder);
    eventually("the rest is free", || free(&backend) == 16 * MIB);
    assert_eq!(says("caching", &Backend::start(&["--memory-quota", "32M"])), "1");
    page.write_all_at(&(128 * MIB).to_ne_bytes(), 0).unwrap();
    assert_eq!(free(&backend), 128 * MIB);
}

#[test]
fn shared_memory_counts_once() {
    let backend = Backend::start(&["--memory-quota", "64M"]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_guest-program"));
    command.arg("ipc-owner").arg(executable().with_file_name("libcuda.so")).env("PARAVANE_SOCKET", backend.socket());
    let mut owner = Running::start(command);
    let shared = owner.line();
    let left = free(&backend);
    assert!(left < 64 * MIB);
    let words: Vec<&str> = shared.split(' ').collect();
    let mut user = Running::start(program("import", &backend, &words));
    assert_eq!(user.line(), format!("{left} {left}"));
    assert!(user.child.wait().unwrap().success());
    drop(owner);
    eventually("all is given back", || free(&backend) == 64 * MIB);
}

#[test]
fn without_a_quota_pinned_memory_is_none_of_the_devices() {
    let backend = Backend::start(&[]);
    let total = free(&backend);
    let mut holder = Running::start(program("figures", &backend, &["1048576", "4096"]));
    assert_eq!(holder.line(), format!("{} {total}", total - MIB));
    assert_eq!(free(&backend), total - MIB, "one figure for the VM");
}

#[test]
fn cuda_and_nvml_tell_the_same() {
    let folder = tempfile::tempdir().unwrap();
    install(folder.path());
    let backend = Backend::start(&["--memory-quota", "100M"]);
    let _holder = {
        let mut holder = Running::start(program("figures", &backend, &["1048576", "8192"]));
        assert_eq!(holder.line(), format!("{} {}", 99 * MIB - 8192, 100 * MIB));
        holder
    };
    let look = Command::new(env!("CARGO_BIN_EXE_nvml-program"))
        .arg("look")
        .arg(folder.path())
        .env("PARAVANE_SOCKET", backend.socket())
        .output()
        .unwrap();
    assert!(look.status.success(), "{}", String::from_utf8_lossy(&look.stderr));
    let line = String::from_utf8(look.stdout).unwrap();
    let words: Vec<&str> = line.trim().split(' ').collect();
    let used = (MIB + 8192).to_string();
    assert_eq!(words[0], used);
    assert!(words[1].ends_with(&format!(":{used}")), "{line}");
}

#[test]
fn the_account_tells_memory_now_and_at_most() {
    let report = Report::default();
    let mut backend = Backend::start(&[&["--memory-quota", "64M"], &report.arguments()[..]].concat());
    let mut holder = Running::start(program("figures", &backend, &["8388608", "4096"]));
    holder.line();
    assert_eq!(says("caching", &backend), "1");
    let held = 8 * MIB + 4096;
    report.when(|told| told["totals"]["memory_bytes"] == held && told["memory_quota_bytes"] == 64 * MIB);
    drop(holder);
    backend.terminate();
    let told = report.now().unwrap();
    assert_eq!(told["totals"]["memory_bytes"], 0);
    // What fitted in beside the holder.
    let cached = (64 * MIB - held) / (4 * MIB) * (4 * MIB);
    assert_eq!(told["totals"]["memory_peak_bytes"], held + cached);
    let peaks: Vec<&Value> =
        told["processes"].as_array().unwrap().iter().map(|process| &process["memory_peak_bytes"]).collect();
    assert!(peaks.contains(&&Value::from(held)) && peaks.contains(&&Value::from(cached)), "{peaks:?}");
}
