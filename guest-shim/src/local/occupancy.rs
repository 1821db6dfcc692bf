//! The block size of highest occupancy. With a callback the search runs here,
//! because the callback is the program's.

use paravane_protocol::cuda_types::*;

use crate::boundary::Answer;
use crate::pointer;
use crate::remote::table;
use crate::state::{current, devices};

pub(crate) fn cuOccupancyMaxPotentialBlockSize(
    min_grid: *mut i32,
    block: *mut i32,
    func: CUfunction,
    shared: CUoccupancyB2DSize,
    dynamic: usize,
    limit: i32,
) -> Answer {
    cuOccupancyMaxPotentialBlockSizeWithFlags(min_grid, block, func, shared, dynamic, limit, 0)
}

/// Tries block sizes from the largest down in steps of a warp and keeps the
/// one with most threads resident; a larger block wins a tie.
pub(crate) fn cuOccupancyMaxPotentialBlockSizeWithFlags(
    min_grid: *mut i32,
    block: *mut i32,
    func: CUfunction,
    shared: CUoccupancyB2DSize,
    dynamic: usize,
    limit: i32,
    flags: u32,
) -> Answer {
    let device = devices::device(devices::of_context(current::context()?)?)?;
    let warp = device.attribute(CU_DEVICE_ATTRIBUTE_WARP_SIZE)?;
    let mut largest = device.attribute(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?;
    let mut of_function = 0;
    let max_threads = CUfunction_attribute(0);
    table::cuFuncGetAttribute(&raw mut of_function, max_threads, func)?;
    largest = largest.min(of_function);
    if limit > 0 {
        largest = largest.min(limit);
    }
    let (mut best, mut best_threads, mut best_blocks) = (0, 0, 0);
    let mut size = largest;
    while size > 0 {
        let bytes = shared.map_or(dynamic, |callback| dynamic_bytes(callback, size));
        let mut blocks = 0;
        let out = &raw mut blocks;
        table::cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(out, func, size, bytes, flags)?;
        if blocks * size > best_threads {
            (best, best_threads, best_blocks) = (size, blocks * size, blocks);
        }
        // From the largest to the next multiple of a warp, then warp by warp.
        size = (size - 1) / warp * warp;
    }
    let processors = device.attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
    pointer::put(min_grid, best_blocks * processors)?;
    pointer::put(block, best)
}

#[allow(unsafe_code, reason = "the program's callback")]
fn dynamic_bytes(callback: unsafe extern "C" fn(i32) -> usize, size: i32) -> usize {
    // SAFETY: the program passed it for being called with a block size.
    unsafe { callback(size) }
}
