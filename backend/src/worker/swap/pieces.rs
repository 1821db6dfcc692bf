//! Which addresses are whose: pieces of the granularity with a reservation of
//! their own, large allocations in one each, small ones side by side. Knows
//! numbers only; `device` makes them memory.

use std::collections::BTreeMap;
use std::ops::Range;

use paravane_protocol::cuda_types::CUcontext;
use range_alloc::RangeAllocator;

use super::host::HostCopy;

/// Allocations begin at multiples of this, as the library's do.
pub(super) const ALIGN: u64 = 512;
/// Larger ones have a piece of their own, as the library gives them pages of their own.
pub(super) const SMALL: u64 = 1 << 20;

/// Where a piece's bytes are.
pub(super) enum Place {
    /// It has had none yet.
    Fresh,
    Device,
    Host(HostCopy),
    /// On the device, and still on the host: coming in is not over.
    Both(HostCopy),
    /// The library had no memory for it.
    Refused,
}

/// The guest's id of a context, the library's, its device, and the number of that device's lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Home {
    pub(super) id: u64,
    pub(super) native: CUcontext,
    pub(super) device: i32,
    pub(super) number: usize,
}

/// A run of addresses of the granularity.
pub(super) struct Piece {
    pub(super) bytes: u64,
    pub(super) home: Home,
    pub(super) place: Place,
    free: RangeAllocator<u64>,
    used: usize,
    is_shared: bool,
}

impl Piece {
    /// Whether the library has memory behind it.
    pub(super) fn is_mapped(&self) -> bool {
        matches!(self.place, Place::Device | Place::Both(_))
    }
}

struct Allocation {
    bytes: u64,
    piece: u64,
}

/// All of a process.
#[derive(Default)]
pub(super) struct Table {
    pub(super) pieces: BTreeMap<u64, Piece>,
    allocations: BTreeMap<u64, Allocation>,
}

/// What an allocation takes.
pub(super) fn rounded(bytes: u64) -> Option<u64> {
    bytes.checked_next_multiple_of(ALIGN)
}

impl Table {
    /// Makes room for a small allocation in a piece that there is.
    pub(super) fn place_small(&mut self, home: Home, bytes: u64) -> Option<u64> {
        let rounded = rounded(bytes).filter(|rounded| *rounded <= SMALL)?;
        let fits = |piece: &Piece| piece.is_shared && piece.home == home && !matches!(piece.place, Place::Refused);
        let (start, range) = self.pieces.iter_mut().filter(|(_, piece)| fits(piece)).find_map(|(start, piece)| {
            let range = piece.free.allocate_range(rounded).ok()?;
            piece.used += 1;
            Some((*start, range))
        })?;
        self.allocations.insert(range.start, Allocation { bytes, piece: start });
        Some(range.start)
    }

    /// Begins a piece with an allocation in it.
    pub(super) fn add(&mut self, start: u64, piece_bytes: u64, home: Home, bytes: u64) {
        let rounded = rounded(bytes).unwrap_or(piece_bytes).min(piece_bytes);
        let mut free = RangeAllocator::new(start..start.saturating_add(piece_bytes));
        // A fresh piece gives from its beginning.
        let taken = free.allocate_range(rounded).map_or(start, |range| range.start);
        let is_shared = rounded <= SMALL;
        self.pieces.insert(start, Piece { bytes: piece_bytes, home, place: Place::Fresh, free, used: 1, is_shared });
        self.allocations.insert(taken, Allocation { bytes, piece: start });
    }

    /// The allocation that holds an address: where it begins, its bytes.
    pub(super) fn find(&self, address: u64) -> Option<(u64, u64)> {
        let (start, found) = self.allocations.range(..=address).next_back()?;
        (address - start < found.bytes).then_some((*start, found.bytes))
    }

