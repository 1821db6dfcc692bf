//! The leases under a virtual clock: workers that issue as their pages let
//! them, a device that runs what was issued, an arbiter that is slow to wake.

use std::collections::VecDeque;

use paravane_scheduler::{MS, Nanos, Priority, SECOND, Settings, VmId};

use super::leases::{Leases, Pages};
use super::page::{Grant, Wants};

const STEP: Nanos = 5_000;
/// From a kick to the look that follows it.
const LATENCY: Nanos = 30_000;
/// If nothing in flight ends for so long, it does not count any more.
const STUCK: Nanos = 20 * MS;
/// A ring's thread polls so long before it says that it has no work.
const PATIENCE: Nanos = 60_000;

/// What a VM does.
#[derive(Clone, Copy)]
struct Habit {
    kernel: Nanos,
    /// Waits for each kernel, and so long after it.
    pause: Option<Nanos>,
    from: Nanos,
    until: Nanos,
}

impl Habit {
    fn stream(kernel: Nanos) -> Self {
        Habit { kernel, pause: None, from: 0, until: Nanos::MAX }
    }

    fn awaits(kernel: Nanos, pause: Nanos) -> Self {
        Habit { kernel, pause: Some(pause), from: 0, until: Nanos::MAX }
    }
}

struct Guest {
    habit: Habit,
    grant: Grant,
    budget: i64,
    flight: Nanos,
    overlap: Nanos,
    /// Of the queue, so many at its front do not count.
    excused: usize,
    ended: Nanos,
    queue: VecDeque<Nanos>,
    wants: Wants,
    /// What the device really did for it.
    used: Nanos,
    unreported: Nanos,
    quiet: Nanos,
    next_issue: Nanos,
    waits_since: Option<Nanos>,
    longest_wait: Nanos,
    /// Nothing changes its page any more.
    dead: bool,
}

#[derive(Default)]
struct Machine {
    guests: Vec<Guest>,
    leases: Leases,
    now: Nanos,
    timer: Option<Nanos>,
    kicked: Option<Nanos>,
    idle: Nanos,
}

/// Who notices that a VM's worker has died.
#[derive(Clone, Copy, Debug)]
enum Death {
    /// Its back end, which clears its slot in the page.
    OfTheWorker,
    /// paravaned, whose connection to the back end has ended.
    OfTheBackend,
    /// Nobody: its page stays as it is.
    Unseen,
}

struct View<'a>(&'a mut Vec<Guest>);

impl View<'_> {
    fn of(&mut self, vm: VmId) -> &mut Guest {
        &mut self.0[vm.0 as usize]
    }
}

impl Pages for View<'_> {
    fn wants(&mut self, vm: VmId) -> Wants {
        self.of(vm).wants
    }
    fn budget_ns(&mut self, vm: VmId) -> i64 {
        self.of(vm).budget
    }
    fn grant(&mut self, vm: VmId, grant: Grant, budget_ns: Nanos) {
        let guest = self.of(vm);
        guest.grant = grant;
        guest.budget = i64::try_from(budget_ns).unwrap();
    }
    fn set_capped(&mut self, _: VmId, _: bool) {}
    fn overlap_ns(&mut self, vm: VmId) -> Nanos {
        self.of(vm).overlap
    }
    fn set_overlap(&mut self, vm: VmId, overlap_ns: Nanos) {
        self.of(vm).overlap = overlap_ns;
    }
    fn set_flight(&mut self, vm: VmId, flight_ns: Nanos) {
        self.of(vm).flight = flight_ns;
    }
}

impl Machine {
    fn new(vms: &[(Settings, Habit)]) -> Self {
        let mut machine = Machine::default();
        for (number, (settings, habit)) in vms.iter().enumerate() {
            machine.guests.push(Guest {
                habit: *habit,
                grant: Grant::None,
                budget: 0,
                flight: 0,
                overlap: 0,
                excused: 0,
                ended: 0,
                queue: VecDeque::new(),
                wants: Wants::default(),
                used: 0,
                unreported: 0,
                quiet: 0,
                next_issue: habit.from,
                waits_since: None,
                longest_wait: 0,
                dead: false,
            });
            let vm = VmId(u32::try_from(number).unwrap());
            machine.leases.set(vm, *settings, 0, &mut View(&mut machine.guests)).unwrap();
        }
        machine
    }

