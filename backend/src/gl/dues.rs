//! What a renderer has of its VM: a side of the lease, and an account, which
//! shows as a process named OpenGL. Dropped when the process has ended: what it
//! held is given back then.
#![deny(clippy::indexing_slicing)]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::account::AccountPage;
use crate::host::Host;
use crate::lease::VmLease;
use crate::usage::{Held, ProcessAccount, Usage};

/// How a renderer's account is named: what it draws for several of the guest's
/// processes is not told apart.
const NAME: &str = "OpenGL";

/// A renderer's dues.
pub(super) struct Dues {
    pid: u32,
    lease: Arc<VmLease>,
    usage: Arc<Usage>,
    account: Arc<ProcessAccount>,
}

impl Dues {
    /// Opens those of a process that has just been started and not waited for;
    /// and the descriptors of [`super::wire::DUES`].
    pub(super) fn open(host: &Host, pid: u32) -> io::Result<(Self, Vec<OwnedFd>)> {
        let (page, file) = AccountPage::create()?;
        let descriptors = [file.as_fd(), host.lease.file(), host.lease.kick()];
        let descriptors = descriptors.iter().map(|fd| fd.try_clone_to_owned()).collect::<io::Result<_>>()?;
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let raw = raw.ok_or_else(|| io::Error::other("a process id out of range"))?;
        let held = Held { page: file, pidfd: pidfd_open(raw, PidfdFlags::empty())? };
        // No process of the guest has the id 0.
        let account = host.usage.open(0, NAME.to_owned(), pid, page, Some(held));
        let (lease, usage) = (Arc::clone(&host.lease), Arc::clone(&host.usage));
        Ok((Self { pid, lease, usage, account }, descriptors))
    }
}

impl Drop for Dues {
    fn drop(&mut self) {
        self.lease.worker_ended(self.pid);
        self.usage.close(&self.account);
    }
}
