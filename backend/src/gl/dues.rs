//! What a renderer has of its VM: a side of the lease, memory of the budget, and
//! accounts, which show as processes: one named OpenGL, which has the memory, and
//! one for each program that draws, as its context is named. Dropped when the process
//! has ended: what it held is given back then. Its memory is counted here, where
//! the guest asks for it, not in the process, which runs what a guest wants.
#![deny(clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::account::{AccountPage, Gauge};
use crate::budget::{Share, Slot};
use crate::host::Host;
use crate::lease::DeviceLease;
use crate::usage::{Held, ProcessAccount, Usage};

/// How a renderer's account is named, and how those of programs begin.
const NAME: &str = "OpenGL";

/// Programs of a renderer that are told apart, by name. What further ones draw
/// is the renderer's own.
const PROGRAMS_MAX: usize = 64;

/// The number of the device that draws, and descriptors.
pub(super) type Told = ([u8; 4], Vec<OwnedFd>);

/// A renderer's dues.
pub(super) struct Dues {
    pid: u32,
    lease: Arc<DeviceLease>,
    /// Where the lease's page is told of its memory.
    place: usize,
    usage: Arc<Usage>,
    account: Arc<ProcessAccount>,
    programs: BTreeMap<String, Arc<ProcessAccount>>,
    memory: Share,
    memory_bytes: u64,
    /// Given back behind everything else.
    _slot: Slot,
}

impl Dues {
    /// Opens those of a process that has just been started and not waited for; and
    /// body and descriptors of [`super::wire::DUES`].
    pub(super) fn open(host: &Host, pid: u32) -> io::Result<(Self, Told)> {
        let slot = host.budget.slot().ok_or_else(|| io::Error::other("the budget has no slot left"))?;
        let memory = Share::map(host.budget.file(), slot.number())?;
        let (number, lease) = host.drawing_lease();
        let number = u32::try_from(number).unwrap_or(0).to_le_bytes();
        let usage = Arc::clone(&host.usage);
        let account = open(&usage, NAME.to_owned(), pid)?;
        let fds = [account.page_file(), lease.file().try_clone_to_owned(), lease.kick().try_clone_to_owned()];
        let place = lease.memory_slot(pid).ok_or_else(|| io::Error::other("the lease has no slot left"));
        let opened = place.and_then(|place| Ok((place, fds.into_iter().collect::<io::Result<_>>()?)));
        let (place, fds) = opened.inspect_err(|_| usage.close(&account))?;
        let programs = BTreeMap::new();
        Ok((Self { pid, lease, place, usage, account, programs, memory, memory_bytes: 0, _slot: slot }, (number, fds)))
    }

    /// The page of the account of a program that draws; `None`: it is the
    /// renderer's own.
    pub(super) fn program(&mut self, name: &str) -> io::Result<Option<OwnedFd>> {
        if let Some(account) = self.programs.get(name) {
            return account.page_file().map(Some);
        }
        if name.is_empty() || self.programs.len() >= PROGRAMS_MAX {
            return Ok(None);
        }
        let account = open(&self.usage, format!("{NAME}: {name}"), self.pid)?;
        let file = account.page_file();
        self.programs.insert(name.to_owned(), account);
        file.map(Some)
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
        self.programs.values().chain([&self.account]).for_each(|account| self.usage.close(account));
    }
}

/// An account that a renderer writes.
fn open(usage: &Usage, name: String, renderer: u32) -> io::Result<Arc<ProcessAccount>> {
    let (page, file) = AccountPage::create()?;
    let raw = i32::try_from(renderer).ok().and_then(Pid::from_raw);
    let raw = raw.ok_or_else(|| io::Error::other("a process id out of range"))?;
    let held = Held { page: file, pidfd: pidfd_open(raw, PidfdFlags::empty())? };
    // No process of the guest has the id 0.
    Ok(usage.open(0, name, renderer, page, Some(held)))
}
