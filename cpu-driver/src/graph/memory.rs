//! Memory of graphs: an allocation node's address is its own from the day it is added until its graph
//! ends. Between the launch that allocates it and what frees it, it is in use.

use crate::device::{DEVICES_MAX, Device};
use crate::memory::arena;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What an allocation node holds.
pub struct Allocation {
    pub at: u64,
    pub device: Device,
    pub size: u64,
    /// Allocated by a launch and not freed yet.
    in_use: AtomicBool,
    /// Counted as reserved since a launch used it first.
    reserved: AtomicBool,
}

static ALL: Mutex<Option<HashMap<u64, Arc<Allocation>>>> = Mutex::new(None);

/// Bytes now and at most.
pub struct Gauge {
    now: AtomicU64,
    high: AtomicU64,
}

impl Gauge {
    const fn new() -> Self {
        Self { now: AtomicU64::new(0), high: AtomicU64::new(0) }
    }

    fn add(&self, bytes: u64) {
        let now = self.now.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.high.fetch_max(now, Ordering::Relaxed);
    }

    fn sub(&self, bytes: u64) {
        self.now.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    pub fn high(&self) -> u64 {
        self.high.load(Ordering::Relaxed)
    }

    /// The high mark starts again from what is.
    pub fn reset(&self) {
        self.high.store(self.now(), Ordering::Relaxed);
    }
}

/// What graphs have of a device's memory.
pub struct Gauges {
    pub used: Gauge,
    pub reserved: Gauge,
}

static GAUGES: [Gauges; DEVICES_MAX] = [const { Gauges { used: Gauge::new(), reserved: Gauge::new() } }; DEVICES_MAX];

pub fn gauges(device: Device) -> &'static Gauges {
    &GAUGES[device.index()]
}

/// Files memory that was taken from the arena for a node.
pub fn file(at: u64, device: Device, size: u64) -> Arc<Allocation> {
    let (in_use, reserved) = (AtomicBool::new(false), AtomicBool::new(false));
    let allocation = Arc::new(Allocation { at, device, size, in_use, reserved });
    let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    all.get_or_insert_default().insert(at, Arc::clone(&allocation));
    allocation
}

/// The allocation that starts at an address.
pub fn find(at: u64) -> Option<Arc<Allocation>> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.get(&at).cloned()
}

impl Allocation {
    /// A launch allocates it; false when it is in use already.
    pub fn take(&self) -> bool {
        if self.in_use.swap(true, Ordering::AcqRel) {
            return false;
        }
        gauges(self.device).used.add(self.size);
        if !self.reserved.swap(true, Ordering::AcqRel) {
            gauges(self.device).reserved.add(self.size);
        }
        true
    }

    /// Something frees it; false when it was not in use.
    pub fn give_back(&self) -> bool {
        let was = self.in_use.swap(false, Ordering::AcqRel);
        if was {
            gauges(self.device).used.sub(self.size);
        }
        was
    }

    pub fn is_in_use(&self) -> bool {
        self.in_use.load(Ordering::Acquire)
    }

    fn unreserve(&self) {
        if self.reserved.swap(false, Ordering::AcqRel) {
            gauges(self.device).reserved.sub(self.size);
        }
    }

    /// The node is gone.
    pub fn end(&self) {
        self.give_back();
        self.unreserve();
        if let Some(all) = ALL.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            all.remove(&self.at);
        }
        arena().release(self.at);
    }
}

/// Counts what no launch uses of a device as reserved no more.
pub fn trim(device: Device) {
    let all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    let is_idle = |allocation: &&Arc<Allocation>| allocation.device == device && !allocation.is_in_use();
    for allocation in all.iter().flat_map(HashMap::values).filter(is_idle) {
        allocation.unreserve();
    }
}
