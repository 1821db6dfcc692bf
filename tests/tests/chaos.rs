//! Kills at random during load: paravaned, a back end, a worker. Whoever is not killed goes on, the ledger has each
//! kernel once, memory comes back.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use paravane_tests::backend::{Backend, children, eventually, kill};
use paravane_tests::daemon::Daemon;
use paravane_tests::steady::{BATCH, Steady};
use rustix::process::Signal;

const VMS: usize = 3;

/// What the ledger must have of a process: from so many kernels to so many.
type Expected = BTreeMap<(usize, u32), (u64, u64)>;

/// One VM with its program.
struct Vm {
    backend: Backend,
    program: Steady,
}

fn name(at: usize) -> String {
    format!("vm{at}")
}

fn backend(daemon: &Daemon, at: usize) -> Backend {
    Backend::start(&["--paravaned", daemon.socket().to_str().unwrap(), "--name", &name(at), "--log-level", "off"])
}

fn program(backend: &Backend) -> Steady {
    Steady::start(env!("CARGO_BIN_EXE_guest-program"), &backend.socket())
}

/// A fixed sequence, so that a failure comes again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(sides).unwrap()).unwrap()
    }
}

/// Waits until every VM is registered and its process is known.
fn registered(daemon: &Daemon, vms: &[Vm]) {
    eventually("all VMs are registered with their processes", || {
        let there = daemon.vms();
        there.len() == vms.len()
            && vms.iter().enumerate().all(|(at, vm)| {
                let view = there.iter().find(|view| view["name"] == name(at).as_str());
                let processes = view.and_then(|view| view["processes"].as_array());
                processes.is_some_and(|all| all.iter().any(|process| process["pid"] == vm.program.pid()))
            })
    });
}

/// Notes what a killed process may have come to: its worker counted what it saw, and at most the batch that it had
/// issued beyond.
fn died(expected: &mut Expected, at: usize, program: Steady) {
    let pid = program.pid();
    let (seen, well) = program.ended();
    assert!(!well, "{} lost its worker and ended well", name(at));
    expected.insert((at, pid), (seen, seen + BATCH));
}

fn rampage(kills: usize) {
    let mut daemon = Daemon::start("");
    let mut expected = Expected::new();
    let mut vms: Vec<Vm> = (0..VMS)
        .map(|at| {
            let backend = backend(&daemon, at);
            let program = program(&backend);
            Vm { backend, program }
        })
        .collect();
    registered(&daemon, &vms);
    let mut dice = Dice(0x5eed_1234_abcd_0001);
    for round in 0..kills {
        let (what, victim) = (dice.roll(3), dice.roll(VMS));
        match what {
            0 => {
                // A back end and paravaned that die in one second take that second's figures with them.
                booked_to_their_end(&daemon, &expected);
                daemon.kill();
                vms.iter().for_each(|vm| vm.program.gets_on("a program without paravaned"));
                daemon.restart();
            }
            1 => {
                let vm = &mut vms[victim];
                kill(vm.backend.pid(), Signal::KILL);
                // Else the next of this name would be another VM.
                eventually("the VM is gone", || daemon.vm(&name(victim)).is_none());
                let mut fresh = backend(&daemon, victim);
                std::mem::swap(&mut vm.backend, &mut fresh);
                let lost = std::mem::replace(&mut vm.program, program(&vm.backend));
                died(&mut expected, victim, lost);
            }
            _ => {
                let vm = &mut vms[victim];
                let worker = worker_of(&daemon, &name(victim), vm.program.pid());
                assert!(children(vm.backend.pid()).contains(&worker));
                kill(worker, Signal::KILL);
                let lost = std::mem::replace(&mut vm.program, program(&vm.backend));
                died(&mut expected, victim, lost);
            }
        }
        vms.iter().for_each(|vm| vm.program.gets_on(&format!("a program after kill {round} of {what}")));
        registered(&daemon, &vms);
    }
    finish(&daemon, vms, expected);
}

fn worker_of(daemon: &Daemon, vm: &str, pid: u32) -> u32 {
    let vm = daemon.vm(vm).unwrap();
    let process = vm["processes"].as_array().unwrap().iter().find(|process| process["pid"] == pid).unwrap();
    u32::try_from(process["worker"].as_u64().unwrap()).unwrap()
}

/// The ledger's lines of processes.
fn rows(daemon: &Daemon) -> Vec<serde_json::Value> {
    let rows = daemon.json(&["usage", "--by", "process"])["usage"].as_array().cloned().unwrap();
    rows.into_iter().filter(|row| row["number"] != 0).collect()
}

/// The VM and the process that a line is about.
fn of(row: &serde_json::Value) -> (usize, u32) {
    let at = (0..VMS).find(|at| row["vm"] == name(*at).as_str()).unwrap();
    (at, u32::try_from(row["pid"].as_u64().unwrap()).unwrap())
}

fn booked_to_their_end(daemon: &Daemon, expected: &Expected) {
    eventually("all processes that have ended are booked", || {
        let ended: Vec<_> = rows(daemon).iter().filter(|row| row["ended"] == true).map(of).collect();
        expected.keys().all(|process| ended.contains(process))
    });
}

/// All programs end well; then nothing is in use and the ledger is right.
fn finish(daemon: &Daemon, vms: Vec<Vm>, mut expected: Expected) {
    let mut backends = Vec::new();
    for (at, vm) in vms.into_iter().enumerate() {
        let pid = vm.program.pid();
        let seen = vm.program.end();
        expected.insert((at, pid), (seen, seen));
        backends.push(vm.backend);
    }
    eventually("all memory is back", || {
        let idle = |vm: &serde_json::Value| vm["processes"].as_array().unwrap().is_empty() && vm["memory_bytes"] == 0;
        daemon.vms().iter().all(idle)
    });
    booked_to_their_end(daemon, &expected);
    let mut booked: BTreeMap<(usize, u32), u64> = BTreeMap::new();
    for row in rows(daemon) {
        let (at, pid) = of(&row);
        let before = booked.insert((at, pid), row["kernels"].as_u64().unwrap());
        assert_eq!(before, None, "{row} is there twice");
    }
    for (key, (least, most)) in &expected {
        let kernels = booked.remove(key).unwrap_or_else(|| panic!("{key:?} is not in the ledger"));
        assert!((*least..=*most).contains(&kernels), "{key:?}: {kernels} booked, not {least} to {most}");
    }
    assert!(booked.is_empty(), "nobody ran {booked:?}");
}

/// Kills, where the environment names no other number: some 20 s. A hundred: `PARAVANE_CHAOS_KILLS=100 cargo test
/// --release -p paravane-tests --test chaos`.
const KILLS: usize = 12;

#[test]
fn whoever_is_killed_the_others_go_on_and_the_ledger_is_right() {
    let kills = std::env::var("PARAVANE_CHAOS_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    rampage(kills);
}
