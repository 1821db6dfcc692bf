//! A GPU and its VMs under a virtual clock: kernels run one after the other, and nothing takes time but they.
#![allow(dead_code, reason = "each test uses its part")]

use paravane_scheduler::{Decision, Nanos, SECOND, Scheduler, Settings, VmId};

/// What a VM does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habit {
    /// How long each of its kernels runs.
    pub(crate) kernel: Nanos,
    /// Kernels until it rests; 0 for never.
    pub(crate) burst: u64,
    pub(crate) rest: Nanos,
    /// When it begins.
    pub(crate) from: Nanos,
}

impl Habit {
    pub(crate) fn always(kernel: Nanos) -> Self {
        Habit { kernel, burst: 0, rest: 0, from: 0 }
    }

    pub(crate) fn bursts(kernel: Nanos, burst: u64, rest: Nanos) -> Self {
        Habit { kernel, burst, rest, from: 0 }
    }
}

#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) habit: Habit,
    pub(crate) settings: Settings,
    /// Kernels left of this burst, and when the next begins.
    left: u64,
    wakes: Option<Nanos>,
    /// GPU time used, in all and by the end of each second.
    pub(crate) used: Nanos,
    pub(crate) by_second: Vec<Nanos>,
    /// From having work to running, of each burst.
    pub(crate) waits: Vec<Nanos>,
    since: Option<Nanos>,
    pub(crate) last_run: Nanos,
    pub(crate) longest_gap: Nanos,
}

pub(crate) struct Machine {
    pub(crate) scheduler: Scheduler,
    pub(crate) now: Nanos,
    pub(crate) guests: Vec<Guest>,
    /// Time in which somebody who was not at the cap had work and the GPU none.
    pub(crate) wasted: Nanos,
    pub(crate) decisions: u64,
}

pub(crate) fn vm(at: usize) -> VmId {
    VmId(u32::try_from(at).unwrap())
}

impl Machine {
    pub(crate) fn new(guests: &[(Settings, Habit)]) -> Self {
        let mut scheduler = Scheduler::new();
        let start = |(at, &(settings, habit)): (usize, &(Settings, Habit))| {
            scheduler.set(vm(at), settings, 0).unwrap();
            Guest {
                habit,
                settings,
                left: 0,
                wakes: Some(habit.from),
                used: 0,
                by_second: Vec::new(),
                waits: Vec::new(),
                since: None,
                last_run: habit.from,
                longest_gap: 0,
            }
        };
        let guests = guests.iter().enumerate().map(start).collect();
        Machine { scheduler, now: 0, guests, wasted: 0, decisions: 0 }
    }

    /// Wakes those whose time has come; whether one of them goes before who is running.
    fn wake(&mut self) -> bool {
        let mut gives_way = false;
        for (at, guest) in self.guests.iter_mut().enumerate() {
            if guest.wakes.is_some_and(|wakes| wakes <= self.now) {
                guest.since = guest.wakes.take();
                guest.left = if guest.habit.burst == 0 { u64::MAX } else { guest.habit.burst };
                gives_way |= self.scheduler.ready(vm(at), self.now);
            }
        }
        gives_way
    }

    fn next_wake(&self) -> Option<Nanos> {
        self.guests.iter().filter_map(|guest| guest.wakes).min()
    }

    /// One VM's turn.
    fn turn(&mut self, at: usize, length: Nanos) {
        let mut issued = 0;
        loop {
            let guest = &mut self.guests[at];
            if let Some(since) = guest.since.take() {
                guest.waits.push(self.now - since);
            }
            guest.longest_gap = guest.longest_gap.max(self.now - guest.last_run);
            let kernel = guest.habit.kernel;
            self.now += kernel;
            guest.used += kernel;
            guest.last_run = self.now;
            guest.left -= 1;
            issued += kernel;
            self.scheduler.charge(vm(at), kernel, self.now);
            let guest = &mut self.guests[at];
            if guest.left == 0 {
                guest.wakes = Some(self.now + guest.habit.rest);
                self.scheduler.idle(vm(at));
                return;
            }
            if self.wake() || issued >= length {
                self.scheduler.over(vm(at), self.now);
                return;
            }
        }
    }

    /// Lets time pass until `end`.
    pub(crate) fn run(&mut self, end: Nanos) {
        while self.now < end {
            self.wake();
            self.decisions += 1;
            match self.scheduler.next(self.now) {
                Decision::Run(turn) => self.turn(usize::try_from(turn.vm.0).unwrap(), turn.length),
                Decision::Wait(until) => {
                    assert!(until > self.now, "a wait for the past");
                    self.now = self.next_wake().map_or(until, |wakes| wakes.min(until)).min(end);
                }
                Decision::Nothing => {
                    assert_eq!(self.scheduler.busy(), 0, "somebody has work");
                    self.now = self.next_wake().map_or(end, |wakes| wakes.max(self.now)).min(end);
                }
            }
            let second = usize::try_from(self.now / SECOND).unwrap();
            for guest in &mut self.guests {
                while guest.by_second.len() < second {
                    guest.by_second.push(guest.used);
                }
            }
        }
    }

    /// A VM's part of the time since the start, in percent.
    pub(crate) fn percent(&self, at: usize) -> f64 {
        100.0 * self.guests[at].used as f64 / self.now as f64
    }

    /// A VM's part of one second, in percent.
    pub(crate) fn percent_of_second(&self, at: usize, second: usize) -> f64 {
        let by_second = &self.guests[at].by_second;
        let before = if second == 0 { 0 } else { by_second[second - 1] };
        100.0 * (by_second[second] - before) as f64 / SECOND as f64
    }
}

pub(crate) fn by_weight(weight: u32) -> Settings {
    Settings::new(weight, 0, 1000, paravane_scheduler::Priority::Normal).unwrap()
}
