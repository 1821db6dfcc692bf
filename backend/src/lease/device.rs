//! The VM's lease of one device: the page that its workers share, and the
//! arbiter that gives leases while no other does.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use paravane_scheduler::{Settings, SettingsError, VmId};
use rustix::event::{EventfdFlags, eventfd};

use super::arbiter::{Arbiter, VmFigures};
use super::page::{Slot, VmPage};

/// The only VM of a back end's own arbiter.
const OWN: VmId = VmId(0);

/// Why a VM has no lease.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The page, the eventfd or the thread cannot be made.
    #[error("the VM's lease: {0}")]
    System(#[from] io::Error),
    /// The settings cannot be.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

/// The VM's lease of a device.
#[derive(Debug)]
pub struct DeviceLease {
    page: VmPage,
    file: OwnedFd,
    kick: OwnedFd,
    /// `None` while another arbiter gives the leases.
    own: Mutex<Option<Arbiter>>,
}

impl DeviceLease {
    /// A lease that this process arbitrates itself.
    ///
    /// # Errors
    /// If the system refuses, or the settings cannot be.
    pub fn start(settings: Settings) -> Result<Self, LeaseError> {
        let (page, file) = VmPage::create()?;
        let kick = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(io::Error::from)?;
        let lease = Self { page, file, kick, own: Mutex::default() };
        lease.arbitrate(settings)?;
        Ok(lease)
    }

    fn own(&self) -> MutexGuard<'_, Option<Arbiter>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The page's descriptor, for workers and for paravaned.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The eventfd that calls the arbiter.
    pub fn kick(&self) -> BorrowedFd<'_> {
        self.kick.as_fd()
    }

    /// This process gives the leases from now on, by these settings.
    ///
    /// # Errors
    /// As [`DeviceLease::start`].
    pub fn arbitrate(&self, settings: Settings) -> Result<(), LeaseError> {
        let mut own = self.own();
        if let Some(arbiter) = &*own {
            return Ok(arbiter.set(OWN, settings)?);
        }
        let arbiter = Arbiter::start()?;
        arbiter.add(OWN, VmPage::map(&self.file)?, self.kick.try_clone()?, settings)?;
        *own = Some(arbiter);
        Ok(())
    }

    /// Another arbiter gives them from now on. The page stays as it is.
    pub fn hand_over(&self) {
        *self.own() = None;
    }

    /// How long a kernel of the VM may run.
    pub fn set_limit(&self, limit: Option<Duration>) {
        self.page.set_limit(limit);
    }

    /// How many bytes of host memory the device memory of processes may lie in that start from now on.
    pub fn set_swap(&self, bytes: u64) {
        self.page.set_swap(bytes);
    }

    /// What the VM has used, where this process arbitrates.
    pub fn figures(&self) -> Option<VmFigures> {
        self.own().as_ref().and_then(|arbiter| arbiter.figures(OWN))
    }

    /// A slot for a renderer's memory, beside that in which it tells of its work;
    /// `None` if all are taken.
    pub fn memory_slot(&self, pid: u32) -> Option<usize> {
        self.page.take_slot(pid).map(Slot::number)
    }

    /// In such a slot: so much of the device's memory is there to stay.
    pub fn set_memory(&self, slot: usize, bytes: u64) {
        self.page.slot(slot).set_fixed(bytes);
    }

    /// A worker or renderer is gone, with what it wanted.
    pub fn worker_ended(&self, pid: u32) {
        self.page.end(pid);
        // Only a full counter could refuse, and then the arbiter knows already.
        let _ = rustix::io::write(&self.kick, &1_u64.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::super::page::Grant;
    use super::*;

    #[test]
    fn a_vm_alone_is_open_and_a_capped_one_is_asked() {
        let lease = DeviceLease::start(Settings::default()).unwrap();
        lease.page.take_slot(5).unwrap().waiting().fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        rustix::io::write(lease.kick(), &1_u64.to_ne_bytes()).unwrap();
        while !lease.page.is_open() {
            std::thread::yield_now();
        }
        lease.hand_over();
        assert!(lease.figures().is_none());
        lease.page.grant(Grant::None, 0);
        lease.arbitrate(Settings::default()).unwrap();
        while !lease.page.is_open() {
            std::thread::yield_now();
        }
        let [first, second] = [5, 6].map(|pid| lease.memory_slot(pid).unwrap());
        for (slot, bytes) in [(first, 70), (second, 7), (second, 8)] {
            lease.set_memory(slot, bytes);
        }
        assert_eq!((lease.page.held().claim, lease.page.held().resident), (78, 78));
        lease.worker_ended(6);
        lease.worker_ended(5);
        assert_eq!(lease.page.held().claim, 0);
        assert!(!lease.page.wants().in_flight && lease.page.wants().waiting == 0);
    }
}
