//! Ids that stand for the host's handles. An id carries its type, a generation
//! that changes when the index is used again, and a dense index; the worker
//! keeps what it stands for in a table by that index.

use std::sync::{Mutex, PoisonError};

use paravane_protocol::cuda_types::*;
use paravane_protocol::limits::HANDLES_MAX;

use crate::boundary::Answer;

const TYPES: usize = 72;

struct IdPool {
    /// Ended ids, to be used again with the next generation.
    free: Vec<u64>,
    next_index: u32,
}

static POOLS: [Mutex<IdPool>; TYPES] =
    [const { Mutex::new(IdPool { free: Vec::new(), next_index: 1 }) }; TYPES];

/// A new id of type `H`.
pub(crate) fn mint<H: Handle>() -> Answer<H> {
    let mut pool =
        POOLS[usize::from(H::TYPE)].lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(ended) = pool.free.pop() {
        let generation = (ended >> 24).wrapping_add(1) & 0xffff;
        return Ok(compose::<H>(generation, index(ended)));
    }
    if pool.next_index >= HANDLES_MAX {
        return Err(CUDA_ERROR_OUT_OF_MEMORY);
    }
    let index = pool.next_index;
    pool.next_index += 1;
    Ok(compose::<H>(0, index))
}

/// The id will not be used by the program any more.
pub(crate) fn release<H: Handle>(handle: H) {
    // Graphs and their nodes have ids that the worker gives.
    let is_minted_here = H::TYPE != CUgraph::TYPE && H::TYPE != CUgraphNode::TYPE;
    if is::<H>(handle.number()) && is_minted_here {
        let pool = &POOLS[usize::from(H::TYPE)];
        pool.lock().unwrap_or_else(PoisonError::into_inner).free.push(handle.number());
    }
}

fn compose<H: Handle>(generation: u64, index: u32) -> H {
    H::from_number(u64::from(H::TYPE) << 40 | generation << 24 | u64::from(index))
}

/// Whether a number is an id of type `H`.
#[inline]
pub(crate) fn is<H: Handle>(number: u64) -> bool {
    number >> 40 == u64::from(H::TYPE)
}

/// An id's index, below [`HANDLES_MAX`] for ids that were minted here.
#[inline]
pub(crate) fn index(number: u64) -> u32 {
    (number & 0xff_ffff) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_released_id_comes_back_with_another_generation() {
        let first: CUarray = mint().unwrap();
        release(first);
        let second: CUarray = mint().unwrap();
        assert_eq!(index(first.0), index(second.0));
        assert_ne!(first, second);
        assert!(is::<CUarray>(second.0) && !is::<CUevent>(second.0));
    }
}
