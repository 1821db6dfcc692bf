//! Conditional handles: a value that kernels set (`cudaGraphSetConditional`) and conditional nodes
//! read when their turn comes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};

/// A conditional handle of a graph.
#[derive(Debug, Clone)]
pub struct Condition {
    pub handle: u64,
    /// What a launch sets it to as it begins; None: it stays what it was.
    pub default: Option<u32>,
    pub value: Arc<AtomicU32>,
}

static VALUES: RwLock<Option<HashMap<u64, Weak<AtomicU32>>>> = RwLock::new(None);

impl Condition {
    pub fn create(default: Option<u32>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let handle = NEXT.fetch_add(1, Ordering::Relaxed);
        let value = Arc::new(AtomicU32::new(0));
        let mut values = VALUES.write().unwrap_or_else(PoisonError::into_inner);
        let values = values.get_or_insert_default();
        values.retain(|_, value| value.strong_count() > 0);
        values.insert(handle, Arc::downgrade(&value));
        Self { handle, default, value }
    }

    pub fn get(&self) -> u32 {
        self.value.load(Ordering::Acquire)
    }

    /// A launch begins.
    pub fn assign(&self) {
        if let Some(default) = self.default {
            self.value.store(default, Ordering::Release);
        }
    }
}

/// A kernel sets a handle's value; false where there is no such handle.
pub fn set(handle: u64, value: u32) -> bool {
    let values = VALUES.read().unwrap_or_else(PoisonError::into_inner);
    let cell = values.as_ref().and_then(|values| values.get(&handle)).and_then(Weak::upgrade);
    cell.map(|cell| cell.store(value, Ordering::Release)).is_some()
}
