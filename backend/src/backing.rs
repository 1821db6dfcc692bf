//! The guest pages behind a resource, and single words in them: how the
//! backend reads a channel's header, writes its status and wakes sleepers.
#![deny(clippy::indexing_slicing)]

use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::futex;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, VolatileMemory};

use crate::command::Entry;
use crate::memory::PAGE_BYTES;

/// A resource's pages, in order.
#[derive(Clone, Debug, Default)]
pub struct Backing {
    entries: Vec<Entry>,
    /// Where each entry's bytes begin.
    starts: Vec<u64>,
    bytes: u64,
}

impl Backing {
    /// Takes entries that lie in guest memory. `None`: one does not, or the sum
    /// overflows.
    pub fn new(entries: Vec<Entry>, memory: &GuestMemoryMmap) -> Option<Self> {
        let mut bytes = 0_u64;
        let mut starts = Vec::with_capacity(entries.len());
        for entry in &entries {
            starts.push(bytes);
            bytes = bytes.checked_add(entry.bytes)?;
            let length = usize::try_from(entry.bytes).ok()?;
            if entry.bytes == 0 || !memory.check_range(GuestAddress(entry.addr), length) {
                return None;
            }
        }
        Some(Self { entries, starts, bytes })
    }

    /// Its length.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The entries.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Where the byte at `offset` lies, and how many follow it there.
    fn run(&self, offset: u64) -> Option<(u64, u64)> {
        let index = self.starts.partition_point(|start| *start <= offset).checked_sub(1)?;
        let within = offset - self.starts.get(index)?;
        let entry = self.entries.get(index)?;
        let rest = entry.bytes.checked_sub(within).filter(|rest| *rest > 0)?;
        Some((entry.addr + within, rest))
    }

    /// Where `bytes` bytes from `offset` lie, if that is in one page.
    fn locate(&self, offset: u64, bytes: u64) -> Option<GuestAddress> {
        if offset % PAGE_BYTES + bytes > PAGE_BYTES {
            return None;
        }
        let (addr, rest) = self.run(offset)?;
        (bytes <= rest).then_some(GuestAddress(addr))
    }

    /// Copies bytes out, across any number of pages. `None`: they end before.
    pub fn copy_out(&self, memory: &GuestMemoryMmap, offset: u64, into: &mut [u8]) -> Option<()> {
        let (mut at, mut left) = (offset, into);
        while !left.is_empty() {
            let (addr, rest) = self.run(at)?;
            let now = left.len().min(usize::try_from(rest).ok()?);
            let (into, later) = left.split_at_mut(now);
            memory.read_slice(into, GuestAddress(addr)).ok()?;
            at += now as u64;
            left = later;
        }
        Some(())
    }

    /// Copies bytes out; they may lie in one page only.
    pub fn read(&self, memory: &GuestMemoryMmap, offset: usize, into: &mut [u8]) -> Option<()> {
        let at = self.locate(offset as u64, into.len() as u64)?;
        memory.read_slice(into, at).ok()
    }

    /// Copies bytes in; they may lie in one page only.
    pub fn write(&self, memory: &GuestMemoryMmap, offset: usize, from: &[u8]) -> Option<()> {
        let at = self.locate(offset as u64, from.len() as u64)?;
        memory.write_slice(from, at).ok()
    }

    /// Applies `with` to the aligned word at `offset`.
    fn word<T>(
        &self,
        memory: &GuestMemoryMmap,
        offset: usize,
        with: impl FnOnce(&AtomicU32) -> T,
    ) -> Option<T> {
        let at = self.locate(offset as u64, 4)?;
        let slice = memory.get_slice(at, 4).ok()?;
        let word = slice.get_atomic_ref::<AtomicU32>(0).ok()?;
        Some(with(word))
    }

    /// Reads a word.
    pub fn load(&self, memory: &GuestMemoryMmap, offset: usize) -> Option<u32> {
        self.word(memory, offset, |word| word.load(Ordering::SeqCst))
    }

    /// Writes a word and wakes whoever of the same kernel sleeps on it.
    pub fn store_and_wake(&self, memory: &GuestMemoryMmap, offset: usize, value: u32) {
        self.word(memory, offset, |word| {
            word.store(value, Ordering::SeqCst);
            wake_all(word);
        });
    }

    /// Wakes whoever sleeps on a word.
    pub fn wake(&self, memory: &GuestMemoryMmap, offset: usize) {
        self.word(memory, offset, wake_all);
    }
}

fn wake_all(word: &AtomicU32) {
    // The word is mapped, so this cannot fail; and nobody may be asleep.
    let _ = futex::wake(word, futex::Flags::empty(), i32::MAX.unsigned_abs());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0x1000), 0x8000)]).unwrap()
    }

    fn backing(entries: &[(u64, u64)]) -> Option<Backing> {
        let entries = entries.iter().map(|&(addr, bytes)| Entry { addr, bytes }).collect();
        Backing::new(entries, &memory())
    }

    #[test]
    fn words_are_found_through_scattered_pages() {
        let memory = memory();
        let backing = backing(&[(0x4000, 0x1000), (0x2000, 0x2000)]).unwrap();
        backing.store_and_wake(&memory, 0x1ffc, 7);
        assert_eq!(memory.read_obj::<u32>(GuestAddress(0x2ffc)).unwrap(), 7);
        assert_eq!(backing.load(&memory, 0x1ffc), Some(7));
        backing.write(&memory, 0x10, &[1, 2]).unwrap();
        let mut bytes = [0; 2];
        memory.read_slice(&mut bytes, GuestAddress(0x4010)).unwrap();
        assert_eq!(bytes, [1, 2]);
    }

    #[test]
    fn nothing_across_pages_past_the_end_or_askew() {
        let memory = memory();
        let backing = backing(&[(0x2000, 0x2000)]).unwrap();
        assert_eq!(backing.read(&memory, 0xffe, &mut [0; 4]), None);
        assert_eq!(backing.load(&memory, 0x2000), None);
        assert_eq!(backing.load(&memory, usize::MAX - 8), None);
        assert_eq!(backing.load(&memory, 2), None);
    }

    #[test]
    fn bytes_are_copied_across_pages_up_to_the_end() {
        let memory = memory();
        let backing = backing(&[(0x4000, 0x1000), (0x2000, 0x2000)]).unwrap();
        memory.write_slice(&[1, 2], GuestAddress(0x4ffe)).unwrap();
        memory.write_slice(&[3, 4], GuestAddress(0x2000)).unwrap();
        let mut bytes = [0; 4];
        assert_eq!(backing.copy_out(&memory, 0xffe, &mut bytes), Some(()));
        assert_eq!(bytes, [1, 2, 3, 4]);
        assert_eq!(backing.copy_out(&memory, 0x2ffc, &mut bytes), Some(()));
        assert_eq!(backing.copy_out(&memory, 0x2ffd, &mut bytes), None);
        assert_eq!(backing.copy_out(&memory, u64::MAX, &mut bytes), None);
        assert_eq!(backing.copy_out(&memory, 0x3000, &mut []), Some(()));
    }

    #[test]
    fn entries_outside_memory_are_refused() {
        for wild in [(0, 0x1000), (0x8000, 0x2000), (u64::MAX, 1), (0x1000, 0)] {
            assert!(backing(&[wild]).is_none(), "{wild:x?}");
        }
    }
}
