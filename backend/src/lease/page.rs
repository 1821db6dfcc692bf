//! The lease page of a VM: what the arbiter grants, and what each worker uses
//! and wants. All processes of the VM's back end map it, and the arbiter, which
//! takes nothing in it for true: every figure may be any.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use paravane_protocol::limits::{CONNECTIONS_MAX, WORKERS_MAX};
use rustix::thread::futex;
use rustix::time::{ClockId, Timespec, clock_gettime};

use super::copies::{Copying, LOW, QUANTUM};
use crate::page::Page;

/// The head in its own page, then a slot for each worker, and two for each
/// renderer, of which a connection has one: its own and that of its memory.
const HEAD_BYTES: usize = 4096;
const SLOT_BYTES: usize = 128;
const SLOTS_MAX: usize = WORKERS_MAX + 2 * CONNECTIONS_MAX;
const BYTES: usize = HEAD_BYTES + SLOTS_MAX * SLOT_BYTES;

/// A command is not predicted to take longer than an hour: so no number of
/// commands that come through under one lease overflows its budget.
const COST_MAX_NS: u64 = 3_600_000_000_000;

/// Nor is a copy of more than any memory.
const COPY_MAX: u64 = 1 << 46;

/// What may be in flight is within these.
const FLIGHT_LEAST_NS: u64 = 200_000;
const FLIGHT_MOST_NS: u64 = 20_000_000;

/// Offsets in the head. What the arbiter writes seldom and workers read at each
/// command has a cache line of its own.
mod head {
    pub(super) const GRANT: usize = 0;
    pub(super) const LIMIT_NS: usize = 8;
    pub(super) const CAPPED: usize = 16;
    pub(super) const FLIGHT_NS: usize = 24;
    pub(super) const EPOCH: usize = 64;
    pub(super) const BUDGET: usize = 128;
    pub(super) const SLOTS: usize = 192;
    pub(super) const COPY_BUDGET: usize = 256;
    pub(super) const COPY_EPOCH: usize = 264;
    pub(super) const OVERLAP_NS: usize = 272;
    pub(super) const USED_UNTIL: usize = 280;
}

/// A number in a worker's slot. Those that count have counted for all workers
/// that ever had the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Count {
    /// Time that the device worked, in nanoseconds.
    GpuNs = 2,
    /// Time that threads waited for another VM's lease to end.
    WaitedNs,
    /// Time that threads waited because the VM was at its cap.
    ThrottledNs,
    /// Time that commands took beyond their lease.
    OverrunNs,
    /// Bytes copied.
    CopiedBytes,
    /// Predicted time of the commands that the device has not finished. Not a
    /// sum: what is so now.
    AheadNs,
}

/// What is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Nothing may be issued.
    None,
    /// Whatever there is: nobody else wants the device.
    Open,
    /// Until this moment, if the budget lasts.
    Until(u64),
}

impl Grant {
    fn word(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Open => u64::MAX,
            Self::Until(end) => end.clamp(1, u64::MAX - 1),
        }
    }
}

/// What a VM's workers want and have used, summed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// Threads at the gate.
    pub waiting: u32,
    /// Threads that wait for the VM's next round of copies.
    pub copies_waiting: u32,
    /// Whether the device has work of theirs.
    pub in_flight: bool,
    /// Predicted time of that work.
    pub ahead_ns: u64,
    /// As [`Count`] has them.
    pub gpu_ns: u64,
    pub waited_ns: u64,
    pub throttled_ns: u64,
    pub overrun_ns: u64,
    pub copied_bytes: u64,
}

/// The mapped page.
#[derive(Debug)]
pub struct VmPage(Page);

impl VmPage {
    /// A fresh page in which nothing is granted, and the descriptor to give to
    /// the other processes.
    pub fn create() -> io::Result<(Self, OwnedFd)> {
        let (page, file) = Page::create_long("paravane-lease", BYTES)?;
        let page = Self(page);
        page.word(head::COPY_BUDGET).store(QUANTUM.cast_unsigned(), Ordering::Relaxed);
        page.begin_room();
        Ok((page, file))
    }

