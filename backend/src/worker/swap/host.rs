//! Host memory that a piece lies in while it is away: an anonymous mapping of its
//! own, so that what it takes goes back at once.
#![allow(unsafe_code, reason = "maps memory")]

use std::ffi::c_void;
use std::io;
use std::ptr::{self, NonNull};

use rustix::mm::{Advice, MapFlags, ProtFlags};

/// The mapping.
pub(super) struct HostCopy {
    at: NonNull<c_void>,
    bytes: usize,
}

// SAFETY: the mapping belongs to this value alone.
unsafe impl Send for HostCopy {}

impl HostCopy {
    /// Memory for so many bytes.
    pub(super) fn new(bytes: usize) -> io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let at = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), bytes, protection, MapFlags::PRIVATE) }?;
        let at = NonNull::new(at).ok_or(io::ErrorKind::OutOfMemory)?;
        let copy = Self { at, bytes };
        // SAFETY: the whole of the mapping above. Where the kernel has no huge pages, small ones do.
        let _ = unsafe { rustix::mm::madvise(copy.at.as_ptr(), bytes, Advice::LinuxHugepage) };
        Ok(copy)
    }

    /// Where it begins.
    pub(super) fn address(&self) -> *mut c_void {
        self.at.as_ptr()
    }
}

impl Drop for HostCopy {
    fn drop(&mut self) {
        // SAFETY: mapped by new() with this length; whoever copied has copied.
        let _ = unsafe { rustix::mm::munmap(self.at.as_ptr(), self.bytes) };
    }
}
