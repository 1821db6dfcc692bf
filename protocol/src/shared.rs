//! Memory that somebody else may change at any time. The ring and the channel
//! reach shared pages only through [`Shared`], so that one piece of ring code
//! runs over real pages and under loom. No reference to shared bytes is ever
//! made: they are copied out, then validated, then used.
#![allow(unsafe_code)] // Raw shared memory is what this file is for.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// Access to bytes that another process changes concurrently.
///
/// Offsets are in bytes from the start of the region. An access outside the
/// region is a bug of the caller and panics; offsets never come from the
/// other side unchecked.
pub trait Shared {
    /// Reads a naturally aligned `u32`.
    fn load_u32(&self, offset: usize, order: Ordering) -> u32;
    /// Writes a naturally aligned `u32`.
    fn store_u32(&self, offset: usize, value: u32, order: Ordering);
    /// Exchanges a naturally aligned `u32`, sequentially consistent.
    fn swap_u32(&self, offset: usize, value: u32) -> u32;
    /// Copies out. The bytes may be torn if the other side writes meanwhile.
    fn read(&self, offset: usize, into: &mut [u8]);
    /// Copies in.
    fn write(&self, offset: usize, from: &[u8]);
    /// A sequentially consistent fence.
    fn fence(&self);
    /// An acquire fence: reads before it are not seen after reads behind it.
    fn fence_acquire(&self);
}

/// Mapped shared pages. `Copy`, because it owns nothing: whoever maps the
/// pages keeps them mapped as long as any `SharedPages` over them is used.
#[derive(Clone, Copy, Debug)]
pub struct SharedPages {
    base: *mut u8,
    bytes: usize,
}

// SAFETY: a SharedPages is an address; every access through it is either
// atomic or a raw copy that tolerates concurrent change.
unsafe impl Send for SharedPages {}
// SAFETY: as above.
unsafe impl Sync for SharedPages {}

impl SharedPages {
    /// # Safety
    /// `base..base + bytes` must be mapped readable and writable, and stay so
    /// while the value or a copy of it is used. `base` must be aligned to 8.
    pub unsafe fn new(base: *mut u8, bytes: usize) -> Self {
        Self { base, bytes }
    }

    /// The address of `offset`, checked to have `len` bytes behind it.
    #[inline]
    pub fn at(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(
            offset.checked_add(len).is_some_and(|end| end <= self.bytes),
            "shared access {offset}+{len} outside {} bytes",
            self.bytes
        );
        self.base.wrapping_add(offset)
    }

    /// Length in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A window onto `len` bytes from `offset`.
    pub fn window(&self, offset: usize, len: usize) -> Self {
        Self { base: self.at(offset, len), bytes: len }
    }

    /// The `u32` at `offset` as an atomic.
    #[inline]
    pub fn atomic_u32(&self, offset: usize) -> &AtomicU32 {
        let word = self.at(offset, 4).cast::<u32>();
        assert!(word.is_aligned(), "shared u32 at {offset} is not aligned");
        // SAFETY: in bounds and aligned by the two checks; mapped for as long as
        // self is used by new()'s contract; concurrent access is atomic.
        unsafe { AtomicU32::from_ptr(word) }
    }

    /// The `u64` at `offset` as an atomic.
    #[inline]
    pub fn atomic_u64(&self, offset: usize) -> &AtomicU64 {
        let word = self.at(offset, 8).cast::<u64>();
        assert!(word.is_aligned(), "shared u64 at {offset} is not aligned");
        // SAFETY: as in atomic_u32.
        unsafe { AtomicU64::from_ptr(word) }
    }
}

impl Shared for SharedPages {
    #[inline]
    fn load_u32(&self, offset: usize, order: Ordering) -> u32 {
        self.atomic_u32(offset).load(order)
    }
    #[inline]
    fn store_u32(&self, offset: usize, value: u32, order: Ordering) {
        self.atomic_u32(offset).store(value, order);
    }
    #[inline]
    fn swap_u32(&self, offset: usize, value: u32) -> u32 {
        self.atomic_u32(offset).swap(value, Ordering::SeqCst)
    }
    #[inline]
    fn read(&self, offset: usize, into: &mut [u8]) {
        let from = self.at(offset, into.len());
        // SAFETY: `from` is in bounds and mapped; `into` is private memory. The
        // bytes may be torn, which callers expect: they validate the copy.
        unsafe { core::ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len()) }
    }
    #[inline]
    fn write(&self, offset: usize, from: &[u8]) {
        let into = self.at(offset, from.len());
        // SAFETY: `into` is in bounds and mapped; `from` is private memory.
        unsafe { core::ptr::copy_nonoverlapping(from.as_ptr(), into, from.len()) }
    }
    #[inline]
    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
    #[inline]
    fn fence_acquire(&self) {
        fence(Ordering::Acquire);
    }
}
