//! A page, or some, that the backend and a worker share: sealed memory behind
//! a descriptor. The account (`account.rs`), the turns (`turn.rs`), the
//! lease (`lease/page.rs`) and the budget (`budget.rs`) lie in such pages.
#![allow(unsafe_code)] // The page is mapped here.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr;

use paravane_protocol::shared::SharedPages;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};

const PAGE_BYTES: usize = 4096;

/// The mapped page.
#[derive(Debug)]
pub struct Page {
    pages: SharedPages,
}

impl Page {
    /// A fresh page, all zero, and the descriptor to give to the other process.
    /// Sealed: nobody can cut it short under its reader. `name` shows in /proc.
    pub fn create(name: &str) -> io::Result<(Self, OwnedFd)> {
        Self::create_long(name, PAGE_BYTES)
    }

    /// As [`Page::create`], so many bytes long: whole pages.
    pub fn create_long(name: &str, bytes: usize) -> io::Result<(Self, OwnedFd)> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create(name, flags)?;
        rustix::fs::ftruncate(&file, bytes as u64)?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok((Self::map_long(&file, bytes)?, file))
    }

    /// Maps the page that a descriptor from [`Page::create`] names.
    pub fn map(file: impl AsFd) -> io::Result<Self> {
        Self::map_long(file, PAGE_BYTES)
    }

    /// Maps so many bytes of a descriptor from [`Page::create_long`]. One that
    /// is shorter, or could be cut short, is refused.
    pub fn map_long(file: impl AsFd, bytes: usize) -> io::Result<Self> {
        let there = u64::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(0);
        let sealed = rustix::fs::fcntl_get_seals(&file)?.contains(SealFlags::SHRINK);
        if there < bytes as u64 || !sealed {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no sealed memory of this length"));
        }
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh shared mapping at an address of the kernel's choice.
        let base =
            unsafe { rustix::mm::mmap(ptr::null_mut(), bytes, protection, MapFlags::SHARED, file, 0) }?;
        // SAFETY: just mapped, page-aligned, and unmapped only by drop().
        let pages = unsafe { SharedPages::new(base.cast(), bytes) };
        Ok(Self { pages })
    }

    /// Its words. A copy must not outlive the page.
    pub fn words(&self) -> &SharedPages {
        &self.pages
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let bytes = self.pages.bytes();
        let base = self.pages.at(0, bytes);
        // SAFETY: mapped by map_long() with this length; words() lends no
        // reference that outlives self.
        let _ = unsafe { rustix::mm::munmap(base.cast(), bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_can_cut_a_page_short() {
        let (_page, file) = Page::create("test").unwrap();
        assert!(rustix::fs::ftruncate(&file, 0).is_err());
    }

    #[test]
    fn what_could_be_cut_short_is_not_mapped() {
        let (_page, file) = Page::create_long("test", 2 * PAGE_BYTES).unwrap();
        assert!(Page::map_long(&file, 2 * PAGE_BYTES).is_ok());
        assert!(Page::map_long(&file, 3 * PAGE_BYTES).is_err());
        let open = rustix::fs::memfd_create("test", MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::fs::ftruncate(&open, PAGE_BYTES as u64).unwrap();
        assert!(Page::map(&open).is_err());
    }
}