    /// The piece in which an allocation begins.
    pub(super) fn piece_of(&self, start: u64) -> Option<&Piece> {
        self.pieces.get(&self.allocations.get(&start)?.piece)
    }

    /// Whether a range touches addresses that are reserved here.
    pub(super) fn overlaps(&self, range: Range<u64>) -> bool {
        let before = self.pieces.range(..range.end.max(range.start.saturating_add(1))).next_back();
        before.is_some_and(|(start, piece)| start.saturating_add(piece.bytes) > range.start)
    }

    /// Ends the allocation that begins at an address: `None` where none does; a piece that nothing
    /// is left in is taken out.
    pub(super) fn free(&mut self, start: u64) -> Option<Option<(u64, Piece)>> {
        let Allocation { bytes, piece: of } = self.allocations.remove(&start)?;
        let piece = self.pieces.get_mut(&of)?;
        let rounded = rounded(bytes).unwrap_or(piece.bytes).min(piece.bytes);
        piece.free.free_range(start..start.saturating_add(rounded));
        piece.used = piece.used.saturating_sub(1);
        let is_empty = piece.used == 0;
        Some(if is_empty { self.pieces.remove(&of).map(|piece| (of, piece)) } else { None })
    }

    /// Takes out all pieces of a context, with what is in them.
    pub(super) fn take_context(&mut self, id: u64) -> Vec<(u64, Piece)> {
        let of_context = self.pieces.iter().filter(|(_, piece)| piece.home.id == id);
        let starts: Vec<u64> = of_context.map(|(start, _)| *start).collect();
        let gone: Vec<_> = starts.iter().filter_map(|start| self.pieces.remove_entry(start)).collect();
        self.allocations.retain(|_, allocation| starts.binary_search(&allocation.piece).is_err());
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: Home = Home { id: 7, native: CUcontext(70), device: 0, number: 0 };
    const PIECE: u64 = 2 << 20;

    #[test]
    fn small_ones_lie_side_by_side_and_a_piece_goes_with_its_last() {
        let mut table = Table::default();
        assert_eq!(table.place_small(HOME, 1), None);
        table.add(PIECE, PIECE, HOME, 1);
        let second = table.place_small(HOME, 1000).unwrap();
        assert_eq!(second, PIECE + ALIGN);
        assert_eq!(table.place_small(Home { id: 8, ..HOME }, 1), None, "each context has its own");
        assert_eq!(table.place_small(HOME, SMALL + 1), None);
        assert_eq!((table.find(PIECE), table.find(PIECE + 1)), (Some((PIECE, 1)), None));
        assert_eq!(table.find(second + 999), Some((second, 1000)));
        assert!(table.free(second + 512).is_none(), "no allocation begins there");
        assert!(matches!(table.free(PIECE), Some(None)));
        assert!(table.free(PIECE).is_none());
        assert_eq!(table.place_small(HOME, 512), Some(PIECE), "used again");
        assert!(matches!(table.free(PIECE), Some(None)));
        assert!(matches!(table.free(second), Some(Some((PIECE, _)))));
        assert!(table.pieces.is_empty() && table.find(second).is_none());
    }

    #[test]
    fn a_context_takes_its_pieces_along() {
        let mut table = Table::default();
        table.add(PIECE, PIECE, HOME, SMALL + 1);
        assert_eq!(table.place_small(HOME, 1), None, "a large one is alone");
        table.add(4 * PIECE, 2 * PIECE, Home { id: 8, ..HOME }, 2 * PIECE);
        assert!(table.overlaps(5 * PIECE..5 * PIECE + 1) && table.overlaps(0..PIECE + 1));
        assert!(!table.overlaps(0..PIECE) && !table.overlaps(6 * PIECE..7 * PIECE) && !table.overlaps(3 * PIECE..3 * PIECE));
        assert_eq!(table.take_context(8).len(), 1);
        assert!(table.find(4 * PIECE).is_none() && table.find(PIECE).is_some());
    }
}
