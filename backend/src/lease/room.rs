//! The memory's part of the lease page: how much of the device's memory each
//! worker has and wants, and how much the arbiter lets the VM hold.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use rustix::thread::futex;
use rustix::time::Timespec;

use super::page::{Slot, VmPage};

/// Offsets in the head of the page, in a cache line of their own.
mod at {
    pub(super) const ALLOWED: usize = 320;
    pub(super) const CEILING: usize = 328;
    pub(super) const SWAP: usize = 336;
    pub(super) const MOVES: usize = 344;
}

/// In a slot: threads that wait for memory.
const OUTSIDE: usize = 88;

/// What a worker has of the device's memory, in its slot, in bytes: what is so now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Holds {
    /// All that it has or wants: on the device, on the host, asked for.
    Claim = 8,
    /// Of these, what is on the device or on its way there.
    Resident,
    /// Of the claim, what can be moved to the host.
    Swappable,
}

/// A VM's part of the device's memory, summed over its workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// As [`Holds`] has them.
    pub claim: u64,
    pub resident: u64,
    pub swappable: u64,
    /// Threads that wait for their memory.
    pub outside: u32,
}

impl VmPage {
    /// Nothing is known of the VM: it may hold what there is.
    pub(super) fn begin_room(&self) {
        self.set_ceiling(u64::MAX);
        self.allow(u64::MAX);
    }

    fn moves(&self) -> &AtomicU32 {
        self.half(at::MOVES)
    }

    /// How many bytes the VM may hold on the device from now on; `u64::MAX`: as many as there
    /// are. Where what can move of it is more, it goes out as a whole. For the arbiter.
    pub fn allow(&self, bytes: u64) {
        self.word(at::ALLOWED).store(bytes, Ordering::SeqCst);
        self.call_movers();
    }

    /// How many bytes the VM may hold on the device.
    pub fn allowed(&self) -> u64 {
        self.word(at::ALLOWED).load(Ordering::SeqCst)
    }

    /// More than this the VM cannot hold, whoever else goes out. For the arbiter.
    pub fn set_ceiling(&self, bytes: u64) {
        self.word(at::CEILING).store(bytes, Ordering::SeqCst);
    }

    /// More than this the VM cannot hold, whoever else goes out.
    pub fn ceiling(&self) -> u64 {
        self.word(at::CEILING).load(Ordering::SeqCst)
    }

    /// How many bytes of host memory the VM's device memory may lie in. For the back end.
    pub fn set_swap(&self, bytes: u64) {
        self.word(at::SWAP).store(bytes, Ordering::Relaxed);
    }

    /// How many bytes of host memory the VM's device memory may lie in; 0: it does not move.
    pub fn swap_bytes(&self) -> u64 {
        self.word(at::SWAP).load(Ordering::Relaxed)
    }

    /// Counts what those who move memory look at: they read it, look, and wait for it to change.
    pub fn moves_now(&self) -> u32 {
        self.moves().load(Ordering::SeqCst)
    }

    /// Lets those who move memory look again.
    pub fn call_movers(&self) {
        self.moves().fetch_add(1, Ordering::SeqCst);
        // The kernel says how many it woke, which changes nothing.
        let _ = futex::wake(self.moves(), futex::Flags::empty(), u32::MAX);
    }

    /// Sleeps until [`Self::call_movers`] behind `seen`, at most so long.
    pub fn wait_for_moves(&self, seen: u32, limit: Duration) {
        let limit = Timespec::try_from(limit).ok();
        // Any error means: look again.
        let _ = futex::wait(self.moves(), futex::Flags::empty(), seen, limit.as_ref());
    }

    /// What the VM has of the device's memory.
    pub fn held(&self) -> Held {
        let mut held = Held::default();
        for slot in self.slots() {
            let holds = |holds| slot.holds(holds).load(Ordering::SeqCst);
            held.claim = held.claim.saturating_add(holds(Holds::Claim));
            held.resident = held.resident.saturating_add(holds(Holds::Resident));
            held.swappable = held.swappable.saturating_add(holds(Holds::Swappable));
            held.outside = held.outside.saturating_add(slot.outside().load(Ordering::SeqCst));
        }
        held
    }
}

impl<'a> Slot<'a> {
    /// Its threads that wait for their memory.
    pub fn outside(self) -> &'a AtomicU32 {
        self.page().half(self.offset() + OUTSIDE)
    }

    /// What it has of the device's memory.
    pub fn holds(self, holds: Holds) -> &'a AtomicU64 {
        self.page().word(self.offset() + holds as usize * size_of::<u64>())
    }

    /// It has so much, all of which stays on the device.
    pub(super) fn set_fixed(self, bytes: u64) {
        self.holds(Holds::Claim).store(bytes, Ordering::SeqCst);
        self.holds(Holds::Resident).store(bytes, Ordering::SeqCst);
    }

    /// Its worker has ended, with its memory.
    pub(super) fn end_holding(self) {
        self.outside().store(0, Ordering::SeqCst);
        for holds in [Holds::Claim, Holds::Resident, Holds::Swappable] {
            self.holds(holds).store(0, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::page::Grant;
    use super::*;

    #[test]
    fn what_workers_hold_is_summed_and_goes_with_them() {
        let (page, file) = VmPage::create().unwrap();
        assert_eq!((page.allowed(), page.ceiling(), page.swap_bytes()), (u64::MAX, u64::MAX, 0));
        let worker = VmPage::map(&file).unwrap();
        let (first, second) = (worker.take_slot(11).unwrap(), worker.take_slot(12).unwrap());
        for (slot, [claim, resident, swappable]) in [(first, [10, 4, 8]), (second, [u64::MAX, 5, 0])] {
            slot.holds(Holds::Claim).store(claim, Ordering::SeqCst);
            slot.holds(Holds::Resident).store(resident, Ordering::SeqCst);
            slot.holds(Holds::Swappable).store(swappable, Ordering::SeqCst);
        }
        first.outside().store(3, Ordering::SeqCst);
        assert_eq!(page.held(), Held { claim: u64::MAX, resident: 9, swappable: 8, outside: 3 });
        page.end(11);
        assert_eq!(page.held(), Held { claim: u64::MAX, resident: 5, ..Held::default() });
        let seen = worker.moves_now();
        page.allow(5);
        worker.wait_for_moves(seen, Duration::from_secs(3600));
        assert_eq!(worker.allowed(), 5);
        assert_eq!((page.wants().waiting, page.granted()), (0, Grant::None), "leases are another matter");
    }
}
