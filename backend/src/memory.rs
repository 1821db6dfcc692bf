//! Guest memory as the front end describes it: which file holds which guest
//! physical addresses. Turns a resource's pages into pieces that a worker can
//! map, and tells whether a new table keeps what the old one had.
#![deny(clippy::indexing_slicing)]

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use paravane_protocol::limits::{PIECES_MAX, REGIONS_MAX};
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use crate::command::Entry;
use crate::control::{Piece, Region, ToWorker};

/// The page size of guest and host, and the grain of everything shared.
pub const PAGE_BYTES: u64 = 4096;

/// One region of guest memory.
#[derive(Clone, Debug)]
struct TableRegion {
    addr: u64,
    bytes: u64,
    file: Arc<File>,
    file_offset: u64,
    identity: Identity,
}

/// Device and inode: a file, whatever descriptor names it.
pub type Identity = (u64, u64);

impl PartialEq for TableRegion {
    fn eq(&self, other: &Self) -> bool {
        (self.addr, self.bytes, self.file_offset, self.identity)
            == (other.addr, other.bytes, other.file_offset, other.identity)
    }
}

/// The current memory table.
#[derive(Clone, Debug, Default)]
pub struct MemoryTable {
    generation: u32,
    regions: Vec<TableRegion>,
}

impl MemoryTable {
    /// Reads the table that a front end has set after this one. Regions that
    /// were there keep their index, because workers hold pieces that name it.
    /// Regions without a file are left out: no worker could map them; and so are
    /// files that `is_windows`: a front end tells of what it has mapped in the
    /// window as if it were memory, and no worker has a use for it.
    pub fn next(&self, memory: &GuestMemoryMmap, mut is_windows: impl FnMut(Identity) -> bool) -> io::Result<Self> {
        let mut regions = Vec::new();
        for region in memory.iter() {
            let Some(place) = region.file_offset() else { continue };
            let data = place.file().metadata()?;
            let identity = (data.dev(), data.ino());
            if is_windows(identity) {
                continue;
            }
            regions.push(TableRegion {
                addr: region.start_addr().raw_value(),
                bytes: region.len(),
                file: Arc::clone(place.arc()),
                file_offset: place.start(),
                identity,
            });
        }
        if regions.len() > REGIONS_MAX {
            let text = format!("{} memory regions, {REGIONS_MAX} are supported", regions.len());
            return Err(io::Error::other(text));
        }
        let index = |region: &TableRegion| self.regions.iter().position(|old| old == region);
        regions.sort_by_key(|region| index(region).unwrap_or(usize::MAX));
        let same = regions == self.regions;
        Ok(Self { generation: self.generation + u32::from(!same), regions })
    }

    /// Whether this is the same table as another of the same connection.
    pub fn is(&self, other: &Self) -> bool {
        self.generation == other.generation
    }

    /// Whether every region of `old` is in this table unchanged.
    pub fn keeps(&self, old: &Self) -> bool {
        old.regions.iter().all(|region| self.regions.contains(region))
    }

    /// The message that tells a worker of this table.
    pub fn message(&self) -> io::Result<ToWorker> {
        let regions = self.regions.iter().map(|region| {
            Ok(Region {
                file: region.file.try_clone()?.into(),
                file_offset: region.file_offset,
                bytes: region.bytes,
            })
        });
        let regions = regions.collect::<io::Result<_>>()?;
        Ok(ToWorker::SetMemory { generation: self.generation, regions })
    }

    /// Where the pages of a resource lie. `None`: an entry is not made of whole
    /// pages of guest memory, or there are too many.
    pub fn pieces(&self, entries: &[Entry]) -> Option<Vec<Piece>> {
        let mut pieces: Vec<Piece> = Vec::with_capacity(entries.len());
        for entry in entries {
            if !entry.addr.is_multiple_of(PAGE_BYTES) || !entry.bytes.is_multiple_of(PAGE_BYTES) {
                return None;
            }
            let mut at = *entry;
            while at.bytes > 0 {
                let (index, region) = self.find(at.addr)?;
                let within = at.addr - region.addr;
                let bytes = at.bytes.min(region.bytes - within);
                let offset = region.file_offset.checked_add(within)?;
                if !offset.is_multiple_of(PAGE_BYTES) || !bytes.is_multiple_of(PAGE_BYTES) {
                    return None;
                }
                pieces.push(Piece {
                    region: index.into(),
                    pad: 0.into(),
                    offset: offset.into(),
                    bytes: bytes.into(),
                });
                at = Entry { addr: at.addr.checked_add(bytes)?, bytes: at.bytes - bytes };
            }
        }
        (pieces.len() <= PIECES_MAX as usize).then_some(pieces)
    }

