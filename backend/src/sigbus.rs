//! A front end can cut its memory file short while the device reads it; the
//! access then raises SIGBUS, which would end the back end for everybody. Here
//! such a page becomes a private page of zeros instead: the guest that did it
//! loses its data, nobody else notices. A fault anywhere else ends the process
//! as ever.
#![allow(unsafe_code)] // A signal handler that maps memory.

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use libc::{c_int, c_void, sigaction, siginfo_t};
use paravane_protocol::limits::{CONNECTIONS_MAX, REGIONS_MAX};
use vm_memory::{GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use crate::memory::PAGE_BYTES;

/// A range of addresses; free while `bytes` is 0.
struct Range {
    start: AtomicUsize,
    bytes: AtomicUsize,
}

/// Room for eight regions of each connection; most have one or two. Static,
/// because a signal handler must not lock.
static RANGES: [Range; RANGES_MAX] =
    [const { Range { start: AtomicUsize::new(0), bytes: AtomicUsize::new(0) } }; RANGES_MAX];
const RANGES_MAX: usize = CONNECTIONS_MAX * REGIONS_MAX / 4;

/// Claimed by a range that is being written.
const CLAIMED: usize = usize::MAX;

/// The addresses of one connection's guest memory, guarded until dropped.
#[derive(Debug, Default)]
pub struct Guard {
    ranges: Vec<usize>,
}

impl Guard {
    /// Guards all regions. Regions beyond the room stay unguarded.
    pub fn new(memory: &GuestMemoryMmap) -> Self {
        let regions = memory.iter().filter_map(|region| {
            let bytes = usize::try_from(region.len()).ok()?;
            claim(region.as_ptr() as usize, bytes)
        });
        Self { ranges: regions.collect() }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        for range in self.ranges.iter().filter_map(|&index| RANGES.get(index)) {
            range.bytes.store(0, Ordering::Release);
        }
    }
}

fn claim(start: usize, bytes: usize) -> Option<usize> {
    RANGES.iter().position(|range| {
        let free =
            range.bytes.compare_exchange(0, CLAIMED, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if free {
            range.start.store(start, Ordering::Relaxed);
            range.bytes.store(bytes, Ordering::Release);
        }
        free
    })
}

fn is_guarded(address: usize) -> bool {
    RANGES.iter().any(|range| {
        let bytes = range.bytes.load(Ordering::Acquire);
        let start = range.start.load(Ordering::Relaxed);
        bytes != CLAIMED && address.checked_sub(start).is_some_and(|within| within < bytes)
    })
}

/// Installs the handler, once per process.
pub fn install() -> io::Result<()> {
    // SAFETY: sigaction is plain data, for which zeros are a value.
    let mut action: sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_sigbus as extern "C" fn(c_int, *mut siginfo_t, *mut c_void) as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the handler makes system calls and reads atomics, nothing else.
    let result = unsafe { sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

extern "C" fn on_sigbus(signal: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel gives a valid siginfo to a SA_SIGINFO handler.
    let info = unsafe { &*info };
    // SAFETY: si_addr is there for SIGBUS.
    let address = unsafe { info.si_addr() } as usize;
    if info.si_code == libc::BUS_ADRERR && is_guarded(address) && put_zeros(address) {
        return;
    }
    // Back to the default: the access faults again and ends the process.
    // SAFETY: signal() is async-signal-safe.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Replaces the page at `address` by zeros.
fn put_zeros(address: usize) -> bool {
    let Ok(bytes) = usize::try_from(PAGE_BYTES) else { return false };
    let page = ptr::without_provenance_mut(address / bytes * bytes);
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: the page is in guest memory that this process has mapped, which is
    // only reached by raw copies and atomics; it stays mapped.
    let mapped = unsafe { libc::mmap(page, bytes, protection, flags, -1, 0) };
    mapped != libc::MAP_FAILED
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use vm_memory::{Bytes, FileOffset, GuestAddress};

    use super::*;

    #[test]
    fn pages_that_are_gone_read_as_zeros() {
        let file: File = tempfile::tempfile().unwrap();
        file.set_len(0x4000).unwrap();
        let place = FileOffset::new(file.try_clone().unwrap(), 0);
        let ranges = [(GuestAddress(0), 0x4000, Some(place))];
        let memory = GuestMemoryMmap::from_ranges_with_files(ranges).unwrap();
        install().unwrap();
        let guard = Guard::new(&memory);
        memory.write_obj(7_u32, GuestAddress(0x3000)).unwrap();
        file.set_len(0x1000).unwrap();
        assert_eq!(memory.read_obj::<u32>(GuestAddress(0x3000)).unwrap(), 0);
        memory.write_obj(8_u32, GuestAddress(0x2000)).unwrap();
        assert_eq!(memory.read_obj::<u32>(GuestAddress(0x2000)).unwrap(), 8);
        let start = memory.iter().next().unwrap().as_ptr() as usize;
        assert!(is_guarded(start + 0x3fff));
        assert!(!is_guarded(start + 0x4000));
        drop(guard);
        assert!(!is_guarded(start));
    }
}
