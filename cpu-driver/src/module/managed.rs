//! Managed variables: a module's, or those that all modules of a library share. Host and device reach
//! them at any time, so they are in memory of no context.

use super::ImageError;
use crate::device::Device;
use crate::memory::{Owner, Sort, arena};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// The managed variables of one text, in its order.
#[derive(Debug, Default)]
pub struct Managed {
    placed: Mutex<Vec<u64>>,
    /// Whether they hold their first values.
    is_ready: AtomicBool,
}

impl Managed {
    /// Where variable `number` lies; it gets its place when it is first asked for, and counts as that device's.
    pub(super) fn place(&self, device: Device, number: usize, size: u64) -> Result<u64, ImageError> {
        let mut placed = self.placed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(address) = placed.get(number) {
            return Ok(*address);
        }
        let address = arena().allocate(Owner::new(0, device, Sort::Variable, size)).ok_or(ImageError::OutOfMemory)?;
        placed.push(address);
        Ok(address)
    }

    pub(super) fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Acquire)
    }

    pub(super) fn set_ready(&self) {
        self.is_ready.store(true, Ordering::Release);
    }
}

impl Drop for Managed {
    fn drop(&mut self) {
        for address in self.placed.get_mut().unwrap_or_else(PoisonError::into_inner) {
            arena().release(*address);
        }
    }
}
