//! The heap from which kernels of a context allocate with `malloc`: blocks of device memory, up to
//! the limit that the context sets.

use super::arena::{Owner, Sort, arena};
use crate::device::Device;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Bytes that a block counts as a multiple of.
const UNIT: u64 = 16;

#[derive(Default)]
struct Blocks {
    sizes: HashMap<u64, u64>,
    used: u64,
}

pub struct DeviceHeap {
    context: u64,
    device: Device,
    blocks: Mutex<Blocks>,
}

impl DeviceHeap {
    pub fn new(context: u64, device: Device) -> Self {
        Self { context, device, blocks: Mutex::default() }
    }

    /// Address of `size` bytes, or 0 when they would go beyond `limit`.
    pub fn allocate(&self, size: u64, limit: u64) -> u64 {
        let Some(size) = size.max(1).checked_next_multiple_of(UNIT) else { return 0 };
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        if size > limit.saturating_sub(blocks.used) {
            return 0;
        }
        let owner = Owner::new(self.context, self.device, Sort::Heap, size);
        let Some(address) = arena().allocate(owner) else { return 0 };
        blocks.sizes.insert(address, size);
        blocks.used += size;
        address
    }

    /// Ends a block; an address that is none is left alone.
    pub fn free(&self, address: u64) {
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(size) = blocks.sizes.remove(&address) {
            blocks.used -= size;
            arena().release(address);
        }
    }

    /// Forgets all blocks, whose memory went with the context's.
    pub fn clear(&self) {
        *self.blocks.lock().unwrap_or_else(PoisonError::into_inner) = Blocks::default();
    }
}
