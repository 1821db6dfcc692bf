//! What the VM's workers see: all devices that libcuda has, or those that
//! paravaned has placed the VM on; all multiprocessors of each, or some.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use paravane_protocol::visible::ENV_VISIBLE;

/// The UUIDs of all devices that libcuda has, in the order of their leases.
pub const ENV_DEVICES: &str = "PARAVANE_DEVICES";
/// How many multiprocessors a worker's contexts have.
pub const ENV_SMS: &str = "PARAVANE_SMS";

/// What a worker that starts now sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The devices by UUID; none: all.
    pub devices: Vec<String>,
    /// Multiprocessors; none: all.
    pub sms: Option<u32>,
}

/// What workers see that start from now on.
#[derive(Debug, Default)]
pub struct Visible(Mutex<Seen>);

impl Visible {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is set.
    pub fn seen(&self) -> Seen {
        self.lock().clone()
    }

    /// Sets it.
    pub fn set(&self, devices: &[String], sms: Option<u32>) {
        *self.lock() = Seen { devices: devices.to_vec(), sms };
    }
}
