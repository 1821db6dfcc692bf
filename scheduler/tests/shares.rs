//! Shares, caps, guarantees and waits of single scenarios, under a virtual clock.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

mod machine;

use machine::{Habit, Machine, by_weight};
use paravane_scheduler::{Decision, MS, Nanos, Priority, SECOND, Scheduler, Settings, VmId};

const US: Nanos = 1000;

#[track_caller]
fn assert_near(found: f64, wanted: f64, points: f64, what: &str) {
    assert!((found - wanted).abs() <= points, "{what}: {found:.2} %, wanted {wanted:.2} +- {points}");
}

#[test]
fn time_is_shared_by_weight_whatever_the_kernels() {
    for kernels in [[10 * US, 500 * US, MS], [MS, 10 * US, 10 * US], [500 * US; 3]] {
        let settings = [by_weight(300), by_weight(100), by_weight(100)];
        let guests: Vec<_> = settings.into_iter().zip(kernels.map(Habit::always)).collect();
        let mut machine = Machine::new(&guests);
        machine.run(10 * SECOND);
        for (at, wanted) in [60.0, 20.0, 20.0].into_iter().enumerate() {
            assert_near(machine.percent(at), wanted, 0.1, "of 10 s");
            for second in 0..10 {
                assert_near(machine.percent_of_second(at, second), wanted, 1.0, "of a second");
            }
        }
    }
}

#[test]
fn a_long_kernel_is_a_debt_that_is_paid() {
    let guests = [(by_weight(100), Habit::always(SECOND)), (by_weight(100), Habit::always(MS))];
    let mut machine = Machine::new(&guests);
    machine.run(200 * SECOND);
    assert_near(machine.percent(0), 50.0, 0.6, "of 200 s with kernels of 1 s");
}

#[test]
fn nobody_is_above_the_cap_and_the_others_have_the_rest() {
    let capped = Settings::new(100, 0, 250, Priority::Normal).unwrap();
    for kernel in [50 * US, MS] {
        let mut machine = Machine::new(&[(capped, Habit::always(kernel)), (by_weight(100), Habit::always(kernel))]);
        machine.run(10 * SECOND);
        for second in 0..10 {
            assert_near(machine.percent_of_second(0, second), 25.0, 0.5, "capped, of a second");
        }
        assert_near(machine.percent(0) + machine.percent(1), 100.0, 0.01, "both");
        let mut alone = Machine::new(&[(capped, Habit::always(kernel))]);
        alone.run(10 * SECOND);
        assert_near(alone.percent(0), 25.0, 0.1, "capped and alone");
    }
}

#[test]
fn a_guarantee_holds_against_any_weight() {
    let mut guests = vec![(Settings::new(1, 300, 1000, Priority::Normal).unwrap(), Habit::always(500 * US))];
    guests.extend([(by_weight(10_000), Habit::always(MS)); 8]);
    let mut machine = Machine::new(&guests);
    machine.run(10 * SECOND);
    for second in 0..10 {
        assert_near(machine.percent_of_second(0, second), 30.0, 1.0, "guaranteed 30, of a second");
    }
    // What it leaves is the others'.
    let resting = Habit::bursts(500 * US, 1, 500 * MS);
    guests[0].1 = resting;
    let mut machine = Machine::new(&guests);
    machine.run(10 * SECOND);
    assert_near((1..9).map(|at| machine.percent(at)).sum(), 99.9, 0.2, "the others");
}

#[test]
fn an_interactive_vm_waits_for_one_kernel() {
    let interactive = Settings::new(100, 0, 1000, Priority::Interactive).unwrap();
    for kernel in [500 * US, 50 * MS, SECOND] {
        let mut machine = Machine::new(&[
            (interactive, Habit::bursts(200 * US, 1, 20 * MS)),
            (by_weight(100), Habit::always(kernel)),
            (by_weight(100), Habit::always(kernel)),
        ]);
        machine.run(60 * SECOND);
        let waits = &machine.guests[0].waits;
        let longest = waits.iter().max().unwrap();
        assert!(waits.len() > 50 && *longest <= kernel, "waited {longest} ns beside kernels of {kernel} ns");
    }
}

