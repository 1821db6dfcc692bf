//! The gate: how a process that makes the device work, a worker or a renderer,
//! keeps to its VM's lease and tells what it uses. What is issued, and how it is
//! measured, is the process's own affair.

use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::Duration;

use paravane_scheduler::Nanos;

use super::page::{Count, Grant, Slot, VmPage, now_ns};
use crate::account::{AccountPage, Counter};

/// A thread at the gate looks by itself so often: the arbiter may be a new one.
const LOOK: Duration = Duration::from_millis(50);

/// A copy is held for so many looks at most.
const COPY_LOOKS: u32 = 40;

/// Work that the device is done with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Over {
    /// What it took.
    pub used: Nanos,
    /// What [`Gate::add_ahead`] was told of it.
    pub ahead: Nanos,
    /// When the last lease ended under which some of it was issued; 0: none did.
    pub until: Nanos,
}

/// A process's side of its VM's lease.
#[derive(Debug)]
pub struct Gate {
    page: VmPage,
    kick: OwnedFd,
    slot: OnceLock<usize>,
}

impl Gate {
    /// The gate of the VM whose page and eventfd these are.
    pub fn new(page: VmPage, kick: OwnedFd) -> Self {
        Self { page, kick, slot: OnceLock::new() }
    }

    /// The process's slot: taken when it first needs one, so that spares have
    /// none.
    pub fn slot(&self) -> Slot<'_> {
        let number = self.slot.get_or_init(|| {
            let taken = self.page.take_slot(std::process::id());
            // There are as many as workers and renderers.
            taken.map_or(usize::MAX, Slot::number)
        });
        self.page.slot(*number)
    }

    /// Whether it has needed one yet.
    pub fn has_slot(&self) -> bool {
        self.slot.get().is_some()
    }

    /// The VM's page.
    pub fn page(&self) -> &VmPage {
        &self.page
    }

    /// Whether work goes on without asking: the quick look.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.page.is_open()
    }

    /// Calls the arbiter.
    pub fn kick(&self) {
        // Only a full counter could refuse, and then the arbiter knows already.
        let _ = rustix::io::write(&self.kick, &1_u64.to_ne_bytes());
    }

    /// Whether work of this predicted cost may be issued now; then that is taken
    /// off the lease. It must find room in flight.
    pub fn pass(&self, cost: Nanos, has_room: impl FnOnce() -> bool) -> bool {
        match self.page.granted() {
            Grant::None => false,
            Grant::Open => has_room(),
            Grant::Until(end) => now_ns() < end && has_room() && self.page.spend(cost),
        }
    }

    /// How much predicted work may be in flight.
    #[inline]
    pub fn flight_ns(&self) -> Nanos {
        self.page.flight_ns()
    }

    /// How long a kernel may run.
    pub fn limit(&self) -> Option<Duration> {
        self.page.limit()
    }

    /// When the lease ends that is granted now, if it ends.
    pub fn end(&self) -> Option<Nanos> {
        match self.page.granted() {
            Grant::Until(end) => Some(end),
            Grant::None | Grant::Open => None,
        }
    }

    /// Waits until `pass` says so; where only room in flight is missing,
    /// `wait_for_room` waits. How long it waits for a lease goes into the
    /// process's account too.
    pub fn wait(
        &self,
        account: &AccountPage,
        mut pass: impl FnMut() -> bool,
        has_room: impl Fn() -> bool,
        mut wait_for_room: impl FnMut(),
    ) {
        let slot = self.slot();
        let mut waits = false;
        loop {
            let seen = self.page.epoch_now();
            if pass() {
                break;
            }
            let since = now_ns();
            let open = self.page.is_open();
            if !open && !waits {
                waits = true;
                slot.waiting().fetch_add(1, Ordering::SeqCst);
            }
            if open || (!has_room() && self.end().is_some_and(|end| since < end)) {
                wait_for_room();
                continue;
            }
            self.kick();
            let (count, counter) = match self.page.is_capped() {
                true => (Count::ThrottledNs, Counter::ThrottledNs),
                false => (Count::WaitedNs, Counter::WaitedNs),
            };
            self.page.wait(seen, LOOK);
            let passed = now_ns().saturating_sub(since);
            slot.count(count).fetch_add(passed, Ordering::Relaxed);
            account.counter(counter).fetch_add(passed, Ordering::Relaxed);
        }
        if waits {
            slot.waiting().fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Time that other VMs have had of this one's, up to now.
    pub fn overlap_ns(&self) -> Nanos {
        self.page.overlap_ns()
    }

    /// What a process has had of a time in which its work was in flight: what other
    /// VMs have had of it, beyond `seen`, is theirs, and so is what other processes
    /// of the VM have told of.
    pub fn own_part(&self, span: Nanos, seen: &mut Nanos) -> Nanos {
        let others = self.page.overlap_ns().saturating_sub(*seen).min(span);
        *seen += others;
        self.page.take_time(span - others, now_ns())
    }

    /// So much of the process's memory stays on the device. Where the arbiter shares that out it is called, for another may
    /// have to make room.
    pub fn set_fixed(&self, bytes: u64) {
        self.slot().set_fixed(bytes);
        if self.page.ceiling() != u64::MAX {
            self.kick();
        }
    }

    /// Work begins that [`Self::ends`].
    pub fn begins(&self) {
        self.page.begins(self.slot(), now_ns());
    }

    /// So much predicted work is issued.
    pub fn add_ahead(&self, cost: Nanos) {
        self.slot().count(Count::AheadNs).fetch_add(cost, Ordering::Relaxed);
    }

    /// The device has worked so long.
    pub fn add_used(&self, used: Nanos) {
        self.slot().count(Count::GpuNs).fetch_add(used, Ordering::SeqCst);
    }

    /// Bytes are copied.
    pub fn add_copied(&self, bytes: u64) {
        self.slot().count(Count::CopiedBytes).fetch_add(bytes, Ordering::Relaxed);
        if self.page.spend_copy(bytes) {
            self.kick();
        }
    }

    /// Whether the VM has bytes left to copy between host and device.
    #[inline]
    pub fn may_copy(&self) -> bool {
        self.page.may_copy()
    }

    /// Waits until it has; not for ever, whoever is to say so.
    pub fn wait_for_copies(&self, account: &AccountPage) {
        let slot = self.slot();
        slot.copies_waiting().fetch_add(1, Ordering::SeqCst);
        for _ in 0..COPY_LOOKS {
            if self.page.may_copy() {
                break;
            }
            let since = now_ns();
            self.kick();
            self.page.wait_for_copies(LOOK);
            let passed = now_ns().saturating_sub(since);
            slot.count(Count::WaitedNs).fetch_add(passed, Ordering::Relaxed);
            account.counter(Counter::WaitedNs).fetch_add(passed, Ordering::Relaxed);
        }
        slot.copies_waiting().fetch_sub(1, Ordering::SeqCst);
    }

    /// The device is done with what [`Self::begins`].
    pub fn ends(&self, account: &AccountPage, over: Over) {
        self.add_used(over.used);
        let slot = self.slot();
        if over.until != 0 {
            let overrun = now_ns().saturating_sub(over.until).min(over.used);
            slot.count(Count::OverrunNs).fetch_add(overrun, Ordering::Relaxed);
            account.counter(Counter::OverrunNs).fetch_add(overrun, Ordering::Relaxed);
        }
        let less = |ahead: u64| Some(ahead.saturating_sub(over.ahead));
        let _ = slot.count(Count::AheadNs).fetch_update(Ordering::SeqCst, Ordering::Relaxed, less);
        if slot.flying().fetch_sub(1, Ordering::SeqCst) == 1 && !self.page.is_open() {
            self.kick();
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    #[test]
    fn what_several_use_at_once_is_divided() {
        let (arbiter, file) = VmPage::create().unwrap();
        let kick = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        let gate = Gate::new(VmPage::map(&file).unwrap(), kick);
        let mut seen = 0;
        assert_eq!(gate.own_part(10, &mut seen), 10);
        arbiter.set_overlap(12);
        assert_eq!((gate.own_part(10, &mut seen), seen), (0, 10), "the rest counts next time");
        assert_eq!((gate.own_part(10, &mut seen), seen), (8, 12));
        gate.begins();
        let all: Nanos = (0..5).map(|_| gate.own_part(Nanos::MAX / 8, &mut seen)).sum();
        assert!(all < 10_000_000_000, "no more than has passed: {all}");
    }

    #[test]
    fn who_waits_is_let_in_and_what_was_used_is_told() {
        let (arbiter, file) = VmPage::create().unwrap();
        let kick = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        let gate = Gate::new(VmPage::map(&file).unwrap(), kick.try_clone().unwrap());
        let account = AccountPage::create().unwrap().0;
        assert!(!gate.has_slot() && !gate.pass(5, || true));
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| gate.wait(&account, || gate.pass(5, || true), || true, || panic!("there is room")));
            // The kick comes behind the count.
            while rustix::io::read(&kick, &mut [0; 8]).is_err() {
                std::thread::yield_now();
            }
            assert_eq!(arbiter.wants().waiting, 1);
            arbiter.grant(Grant::Until(u64::MAX - 1), 5);
            waits.join().unwrap();
        });
        assert_eq!((arbiter.wants().waiting, arbiter.budget_ns()), (0, 0));
        gate.begins();
        gate.add_ahead(5);
        assert!(arbiter.wants().in_flight && arbiter.wants().ahead_ns == 5);
        gate.ends(&account, Over { used: 7, ahead: 5, until: 1 });
        assert_eq!(account.counter(Counter::OverrunNs).load(Ordering::Relaxed), 7);
        assert!(account.counter(Counter::WaitedNs).load(Ordering::Relaxed) > 0);
        let wants = arbiter.wants();
        assert_eq!((wants.in_flight, wants.ahead_ns, wants.gpu_ns, wants.overrun_ns), (false, 0, 7, 7));
        arbiter.grant(Grant::Open, 0);
        let looks = std::cell::Cell::new(0);
        gate.wait(&account, || gate.pass(5, || looks.get() == 1), || looks.get() == 1, || looks.set(looks.get() + 1));
        assert_eq!(looks.get(), 1);
    }
}
