//! What holds for any settings and any habits, under a virtual clock.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

mod machine;

use machine::{Habit, Machine, by_weight, vm};
use paravane_scheduler::{Decision, MS, Nanos, Priority, SECOND, Scheduler, Settings};
use proptest::prelude::*;

const PRIORITIES: [Priority; 3] = [Priority::Interactive, Priority::Normal, Priority::Batch];

fn settings() -> impl Strategy<Value = Settings> {
    (1..=1000_u32, 0..=100_u32, 1..=1000_u32, 0..3_usize).prop_map(|(weight, minimum, cap, priority)| {
        Settings::new(weight, minimum.min(cap), cap, PRIORITIES[priority]).unwrap()
    })
}

fn habit() -> impl Strategy<Value = Habit> {
    let kernel = prop_oneof![10_000..MS, MS..50 * MS];
    (kernel, 0..50_u64, 0..100 * MS, 0..SECOND).prop_map(|(kernel, burst, rest, from)| Habit { kernel, burst, rest, from })
}

/// One step of whoever owns a GPU, in any order.
#[derive(Clone, Debug)]
enum Step {
    Set(usize, Settings),
    Remove(usize),
    Ready(usize),
    Idle(usize),
    Next,
    Charge(usize, Nanos),
    Over(usize),
    IsDue(usize),
    Pass(Nanos),
}

fn step() -> impl Strategy<Value = Step> {
    let at = || 0..6_usize;
    prop_oneof![
        (at(), settings()).prop_map(|(at, settings)| Step::Set(at, settings)),
        at().prop_map(Step::Remove),
        at().prop_map(Step::Ready),
        at().prop_map(Step::Idle),
        Just(Step::Next),
        Just(Step::Next),
        (at(), 0..20 * MS).prop_map(|(at, used)| Step::Charge(at, used)),
        at().prop_map(Step::Over),
        at().prop_map(Step::IsDue),
        (0..20 * MS).prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// The machine asserts by itself that the GPU never rests while somebody below the cap has work.
    #[test]
    fn caps_hold_and_nothing_is_wasted(guests in prop::collection::vec((settings(), habit()), 1..8)) {
        let end = 5 * SECOND;
        let mut machine = Machine::new(&guests);
        machine.run(end);
        for guest in &machine.guests {
            let cap = machine.now as f64 * f64::from(guest.settings.cap()) / 1000.0;
            // What may be saved, and the kernel that ran over.
            let slack = (6 * MS + guest.habit.kernel + 8 * MS) as f64;
            prop_assert!(guest.settings.cap() == 1000 || guest.used as f64 <= cap + slack, "{guest:?} of {end}");
        }
    }

    /// Whoever always has work is never further from the share than a turn and a kernel of each.
    #[test]
    fn the_lag_is_bounded(
        guests in prop::collection::vec((1..1000_u32, 0..3_usize, 10_000..5 * MS), 2..10),
        end in 1..4 * SECOND,
    ) {
        let of = |(weight, priority, kernel): (u32, usize, Nanos)| {
            (Settings::new(weight, 0, 1000, PRIORITIES[priority]).unwrap(), Habit::always(kernel))
        };
        let guests: Vec<_> = guests.into_iter().map(of).collect();
        let mut machine = Machine::new(&guests);
        machine.run(end);
        let weights: f64 = guests.iter().map(|(settings, _)| f64::from(settings.weight())).sum();
        let turns: Nanos = guests.iter().map(|(settings, habit)| settings.priority().quantum() + habit.kernel).sum();
        for guest in &machine.guests {
            let share = machine.now as f64 * f64::from(guest.settings.weight()) / weights;
            prop_assert!((guest.used as f64 - share).abs() <= turns as f64, "{} of {share}: {guest:?}", guest.used);
        }
    }

    /// A guarantee that is asked for all the time is had, up to a turn and a kernel of each.
    #[test]
    fn guarantees_hold(
        minimum in 50..500_u32,
        kernel in 10_000..2 * MS,
        others in prop::collection::vec((1..10_000_u32, 10_000..4 * MS), 1..8),
    ) {
        let mut guests = vec![(Settings::new(1, minimum, 1000, Priority::Normal).unwrap(), Habit::always(kernel))];
        guests.extend(others.iter().map(|(weight, kernel)| (by_weight(*weight), Habit::always(*kernel))));
        let mut machine = Machine::new(&guests);
        machine.run(3 * SECOND);
        let wanted = machine.now as f64 * f64::from(minimum) / 1000.0;
        prop_assert!(machine.guests[0].used as f64 >= wanted - (8 * MS) as f64, "{} of {wanted}", machine.guests[0].used);
    }

    /// Calls in any order: nobody is let in who has no work or is let in already, and nobody waits for the past.
    #[test]
    fn any_order_of_calls_is_borne(steps in prop::collection::vec(step(), 0..300)) {
        let (mut scheduler, mut now) = (Scheduler::new(), 0);
        let (mut known, mut has_work, mut running) = ([false; 6], [false; 6], [false; 6]);
        for step in steps {
            match step {
                Step::Set(at, settings) => known[at] |= scheduler.set(vm(at), settings, now).is_ok(),
                Step::Remove(at) => {
                    scheduler.remove(vm(at));
                    (known[at], has_work[at], running[at]) = (false, false, false);
                }
                Step::Ready(at) => {
                    scheduler.ready(vm(at), now);
                    has_work[at] |= known[at];
                }
                Step::Idle(at) => {
                    scheduler.idle(vm(at));
                    (has_work[at], running[at]) = (false, false);
                }
                Step::Next => match scheduler.next(now) {
                    Decision::Run(turn) => {
                        let at = usize::try_from(turn.vm.0).unwrap();
                        prop_assert!(known[at] && has_work[at] && !running[at] && turn.length > 0);
                        running[at] = true;
                    }
                    Decision::Wait(until) => prop_assert!(until > now),
                    Decision::Nothing => prop_assert_eq!(has_work, running),
                },
                Step::Charge(at, used) => scheduler.charge(vm(at), used, now),
                Step::Over(at) => {
                    scheduler.over(vm(at), now);
                    running[at] = false;
                }
                // Whoever is let in stays so; nobody else is due.
                Step::IsDue(at) => prop_assert!(!scheduler.is_due(vm(at), now) || running[at]),
                Step::Pass(time) => now += time,
            }
            prop_assert_eq!(scheduler.busy(), has_work.iter().filter(|has| **has).count());
        }
    }
}
