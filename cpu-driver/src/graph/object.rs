//! User objects: something of the program's that graphs keep, with a function to call when nobody
//! keeps it any more. Graphs, their clones and what is instantiated of them each keep it.
#![allow(unsafe_code, reason = "calls the program's function")]

use paravane_protocol::cuda_types::CUhostFn;
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub struct UserObject {
    destroy: CUhostFn,
    data: usize,
    references: AtomicU64,
}

impl UserObject {
    pub fn new(destroy: CUhostFn, data: *mut c_void, references: u32) -> Self {
        Self { destroy, data: data.expose_provenance(), references: AtomicU64::new(references.into()) }
    }

    /// Adds references; there must be one.
    pub fn retain(&self, count: u32) {
        self.references.fetch_add(count.into(), Ordering::Relaxed);
    }

    /// Takes references away; false when there are fewer. The last one ends the object: true twice.
    pub fn release(&self, count: u32) -> (bool, bool) {
        let count = u64::from(count);
        let taken = self.references.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(count));
        let is_last = taken == Ok(count);
        if is_last && let Some(destroy) = self.destroy {
            // SAFETY: the program gave the function for this, with this argument.
            unsafe { destroy(std::ptr::with_exposed_provenance_mut(self.data)) }
        }
        (taken.is_ok(), is_last)
    }
}

/// References that a graph holds; given back when it ends.
pub struct Held {
    pub handle: u64,
    pub object: Arc<UserObject>,
    pub count: u32,
}

impl Held {
    /// One more holder with as many references.
    pub fn again(&self) -> Self {
        self.object.retain(self.count);
        Self { handle: self.handle, object: Arc::clone(&self.object), count: self.count }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.count > 0 && self.object.release(self.count).1 {
            super::USER_OBJECTS.remove(self.handle);
        }
    }
}
