//! Managed variables whose pages are another's for a while: whoever loads this library may lay pages of
//! its own in their place, so that a further process reaches the variables too. Their addresses are
//! nobody else's before they are given back.

use super::arena::{Arena, Sort};
use super::physical;
use std::collections::HashMap;
use std::sync::PoisonError;

/// What is lent: bytes, and whether it was freed meanwhile.
pub(super) type Lent = HashMap<u64, (u64, bool)>;

impl Arena {
    /// Lends the pages of the managed variable that begins at `address`: their bytes. None where no
    /// such variable is, or it is lent. No work may use it meanwhile.
    pub fn lend(&self, address: u64) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let offset = address.wrapping_sub(self.base());
        let owner = state.owners.get(&offset).filter(|owner| owner.sort == Sort::Variable)?;
        let size = owner.size.max(1).next_multiple_of(4096);
        if state.lent.contains_key(&offset) {
            return None;
        }
        state.lent.insert(offset, (size, false));
        Some(size)
    }

    /// Ends a loan: fresh pages are there again. False where nothing is lent.
    pub fn take_back(&self, address: u64) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let offset = address.wrapping_sub(self.base());
        let Some((size, was_freed)) = state.lent.remove(&offset) else { return false };
        let placed = physical::place(address, size, None);
        if was_freed {
            state.heap.release(offset);
        }
        placed
    }
}
