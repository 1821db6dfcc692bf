//! Shared pages in this process's address space, and the ranges of a memory
//! file. Areas are mapped in a window of addresses that neither the program
//! nor the worker is likely to use, so that both can map an area at the same
//! address: then a host pointer is also its device address.
#![allow(unsafe_code, reason = "mmap")]

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};

use paravane_protocol::shared::SharedPages;

/// Where areas are mapped: far from program, heap, stack and libraries on
/// x86-64 Linux, and from the arena of cpu-driver.
const WINDOW: usize = 0x1500_0000_0000;
/// Bytes of the window, after which it starts over.
const WINDOW_BYTES: usize = 0x0200_0000_0000;

/// An address in the window for `bytes`, with a guard page behind.
pub(crate) fn window(bytes: usize) -> Option<usize> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let stride = bytes.checked_add(0x1_0fff)? & !0xffff;
    let at = NEXT.fetch_add(stride, Ordering::Relaxed) % WINDOW_BYTES;
    Some(WINDOW + at)
}

/// Maps `bytes` of a file shared; at the address `at` if it is free there.
pub(crate) fn map_shared(
    file: &OwnedFd,
    offset: u64,
    bytes: usize,
    at: Option<usize>,
) -> io::Result<SharedPages> {
    let placed = at.map(|at| map(file, offset, bytes, at, libc::MAP_FIXED_NOREPLACE));
    let address = match placed {
        Some(Ok(address)) => address,
        _ => map(file, offset, bytes, 0, 0)?,
    };
    // SAFETY: just mapped readable and writable; unmapped only by unmap(), whose
    // callers keep no copy.
    Ok(unsafe { SharedPages::new(address.cast(), bytes) })
}

/// What a mapping at a given address does with what lies there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// It is replaced.
    Anything,
    /// There must be nothing.
    Nothing,
}

/// Maps `bytes` of a file at `address`.
pub(crate) fn map_at(file: &OwnedFd, offset: u64, bytes: usize, address: usize, over: Over) -> io::Result<()> {
    let flag = if over == Over::Anything { libc::MAP_FIXED } else { libc::MAP_FIXED_NOREPLACE };
    map(file, offset, bytes, address, flag).map(|_| ())
}

fn map(file: &OwnedFd, offset: u64, bytes: usize, at: usize, flags: i32) -> io::Result<*mut c_void> {
    // SAFETY: a valid descriptor. Existing mappings are replaced only with
    // MAP_FIXED, for a range that the program has handed over.
    let address = unsafe {
        libc::mmap(
            at as *mut c_void,
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | flags,
            file.as_raw_fd(),
            offset.cast_signed(),
        )
    };
    if address == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(address) }
}

/// Unmaps pages. The caller uses no copy of them any more.
pub(crate) fn unmap(pages: SharedPages) {
    // SAFETY: pages that map_shared() mapped, used by nobody any more.
    unsafe { libc::munmap(pages.at(0, 0).cast(), pages.bytes()) };
}

/// Unmaps what [`map_at`] has mapped where nothing was.
pub(crate) fn unmap_at(address: usize, bytes: usize) {
    // SAFETY: a mapping of ours, used by nobody any more.
    unsafe { libc::munmap(address as *mut c_void, bytes) };
}

/// Replaces a range by private pages with the same bytes.
pub(crate) fn make_private(address: usize, bytes: usize) -> io::Result<()> {
    // SAFETY: a fresh anonymous mapping.
    let fresh = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if fresh == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `bytes` are readable at `address` and writable at `fresh`.
    unsafe { std::ptr::copy_nonoverlapping(address as *const u8, fresh.cast::<u8>(), bytes) };
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: moves our own fresh pages over a range that the caller owns.
    let moved = unsafe { libc::mremap(fresh, bytes, bytes, flags, address as *mut c_void) };
    if moved == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Free ranges of a file, first fit, neighbours joined.
#[derive(Debug)]
pub(crate) struct Ranges {
    free: BTreeMap<u64, u64>,
}

impl Ranges {
    pub(crate) fn new(start: u64, bytes: u64) -> Self {
        Self { free: BTreeMap::from([(start, bytes)]) }
    }

    /// Takes `bytes` from the first range that has them.
    pub(crate) fn take(&mut self, bytes: u64) -> Option<u64> {
        let (&start, &len) = self.free.iter().find(|&(_, &len)| len >= bytes)?;
        self.free.remove(&start);
        if len > bytes {
            self.free.insert(start + bytes, len - bytes);
        }
        Some(start)
    }

    /// Gives a taken range back.
    pub(crate) fn give_back(&mut self, mut start: u64, mut bytes: u64) {
        if let Some((&before, &len)) = self.free.range(..start).next_back()
            && before + len == start
        {
            self.free.remove(&before);
            start = before;
            bytes += len;
        }
        if let Some(len) = self.free.remove(&(start + bytes)) {
            bytes += len;
        }
        self.free.insert(start, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_join_again_whatever_the_order() {
        let mut ranges = Ranges::new(4096, 1 << 20);
        let taken: Vec<u64> = (0..4).map(|_| ranges.take(8192).unwrap()).collect();
        for at in [taken[1], taken[3], taken[0], taken[2]] {
            ranges.give_back(at, 8192);
        }
        assert_eq!(ranges.free, BTreeMap::from([(4096, 1 << 20)]));
        assert_eq!(ranges.take((1 << 20) + 1), None);
    }
}