    /// Runs, and asks what was used, which is a look.
    fn run(&mut self, until: Nanos) {
        self.go_on(until);
        self.leases.look(self.now, &mut View(&mut self.guests));
    }

    fn go_on(&mut self, until: Nanos) {
        while self.now < until {
            let now = self.now;
            let due = self.timer.into_iter().chain(self.kicked.map(|at| at + LATENCY)).min();
            if due.is_none_or(|due| due <= now) && (due.is_some() || now == 0) {
                self.kicked = None;
                self.timer = self.leases.look(now, &mut View(&mut self.guests));
                assert!(self.timer.is_none_or(|at| at > now), "a look for the past");
            }
            let kicks = self.guests.iter_mut().map(|guest| guest.step(now)).filter(|kick| *kick).count();
            if kicks > 0 {
                self.kicked = self.kicked.or(Some(now));
            }
            self.device();
            self.now += STEP;
        }
    }

    /// One step of the device: those with work share it.
    fn device(&mut self) {
        let busy = self.guests.iter().filter(|guest| !guest.queue.is_empty()).count() as u64;
        if busy == 0 {
            self.idle += STEP;
            return;
        }
        for guest in self.guests.iter_mut().filter(|guest| !guest.queue.is_empty()) {
            guest.used += STEP / busy;
            // Each one's clock runs while the device has work of it.
            guest.unreported += STEP;
            let first = guest.queue.front_mut().unwrap();
            *first = first.saturating_sub(STEP / busy);
            if *first == 0 {
                guest.queue.pop_front();
                guest.excused = guest.excused.saturating_sub(1);
                guest.ended = self.now;
                guest.next_issue = self.now + STEP + guest.habit.pause.unwrap_or(0);
            }
        }
    }

    /// A VM's workers die, and their work on the device with them.
    fn kill(&mut self, vm: usize, death: Death) {
        let guest = &mut self.guests[vm];
        guest.dead = true;
        guest.queue.clear();
        match death {
            Death::OfTheWorker => guest.wants = Wants { gpu_ns: guest.wants.gpu_ns, ..Wants::default() },
            Death::OfTheBackend => {
                let vm = VmId(u32::try_from(vm).unwrap());
                self.leases.remove(vm, &mut View(&mut self.guests));
            }
            Death::Unseen => return,
        }
        self.kicked = self.kicked.or(Some(self.now));
    }

    /// Another arbiter takes the pages as they are.
    fn take_over(&mut self, settings: Settings) {
        self.leases = Leases::new();
        for vm in (0..).take(self.guests.len()).map(VmId) {
            self.leases.set(vm, settings, self.now, &mut View(&mut self.guests)).unwrap();
        }
        self.timer = self.leases.look(self.now, &mut View(&mut self.guests));
    }

    fn percent(&self, vm: usize) -> f64 {
        100.0 * self.guests[vm].used as f64 / self.now as f64
    }

    fn charged(&self, vm: u32) -> u64 {
        self.leases.figures(VmId(vm)).unwrap().gpu_time_ns
    }
}

impl Guest {
    fn has_room(&mut self, now: Nanos) -> bool {
        let room = self.queue.iter().skip(self.excused).sum::<Nanos>() < self.flight;
        if !room && now.saturating_sub(self.ended) >= STUCK {
            (self.excused, self.ended) = (self.queue.len(), now);
            return true;
        }
        room
    }

