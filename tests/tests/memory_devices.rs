//! A VM's memory on two devices: each device's page is told what is on that device,
//! programs are told what is left of each, and memory moves by device.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use paravane_backend::lease::VmPage;
use paravane_tests::backend::{Backend, eventually, executable};

const MIB: u64 = 1 << 20;
/// Of each device, and what a program has on each.
const DEVICE: u64 = 64 * MIB;
const FILLS: [u64; 2] = [12 * MIB, 20 * MIB];
/// Contexts and modules are less than this.
const OVERHEAD: u64 = 4 * MIB;

fn two(command: &mut Command) {
    command.env("PARAVANE_CPU_DEVICES", "2").env("PARAVANE_CPU_MEMORY", DEVICE.to_string());
}

struct Program {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Program {
    fn start(backend: &Backend) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_memory-program"));
        command.arg(executable().with_file_name("libcuda.so")).args(FILLS.map(|bytes| bytes.to_string()));
        command.env("PARAVANE_SOCKET", backend.socket()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// It is to compare its memory.
    fn ask(&mut self) {
        writeln!(self.child.stdin.as_mut().unwrap()).unwrap();
    }

    /// What was free on each device then; its memory is right.
    fn answer(&mut self) -> [u64; 2] {
        let line = self.lines.next().unwrap().unwrap();
        let free: Vec<u64> = line.split(' ').map(|bytes| bytes.parse().unwrap()).collect();
        free.try_into().unwrap()
    }

    fn round(&mut self) -> [u64; 2] {
        self.ask();
        self.answer()
    }

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

fn claims(pages: &[VmPage]) -> [u64; 2] {
    [0, 1].map(|number: usize| pages[number].held().claim)
}

#[test]
fn each_device_is_told_what_is_on_it() {
    let backend = Backend::start_with(&[], two);
    let pages = backend.lease_pages();
    let mut program = Program::start(&backend);
    let free = program.round();
    let claims = claims(&pages);
    for number in [0, 1] {
        let more = claims[number].checked_sub(FILLS[number]);
        assert!(more.is_some_and(|more| more < OVERHEAD), "{claims:?}");
        assert_eq!(pages[number].held().resident, claims[number]);
        assert_eq!(free[number], DEVICE - claims[number], "what is left of that device");
    }
    program.end();
    eventually("nothing is there any more", || pages.iter().all(|page| page.held() == Default::default()));
}

#[test]
fn a_quota_is_of_all_devices_together() {
    let backend = Backend::start_with(&["--memory-quota", "80M"], two);
    let pages = backend.lease_pages();
    let mut program = Program::start(&backend);
    let free = program.round();
    let claims = claims(&pages);
    let left = 80 * MIB - claims[0] - claims[1];
    assert_eq!(free, claims.map(|claim| left.min(DEVICE - claim)));
    assert!(free[0] == left && free[1] < left, "the lesser of both: {free:?} of {left}");
    program.end();
}

#[test]
fn memory_moves_by_device() {
    let backend = Backend::start_with(&["--swap", "1G"], two);
    let pages = backend.lease_pages();
    let mut program = Program::start(&backend);
    program.round();
    let is_there = |number: usize| pages[number].held().resident >= FILLS[number];
    for _ in 0..3 {
        // The second device is to be left: what is on the first one stays.
        pages[1].allow(0);
        eventually("the second device is left", || pages[1].held().resident < OVERHEAD);
        program.ask();
        eventually("its memory is waited for", || pages[1].held().outside > 0);
        assert!(is_there(0) && pages[0].held().outside == 0, "{:?}", pages[0].held());
        pages[1].allow(u64::MAX);
        program.answer();
        assert!(is_there(0) && is_there(1));
        // The first is: what is behind it goes along, and is asked for when that is back.
        pages[0].allow(0);
        eventually("both devices are left", || pages.iter().all(|page| page.held().resident < OVERHEAD));
        program.ask();
        eventually("the first one is waited for", || pages[0].held().outside > 0);
        assert_eq!(pages[1].held().outside, 0);
        pages[1].allow(0);
        pages[0].allow(u64::MAX);
        eventually("the second one is waited for", || pages[1].held().outside > 0 && pages[0].held().outside == 0);
        assert!(is_there(0) && pages[1].held().resident < OVERHEAD);
        pages[1].allow(u64::MAX);
        program.answer();
    }
    program.end();
    eventually("nothing is there any more", || pages.iter().all(|page| page.held().claim == 0));
}
