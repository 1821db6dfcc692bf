//! The leases of this back end's VM: one for each device that its libcuda has,
//! in libcuda's order.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use paravane_scheduler::Settings;

use super::device::{DeviceLease, LeaseError};
use crate::devices::DEVICES_MAX;

/// What the VM is entitled to of each device, in thousandths, by UUID: as
/// paravaned said last.
pub type Shares = BTreeMap<String, u32>;

/// All of them; there is a first.
#[derive(Debug)]
pub struct VmLease {
    first: Arc<DeviceLease>,
    others: Vec<Arc<DeviceLease>>,
    uuids: Vec<String>,
}

impl VmLease {
    /// Leases of these devices, by UUID, that this process arbitrates itself. Of a
    /// library that tells of none there is one all the same; of more than
    /// [`DEVICES_MAX`] there are no more.
    ///
    /// # Errors
    /// If the system refuses, or the settings cannot be.
    pub fn start(uuids: &[String], settings: Settings) -> Result<Self, LeaseError> {
        let uuids: Vec<String> = uuids.iter().take(DEVICES_MAX).cloned().collect();
        let start = || DeviceLease::start(settings).map(Arc::new);
        let first = start()?;
        let others = uuids.iter().skip(1).map(|_| start()).collect::<Result<_, _>>()?;
        Ok(Self { first, others, uuids })
    }

    fn all(&self) -> impl Iterator<Item = &Arc<DeviceLease>> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The devices' UUIDs, in the same order.
    pub fn uuids(&self) -> &[String] {
        &self.uuids
    }

    /// The number and the lease of the first of some devices, by UUID; of the first
    /// there is, where they name none.
    pub fn first_of(&self, uuids: &[String]) -> (usize, &Arc<DeviceLease>) {
        let number = uuids.first().and_then(|first| self.uuids.iter().position(|uuid| uuid == first));
        let named = number.and_then(|number| Some((number, self.all().nth(number)?)));
        named.unwrap_or((0, &self.first))
    }

    /// Of each device the page and the eventfd, in turn.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.all().flat_map(|lease| [lease.file(), lease.kick()])
    }

    /// This process gives the leases from now on; `settings` says by what, for a
    /// device's UUID.
    ///
    /// # Errors
    /// As [`VmLease::start`].
    pub fn arbitrate(&self, settings: impl Fn(&str) -> Settings) -> Result<(), LeaseError> {
        let uuids = self.uuids.iter().map(String::as_str).chain(std::iter::repeat(""));
        self.all().zip(uuids).try_for_each(|(lease, uuid)| lease.arbitrate(settings(uuid)))
    }

    /// As [`VmLease::arbitrate`], of all devices but some. Of a library that tells of no device there is nothing
    /// to leave out.
    pub fn arbitrate_beside(&self, placed: &[String], settings: impl Fn(&str) -> Settings) -> Result<(), LeaseError> {
        let beside = self.all().zip(&self.uuids).filter(|(_, uuid)| !placed.contains(uuid));
        beside.into_iter().try_for_each(|(lease, uuid)| lease.arbitrate(settings(uuid)))
    }

    /// Another process gives them from now on. The pages stay as they are.
    pub fn hand_over(&self) {
        self.all().for_each(|lease| lease.hand_over());
    }

    /// How long a kernel of the VM may run.
    pub fn set_limit(&self, limit: Option<Duration>) {
        self.all().for_each(|lease| lease.set_limit(limit));
    }

    /// How many bytes of host memory the device memory of processes may lie in that start from now on.
    pub fn set_swap(&self, bytes: u64) {
        self.all().for_each(|lease| lease.set_swap(bytes));
    }

    /// A worker is gone, with what it wanted.
    pub fn worker_ended(&self, pid: u32) {
        self.all().for_each(|lease| lease.worker_ended(pid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_has_a_lease_of_its_own() {
        let uuids = ["GPU-1".to_owned(), "GPU-2".to_owned()];
        let lease = VmLease::start(&uuids, Settings::default()).unwrap();
        assert_eq!((lease.descriptors().count(), lease.uuids()), (4, &uuids[..]));
        let (number, second) = lease.first_of(&uuids[1..]);
        assert!(number == 1 && Arc::ptr_eq(second, &lease.others[0]));
        let (number, unknown) = lease.first_of(&["GPU-3".to_owned()]);
        assert!(number == 0 && Arc::ptr_eq(unknown, &lease.first));
        lease.hand_over();
        assert!(lease.all().all(|lease| lease.figures().is_none()));
        lease.arbitrate(|uuid| {
            assert!(uuids.iter().any(|known| known == uuid));
            Settings::default()
        })
        .unwrap();
        assert!(lease.all().all(|lease| lease.figures().is_some()));
        lease.hand_over();
        lease.arbitrate_beside(&uuids[1..], |_| Settings::default()).unwrap();
        assert!(lease.first.figures().is_some() && lease.others[0].figures().is_none());
        let many: Vec<String> = (0..DEVICES_MAX + 3).map(|number| number.to_string()).collect();
        assert_eq!(VmLease::start(&many, Settings::default()).unwrap().descriptors().count(), 2 * DEVICES_MAX);
        assert_eq!(VmLease::start(&[], Settings::default()).unwrap().descriptors().count(), 2);
    }
}