    /// Issues what it may; whether it kicks.
    fn step(&mut self, now: Nanos) -> bool {
        if self.dead {
            return false;
        }
        let mut kick = false;
        let wants_to = (self.habit.from..self.habit.until).contains(&now)
            && match self.habit.pause {
                Some(_) => self.queue.is_empty() && now >= self.next_issue,
                None => true,
            };
        let mut held = false;
        while wants_to && (self.habit.pause.is_none() || self.queue.is_empty()) {
            let room = self.has_room(now);
            let may = match self.grant {
                Grant::None => false,
                Grant::Open => room,
                Grant::Until(end) => room && now < end && self.budget > 0,
            };
            if !may {
                held = self.grant != Grant::Open;
                break;
            }
            self.budget -= i64::try_from(self.habit.kernel).unwrap();
            self.queue.push_back(self.habit.kernel);
            self.wants.in_flight = true;
            if let Some(since) = self.waits_since.take() {
                self.longest_wait = self.longest_wait.max(now - since);
            }
        }
        if held != (self.wants.waiting > 0) {
            self.wants.waiting = u32::from(held);
            kick |= held;
        }
        if held && self.waits_since.is_none() {
            self.waits_since = Some(now);
        }
        self.wants.ahead_ns = self.unreported + self.queue.iter().sum::<Nanos>();
        self.quiet = if self.queue.is_empty() { self.quiet + STEP } else { 0 };
        if self.wants.in_flight && self.queue.is_empty() && (held || self.quiet >= PATIENCE) {
            self.wants.gpu_ns += std::mem::take(&mut self.unreported);
            self.wants.in_flight = false;
            self.wants.ahead_ns = 0;
            kick |= self.grant != Grant::Open;
        }
        kick
    }
}

fn of_weight(weight: u32) -> Settings {
    Settings::new(weight, 0, 1000, Priority::Normal).unwrap()
}

fn capped(cap: u32) -> Settings {
    Settings::new(100, 0, cap, Priority::Normal).unwrap()
}

#[test]
fn one_vm_alone_loses_nothing() {
    let mut machine = Machine::new(&[(of_weight(1), Habit::stream(MS / 100))]);
    machine.run(SECOND);
    assert!(machine.percent(0) > 99.9, "{}", machine.percent(0));
}

#[test]
fn two_vms_share_by_weight() {
    for kernel in [MS / 100, MS / 2, MS] {
        let mut machine =
            Machine::new(&[(of_weight(3), Habit::stream(kernel)), (of_weight(1), Habit::stream(kernel))]);
        machine.run(SECOND);
        let (a, b) = (machine.percent(0), machine.percent(1));
        assert!((a / (a + b) - 0.75).abs() < 0.02, "kernels of {kernel}: {a} {b}");
        assert!(a + b > 97.0, "kernels of {kernel}: {a} {b}");
        let overlap = machine.guests[0].overlap.max(machine.guests[1].overlap);
        assert!(overlap < SECOND / 8, "kernels of {kernel}: {overlap}");
    }
}

#[test]
fn two_vms_with_long_kernels_share_by_weight_too() {
    let long = Habit::stream(50 * MS);
    let mut machine = Machine::new(&[(of_weight(3), long), (of_weight(1), long)]);
    machine.run(10 * SECOND);
    let (a, b) = (machine.percent(0), machine.percent(1));
    assert!((a / (a + b) - 0.75).abs() < 0.02 && a + b > 97.0, "{a} {b}");
}

#[test]
fn long_kernels_are_owed_for() {
    let long = Habit::stream(50 * MS);
    let mut machine = Machine::new(&[(of_weight(1), long), (of_weight(1), Habit::stream(MS / 2))]);
    machine.run(10 * SECOND);
    let (a, b) = (machine.percent(0), machine.percent(1));
    assert!((a - b).abs() < 6.0 && a + b > 97.0, "{a} {b}");
    let charged = machine.charged(0) + machine.charged(1);
    assert!(charged <= machine.now, "more charged than has passed");
    assert!(charged > machine.now * 95 / 100, "{charged} of {}", machine.now);
}

#[test]
fn a_cap_holds_alone_and_beside_others() {
    let mut alone = Machine::new(&[(capped(250), Habit::stream(MS / 100))]);
    alone.run(2 * SECOND);
    assert!((alone.percent(0) - 25.0).abs() < 1.0, "{}", alone.percent(0));
    let mut beside =
        Machine::new(&[(capped(250), Habit::stream(MS / 2)), (of_weight(100), Habit::stream(MS / 2))]);
    beside.run(2 * SECOND);
    let (a, b) = (beside.percent(0), beside.percent(1));
    assert!((a - 25.0).abs() < 1.5 && a + b > 97.0, "{a} {b}");
}

