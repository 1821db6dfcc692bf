//! Device memory: one stretch of host address space that is reserved, not committed; a device
//! pointer is a host address inside it. `arena` maps it and marks what is allocated, `heap` hands
//! out ranges, `registered` knows host ranges that kernels may touch too, `pool` keeps memory for stream-ordered
//! allocations, `surface` and `texture` say what arrays, textures and surfaces are.
#![allow(unsafe_code, reason = "maps memory and copies to and from device pointers")]
#![allow(clippy::multiple_unsafe_ops_per_block, reason = "a pointer is derived and read in one step")]
#![allow(clippy::cast_possible_truncation, reason = "hosts are 64-bit")]

mod arena;
mod device_heap;
mod heap;
pub mod ipc;
mod lent;
pub mod physical;
mod pool;
mod registered;
pub mod surface;
pub mod texture;

pub use device_heap::DeviceHeap;
pub use arena::{Arena, EVERY_DEVICE, GRANULE, NO_DEVICE, Owner, Sort, arena};
pub use pool::{Freed, Pool};
pub use registered::{Range, Ranges, register, registered, snapshot, unregister};

use crate::context::Context;
use crate::device::Device;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Generic addresses of the windows that are not global memory, above every host address.
pub const SHARED_BASE: u64 = 1 << 48;
pub const LOCAL_BASE: u64 = 2 << 48;
pub const PARAM_BASE: u64 = 3 << 48;
pub const FUNCTION_BASE: u64 = 4 << 48;
/// Bits of an address that say which window it is in.
pub const WINDOW_MASK: u64 = 0xffff << 48;

/// Device memory of a launch whose CTAs run together: its size, then the word that they count in.
pub struct Workspace(u64);

impl Workspace {
    const SIZE: u32 = 8;

    /// A workspace of a context; None when memory is spent.
    pub fn new(context: &Context) -> Option<Self> {
        let address = arena().allocate(context.memory(Sort::Heap, Self::SIZE.into()))?;
        write(address, &u64::from(Self::SIZE).to_le_bytes());
        Some(Self(address))
    }

    pub fn address(&self) -> u64 {
        self.0
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        arena().release(self.0);
    }
}

/// What a launch may touch: what its device reaches in the arena, and the host ranges registered when it was made.
#[derive(Clone)]
pub struct View {
    pub base: u64,
    pub size: u64,
    pub granules: *const AtomicU8,
    /// The device's bit in marks.
    pub device: u8,
    pub ranges: Arc<[Range]>,
}

// SAFETY: the arena is mapped for the life of the process.
unsafe impl Send for View {}
// SAFETY: as above; the granule marks are atomics.
unsafe impl Sync for View {}

impl View {
    /// A device's present view.
    pub fn now(device: Device) -> Self {
        let (arena, device) = (arena(), device.bit());
        Self { base: arena.base(), size: arena.size(), granules: arena.granules(), device, ranges: snapshot() }
    }

    /// Whether `size` bytes at `address`, all in one granule, are allocated and in reach.
    #[inline(always)]
    pub fn holds(&self, address: u64, size: u64) -> bool {
        let offset = address.wrapping_sub(self.base);
        if offset < self.size {
            // SAFETY: there is a mark for every granule of the arena.
            let mark = unsafe { &*self.granules.add((offset / GRANULE) as usize) };
            return mark.load(Ordering::Relaxed) & self.device != 0;
        }
        self.holds_registered(address, size)
    }

    /// Whether everything from `low` to the granule of `high` is allocated and in reach; false also where
    /// that is too much to look at.
    #[inline(always)]
    pub fn holds_all(&self, low: u64, high: u64) -> bool {
        const LOOKED_AT_MAX: u64 = 64;
        let (low, high) = (low.wrapping_sub(self.base), high.wrapping_sub(self.base));
        if low >= self.size || high >= self.size {
            return false;
        }
        let (first, last) = (low / GRANULE, high / GRANULE);
        // SAFETY: there is a mark for every granule of the arena.
        let is_marked = |i: u64| unsafe { (*self.granules.add(i as usize)).load(Ordering::Relaxed) & self.device != 0 };
        last.wrapping_sub(first) < LOOKED_AT_MAX && (first..=last).all(is_marked)
    }

    #[cold]
    fn holds_registered(&self, address: u64, size: u64) -> bool {
        self.ranges.iter().any(|range| range.holds(address, size))
    }
}

/// Writes bytes at a device address that the caller allocated.
pub fn write(address: u64, bytes: &[u8]) {
    let to = std::ptr::with_exposed_provenance_mut(address as usize);
    // SAFETY: the range is allocated, and never behind a reference.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) }
}
