//! Where device memory lies: what was allocated and which globals were asked
//! for, with what a question about a pointer wants to know. Unified copies
//! need to know whether an address is the device's.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use super::current;

/// How memory came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    /// Allocated at once, or a module's global.
    Plain,
    /// Another process's, opened here.
    Opened,
    /// Physical memory that was mapped there.
    Mapped,
    /// Allocated in stream order, from the pool with this id; 0 where that is
    /// not known.
    Pool(u64),
}

/// One piece of device memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    pub(crate) start: u64,
    pub(crate) bytes: u64,
    pub(crate) sort: Sort,
    /// The context in which it was made.
    pub(crate) context: u64,
    /// A number that no other memory of the process ever has.
    pub(crate) buffer: u64,
    /// Copies with it are synchronous, as the program asked.
    pub(crate) sync_memops: bool,
}

static DEVICE: RwLock<BTreeMap<u64, Range>> = RwLock::new(BTreeMap::new());

/// A number for a new piece of memory, host memory included.
pub(crate) fn next_buffer() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Device memory of `bytes` from `start` exists.
pub(crate) fn insert(start: u64, bytes: u64) {
    insert_sort(start, bytes, Sort::Plain);
}

/// Memory of a certain sort exists; what is known already stays as it is.
pub(crate) fn insert_sort(start: u64, bytes: u64, sort: Sort) {
    let mut device = DEVICE.write().unwrap_or_else(PoisonError::into_inner);
    let bytes = bytes.max(1);
    if device.get(&start).is_some_and(|known| known.bytes == bytes && known.sort == sort) {
        return;
    }
    let (context, buffer) = (current::number(), next_buffer());
    device.insert(start, Range { start, bytes, sort, context, buffer, sync_memops: false });
}

/// The device memory that starts at `start` is gone; what it was.
pub(crate) fn remove(start: u64) -> Option<Range> {
    DEVICE.write().unwrap_or_else(PoisonError::into_inner).remove(&start)
}

/// The mappings in a range are gone; what they were.
pub(crate) fn take_mapped(start: u64, bytes: u64) -> Vec<Range> {
    let mut device = DEVICE.write().unwrap_or_else(PoisonError::into_inner);
    let end = start.saturating_add(bytes);
    let within = device.range(start..end).filter(|(_, range)| range.sort == Sort::Mapped);
    let gone: Vec<Range> = within.map(|(_, range)| *range).collect();
    device.retain(|at, _| gone.iter().all(|range| range.start != *at));
    gone
}

/// Undoes [`take_mapped`].
pub(crate) fn restore(ranges: Vec<Range>) {
    let mut device = DEVICE.write().unwrap_or_else(PoisonError::into_inner);
    device.extend(ranges.into_iter().map(|range| (range.start, range)));
}

/// The device memory that holds `address`.
pub(crate) fn find(address: u64) -> Option<Range> {
    let device = DEVICE.read().unwrap_or_else(PoisonError::into_inner);
    let (start, range) = device.range(..=address).next_back()?;
    (address - start < range.bytes).then_some(*range)
}

/// Sets or clears [`Range::sync_memops`]; false where no memory is.
pub(crate) fn set_sync_memops(address: u64, on: bool) -> bool {
    let mut device = DEVICE.write().unwrap_or_else(PoisonError::into_inner);
    match device.range_mut(..=address).next_back() {
        Some((start, range)) if address - start < range.bytes => {
            range.sync_memops = on;
            true
        }
        _ => false,
    }
}

/// A context is gone with its memory; pools outlive it.
pub(crate) fn forget_context(context: u64) {
    let mut device = DEVICE.write().unwrap_or_else(PoisonError::into_inner);
    device.retain(|_, range| range.context != context || range.sort != Sort::Plain);
}

/// Whether `address` lies in device memory.
pub(crate) fn is_device(address: u64) -> bool {
    find(address).is_some()
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_address_is_the_devices_from_its_first_to_its_last_byte() {
        super::insert(0x9_0000, 0x100);
        assert!(super::is_device(0x9_0000) && super::is_device(0x9_00ff));
        assert!(!super::is_device(0x8_ffff) && !super::is_device(0x9_0100));
        super::remove(0x9_0000);
        assert!(!super::is_device(0x9_0000));
    }
}