    /// Maps the page that a descriptor from [`VmPage::create`] names.
    pub fn map(file: impl AsFd) -> io::Result<Self> {
        Page::map_long(file, BYTES).map(Self)
    }

    pub(super) fn word(&self, offset: usize) -> &AtomicU64 {
        self.0.words().atomic_u64(offset)
    }

    pub(super) fn half(&self, offset: usize) -> &AtomicU32 {
        self.0.words().atomic_u32(offset)
    }

    fn epoch(&self) -> &AtomicU32 {
        self.0.words().atomic_u32(head::EPOCH)
    }

    /// What is granted now; [`is_open`](Self::is_open) is the quick look.
    pub fn granted(&self) -> Grant {
        match self.word(head::GRANT).load(Ordering::Acquire) {
            0 => Grant::None,
            u64::MAX => Grant::Open,
            end => Grant::Until(end),
        }
    }

    /// Whether whatever there is may be issued.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.word(head::GRANT).load(Ordering::Relaxed) == u64::MAX
    }

    /// Grants something from now on, and wakes who waits for that. `budget_ns`
    /// is for a lease with an end. For the arbiter.
    pub fn grant(&self, grant: Grant, budget_ns: u64) {
        self.word(head::BUDGET).store(budget_ns.min(i64::MAX.unsigned_abs()), Ordering::Relaxed);
        self.word(head::GRANT).store(grant.word(), Ordering::SeqCst);
        self.epoch().fetch_add(1, Ordering::SeqCst);
        // The kernel says how many it woke, which changes nothing.
        let _ = futex::wake(self.epoch(), futex::Flags::empty(), u32::MAX);
    }

    /// Whether the VM is held up by its own cap, not by others. For the arbiter.
    pub fn set_capped(&self, capped: bool) {
        self.0.words().atomic_u32(head::CAPPED).store(u32::from(capped), Ordering::Relaxed);
    }

    /// Whether the VM is held up by its own cap.
    pub fn is_capped(&self) -> bool {
        self.0.words().atomic_u32(head::CAPPED).load(Ordering::Relaxed) != 0
    }

    /// How long one kernel may run; 0: as long as it likes.
    pub fn set_limit(&self, limit: Option<Duration>) {
        let limit = limit.map_or(0, |limit| u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX).max(1));
        self.word(head::LIMIT_NS).store(limit, Ordering::Relaxed);
    }

    /// How long one kernel may run.
    pub fn limit(&self) -> Option<Duration> {
        let limit = self.word(head::LIMIT_NS).load(Ordering::Relaxed);
        (limit != 0).then(|| Duration::from_nanos(limit))
    }

    /// How much predicted work may be in flight. For the arbiter.
    pub fn set_flight(&self, flight_ns: u64) {
        self.word(head::FLIGHT_NS).store(flight_ns, Ordering::Relaxed);
    }

    /// How much predicted work may be in flight, at least a little.
    #[inline]
    pub fn flight_ns(&self) -> u64 {
        self.word(head::FLIGHT_NS).load(Ordering::Relaxed).clamp(FLIGHT_LEAST_NS, FLIGHT_MOST_NS)
    }

    /// Time that other VMs' work has had, in all, while this one's was in flight.
    /// For the arbiter.
    pub fn set_overlap(&self, overlap_ns: u64) {
        self.word(head::OVERLAP_NS).store(overlap_ns, Ordering::Relaxed);
    }

    /// Time that other VMs' work has had, in all, while this one's was in flight.
    pub fn overlap_ns(&self) -> u64 {
        self.word(head::OVERLAP_NS).load(Ordering::Relaxed)
    }

    /// Work begins; nobody can have used time before that.
    pub fn begins(&self, slot: Slot, now: u64) {
        let is_first = self.slots().all(|slot| slot.flying().load(Ordering::SeqCst) == 0);
        slot.flying().fetch_add(1, Ordering::SeqCst);
        if is_first {
            self.word(head::USED_UNTIL).fetch_max(now, Ordering::Relaxed);
        }
    }

    /// What of a time that a worker's work was in flight nobody else of the VM
    /// has told of: so all together tell of no more than has passed.
    pub fn take_time(&self, span: u64, now: u64) -> u64 {
        let mut taken = 0;
        let take = |until: u64| {
            taken = span.min(now.saturating_sub(until));
            Some(until.saturating_add(taken))
        };
        // It never refuses.
        let _ = self.word(head::USED_UNTIL).fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken
    }

    /// Takes predicted time off the lease; whether there was any left.
    pub fn spend(&self, cost_ns: u64) -> bool {
        let cost = cost_ns.min(COST_MAX_NS);
        self.word(head::BUDGET).fetch_sub(cost, Ordering::Relaxed).cast_signed() > 0
    }

    /// Predicted time that may still be issued under the lease; negative when
    /// its last command was too long for it.
    pub fn budget_ns(&self) -> i64 {
        self.word(head::BUDGET).load(Ordering::Relaxed).cast_signed()
    }

    /// Takes bytes that are copied between host and device off the VM's round;
    /// whether little is left from now on.
    pub fn spend_copy(&self, bytes: u64) -> bool {
        let bytes = bytes.min(COPY_MAX);
        let before = self.word(head::COPY_BUDGET).fetch_sub(bytes, Ordering::SeqCst).cast_signed();
        before > LOW && before.saturating_sub_unsigned(bytes) <= LOW
    }

    /// What the VM's workers copy. For the arbiter.
    pub fn copying(&self) -> Copying {
        let wants = self.wants();
        Copying { bytes: wants.copied_bytes, budget: self.copy_budget(), waiting: wants.copies_waiting > 0 }
    }

    /// More bytes may be copied. For the arbiter.
    pub fn allow_copies(&self, more: i64) {
        self.word(head::COPY_BUDGET).fetch_add(more.cast_unsigned(), Ordering::SeqCst);
        self.copy_epoch().fetch_add(1, Ordering::SeqCst);
        // As above.
        let _ = futex::wake(self.copy_epoch(), futex::Flags::empty(), u32::MAX);
    }

    fn copy_budget(&self) -> i64 {
        self.word(head::COPY_BUDGET).load(Ordering::SeqCst).cast_signed()
    }

    /// Whether little is left of the VM's round. For the arbiter.
    pub fn is_low(&self) -> bool {
        self.copy_budget() <= LOW
    }

    /// Whether a copy may be issued.
    #[inline]
    pub fn may_copy(&self) -> bool {
        self.word(head::COPY_BUDGET).load(Ordering::Relaxed).cast_signed() > 0
    }

    fn copy_epoch(&self) -> &AtomicU32 {
        self.0.words().atomic_u32(head::COPY_EPOCH)
    }

    /// Sleeps until copies may be issued, at most so long.
    pub fn wait_for_copies(&self, limit: Duration) {
        let limit = Timespec::try_from(limit).ok();
        let seen = self.copy_epoch().load(Ordering::SeqCst);
        if self.copy_budget() <= 0 {
            // Any error means: look again.
            let _ = futex::wait(self.copy_epoch(), futex::Flags::empty(), seen, limit.as_ref());
        }
    }

    /// Counts grants: a thread reads it, looks whether it may go on, and else
    /// waits for it to change.
    pub fn epoch_now(&self) -> u32 {
        self.epoch().load(Ordering::SeqCst)
    }

    /// Sleeps until something is granted after `seen`, at most so long.
    pub fn wait(&self, seen: u32, limit: Duration) {
        let limit = Timespec::try_from(limit).ok();
        // Any error means: look again.
        let _ = futex::wait(self.epoch(), futex::Flags::empty(), seen, limit.as_ref());
    }

    /// Gives a process a slot; `None` if all are taken.
    pub fn take_slot(&self, pid: u32) -> Option<Slot<'_>> {
        let taken = (0..SLOTS_MAX)
            .map(|number| Slot { page: self, number })
            .find(|slot| slot.pid().compare_exchange(0, pid, Ordering::AcqRel, Ordering::Relaxed).is_ok())?;
        let slots = u32::try_from(taken.number + 1).unwrap_or(u32::MAX);
        self.0.words().atomic_u32(head::SLOTS).fetch_max(slots, Ordering::AcqRel);
        Some(taken)
    }

    /// A worker's slot, by the number that [`Slot::number`] told.
    pub fn slot(&self, number: usize) -> Slot<'_> {
        Slot { page: self, number: number.min(SLOTS_MAX - 1) }
    }

    /// A worker has ended: it wants nothing any more. Its counts stay.
    pub fn end(&self, pid: u32) {
        for slot in self.slots().filter(|slot| slot.pid().load(Ordering::Acquire) == pid) {
            slot.waiting().store(0, Ordering::Relaxed);
            slot.flying().store(0, Ordering::Relaxed);
            slot.copies_waiting().store(0, Ordering::Relaxed);
            slot.count(Count::AheadNs).store(0, Ordering::Relaxed);
            slot.end_holding();
            slot.pid().store(0, Ordering::Release);
        }
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = Slot<'_>> {
        let used = self.0.words().atomic_u32(head::SLOTS).load(Ordering::Acquire);
        let used = usize::try_from(used).unwrap_or(SLOTS_MAX).min(SLOTS_MAX);
        (0..used).map(|number| Slot { page: self, number })
    }

    /// What all workers want and have used.
    pub fn wants(&self) -> Wants {
        let mut wants = Wants::default();
        for slot in self.slots() {
            let count = |count| slot.count(count).load(Ordering::Relaxed);
            wants.waiting = wants.waiting.saturating_add(slot.waiting().load(Ordering::SeqCst));
            wants.copies_waiting = wants.copies_waiting.saturating_add(slot.copies_waiting().load(Ordering::SeqCst));
            wants.in_flight |= slot.flying().load(Ordering::SeqCst) != 0;
            wants.ahead_ns = wants.ahead_ns.saturating_add(count(Count::AheadNs));
            wants.gpu_ns = wants.gpu_ns.wrapping_add(count(Count::GpuNs));
            wants.waited_ns = wants.waited_ns.wrapping_add(count(Count::WaitedNs));
            wants.throttled_ns = wants.throttled_ns.wrapping_add(count(Count::ThrottledNs));
            wants.overrun_ns = wants.overrun_ns.wrapping_add(count(Count::OverrunNs));
            wants.copied_bytes = wants.copied_bytes.wrapping_add(count(Count::CopiedBytes));
        }
        wants
    }
}

