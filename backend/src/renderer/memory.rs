//! Guest memory as virglrenderer reads and writes it: regions that stay mapped,
//! and of a resource's pages where they lie in them.
#![allow(unsafe_code, reason = "mapped memory")]

use std::ffi::c_void;
use std::io;
use std::os::fd::OwnedFd;

use rustix::mm::{MapFlags, ProtFlags, mmap};
use rutabaga_gfx::RutabagaIovec;

use crate::control::Piece;
use crate::gl::wire::RegionRecord;

struct Region {
    at: *mut c_void,
    file_offset: u64,
    bytes: u64,
}

/// All regions. They are never unmapped: the device ends this process when one
/// is taken away.
#[derive(Default)]
pub(super) struct Memory {
    regions: Vec<Region>,
}

impl Memory {
    /// The table that the device has now: those before are its beginning.
    pub(super) fn set(&mut self, records: &[RegionRecord], files: &[OwnedFd]) -> io::Result<()> {
        if records.len() != files.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a descriptor for each region"));
        }
        for (record, file) in records.iter().zip(files).skip(self.regions.len()) {
            let (bytes, file_offset) = (record.bytes.get(), record.file_offset.get());
            let length = usize::try_from(bytes).map_err(io::Error::other)?;
            // SAFETY: a new mapping where the kernel finds room; its bytes are
            // only ever reached through pointers by the library.
            let at = unsafe {
                let both = ProtFlags::READ | ProtFlags::WRITE;
                mmap(std::ptr::null_mut(), length, both, MapFlags::SHARED, file, file_offset)
            }?;
            self.regions.push(Region { at, file_offset, bytes });
        }
        Ok(())
    }

    /// Where pieces lie. `None`: one is in no region.
    pub(super) fn find(&self, pieces: &[Piece]) -> Option<Vec<RutabagaIovec>> {
        let place = |piece: &Piece| {
            let region = self.regions.get(piece.region.get() as usize)?;
            let within = piece.offset.get().checked_sub(region.file_offset)?;
            if within.checked_add(piece.bytes.get())? > region.bytes {
                return None;
            }
            let base = region.at.wrapping_byte_add(usize::try_from(within).ok()?);
            Some(RutabagaIovec { base, len: usize::try_from(piece.bytes.get()).ok()? })
        };
        pieces.iter().map(place).collect()
    }
}
