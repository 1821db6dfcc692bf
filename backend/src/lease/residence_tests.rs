//! Residence under a virtual clock: VMs whose memory moves as their pages let it,
//! at so many bytes a second, an arbiter that is slow to wake.

use std::collections::BTreeMap;

use paravane_scheduler::{MS, Nanos, SECOND, VmId};
use proptest::prelude::*;

use super::residence::{Residence, Rooms};
use super::room::Held;

const STEP: Nanos = MS;
const DEVICE: u64 = 1000;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Phase {
    In,
    Out,
    /// On its way until then.
    Goes(Nanos),
    Comes(Nanos),
}

struct Guest {
    fixed: u64,
    swappable: u64,
    /// How long its memory is on its way.
    way: Nanos,
    works: bool,
    /// It never goes out, or never comes in.
    stays: bool,
    is_refused: bool,
    moves: bool,
    phase: Phase,
    allowed: u64,
    ceiling: u64,
    used: Nanos,
    ins: u32,
    waits_since: Option<Nanos>,
    longest_wait: Nanos,
}

impl Guest {
    fn new(fixed: u64, swappable: u64) -> Self {
        Self {
            fixed,
            swappable,
            way: 50 * MS,
            works: true,
            stays: false,
            is_refused: false,
            moves: true,
            phase: Phase::Out,
            allowed: u64::MAX,
            ceiling: u64::MAX,
            used: 0,
            ins: 0,
            waits_since: None,
            longest_wait: 0,
        }
    }

    fn claim(&self) -> u64 {
        self.fixed + self.swappable
    }

    fn resident(&self) -> u64 {
        self.fixed + if self.phase == Phase::Out { 0 } else { self.swappable }
    }

    fn is_outside(&self) -> bool {
        self.works && matches!(self.phase, Phase::Out | Phase::Comes(_))
    }

    /// What a mover does.
    fn step(&mut self, now: Nanos) {
        self.phase = match self.phase {
            Phase::In if self.swappable > self.allowed && !self.stays => Phase::Goes(now + self.way),
            Phase::Out if self.works && self.claim() <= self.allowed && !self.is_refused => Phase::Comes(now + self.way),
            Phase::Goes(until) if now >= until => Phase::Out,
            Phase::Comes(until) if now >= until => {
                self.ins += 1;
                Phase::In
            }
            same => same,
        };
        self.waits_since = if self.is_outside() { self.waits_since.or(Some(now)) } else { None };
        self.longest_wait = self.longest_wait.max(self.waits_since.map_or(0, |since| now - since));
    }
}

struct View<'a>(&'a mut BTreeMap<u32, Guest>);

impl View<'_> {
    fn of(&mut self, vm: VmId) -> &mut Guest {
        self.0.get_mut(&vm.0).unwrap()
    }
}

impl Rooms for View<'_> {
    fn held(&mut self, vm: VmId) -> Held {
        let guest = self.of(vm);
        let outside = u32::from(guest.is_outside());
        let swappable = if guest.moves { guest.swappable } else { 0 };
        Held { claim: guest.claim(), resident: guest.resident(), swappable, outside }
    }
    fn moves(&mut self, vm: VmId) -> bool {
        self.of(vm).moves
    }
    fn is_busy(&mut self, vm: VmId) -> bool {
        self.of(vm).works && self.of(vm).phase == Phase::In
    }
    fn allowed(&mut self, vm: VmId) -> u64 {
        self.of(vm).allowed
    }
    fn allow(&mut self, vm: VmId, bytes: u64) {
        self.of(vm).allowed = bytes;
    }
    fn set_ceiling(&mut self, vm: VmId, bytes: u64) {
        self.of(vm).ceiling = bytes;
    }
}

struct Machine {
    guests: BTreeMap<u32, Guest>,
    residence: Residence,
    now: Nanos,
    timer: Option<Nanos>,
    told: Vec<u32>,
}

impl Machine {
    /// Guests with their weights.
    fn new(all: Vec<(Guest, u32)>) -> Self {
        let mut machine = Self {
            guests: BTreeMap::new(),
            residence: Residence::new(DEVICE),
            now: 0,
            timer: Some(0),
            told: Vec::new(),
        };
        for (number, (guest, weight)) in (0..).zip(all) {
            machine.guests.insert(number, guest);
            machine.residence.set(VmId(number), weight, 0, &mut View(&mut machine.guests));
        }
        machine.look();
        machine
    }

    fn look(&mut self) {
        self.timer = self.residence.look(self.now, &mut View(&mut self.guests));
        self.told.extend(self.residence.stuck(self.now).iter().map(|vm| vm.0));
    }

