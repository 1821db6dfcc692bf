//! What a renderer has of its VM: a side of the lease, memory of the budget, and
//! an account, which shows as a process named OpenGL. Dropped when the process
//! has ended: what it held is given back then. Its memory is counted here, where
//! the guest asks for it, not in the process, which runs what a guest wants.
#![deny(clippy::indexing_slicing)]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::account::{AccountPage, Gauge};
use crate::budget::{Share, Slot};
use crate::host::Host;
use crate::lease::DeviceLease;
use crate::usage::{Held, ProcessAccount, Usage};

/// How a renderer's account is named: what it draws for several of the guest's
/// processes is not told apart.
const NAME: &str = "OpenGL";

/// A renderer's dues.
pub(super) struct Dues {
    pid: u32,
    lease: Arc<DeviceLease>,
    /// Where the lease's page is told of its memory.
    place: usize,
    usage: Arc<Usage>,
    account: Arc<ProcessAccount>,
    memory: Share,
    memory_bytes: u64,
    /// Given back behind everything else.
    _slot: Slot,
}

impl Dues {
    /// Opens those of a process that has just been started and not waited for;
    /// and the descriptors of [`super::wire::DUES`].
    pub(super) fn open(host: &Host, pid: u32) -> io::Result<(Self, Vec<OwnedFd>)> {
        let slot = host.budget.slot().ok_or_else(|| io::Error::other("the budget has no slot left"))?;
        let memory = Share::map(host.budget.file(), slot.number())?;
        let (page, file) = AccountPage::create()?;
        let lease = host.drawing_lease();
        let descriptors = [file.as_fd(), lease.file(), lease.kick()];
        let descriptors = descriptors.iter().map(|fd| fd.try_clone_to_owned()).collect::<io::Result<_>>()?;
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let raw = raw.ok_or_else(|| io::Error::other("a process id out of range"))?;
        let held = Held { page: file, pidfd: pidfd_open(raw, PidfdFlags::empty())? };
        let place = lease.memory_slot(pid).ok_or_else(|| io::Error::other("the lease has no slot left"))?;
        // No process of the guest has the id 0.
        let account = host.usage.open(0, NAME.to_owned(), pid, page, Some(held));
        let usage = Arc::clone(&host.usage);
        Ok((Self { pid, lease, place, usage, account, memory, memory_bytes: 0, _slot: slot }, descriptors))
    }

    /// Takes memory; `false` where it would go beyond the VM's quota.
    pub(super) fn take(&mut self, bytes: u64) -> bool {
        let taken = self.memory.reserve(bytes);
        if taken {
            self.set_memory(self.memory_bytes.saturating_add(bytes));
        }
        taken
    }

    /// Gives it back.
    pub(super) fn give_back(&mut self, bytes: u64) {
        self.memory.give_back(bytes);
        self.set_memory(self.memory_bytes.saturating_sub(bytes));
    }

    fn set_memory(&mut self, bytes: u64) {
        self.memory_bytes = bytes;
        self.memory.show(bytes, 0);
        self.lease.set_memory(self.place, bytes);
        let page = &self.account.page;
        page.gauge(Gauge::MemoryBytes).store(bytes, Ordering::Relaxed);
        page.gauge(Gauge::MemoryPeakBytes).fetch_max(bytes, Ordering::Relaxed);
    }
}

impl Drop for Dues {
    fn drop(&mut self) {
        self.lease.worker_ended(self.pid);
        self.usage.close(&self.account);
    }
}
