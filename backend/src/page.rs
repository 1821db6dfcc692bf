//! A page that the backend and a worker share: sealed memory behind a
//! descriptor. The account (`account.rs`) and the turns (`turn.rs`) lie in
//! such pages.
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
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create(name, flags)?;
        rustix::fs::ftruncate(&file, PAGE_BYTES as u64)?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok((Self::map(&file)?, file))
    }

    /// Maps the page that a descriptor from [`Page::create`] names.
    pub fn map(file: impl AsFd) -> io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh shared mapping at an address of the kernel's choice.
        let base =
            unsafe { rustix::mm::mmap(ptr::null_mut(), PAGE_BYTES, protection, MapFlags::SHARED, file, 0) }?;
        // SAFETY: just mapped, page-aligned, and unmapped only by drop().
        let pages = unsafe { SharedPages::new(base.cast(), PAGE_BYTES) };
        Ok(Self { pages })
    }

    /// Its words. A copy must not outlive the page.
    pub fn words(&self) -> &SharedPages {
        &self.pages
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let base = self.pages.at(0, PAGE_BYTES);
        // SAFETY: mapped by map() with this length; words() lends no reference
        // that outlives self.
        let _ = unsafe { rustix::mm::munmap(base.cast(), PAGE_BYTES) };
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
}
