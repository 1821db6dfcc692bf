//! Which device the VM's workers see: all that libcuda has, or the one that
//! paravaned has placed the VM on.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What libcuda reads when it is initialised.
pub const ENV_VISIBLE: &str = "CUDA_VISIBLE_DEVICES";

/// The device by UUID; none: all.
#[derive(Debug, Default)]
pub struct Visible(Mutex<Option<String>>);

impl Visible {
    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a worker that starts now sees.
    pub fn device(&self) -> Option<String> {
        self.lock().clone()
    }

    /// What workers see that start from now on.
    pub fn set(&self, device: Option<&str>) {
        *self.lock() = device.map(str::to_owned);
    }
}