/// What one worker writes.
#[derive(Clone, Copy, Debug)]
pub struct Slot<'a> {
    page: &'a VmPage,
    number: usize,
}

impl<'a> Slot<'a> {
    pub(super) fn page(self) -> &'a VmPage {
        self.page
    }

    pub(super) fn offset(self) -> usize {
        HEAD_BYTES + self.number * SLOT_BYTES
    }

    /// The slot's place.
    pub fn number(self) -> usize {
        self.number
    }

    fn pid(self) -> &'a AtomicU32 {
        self.page.0.words().atomic_u32(self.offset())
    }

    /// Its threads at the gate.
    pub fn waiting(self) -> &'a AtomicU32 {
        self.page.0.words().atomic_u32(self.offset() + 4)
    }

    /// Parts of its work that the device may not have finished.
    pub fn flying(self) -> &'a AtomicU32 {
        self.page.0.words().atomic_u32(self.offset() + 8)
    }

    /// Its threads that wait for the VM's next round of copies.
    pub fn copies_waiting(self) -> &'a AtomicU32 {
        self.page.0.words().atomic_u32(self.offset() + 12)
    }

    /// One of its numbers.
    pub fn count(self, count: Count) -> &'a AtomicU64 {
        self.page.word(self.offset() + count as usize * size_of::<u64>())
    }
}

/// Nanoseconds of the clock that all processes of a machine share.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
