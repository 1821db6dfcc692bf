//! Memory that a driver hands out as a descriptor of its own kind. That others map it
//! is beyond what Vulkan promises, and goes by what drivers do: the file's first
//! byte is the memory's, but with lavapipe, whose file begins with a header.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{SealFlags, fcntl_get_seals};

use crate::memory::PAGE_BYTES;

/// What lavapipe seals its memory with.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);
/// Its header: how long all of it is, where the memory begins, and an id of the driver.
const HEADER_BYTES: u64 = 32;

/// Where in the file the memory begins; whole pages.
pub(super) fn start(file: &OwnedFd) -> u32 {
    if fcntl_get_seals(file) != Ok(SEALS) {
        return 0;
    }
    header(file).ok().and_then(|start| u32::try_from(start).ok()).unwrap_or(0)
}

fn header(file: &OwnedFd) -> io::Result<u64> {
    let file = File::from(file.try_clone()?);
    let word = |at| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, at).map(|()| u64::from_ne_bytes(bytes))
    };
    let (bytes, start, length) = (word(0)?, word(8)?, file.metadata()?.len());
    // It counts the header in.
    let fits = start < bytes && bytes <= length;
    Ok(if start >= HEADER_BYTES && start % PAGE_BYTES == 0 && fits { start } else { 0 })
}

#[cfg(test)]
mod tests {
    use rustix::fs::{MemfdFlags, fcntl_add_seals, ftruncate, memfd_create};

    use super::*;

    fn file(header: [u64; 2], bytes: u64, seals: SealFlags) -> OwnedFd {
        let file = memfd_create("test", MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&file, bytes).unwrap();
        fcntl_add_seals(&file, seals).unwrap();
        let file = File::from(file);
        for (word, at) in header.into_iter().zip([0, 8]) {
            file.write_all_at(&word.to_ne_bytes(), at).unwrap();
        }
        file.into()
    }

    #[test]
    fn lavapipes_memory_begins_behind_its_header() {
        assert_eq!(start(&file([0x3028, 0x1000], 0x3028, SEALS)), 0x1000);
        assert_eq!(start(&file([0x1029, 0x1000], 0x2000, SEALS)), 0x1000);
    }

    #[test]
    fn anything_else_begins_at_the_start() {
        let wild = [[0x2000, 0x1001], [0x2000, 0], [0x3029, 0x1000], [u64::MAX, 0x1000], [0x1000, 0x1000], [0, 1 << 40]];
        assert!(wild.into_iter().all(|header| start(&file(header, 0x3028, SEALS)) == 0));
        assert_eq!(start(&file([0x2000, 0x1000], 0x3028, SealFlags::SHRINK)), 0, "sealed otherwise");
        assert_eq!(start(&file([0; 2], 16, SEALS)), 0);
    }
}
