//! Which parts of the arena are free: best fit over address ranges, in whole granules. Knows
//! numbers only; the arena makes them memory.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug)]
pub(super) struct Heap {
    /// Free ranges by offset.
    free: BTreeMap<u64, u64>,
    /// The same by size, for the best fit.
    by_size: BTreeSet<(u64, u64)>,
    /// Live ranges by offset.
    used: BTreeMap<u64, u64>,
}

impl Heap {
    pub(super) fn new(size: u64) -> Self {
        let mut heap = Self { free: BTreeMap::new(), by_size: BTreeSet::new(), used: BTreeMap::new() };
        heap.add_free(0, size);
        heap
    }

    /// A heap over `size` units from `start`.
    pub(super) fn at(start: u64, size: u64) -> Self {
        let mut heap = Self::new(0);
        heap.add_free(start, size);
        heap
    }

    fn add_free(&mut self, offset: u64, size: u64) {
        if size > 0 {
            self.free.insert(offset, size);
            self.by_size.insert((size, offset));
        }
    }

    fn remove_free(&mut self, offset: u64, size: u64) {
        self.free.remove(&offset);
        self.by_size.remove(&(size, offset));
    }

    /// A range of `size` bytes at a multiple of `align`, both multiples of the granule.
    pub(super) fn allocate(&mut self, size: u64, align: u64) -> Option<u64> {
        let fits = |&&(free, offset): &&(u64, u64)| free - (offset.next_multiple_of(align) - offset).min(free) >= size;
        let (free, offset) = *self.by_size.range((size, 0)..).find(fits)?;
        let start = offset.next_multiple_of(align);
        self.remove_free(offset, free);
        self.add_free(offset, start - offset);
        self.add_free(start + size, offset + free - (start + size));
        self.used.insert(start, size);
        Some(start)
    }

    /// Gives a range back; its size, or None when nothing live starts there.
    pub(super) fn release(&mut self, offset: u64) -> Option<u64> {
        let size = self.used.remove(&offset)?;
        let (mut start, mut end) = (offset, offset + size);
        if let Some((&before, &length)) = self.free.range(..offset).next_back()
            && before + length == offset
        {
            self.remove_free(before, length);
            start = before;
        }
        if let Some(&length) = self.free.get(&end) {
            self.remove_free(end, length);
            end += length;
        }
        self.add_free(start, end - start);
        Some(size)
    }

    /// The live range that holds `offset`.
    pub(super) fn find(&self, offset: u64) -> Option<(u64, u64)> {
        let (&start, &size) = self.used.range(..=offset).next_back()?;
        (offset - start < size).then_some((start, size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Live ranges never overlap, and after all are released the whole heap is one range.
        #[test]
        fn ranges_are_disjoint_and_come_back(sizes in prop::collection::vec((1u64..40, any::<bool>(), 0u32..3), 1..60)) {
            let total = 512 * 400;
            let mut heap = Heap::new(total);
            let mut live: Vec<(u64, u64)> = vec![];
            for (granules, free_one, align) in sizes {
                if let Some(offset) = heap.allocate(granules * 512, 512 << align) {
                    prop_assert_eq!(offset % (512 << align), 0);
                    prop_assert!(offset + granules * 512 <= total);
                    prop_assert!(live.iter().all(|&(o, s)| offset + granules * 512 <= o || o + s <= offset));
                    prop_assert_eq!(heap.find(offset + granules * 512 - 1), Some((offset, granules * 512)));
                    live.push((offset, granules * 512));
                }
                if free_one && !live.is_empty() {
                    let (offset, size) = live.swap_remove(live.len() / 2);
                    prop_assert_eq!(heap.release(offset), Some(size));
                    prop_assert_eq!(heap.release(offset), None);
                }
            }
            for (offset, size) in live {
                prop_assert_eq!(heap.release(offset), Some(size));
            }
            prop_assert_eq!(heap.allocate(total, 512), Some(0));
        }
    }
}