    fn run(&mut self, length: Nanos) {
        let end = self.now + length;
        while self.now < end {
            self.now += STEP;
            let mut kicked = false;
            for guest in self.guests.values_mut() {
                let before = (guest.phase, guest.is_outside());
                guest.step(self.now);
                kicked |= before != (guest.phase, guest.is_outside());
            }
            if kicked || self.timer.is_some_and(|timer| self.now >= timer) {
                self.look();
            }
            let works = |guest: &&mut Guest| guest.works && guest.phase == Phase::In;
            let there = self.guests.values_mut().filter(works).count().max(1);
            let each = STEP / u64::try_from(there).unwrap();
            self.guests.values_mut().filter(works).for_each(|guest| guest.used += each);
            self.check();
        }
    }

    /// Never more on the device than it has.
    fn check(&self) {
        if self.guests.len() < 2 {
            return;
        }
        let there = |guest: &Guest| if guest.moves { guest.allowed.max(guest.resident()) } else { guest.resident() };
        let sum = self.guests.values().map(there).fold(0, u64::saturating_add);
        assert!(sum <= DEVICE, "{sum} at {} ms", self.now / MS);
    }

    fn used(&self, number: u32) -> f64 {
        f64::from(u32::try_from(self.guests[&number].used / MS).unwrap())
    }
}

#[test]
fn two_that_do_not_fit_take_turns_of_a_second_or_more() {
    let mut machine = Machine::new(vec![(Guest::new(10, 740), 100), (Guest::new(10, 740), 100)]);
    machine.run(60 * SECOND);
    let share = machine.used(0) / (machine.used(0) + machine.used(1));
    assert!((0.45..0.55).contains(&share), "{share}");
    for guest in machine.guests.values() {
        assert!((20..=31).contains(&guest.ins), "came in {} times", guest.ins);
        assert!(guest.longest_wait < 2500 * MS, "waited {} ms", guest.longest_wait / MS);
    }
    assert!(machine.used(0) + machine.used(1) > 50_000.0, "the device stands still while memory moves only");
}

#[test]
fn turns_follow_weights() {
    let mut machine = Machine::new(vec![(Guest::new(0, 700), 300), (Guest::new(0, 700), 100)]);
    machine.run(120 * SECOND);
    let ratio = machine.used(0) / machine.used(1);
    assert!((2.6..3.4).contains(&ratio), "{ratio}");
}

#[test]
fn who_takes_long_to_move_moves_seldom() {
    let slow = || Guest { way: 2 * SECOND, ..Guest::new(0, 700) };
    let mut machine = Machine::new(vec![(slow(), 100), (slow(), 100)]);
    machine.run(200 * SECOND);
    let used = machine.used(0) + machine.used(1);
    assert!(used > 120_000.0, "{used} ms of 200 s");
    assert!(machine.guests.values().all(|guest| guest.ins >= 5));
}

#[test]
fn small_ones_run_beside_each_other_and_the_large_one_is_not_starved() {
    let all = vec![(Guest::new(10, 390), 100), (Guest::new(10, 390), 100), (Guest::new(10, 740), 100)];
    let mut machine = Machine::new(all);
    machine.run(120 * SECOND);
    let [first, second, large] = [0, 1, 2].map(|number| machine.used(number));
    assert!(large > 20_000.0 && first > 20_000.0 && second > 20_000.0, "{first} {second} {large}");
    assert!(machine.guests.values().all(|guest| guest.longest_wait < 6 * SECOND));
}

#[test]
fn who_has_no_work_keeps_nobody_out() {
    let mut machine = Machine::new(vec![(Guest::new(0, 700), 100)]);
    machine.run(SECOND);
    machine.guests.insert(1, Guest { works: false, ..Guest::new(0, 700) });
    machine.residence.set(VmId(1), 100, machine.now, &mut View(&mut machine.guests));
    machine.look();
    machine.run(SECOND);
    machine.guests.get_mut(&0).unwrap().works = false;
    machine.run(200 * MS);
    machine.guests.get_mut(&1).unwrap().works = true;
    machine.look();
    machine.run(300 * MS);
    assert_eq!(machine.guests[&1].phase, Phase::In);
    assert_eq!(machine.guests[&0].phase, Phase::Out);
    // And where all fit, nobody has to go.
    machine.guests.get_mut(&1).unwrap().swappable = 200;
    machine.guests.get_mut(&0).unwrap().works = true;
    machine.look();
    machine.run(SECOND);
    assert!(machine.guests.values().all(|guest| guest.phase == Phase::In));
}