#[test]
fn who_slept_has_no_more_than_the_share_afterwards() {
    let late = Habit { from: 30 * SECOND, ..Habit::always(MS) };
    let mut machine = Machine::new(&[(by_weight(100), Habit::always(MS)), (by_weight(100), late)]);
    machine.run(40 * SECOND);
    for second in 30..40 {
        assert_near(machine.percent_of_second(1, second), 50.0, 1.0, "of a second after the sleep");
    }
}

#[test]
fn a_thousand_vms_all_have_their_turns() {
    let guests: Vec<_> = (0..1000).map(|at| (by_weight(1 + at % 10), Habit::always(MS))).collect();
    let mut machine = Machine::new(&guests);
    machine.run(120 * SECOND);
    let weights: u64 = guests.iter().map(|(settings, _)| u64::from(settings.weight())).sum();
    for (at, guest) in machine.guests.iter().enumerate() {
        let share = f64::from(guest.settings.weight()) / weights as f64;
        // A turn of 2 ms at that share comes round in this time.
        let round = 2.0 * MS as f64 / share;
        assert!((guest.longest_gap as f64) < 2.5 * round, "VM {at} waited {} ns", guest.longest_gap);
        assert_near(machine.percent(at), 100.0 * share, 0.01, "of 1000 VMs");
    }
}

#[test]
fn whose_turn_is_next_can_be_asked_and_changes_nothing() {
    let (one, other) = (VmId(0), VmId(1));
    let mut scheduler = Scheduler::new();
    for (vm, weight) in [(one, 300), (other, 100)] {
        scheduler.set(vm, by_weight(weight), 0).unwrap();
        scheduler.ready(vm, 0);
    }
    let Decision::Run(turn) = scheduler.next(0) else { panic!("nobody is let in") };
    assert!(scheduler.is_due(turn.vm, 0) && !scheduler.is_due(VmId(2), 0));
    // In ten turns of 4 ms three quarters are its own.
    let mut turns = Vec::new();
    let mut vm = turn.vm;
    for at in 1..=400 {
        scheduler.charge(vm, 4 * MS, at * 4 * MS);
        let due = scheduler.is_due(vm, at * 4 * MS);
        assert_eq!(scheduler.is_due(vm, at * 4 * MS), due, "asked twice");
        scheduler.over(vm, at * 4 * MS);
        let Decision::Run(turn) = scheduler.next(at * 4 * MS) else { panic!("nobody is let in") };
        assert_eq!(turn.vm == vm, due);
        turns.push(turn.vm);
        vm = turn.vm;
    }
    let share = turns.iter().filter(|vm| **vm == one).count();
    assert!((298..=302).contains(&share), "{share} of 400");
}

#[test]
fn a_change_of_weight_holds_from_then_on() {
    let mut machine = Machine::new(&[(by_weight(100), Habit::always(MS)), (by_weight(100), Habit::always(MS))]);
    machine.run(5 * SECOND);
    machine.scheduler.set(machine::vm(0), by_weight(300), machine.now).unwrap();
    machine.run(10 * SECOND);
    assert_near(machine.percent_of_second(0, 4), 50.0, 1.0, "before");
    assert_near(machine.percent_of_second(0, 7), 75.0, 1.0, "after");
}

#[test]
fn a_simulated_day_comes_out_even() {
    let batch = |weight| Settings::new(weight, 0, 1000, Priority::Batch).unwrap();
    let capped = Settings::new(400, 0, 100, Priority::Batch).unwrap();
    let guaranteed = Settings::new(1, 200, 1000, Priority::Batch).unwrap();
    let mut machine = Machine::new(&[
        (batch(100), Habit::always(8 * MS)),
        (batch(200), Habit::always(11 * MS)),
        (capped, Habit::always(3 * MS)),
        (guaranteed, Habit::always(6 * MS)),
        (by_weight(100), Habit::bursts(MS, 20, 900 * MS)),
    ]);
    machine.run(24 * 3600 * SECOND);
    assert_near(machine.percent(2), 10.0, 0.01, "the capped");
    assert_near(machine.percent(3), 20.0, 0.05, "the guaranteed");
    assert_near(machine.percent(1), 2.0 * machine.percent(0), 0.1, "twice the weight");
    let all: f64 = (0..5).map(|at| machine.percent(at)).sum();
    assert_near(all, 100.0, 0.001, "all");
}