    fn find(&self, addr: u64) -> Option<(u32, &TableRegion)> {
        let index = self.regions.iter().position(|region| {
            addr.checked_sub(region.addr).is_some_and(|within| within < region.bytes)
        })?;
        Some((u32::try_from(index).ok()?, self.regions.get(index)?))
    }
}

#[cfg(test)]
mod tests {
    use vm_memory::{FileOffset, GuestAddress};

    use super::*;

    fn memory(regions: &[(u64, usize, u64)], file: &File) -> GuestMemoryMmap {
        let ranges: Vec<_> = regions
            .iter()
            .map(|&(addr, bytes, offset)| {
                let place = FileOffset::new(file.try_clone().unwrap(), offset);
                (GuestAddress(addr), bytes, Some(place))
            })
            .collect();
        GuestMemoryMmap::from_ranges_with_files(ranges).unwrap()
    }

    fn file() -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        file
    }

    fn pieces(table: &MemoryTable, entries: &[(u64, u64)]) -> Option<Vec<(u32, u64, u64)>> {
        let entries: Vec<_> = entries.iter().map(|&(addr, bytes)| Entry { addr, bytes }).collect();
        let plain = |piece: &Piece| (piece.region.get(), piece.offset.get(), piece.bytes.get());
        Some(table.pieces(&entries)?.iter().map(plain).collect())
    }

    #[test]
    fn entries_become_places_in_files() {
        let memory = memory(&[(0, 0x8000, 0x1000), (0x8000, 0x8000, 0x10000)], &file());
        let table = MemoryTable::default().next(&memory, |_| false).unwrap();
        assert_eq!(pieces(&table, &[(0x3000, 0x1000)]), Some(vec![(0, 0x4000, 0x1000)]));
        let across = pieces(&table, &[(0x7000, 0x3000)]);
        assert_eq!(across, Some(vec![(0, 0x8000, 0x1000), (1, 0x10000, 0x2000)]));
    }

    #[test]
    fn entries_outside_memory_or_pages_are_refused() {
        let memory = memory(&[(0x1000, 0x8000, 0)], &file());
        let table = MemoryTable::default().next(&memory, |_| false).unwrap();
        let page = 0x1000;
        let wild = [(0, page), (0x8000, 2 * page), (u64::MAX - 0xfff, page), (0x9000, page)];
        for entry in wild {
            assert_eq!(pieces(&table, &[entry]), None, "{entry:x?}");
        }
        for odd in [(0x1800, page), (0x1000, 0x800), (0x1000, u64::MAX)] {
            assert_eq!(pieces(&table, &[odd]), None, "{odd:x?}");
        }
        assert!(pieces(&table, &[(0x8000, page)]).is_some());
    }

    #[test]
    fn what_lies_in_the_window_is_no_memory() {
        let (ram, blob) = (file(), file());
        let table = MemoryTable::default().next(&memory(&[(0, 0x1000, 0)], &ram), |_| false).unwrap();
        let identity = blob.metadata().map(|data| (data.dev(), data.ino())).unwrap();
        let place = |file: &File| Some(FileOffset::new(file.try_clone().unwrap(), 0));
        let ranges = [(GuestAddress(0), 0x1000, place(&ram)), (GuestAddress(1 << 40), 0x1000, place(&blob))];
        let both = GuestMemoryMmap::from_ranges_with_files(ranges).unwrap();
        let next = table.next(&both, |other| other == identity).unwrap();
        assert!(next.is(&table) && next.keeps(&table) && pieces(&next, &[(1 << 40, 0x1000)]).is_none());
        let with = table.next(&both, |_| false).unwrap();
        assert!(!with.is(&table) && pieces(&with, &[(1 << 40, 0x1000)]).is_some());
    }

    #[test]
    fn a_table_keeps_another_when_its_regions_are_all_there() {
        let file = file();
        let other = self::file();
        let none = MemoryTable::default();
        let old = none.next(&memory(&[(0x8000, 0x8000, 0)], &file), |_| false).unwrap();
        let both = memory(&[(0, 0x1000, 0x8000), (0x8000, 0x8000, 0)], &file);
        let both = old.next(&both, |_| false).unwrap();
        assert!(both.keeps(&old));
        assert_eq!(both.generation, 2);
        // What was region 0 still is, although another lies before it.
        assert_eq!(pieces(&both, &[(0x8000, 0x1000)]), Some(vec![(0, 0, 0x1000)]));
        assert_eq!(pieces(&both, &[(0, 0x1000)]), Some(vec![(1, 0x8000, 0x1000)]));
        let elsewhere = memory(&[(0x8000, 0x8000, 0)], &other);
        assert!(!old.next(&elsewhere, |_| false).unwrap().keeps(&old));
        assert!(!MemoryTable::default().keeps(&old));
        assert!(old.keeps(&MemoryTable::default()));
    }
}
