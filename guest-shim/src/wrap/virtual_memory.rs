//! Mappings of physical memory and of other processes' memory: remembered, so that unified copies know that
//! the device's memory lies there.

use paravane_protocol::cuda_types::*;

use crate::boundary::Answer;
use crate::remote::table;
use crate::state::ranges::{self, Sort};

pub(crate) fn cuMemMap(
    ptr: CUdeviceptr,
    size: usize,
    offset: usize,
    handle: CUmemGenericAllocationHandle,
    flags: u64,
) -> Answer {
    table::cuMemMap(ptr, size, offset, handle, flags)?;
    ranges::insert_sort(ptr.0, size as u64, Sort::Mapped);
    Ok(())
}

/// Forgets the ranges first: once the host has unmapped them, another thread
/// may map something else there.
pub(crate) fn cuMemUnmap(ptr: CUdeviceptr, size: usize) -> Answer {
    let forgotten = ranges::take_mapped(ptr.0, size as u64);
    table::cuMemUnmap(ptr, size).inspect_err(|_| ranges::restore(forgotten))
}

/// Memory that was opened more than once stays there until it is closed as
/// often; then it is the device's still, which unified copies are told.
pub(crate) fn cuIpcCloseMemHandle(dptr: CUdeviceptr) -> Answer {
    let opened = ranges::remove(dptr.0).filter(|range| range.sort == Sort::Opened);
    table::cuIpcCloseMemHandle(dptr).inspect_err(|_| ranges::restore(opened.into_iter().collect()))?;
    let (mut base, mut bytes) = (CUdeviceptr(0), 0);
    if table::cuMemGetAddressRange_v2(&raw mut base, &raw mut bytes, dptr).is_ok() && base == dptr {
        ranges::insert_sort(dptr.0, bytes as u64, Sort::Opened);
    }
    Ok(())
}
