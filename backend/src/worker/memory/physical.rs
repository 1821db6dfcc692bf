//! Physical memory (cuMemCreate) is there until its last handle is released and
//! its last mapping undone.

use std::collections::{BTreeMap, HashMap};

use super::Charge;

/// One piece of physical memory.
#[derive(Clone, Copy)]
struct Piece {
    /// What is charged for it: no bytes where another process is charged.
    charge: Charge,
    /// Handles and mappings.
    uses: u64,
}

/// Where a piece is mapped.
#[derive(Clone, Copy)]
struct Mapped {
    bytes: u64,
    piece: u64,
}

/// All of a process, by numbers of its own.
#[derive(Default)]
pub(super) struct Physical {
    pieces: HashMap<u64, Piece>,
    handles: HashMap<u64, u64>,
    mapped: BTreeMap<u64, Mapped>,
    last: u64,
}

/// A mapping or a handle that is taken out while the library is asked to end it.
pub(super) enum Out {
    Handle(u64, u64),
    Mappings(Vec<(u64, u64, u64)>),
}

impl Physical {
    /// A handle of new memory.
    pub(super) fn add(&mut self, handle: u64, charge: Charge) {
        self.last += 1;
        self.pieces.insert(self.last, Piece { charge, uses: 1 });
        self.handles.insert(handle, self.last);
    }

    fn use_again(&mut self, piece: u64) {
        if let Some(piece) = self.pieces.get_mut(&piece) {
            piece.uses += 1;
        }
    }

    /// A handle's memory is mapped.
    pub(super) fn map(&mut self, address: u64, bytes: u64, handle: u64) {
        if let Some(piece) = self.handles.get(&handle).copied() {
            self.use_again(piece);
            self.mapped.insert(address, Mapped { bytes, piece });
        }
    }

    /// A handle's memory is there as long as this process.
    pub(super) fn keep(&mut self, handle: u64) {
        if let Some(piece) = self.handles.get(&handle).copied() {
            self.use_again(piece);
        }
    }

    /// A further handle of what is mapped at an address.
    pub(super) fn retain(&mut self, handle: u64, address: u64) {
        let found = self.mapped.range(..=address).next_back();
        let piece = found.filter(|(start, mapped)| address - **start < mapped.bytes).map(|(_, mapped)| mapped.piece);
        if let Some(piece) = piece {
            self.use_again(piece);
            self.handles.insert(handle, piece);
        }
    }

    /// Takes a handle out.
    pub(super) fn take_handle(&mut self, handle: u64) -> Option<Out> {
        self.handles.remove(&handle).map(|piece| Out::Handle(handle, piece))
    }

    /// Takes out what is mapped from an address on.
    pub(super) fn take_mappings(&mut self, address: u64, bytes: u64) -> Option<Out> {
        let end = address.saturating_add(bytes);
        let starts: Vec<u64> = self.mapped.range(address..end).map(|(start, _)| *start).collect();
        let take = |start| self.mapped.remove(&start).map(|mapped| (start, mapped.bytes, mapped.piece));
        Some(Out::Mappings(starts.into_iter().filter_map(take).collect()))
    }

    /// The library has not ended it.
    pub(super) fn put_back(&mut self, out: Out) {
        match out {
            Out::Handle(handle, piece) => {
                self.handles.insert(handle, piece);
            }
            Out::Mappings(all) => {
                let put = |(start, bytes, piece)| (start, Mapped { bytes, piece });
                self.mapped.extend(all.into_iter().map(put));
            }
        }
    }

    /// The library has ended it: what was charged for the memory that is gone.
    pub(super) fn end(&mut self, out: Out) -> Vec<Charge> {
        let pieces = match out {
            Out::Handle(_, piece) => vec![piece],
            Out::Mappings(all) => all.into_iter().map(|(_, _, piece)| piece).collect(),
        };
        pieces.into_iter().filter_map(|piece| self.end_use(piece)).collect()
    }

    fn end_use(&mut self, number: u64) -> Option<Charge> {
        let piece = self.pieces.get_mut(&number)?;
        piece.uses -= 1;
        if piece.uses > 0 {
            return None;
        }
        self.pieces.remove(&number).map(|gone| gone.charge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_there_until_its_last_use_ends() {
        let mut physical = Physical::default();
        physical.add(7, Charge { bytes: 100, device: 1, ..Charge::default() });
        physical.map(0x1000, 0x100, 7);
        physical.map(0x1100, 0x100, 7);
        let out = physical.take_handle(7).unwrap();
        assert!(physical.end(out).is_empty());
        assert!(physical.take_handle(7).is_none());
        physical.retain(8, 0x11ff);
        physical.retain(9, 0x1200);
        assert!(physical.take_handle(9).is_none());
        let out = physical.take_mappings(0x1000, 0x200).unwrap();
        physical.put_back(out);
        let out = physical.take_mappings(0x1000, 0x200).unwrap();
        assert!(physical.end(out).is_empty());
        let out = physical.take_handle(8).unwrap();
        physical.put_back(out);
        let out = physical.take_handle(8).unwrap();
        let gone: Vec<_> = physical.end(out).iter().map(|gone| (gone.bytes, gone.is_pinned, gone.device)).collect();
        assert_eq!(gone, [(100, false, 1)]);
        physical.add(10, Charge { bytes: 100, is_pinned: true, ..Charge::default() });
        physical.keep(10);
        let out = physical.take_handle(10).unwrap();
        assert!(physical.end(out).is_empty());
    }
}
