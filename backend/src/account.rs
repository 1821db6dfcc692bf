//! The account of one worker: a page of counters that the worker adds to and
//! the backend reads, also after the worker's end. `usage.rs` sums them.
#![allow(unsafe_code)] // The page is mapped here.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use paravane_protocol::shared::SharedPages;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};

const PAGE_BYTES: usize = 4096;

/// A counter's place in the page. All count up from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Counter {
    /// Calls whose reply the guest awaited.
    CallsAwaited,
    /// Calls without a reply.
    CallsPosted,
    /// Kernels launched.
    Kernels,
    /// Bytes copied from guest memory to device memory.
    BytesToDevice,
    /// Bytes copied from device memory to guest memory.
    BytesFromDevice,
    /// Time that the GPU worked for this process, in nanoseconds.
    GpuTimeNs,
}

/// Every counter with its name in the usage report.
pub const COUNTERS: [(Counter, &str); 6] = [
    (Counter::CallsAwaited, "calls_awaited"),
    (Counter::CallsPosted, "calls_posted"),
    (Counter::Kernels, "kernels"),
    (Counter::BytesToDevice, "bytes_to_device"),
    (Counter::BytesFromDevice, "bytes_from_device"),
    (Counter::GpuTimeNs, "gpu_time_ns"),
];

/// The mapped page.
#[derive(Debug)]
pub struct AccountPage {
    pages: SharedPages,
}

impl AccountPage {
    /// A fresh page, all zero, and the descriptor to give to the worker. Sealed:
    /// a worker cannot cut it short under its reader.
    pub fn create() -> io::Result<(Self, OwnedFd)> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("paravane-account", flags)?;
        rustix::fs::ftruncate(&file, PAGE_BYTES as u64)?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok((Self::map(&file)?, file))
    }

    /// Maps the page that a descriptor from [`AccountPage::create`] names.
    pub fn map(file: impl AsFd) -> io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh shared mapping at an address of the kernel's choice.
        let base = unsafe {
            rustix::mm::mmap(ptr::null_mut(), PAGE_BYTES, protection, MapFlags::SHARED, file, 0)
        }?;
        // SAFETY: just mapped, page-aligned, and unmapped only by drop().
        let pages = unsafe { SharedPages::new(base.cast(), PAGE_BYTES) };
        Ok(Self { pages })
    }

    /// A counter, to add to with `Relaxed`.
    pub fn counter(&self, counter: Counter) -> &AtomicU64 {
        self.pages.atomic_u64(counter as usize * size_of::<u64>())
    }

    /// All counters, in the order of [`COUNTERS`].
    pub fn read(&self) -> [u64; COUNTERS.len()] {
        COUNTERS.map(|(counter, _)| self.counter(counter).load(Ordering::Relaxed))
    }
}

impl Drop for AccountPage {
    fn drop(&mut self) {
        let base = self.pages.at(0, PAGE_BYTES);
        // SAFETY: mapped by map() with this length; counter() lends no reference
        // that outlives self.
        let _ = unsafe { rustix::mm::munmap(base.cast(), PAGE_BYTES) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_mapping_adds_the_other_reads() {
        let (page, file) = AccountPage::create().unwrap();
        let worker = AccountPage::map(&file).unwrap();
        worker.counter(Counter::Kernels).fetch_add(3, Ordering::Relaxed);
        worker.counter(Counter::GpuTimeNs).fetch_add(5, Ordering::Relaxed);
        drop(worker);
        assert_eq!(page.read(), [0, 0, 3, 0, 0, 5]);
    }

    #[test]
    fn a_worker_cannot_cut_the_page_short() {
        let (_page, file) = AccountPage::create().unwrap();
        assert!(rustix::fs::ftruncate(&file, 0).is_err());
    }
}
