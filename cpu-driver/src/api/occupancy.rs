//! Occupancy: how many blocks a processor is said to hold, by the device's own figures.

use super::device::{
    BLOCKS_PER_MULTIPROCESSOR, SHARED_PER_BLOCK_OPTIN, SHARED_PER_MULTIPROCESSOR, THREADS_PER_MULTIPROCESSOR,
};
use super::library::kernel;
use super::{Answer, current, give, multiprocessors};
use crate::objects::Kernel;
use paravane_protocol::cuda_types::{
    CUDA_ERROR_INVALID_CLUSTER_SIZE, CUDA_ERROR_INVALID_VALUE, CUfunction, CUlaunchConfig, CUoccupancyB2DSize,
};

/// Shared memory that every block takes beside its own.
const RESERVED_SHARED: u64 = 1024;

/// Blocks of `threads` threads that one processor holds.
pub(super) fn blocks_per_multiprocessor(kernel: &Kernel, threads: u32, dynamic_shared: u64) -> u32 {
    if threads == 0 || threads > kernel.max_threads {
        return 0;
    }
    let shared = u64::from(kernel.function().shared_size) + dynamic_shared;
    if shared > u64::from(SHARED_PER_BLOCK_OPTIN) {
        return 0;
    }
    let by_threads = THREADS_PER_MULTIPROCESSOR / threads.next_multiple_of(32);
    let by_shared = u64::from(SHARED_PER_MULTIPROCESSOR) / (shared + RESERVED_SHARED);
    by_threads.min(BLOCKS_PER_MULTIPROCESSOR).min(u32::try_from(by_shared).unwrap_or(u32::MAX))
}

pub unsafe fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
    numBlocks: *mut i32,
    func: CUfunction,
    blockSize: i32,
    dynamicSMemSize: usize,
) -> Answer {
    current()?;
    let threads = u32::try_from(blockSize).ok().filter(|&n| n > 0).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    let shared = u64::try_from(dynamicSMemSize).unwrap_or(u64::MAX / 2).min(u64::MAX / 2);
    give(numBlocks, blocks_per_multiprocessor(&*kernel(func.0)?, threads, shared).cast_signed())
}

pub unsafe fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
    numBlocks: *mut i32,
    func: CUfunction,
    blockSize: i32,
    dynamicSMemSize: usize,
    flags: u32,
) -> Answer {
    if flags > 1 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the same contract.
    unsafe { cuOccupancyMaxActiveBlocksPerMultiprocessor(numBlocks, func, blockSize, dynamicSMemSize) }
}

pub unsafe fn cuOccupancyMaxPotentialBlockSizeWithFlags(
    minGridSize: *mut i32,
    blockSize: *mut i32,
    func: CUfunction,
    blockSizeToDynamicSMemSize: CUoccupancyB2DSize,
    dynamicSMemSize: usize,
    blockSizeLimit: i32,
    flags: u32,
) -> Answer {
    current()?;
    if flags > 1 || blockSizeLimit < 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let kernel = kernel(func.0)?;
    let limit = u32::try_from(blockSizeLimit).ok().filter(|&n| n > 0).unwrap_or(u32::MAX).min(kernel.max_threads);
    let mut best = (0, 0, 0);
    for threads in (32..=limit.next_multiple_of(32)).rev().step_by(32).map(|n| n.min(limit)) {
        let shared = match blockSizeToDynamicSMemSize {
            // SAFETY: the program gave the function for this.
            Some(size) => unsafe { size(threads.cast_signed()) },
            None => dynamicSMemSize,
        };
        let blocks = blocks_per_multiprocessor(&kernel, threads, u64::try_from(shared).unwrap_or(u64::MAX / 2));
        if blocks * threads > best.0 {
            best = (blocks * threads, blocks, threads);
        }
    }
    give(minGridSize, best.1.cast_signed() * multiprocessors())?;
    give(blockSize, best.2.cast_signed())
}

pub unsafe fn cuOccupancyMaxPotentialBlockSize(
    minGridSize: *mut i32,
    blockSize: *mut i32,
    func: CUfunction,
    blockSizeToDynamicSMemSize: CUoccupancyB2DSize,
    dynamicSMemSize: usize,
    blockSizeLimit: i32,
) -> Answer {
    let size = blockSizeToDynamicSMemSize;
    // SAFETY: the same contract.
    unsafe {
        cuOccupancyMaxPotentialBlockSizeWithFlags(minGridSize, blockSize, func, size, dynamicSMemSize, blockSizeLimit, 0)
    }
}

pub unsafe fn cuOccupancyAvailableDynamicSMemPerBlock(
    dynamicSmemSize: *mut usize,
    func: CUfunction,
    numBlocks: i32,
    blockSize: i32,
) -> Answer {
    current()?;
    let kernel = kernel(func.0)?;
    let blocks = u32::try_from(numBlocks).ok().filter(|&n| n > 0).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    if blockSize <= 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let each = (SHARED_PER_MULTIPROCESSOR / blocks).saturating_sub(1024).min(SHARED_PER_BLOCK_OPTIN);
    give(dynamicSmemSize, each.saturating_sub(kernel.function().shared_size) as usize)
}

/// The device has no clusters.
unsafe fn check_clusters(func: CUfunction, config: *const CUlaunchConfig) -> Answer {
    current()?;
    kernel(func.0)?;
    if config.is_null() { Err(CUDA_ERROR_INVALID_VALUE) } else { Err(CUDA_ERROR_INVALID_CLUSTER_SIZE) }
}

pub unsafe fn cuOccupancyMaxPotentialClusterSize(_clusterSize: *mut i32, func: CUfunction, config: *const CUlaunchConfig) -> Answer {
    // SAFETY: the same contract.
    unsafe { check_clusters(func, config) }
}

pub unsafe fn cuOccupancyMaxActiveClusters(_numClusters: *mut i32, func: CUfunction, config: *const CUlaunchConfig) -> Answer {
    // SAFETY: the same contract.
    unsafe { check_clusters(func, config) }
}
