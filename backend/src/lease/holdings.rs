//! What a worker tells its VM's page of the device's memory that it has: the
//! memory's account says what stays where it is (`worker/memory`), and what moves
//! says where it is (`worker/swap`).

use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::gate::Gate;
use super::page::Slot;
use super::room::Holds;

/// Bytes.
#[derive(Debug, Default)]
struct Sums {
    /// Stays on the device.
    fixed: u64,
    /// Can be moved, wherever it is.
    swappable: u64,
    /// Of these, what is on the device or on its way there.
    inside: u64,
}

/// A worker's part of its VM's claim.
#[derive(Debug)]
pub struct Holdings {
    gate: Arc<Gate>,
    sums: Mutex<Sums>,
}

impl Holdings {
    /// Of a process that has nothing yet.
    pub fn new(gate: Arc<Gate>) -> Self {
        Self { gate, sums: Mutex::default() }
    }

    fn sums(&self) -> MutexGuard<'_, Sums> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The worker's slot, where what is told is seen.
    pub fn slot(&self) -> Slot<'_> {
        self.gate.slot()
    }

    /// So much stays on the device. Where the arbiter shares the device's memory out, which the VM's
    /// ceiling tells, it is called: another may have to make room for what has come without asking.
    pub fn set_fixed(&self, bytes: u64) {
        let mut sums = self.sums();
        if sums.fixed == bytes {
            return;
        }
        let grows = bytes > std::mem::replace(&mut sums.fixed, bytes);
        self.tell(&sums);
        drop(sums);
        if grows && self.gate.page().ceiling() != u64::MAX {
            self.gate.kick();
        }
    }

    /// Memory that can be moved is asked for: it counts as claimed. Whether all of the VM's
    /// stays within what may lie on the host; else nothing is changed.
    pub fn claim(&self, bytes: u64) -> bool {
        self.change(|sums| sums.swappable = sums.swappable.saturating_add(bytes));
        let page = self.gate.page();
        let fits = page.held().swappable <= page.swap_bytes();
        if !fits {
            self.give_up(bytes, false);
        }
        fits
    }

    /// Memory that could be moved is gone.
    pub fn give_up(&self, bytes: u64, was_inside: bool) {
        self.change(|sums| {
            sums.swappable = sums.swappable.saturating_sub(bytes);
            sums.inside = sums.inside.saturating_sub(if was_inside { bytes } else { 0 });
        });
    }

    /// Takes room on the device for what is claimed; whether there is room for all that the VM
    /// claims. The arbiter takes room away first and then looks what is there, this side the other
    /// way round: so one of the two sees the other.
    pub fn come_in(&self, bytes: u64) -> bool {
        let page = self.gate.page();
        let fits = || page.held().claim <= page.allowed();
        if !fits() {
            return false;
        }
        self.change(|sums| sums.inside = sums.inside.saturating_add(bytes));
        let fits = fits();
        if !fits {
            self.go_out(bytes);
        }
        fits
    }

    /// So much is on the device no more.
    pub fn go_out(&self, bytes: u64) {
        self.change(|sums| sums.inside = sums.inside.saturating_sub(bytes));
    }

    /// Of what can be moved: how much is on the device.
    pub fn inside(&self) -> u64 {
        self.sums().inside
    }

    fn change(&self, change: impl FnOnce(&mut Sums)) {
        let mut sums = self.sums();
        change(&mut sums);
        self.tell(&sums);
    }

    fn tell(&self, sums: &Sums) {
        let slot = self.gate.slot();
        slot.holds(Holds::Swappable).store(sums.swappable, SeqCst);
        slot.holds(Holds::Claim).store(sums.fixed.saturating_add(sums.swappable), SeqCst);
        slot.holds(Holds::Resident).store(sums.fixed.saturating_add(sums.inside), SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{EventfdFlags, eventfd};

    use super::super::page::VmPage;
    use super::super::room::Held;
    use super::*;

    fn worker(file: &std::os::fd::OwnedFd) -> Holdings {
        let kick = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        Holdings::new(Arc::new(Gate::new(VmPage::map(file).unwrap(), kick)))
    }

    #[test]
    fn what_is_claimed_comes_in_when_there_is_room_for_all_of_the_vm() {
        let (page, file) = VmPage::create().unwrap();
        page.set_swap(100);
        let (first, second) = (worker(&file), worker(&file));
        first.set_fixed(7);
        assert!(first.claim(60));
        assert!(!second.claim(41) && second.claim(40), "100 bytes may lie on the host");
        assert_eq!(page.held(), Held { claim: 107, resident: 7, swappable: 100, outside: 0 });
        page.allow(106);
        assert!(!first.come_in(60) && first.inside() == 0);
        page.allow(107);
        assert!(first.come_in(60) && second.come_in(40));
        assert_eq!(page.held().resident, 107);
        first.go_out(60);
        second.give_up(40, true);
        assert_eq!(page.held(), Held { claim: 67, resident: 7, swappable: 60, outside: 0 });
    }

    #[test]
    fn what_grows_without_asking_is_told_where_memory_is_shared_out() {
        let (page, file) = VmPage::create().unwrap();
        let kick = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        let gate = Gate::new(VmPage::map(&file).unwrap(), kick.try_clone().unwrap());
        let holdings = Holdings::new(Arc::new(gate));
        let is_called = || rustix::io::read(&kick, &mut [0; 8]).is_ok();
        holdings.set_fixed(5);
        assert!(!is_called(), "there is nobody else");
        page.set_ceiling(100);
        holdings.set_fixed(5);
        holdings.set_fixed(4);
        assert!(!is_called(), "nothing has grown");
        holdings.set_fixed(6);
        assert!(is_called());
    }
}
