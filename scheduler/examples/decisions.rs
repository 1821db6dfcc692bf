//! What a decision costs: `cargo run --release -p paravane-scheduler --example decisions` prints nanoseconds for a turn
//! (let in, charged, over) among 10 to 10,000 VMs that all have work, the median of 15 runs.
#![allow(clippy::unwrap_used, reason = "a measurement")]

use std::time::Instant;

use paravane_scheduler::{Decision, MS, Priority, Scheduler, Settings, VmId};

const TURNS: u32 = 20_000;
const RUNS: usize = 15;

fn scheduler(vms: u32) -> Scheduler {
    let mut scheduler = Scheduler::new();
    for vm in 0..vms {
        let settings = Settings::new(1 + vm % 100, 0, 1000, Priority::Normal).unwrap();
        scheduler.set(VmId(vm), settings, 0).unwrap();
        scheduler.ready(VmId(vm), 0);
    }
    scheduler
}

fn turn_ns(vms: u32) -> f64 {
    let (mut scheduler, mut now) = (scheduler(vms), 0);
    let start = Instant::now();
    for _ in 0..TURNS {
        if let Decision::Run(turn) = scheduler.next(now) {
            now += 2 * MS;
            scheduler.charge(turn.vm, 2 * MS, now);
            scheduler.over(turn.vm, now);
        }
    }
    start.elapsed().as_nanos() as f64 / f64::from(TURNS)
}

fn main() {
    for vms in [10, 100, 1000, 10_000] {
        let mut times: Vec<f64> = (0..RUNS).map(|_| turn_ns(vms)).collect();
        times.sort_by(f64::total_cmp);
        println!("{vms:>6} VMs: {:>6.0} ns a turn", times.get(RUNS / 2).unwrap());
    }
}