#[test]
fn a_program_that_waits_for_each_kernel_keeps_its_turn() {
    let short = Habit::awaits(MS / 50, MS / 100);
    let mut machine = Machine::new(&[(of_weight(1), short), (of_weight(1), Habit::stream(MS / 2))]);
    machine.run(SECOND);
    // It is charged for the time that the device stood still for it.
    let (a, b) = (machine.percent(0), machine.percent(1));
    assert!(a > 25.0 && b > 35.0 && b < 60.0, "{a} {b}");
}

#[test]
fn programs_that_wait_for_each_frame_share_by_weight() {
    for (frame, pause) in [(20 * MS, 4 * MS), (8 * MS, MS), (2 * MS, MS / 4)] {
        let frames = Habit::awaits(frame, pause);
        let mut machine = Machine::new(&[(of_weight(3), frames), (of_weight(1), frames)]);
        machine.run(10 * SECOND);
        let (a, b) = (machine.percent(0), machine.percent(1));
        assert!((a / (a + b) - 0.75).abs() < 0.04 && a + b > 85.0, "frames of {frame}: {a} {b}");
    }
}

#[test]
fn nobody_is_waited_for_who_comes_now_and_then() {
    for (frame, pause) in [(8 * MS, 8 * MS), (20 * MS, 6 * MS), (MS, 3 * MS)] {
        let mut machine = Machine::new(&[(of_weight(3), Habit::awaits(frame, pause)), (of_weight(1), Habit::stream(MS))]);
        machine.run(10 * SECOND);
        let (a, b) = (machine.percent(0), machine.percent(1));
        assert!(a + b > 96.0, "frames of {frame}: {a} {b}");
    }
}

#[test]
fn an_interactive_vm_is_let_in_within_the_work_ahead() {
    let interactive = Settings::new(100, 0, 1000, Priority::Interactive).unwrap();
    let now_and_then = Habit::awaits(MS / 10, 20 * MS);
    let mut machine = Machine::new(&[(of_weight(100), Habit::stream(MS / 2)), (interactive, now_and_then)]);
    machine.run(2 * SECOND);
    // It waits for nobody's work, and that is short.
    assert!(machine.guests[1].longest_wait < MS / 10, "{}", machine.guests[1].longest_wait);
    assert!(machine.percent(0) > 90.0, "{}", machine.percent(0));
}

#[test]
fn whoever_does_not_end_holds_nobody_up() {
    let mut machine = Machine::new(&[
        (of_weight(1), Habit::stream(1000 * SECOND)),
        (of_weight(1), Habit { from: MS, ..Habit::stream(MS / 2) }),
    ]);
    machine.run(SECOND);
    // Its work goes on beside, which the device shares.
    assert!(machine.percent(1) > 45.0, "{}", machine.percent(1));
    assert!(machine.guests[1].longest_wait < 100 * MS);
    // Nothing is told of the endless one: at last it is not believed to take time.
    machine.run(4 * SECOND);
    assert!(machine.guests[1].overlap < 600 * MS, "{}", machine.guests[1].overlap);
}

#[test]
fn a_lease_comes_back_to_who_waits_for_its_own_thread() {
    // Its work never ends; what ends it would be issued next.
    let mut machine =
        Machine::new(&[(of_weight(1), Habit::stream(1000 * SECOND)), (of_weight(1), Habit::stream(MS / 2))]);
    machine.run(SECOND);
    assert!(machine.guests[0].queue.len() > 3, "{} leases", machine.guests[0].queue.len());
}

#[test]
fn a_lease_comes_back_under_a_cap_too() {
    let mut machine = Machine::new(&[(capped(250), Habit::stream(1000 * SECOND))]);
    machine.run(5 * SECOND);
    assert!(machine.guests[0].queue.len() > 5, "{} leases", machine.guests[0].queue.len());
}

#[test]
fn figures_that_lie_are_bounded() {
    let mut machine =
        Machine::new(&[(of_weight(1), Habit::stream(MS / 2)), (of_weight(1), Habit::stream(MS / 2))]);
    machine.run(100 * MS);
    machine.guests[0].wants.gpu_ns = u64::MAX / 3;
    machine.run(200 * MS);
    machine.guests[0].wants.gpu_ns = 5;
    machine.guests[0].wants.waiting = u32::MAX;
    machine.run(400 * MS);
    assert!(machine.charged(0) < 400 * MS);
    assert!(machine.percent(1) > 30.0, "{}", machine.percent(1));
}

