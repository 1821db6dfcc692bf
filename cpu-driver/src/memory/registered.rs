//! Host memory that kernels may touch: what cuMemHostRegister was given. It may lie anywhere, so it
//! is a list that a launch takes a snapshot of.

use std::sync::{Arc, LazyLock, PoisonError, RwLock};

/// A registered host range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub start: u64,
    pub size: u64,
    pub flags: u32,
}

impl Range {
    pub fn holds(&self, address: u64, size: u64) -> bool {
        let offset = address.wrapping_sub(self.start);
        offset < self.size && self.size - offset >= size
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.start < other.start.saturating_add(other.size) && other.start < self.start.saturating_add(self.size)
    }
}

pub type Ranges = Arc<[Range]>;

static RANGES: LazyLock<RwLock<Ranges>> = LazyLock::new(RwLock::default);

/// All ranges of this moment.
pub fn snapshot() -> Ranges {
    Arc::clone(&RANGES.read().unwrap_or_else(PoisonError::into_inner))
}

/// The range that holds `address`.
pub fn registered(address: u64) -> Option<Range> {
    snapshot().iter().find(|range| range.holds(address, 1)).copied()
}

/// Adds a range; false when it overlaps one that is there.
pub fn register(range: Range) -> bool {
    let mut ranges = RANGES.write().unwrap_or_else(PoisonError::into_inner);
    if ranges.iter().any(|other| other.overlaps(&range)) {
        return false;
    }
    *ranges = ranges.iter().copied().chain([range]).collect();
    true
}

/// Removes the range that starts at `start`; false when there is none.
pub fn unregister(start: u64) -> bool {
    let mut ranges = RANGES.write().unwrap_or_else(PoisonError::into_inner);
    let rest: Ranges = ranges.iter().filter(|range| range.start != start).copied().collect();
    let found = rest.len() != ranges.len();
    *ranges = rest;
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_do_not_overlap_and_are_found_by_any_address_inside() {
        let range = Range { start: 0x7000_0000, size: 0x1000, flags: 0 };
        assert!(register(range));
        assert!(!register(Range { start: 0x7000_0fff, size: 1, flags: 0 }));
        assert_eq!(registered(0x7000_0fff), Some(range));
        assert_eq!(registered(0x7000_1000), None);
        assert!(range.holds(0x7000_0ff8, 8) && !range.holds(0x7000_0ff9, 8));
        assert!(unregister(0x7000_0000));
        assert!(!unregister(0x7000_0000));
    }
}
