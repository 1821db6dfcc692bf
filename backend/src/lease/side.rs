//! What a back end does as paravaned tells: hands over its lease, goes on alone
//! with its last share, keeps what is in force, the memory quota included.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use paravane_scheduler::Settings;

use super::vm::{Shares, VmLease};
use crate::budget::{Budget, UNLIMITED};
use crate::register::Side;
use crate::register::wanted::{KernelLimit, Wanted, WantedError};
use crate::visible::Visible;

/// The lease of a back end that may be registered.
#[derive(Debug)]
pub struct LeaseSide {
    lease: Arc<VmLease>,
    budget: Arc<Budget>,
    visible: Arc<Visible>,
    /// What was in force last.
    wanted: Mutex<Wanted>,
}

impl LeaseSide {
    /// `wanted` is the command line's.
    pub fn new(lease: Arc<VmLease>, budget: Arc<Budget>, visible: Arc<Visible>, wanted: Wanted) -> Self {
        Self { lease, budget, visible, wanted: Mutex::new(wanted) }
    }

    /// The settings while nobody else is known: at most so many thousandths.
    fn settings_alone(&self, share: Option<u32>) -> Result<Settings, WantedError> {
        let settings = self.wanted.lock().unwrap_or_else(PoisonError::into_inner).settings(1)?;
        let Some(share) = share else { return Ok(settings) };
        let cap = settings.cap().min(share.max(1));
        let minimum = settings.minimum().min(cap);
        Ok(Settings::new(settings.weight(), minimum, cap, settings.priority())?)
    }

    fn settings_of_share(&self, share: Option<u32>) -> Settings {
        self.settings_alone(share).unwrap_or_else(|error| {
            log::error!("the VM's settings: {error}");
            Settings::default()
        })
    }
}

impl Side for LeaseSide {
    fn descriptors(&self) -> io::Result<Vec<OwnedFd>> {
        self.lease.descriptors().map(|fd| fd.try_clone_to_owned()).collect()
    }

    fn hand_over(&self) {
        self.lease.hand_over();
    }

    fn alone(&self, shares: &Shares) {
        let settings = |uuid: &str| self.settings_of_share(shares.get(uuid).copied());
        if let Err(error) = self.lease.arbitrate(settings) {
            log::error!("nobody gives the VM leases: {error}");
        }
    }

    fn placed(&self, devices: &[String], shares: &Shares) {
        let settings = |uuid: &str| self.settings_of_share(shares.get(uuid).copied());
        if !devices.is_empty()
            && let Err(error) = self.lease.arbitrate_beside(devices, settings)
        {
            log::error!("nobody gives the VM leases of other devices: {error}");
        }
    }

    fn in_force(&self, wanted: &Wanted, devices: &[String]) {
        self.visible.set(devices, wanted.sms);
        self.budget.set_limit(wanted.memory_quota.map_or(UNLIMITED, |quota| quota.0));
        self.lease.set_limit(wanted.kernel_limit.map(KernelLimit::duration));
        self.lease.set_swap(wanted.swap.map_or(0, |swap| swap.0));
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = wanted.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alone_it_keeps_its_last_share_as_cap() {
        let wanted = Wanted { weight: Some(3), ..Wanted::default() };
        let uuids = ["GPU-1".to_owned(), "GPU-2".to_owned()];
        let lease = Arc::new(VmLease::start(&uuids, Settings::default()).unwrap());
        let side = LeaseSide::new(lease, Budget::create(UNLIMITED).unwrap(), Arc::default(), wanted);
        let caps = [None, Some(400), Some(0)].map(|share| side.settings_alone(share).unwrap().cap());
        assert_eq!(caps, [1000, 400, 1]);
        assert_eq!(side.descriptors().unwrap().len(), 4);
        side.hand_over();
        side.alone(&Shares::from([("GPU-2".to_owned(), 250)]));
        assert!(side.lease.first_of(&uuids).1.figures().is_some());
        side.in_force(&Wanted::default(), &uuids[1..]);
        assert_eq!(side.visible.seen().devices, uuids[1..]);
        side.hand_over();
        side.placed(&uuids[1..], &Shares::new());
        assert!(side.lease.first_of(&uuids).1.figures().is_some(), "processes of before are not left without");
        assert!(side.lease.first_of(&uuids[1..]).1.figures().is_none());
    }
}