#[test]
fn a_vm_that_sleeps_leaves_all_to_the_other() {
    let sleeper = Habit { until: 100 * MS, ..Habit::stream(MS / 2) };
    let mut machine = Machine::new(&[(of_weight(1), sleeper), (of_weight(1), Habit::stream(MS / 2))]);
    machine.run(SECOND);
    assert!(machine.percent(1) > 94.0, "{}", machine.percent(1));
    assert_eq!(machine.guests[1].grant, Grant::Open);
}

#[test]
fn whoever_dies_at_whatever_moment_no_lease_is_stuck_and_the_others_shares_hold() {
    let stream = Habit::stream(MS / 2);
    for death in [Death::OfTheWorker, Death::OfTheBackend, Death::Unseen] {
        for moment in 0..24 {
            let vms = [(of_weight(3), stream), (of_weight(1), stream), (of_weight(4), stream)];
            let mut machine = Machine::new(&vms);
            machine.run(100 * MS + moment * 173_000);
            machine.kill(2, death);
            let before = [0, 1].map(|vm| machine.guests[vm].used);
            machine.guests.iter_mut().for_each(|guest| guest.longest_wait = 0);
            machine.run(machine.now + 400 * MS);
            for guest in &machine.guests[..2] {
                let waits = guest.waits_since.map_or(0, |since| machine.now - since);
                assert!(guest.longest_wait.max(waits) < 100 * MS, "{death:?} {moment}: {}", guest.longest_wait.max(waits));
            }
            let [heavy, light] = [0, 1].map(|vm| (machine.guests[vm].used - before[vm]) as f64);
            let share = 100.0 * heavy / (heavy + light);
            assert!((68.0..82.0).contains(&share), "{death:?} {moment}: {share}");
        }
    }
}

#[test]
fn who_held_an_open_lease_idle_owes_nothing_for_that() {
    // One VM works a little and keeps the lease; much later both come.
    let settings = [of_weight(1), of_weight(1)];
    let mut machine = Machine::new(&settings.map(|settings| (settings, Habit::stream(MS / 2))));
    machine.guests[0].habit = Habit { until: MS, ..Habit::stream(MS / 2) };
    machine.guests[1].habit.from = SECOND;
    machine.go_on(SECOND);
    machine.guests[0].habit.until = Nanos::MAX;
    let before = machine.guests[0].used;
    machine.run(SECOND + 100 * MS);
    let (first, second) = (machine.guests[0].used - before, machine.guests[1].used);
    assert!(first.abs_diff(second) < 10 * MS, "{first} {second}");
}

#[test]
fn what_others_had_goes_on_where_another_arbiter_left_it() {
    let (settings, long) = (of_weight(1), Habit::stream(200 * MS));
    let run = |lie: Option<Nanos>, taken_over: bool| {
        let mut machine = Machine::new(&[(settings, long), (settings, long)]);
        machine.go_on(400 * MS);
        machine.guests[0].overlap = lie.unwrap_or(machine.guests[0].overlap);
        let before = [0, 1].map(|vm| machine.guests[vm].overlap);
        if taken_over {
            machine.take_over(settings);
        }
        machine.go_on(800 * MS);
        [0, 1].map(|vm| machine.guests[vm].overlap.checked_sub(before[vm]))
    };
    let [first, second] = run(None, false).map(Option::unwrap);
    assert!(first.min(second) > SECOND / 10, "they have something of each other's time: {first} {second}");
    for (after, of) in run(None, true).into_iter().zip([first, second]) {
        assert!(after.is_some_and(|after| after.abs_diff(of) < of / 4), "{after:?} beside {of}");
    }
    // Who tells of more time than there is has nothing taken off; the other has.
    let [liar, honest] = run(Some(Nanos::MAX), true);
    assert!(liar.is_none() && honest.is_some_and(|honest| honest.abs_diff(second) < second / 4), "{liar:?} {honest:?}");
}