#[test]
fn one_that_never_goes_out_is_told_of_and_others_keep_what_they_have() {
    let all = vec![(Guest { stays: true, ..Guest::new(0, 600) }, 100), (Guest::new(0, 600), 100), (Guest::new(0, 300), 100)];
    let mut machine = Machine::new(all);
    machine.run(40 * SECOND);
    assert_eq!(machine.told, [0], "once");
    let [stays, large, small] = [0, 1, 2].map(|number| machine.used(number));
    assert!(stays > 15_000.0 && small > 15_000.0 && large == 0.0, "{stays} {large} {small}");
    machine.guests.remove(&0);
    machine.residence.remove(VmId(0));
    machine.look();
    machine.run(SECOND);
    assert!(machine.guests.values().all(|guest| guest.phase == Phase::In));
}

#[test]
fn one_that_the_library_refuses_costs_the_other_some_time_only() {
    let all = vec![(Guest { is_refused: true, ..Guest::new(0, 700) }, 100), (Guest::new(0, 700), 100)];
    let mut machine = Machine::new(all);
    machine.run(100 * SECOND);
    assert!(machine.used(1) > 30_000.0, "{}", machine.used(1));
    assert!(machine.told.contains(&0));
}

#[test]
fn the_room_of_the_dead_is_given_on() {
    let mut machine = Machine::new(vec![(Guest::new(5, 700), 100), (Guest::new(5, 700), 100)]);
    machine.run(10 * SECOND);
    while !matches!(machine.guests[&0].phase, Phase::Goes(_)) {
        machine.run(STEP);
    }
    // Its worker is killed on the way out: its slot is cleared.
    let dead = machine.guests.get_mut(&0).unwrap();
    (dead.fixed, dead.swappable, dead.works, dead.phase) = (0, 0, false, Phase::Out);
    machine.look();
    machine.run(100 * MS);
    assert_eq!(machine.guests[&1].phase, Phase::In);
    let before = machine.guests[&1].ins;
    machine.run(20 * SECOND);
    assert_eq!(machine.guests[&1].ins, before, "nobody else wants its place");
}

#[test]
fn what_cannot_move_is_told_as_a_ceiling() {
    let all = vec![(Guest { moves: false, phase: Phase::In, ..Guest::new(0, 400) }, 100), (Guest::new(50, 500), 100), (Guest::new(20, 500), 100)];
    let mut machine = Machine::new(all);
    machine.run(20 * SECOND);
    assert_eq!([0, 1, 2].map(|number| machine.guests[&number].ceiling), [930, 580, 550]);
    assert!(machine.used(1) > 3_000.0 && machine.used(2) > 3_000.0);
    assert_eq!(machine.guests[&0].allowed, u64::MAX);
}

#[test]
fn one_alone_is_let_alone() {
    let mut machine = Machine::new(vec![(Guest::new(0, 5 * DEVICE), 100)]);
    machine.run(SECOND);
    assert_eq!((machine.guests[&0].phase, machine.timer), (Phase::In, None));
}

/// A page may say anything.
struct Any(Vec<[u64; 3]>);

impl Rooms for Any {
    fn held(&mut self, vm: VmId) -> Held {
        let [claim, resident, swappable] = self.0[vm.0 as usize];
        Held { claim, resident, swappable, outside: u32::try_from(claim % 3).unwrap() }
    }
    fn moves(&mut self, vm: VmId) -> bool {
        self.0[vm.0 as usize][0].is_multiple_of(2)
    }
    fn is_busy(&mut self, vm: VmId) -> bool {
        self.0[vm.0 as usize][1].is_multiple_of(2)
    }
    fn allowed(&mut self, vm: VmId) -> u64 {
        self.0[vm.0 as usize][2]
    }
    fn allow(&mut self, _: VmId, _: u64) {}
    fn set_ceiling(&mut self, _: VmId, _: u64) {}
}

proptest! {
    #[test]
    fn whatever_the_pages_say_nothing_overflows(
        figures in prop::collection::vec(prop::array::uniform3(prop_oneof![Just(u64::MAX), 0..2 * DEVICE, any::<u64>()]), 1..5),
        times in prop::collection::vec(prop_oneof![any::<u64>(), 0..20 * SECOND], 1..20),
    ) {
        let mut rooms = Any(figures);
        let mut residence = Residence::new(DEVICE);
        for number in 0..u32::try_from(rooms.0.len()).unwrap() {
            residence.set(VmId(number), number, 0, &mut rooms);
        }
        for now in times {
            residence.look(now, &mut rooms);
            residence.stuck(now);
            rooms.0.rotate_left(1);
        }
    }
}
