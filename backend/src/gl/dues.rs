//! What a renderer has of its VM: a side of the lease, memory of the budget, and
//! accounts, which show as processes: one named OpenGL, which has the textures, one
//! named Vulkan where it has that, and one for each program that draws, as its context
//! is named. Dropped when the process has ended: what it held is given back then.
//! Textures are counted here, where the guest asks for them, not in the process, which
//! runs what a guest wants. What Vulkan allocates only the process hears of.
#![deny(clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use paravane_protocol::virtio_gpu::CAPSET_VENUS;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::account::AccountPage;
use crate::budget::Slot;
use crate::host::Host;
use crate::lease::DeviceLease;
use crate::tally::Tally;
use crate::usage::{Held, ProcessAccount, Usage};

/// How a renderer's accounts are named, and how those of programs begin.
const NAME: &str = "OpenGL";
const VULKAN: &str = "Vulkan";

/// Programs of a renderer that are told apart, by name. What further ones draw
/// is the renderer's own.
const PROGRAMS_MAX: usize = 64;

/// Body and descriptors of [`super::wire::DUES`].
pub(super) type Told = (Vec<u8>, Vec<OwnedFd>);

/// A renderer's dues.
pub(super) struct Dues {
    pid: u32,
    lease: Arc<DeviceLease>,
    /// Where the lease's page is told of its memory.
    place: usize,
    usage: Arc<Usage>,
    account: Arc<ProcessAccount>,
    programs: BTreeMap<String, Arc<ProcessAccount>>,
    memory: Tally,
    vulkan: Option<Arc<ProcessAccount>>,
    /// Given back behind everything else: its own, and Vulkan's.
    slots: Vec<Slot>,
}

impl Dues {
    /// Opens those of a process that has just been started and not waited for; and
    /// what it is told of them.
    pub(super) fn open(host: &Host, pid: u32, has_vulkan: bool) -> io::Result<(Self, Told)> {
        let slot = slot(host)?;
        let memory = Tally::map(host.budget.file(), slot.number())?;
        let (number, lease) = host.drawing_lease();
        let usage = Arc::clone(&host.usage);
        let account = open(&usage, NAME.to_owned(), pid)?;
        let fds = [account.page_file(), lease.file().try_clone_to_owned(), lease.kick().try_clone_to_owned()];
        let place = lease.memory_slot(pid).ok_or_else(|| io::Error::other("the lease has no slot left"));
        let opened = place.and_then(|place| Ok((place, fds.into_iter().collect::<io::Result<_>>()?)));
        let (place, fds) = opened.inspect_err(|_| usage.close(&account))?;
        let (programs, slots) = (BTreeMap::new(), vec![slot]);
        let mut dues = Self { pid, lease, place, usage, account, programs, memory, vulkan: None, slots };
        let mut told = (u32::try_from(number).unwrap_or(0).to_le_bytes().to_vec(), fds);
        if has_vulkan {
            dues.open_vulkan(host, &mut told)?;
        }
        Ok((dues, told))
    }

    fn open_vulkan(&mut self, host: &Host, (numbers, fds): &mut Told) -> io::Result<()> {
        let slot = slot(host)?;
        let number = u32::try_from(slot.number()).map_err(io::Error::other)?;
        self.slots.push(slot);
        let account = self.vulkan.insert(open(&self.usage, VULKAN.to_owned(), self.pid)?);
        fds.extend([account.page_file()?, host.budget.file().try_clone_to_owned()?]);
        numbers.extend(number.to_le_bytes());
        Ok(())
    }

    /// The page of the account of a program that draws; `None`: it is the
    /// renderer's own.
    pub(super) fn program(&mut self, capset: u32, name: &str) -> io::Result<Option<OwnedFd>> {
        let of = if capset == CAPSET_VENUS { VULKAN } else { NAME };
        let full = format!("{of}: {name}");
        if let Some(account) = self.programs.get(&full) {
            return account.page_file().map(Some);
        }
        if name.is_empty() || self.programs.len() >= PROGRAMS_MAX {
            return Ok(None);
        }
        let account = open(&self.usage, full.clone(), self.pid)?;
        let file = account.page_file();
        self.programs.insert(full, account);
        file.map(Some)
    }

    /// Takes memory; `false` where it would go beyond the VM's quota.
    pub(super) fn take(&mut self, bytes: u64) -> bool {
        let taken = self.memory.take(bytes, &self.account.page);
        taken.map(|all| self.lease.set_memory(self.place, all)).is_some()
    }

    /// Gives it back.
    pub(super) fn give_back(&mut self, bytes: u64) {
        let all = self.memory.give_back(bytes, &self.account.page);
        self.lease.set_memory(self.place, all);
    }
}

impl Drop for Dues {
    fn drop(&mut self) {
        self.lease.worker_ended(self.pid);
        let accounts = self.programs.values().chain(&self.vulkan).chain([&self.account]);
        accounts.for_each(|account| self.usage.close(account));
    }
}

fn slot(host: &Host) -> io::Result<Slot> {
    host.budget.slot().ok_or_else(|| io::Error::other("the budget has no slot left"))
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
