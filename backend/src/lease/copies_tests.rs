//! A bus under a virtual clock: those that copy at the same time get equal parts
//! of it, as hardware has it, up to what each can take.

use super::*;

const STEP: Nanos = 100_000;
/// Bytes in a step: 10 GB/s.
const BUS: u64 = 1_000_000;

/// A VM that copies pieces of a size at up to a part of the bus; `pause` between
/// pieces.
#[derive(Clone, Copy, Default)]
struct Guest {
    weight: u32,
    piece: u64,
    /// Bytes in a step at most.
    fastest: u64,
    pause: Nanos,
    left: u64,
    paused_until: Nanos,
    copied: u64,
    budget: i64,
    waiting: bool,
    /// The longest that it has waited for a round, and since when it waits.
    longest: Nanos,
    since: Nanos,
}

struct Bus(Vec<Guest>);

fn place(vm: VmId) -> usize {
    vm.0 as usize
}

impl CopyPages for Bus {
    fn copying(&mut self, vm: VmId) -> Copying {
        let guest = &self.0[place(vm)];
        Copying { bytes: guest.copied, budget: guest.budget, waiting: guest.waiting }
    }

    fn is_low(&mut self, vm: VmId) -> bool {
        self.0[place(vm)].budget <= LOW
    }

    fn allow(&mut self, vm: VmId, more: i64) {
        self.0[place(vm)].budget += more;
    }
}

/// Runs them for so long.
fn run(guests: &[Guest], length: Nanos) -> Vec<Guest> {
    let mut bus = Bus(guests.to_vec());
    let mut copies = Copies::default();
    for (number, guest) in (0..).zip(guests) {
        copies.set(VmId(number), guest.weight);
    }
    let mut next = None;
    for now in (0..length / STEP).map(|step| step * STEP) {
        let mut kicked = false;
        for guest in &mut bus.0 {
            // Who does not pause issues the next piece before the last one is done.
            let ahead = if guest.pause == 0 { BUS } else { 0 };
            if guest.left <= ahead && now >= guest.paused_until {
                // At the gate: a piece is issued whole.
                let may = guest.budget > 0;
                if may {
                    guest.left += guest.piece;
                    let before = guest.budget;
                    guest.budget -= i64::try_from(guest.piece).unwrap();
                    kicked |= before > LOW && guest.budget <= LOW;
                } else if !guest.waiting {
                    (kicked, guest.since) = (true, now);
                }
                guest.waiting = !may;
                guest.longest = guest.longest.max(if may { 0 } else { now - guest.since });
            }
        }
        if kicked || next.is_some_and(|next| now >= next) {
            next = copies.look(now, &mut bus);
        }
        // Those that want least first: what they leave is the others'.
        let mut busy: Vec<&mut Guest> = bus.0.iter_mut().filter(|guest| guest.left > 0).collect();
        let most = |guest: &Guest| guest.fastest.min(guest.left);
        busy.sort_by_key(|guest| most(guest));
        let (mut free, mut others) = (BUS, busy.len() as u64);
        for guest in busy {
            let moved = most(guest).min(free / others);
            (free, others) = (free - moved, others - 1);
            guest.left -= moved;
            guest.copied += moved;
            if guest.left == 0 {
                guest.paused_until = now + guest.pause;
            }
        }
    }
    bus.0
}

fn guest(weight: u32, piece: u64, percent: u64, pause: Nanos) -> Guest {
    Guest { weight, piece, fastest: BUS * percent / 100, pause, budget: QUANTUM, ..Guest::default() }
}

/// What one has copied of what all have, in percent.
fn part(guests: &[Guest], of: usize) -> u64 {
    guests[of].copied * 100 / guests.iter().map(|guest| guest.copied).sum::<u64>()
}

const SECOND: Nanos = 1000 * MS;
const PIECE: u64 = 4_000_000;

/// What was copied of what the bus can, in percent.
fn of_bus(copied: u64, length: Nanos) -> u64 {
    copied * 100 / (BUS * (length / STEP))
}

#[test]
fn copies_are_shared_by_weight() {
    for (weights, expected) in [([100, 100], 50), ([300, 100], 75), ([100, 900], 10)] {
        let all = run(&weights.map(|weight| guest(weight, PIECE, 100, 0)), 2 * SECOND);
        assert!(part(&all, 0).abs_diff(expected) <= 3, "{weights:?}: {}", part(&all, 0));
        let used = of_bus(all[0].copied + all[1].copied, 2 * SECOND);
        assert!(used > 93, "the bus stood still: {used}");
        // On a bus that is wide enough for all, and with large pieces.
        for piece in [PIECE, 2 * PIECE] {
            let all = run(&weights.map(|weight| guest(weight, piece, 50, 0)), 2 * SECOND);
            assert!(part(&all, 0).abs_diff(expected) <= 3, "{weights:?}, beside: {}", part(&all, 0));
        }
    }
}

#[test]
fn one_that_copies_large_pieces_gets_no_more() {
    let all = run(&[guest(100, 200_000_000, 100, 0), guest(100, 1_000_000, 100, 0)], 4 * SECOND);
    assert!(part(&all, 0).abs_diff(50) <= 10, "{}", part(&all, 0));
}

#[test]
fn alone_nobody_waits() {
    let all = run(&[guest(100, PIECE, 100, 0), guest(100, PIECE, 100, 10 * SECOND)], SECOND);
    assert!(of_bus(all[0].copied, SECOND) >= 97, "{}", all[0].copied);
    assert_eq!(all[0].longest, 0);
}

#[test]
fn who_copies_a_little_now_and_then_holds_nobody_up() {
    let all = run(&[guest(100, PIECE, 100, 0), guest(10_000, 64_000, 100, MS)], SECOND);
    assert!(of_bus(all[0].copied, SECOND) > 95, "{}", all[0].copied);
}

#[test]
fn who_is_slow_by_itself_takes_half_of_the_others_time_at_most() {
    let all = run(&[guest(100, PIECE, 100, 0), guest(100, PIECE, 20, 0)], SECOND);
    assert!(of_bus(all[0].copied, SECOND) > 38, "of 80 beside it: {}", all[0].copied);
    assert!(of_bus(all[1].copied, SECOND) >= 19, "{}", all[1].copied);
}

#[test]
fn nobody_waits_long_whoever_copies() {
    let small = |n: u32| guest(n * 50, u64::from(n) * 1_000_000, 100, u64::from(n % 3) * MS);
    let mut all: Vec<Guest> = (1..20).map(small).collect();
    all.push(guest(10_000, 300_000_000, 100, 0));
    let all = run(&all, 4 * SECOND);
    for guest in &all[..19] {
        assert!(guest.longest < SECOND && guest.copied > 0, "{} {}", guest.weight, guest.longest);
    }
}

#[test]
fn any_figures_are_borne() {
    struct Wild(i64);
    impl CopyPages for Wild {
        fn copying(&mut self, vm: VmId) -> Copying {
            let odd = vm.0 % 2 == 1;
            Copying { bytes: if odd { u64::MAX } else { 0 }, budget: self.0, waiting: odd || self.0 < 0 }
        }
        fn is_low(&mut self, _: VmId) -> bool {
            self.0 <= 0
        }
        fn allow(&mut self, _: VmId, _: i64) {}
    }
    let mut copies = Copies::default();
    for number in 0..9 {
        copies.set(VmId(number), number * u32::MAX / 9);
    }
    for now in [0, 1, u64::MAX / 2, u64::MAX - LOOK] {
        for budget in [i64::MIN, -1, 0, 1, i64::MAX] {
            copies.look(now, &mut Wild(budget));
        }
    }
}
