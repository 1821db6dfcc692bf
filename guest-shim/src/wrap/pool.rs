//! Stream-ordered memory and pools: allocations are remembered, and attributes
//! are read and written with the length that they have in C.

use paravane_protocol::cuda_types::*;

use crate::boundary::Answer;
use crate::remote::table;
use crate::state::ranges::{self, Sort};
use crate::state::{current, devices, pools};
use crate::{local, pointer};

pub(crate) fn cuMemAllocAsync(dptr: *mut CUdeviceptr, bytes: usize, stream: CUstream) -> Answer {
    table::cuMemAllocAsync(dptr, bytes, stream)?;
    let device = devices::of_context(current::context()?)?;
    let pool = pools::current(device).or_else(|| pools::default(device));
    let at = pointer::get(dptr)?.0;
    ranges::insert_sort(at, bytes as u64, Sort::Pool(pool.map_or(0, |pool| pool.0)));
    Ok(())
}

pub(crate) fn cuMemAllocFromPoolAsync(
    dptr: *mut CUdeviceptr,
    bytes: usize,
    pool: CUmemoryPool,
    stream: CUstream,
) -> Answer {
    table::cuMemAllocFromPoolAsync(dptr, bytes, pool, stream)?;
    ranges::insert_sort(pointer::get(dptr)?.0, bytes as u64, Sort::Pool(pool.0));
    Ok(())
}

pub(crate) fn cuMemPoolDestroy(pool: CUmemoryPool) -> Answer {
    table::cuMemPoolDestroy(pool)?;
    pools::forget(pool);
    Ok(())
}

pub(crate) fn cuMemPoolGetAttribute(
    pool: CUmemoryPool,
    attribute: CUmemPool_attribute,
    value: *mut AttributeValue,
) -> Answer {
    let mut whole = AttributeValue(0);
    if value.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    table::cuMemPoolGetAttribute(pool, attribute, &raw mut whole)?;
    pointer::bytes_mut(value.cast(), attribute.bytes())?
        .copy_from_slice(&whole.0.to_le_bytes()[..attribute.bytes()]);
    Ok(())
}

pub(crate) fn cuMemPoolSetAttribute(
    pool: CUmemoryPool,
    attribute: CUmemPool_attribute,
    value: *const AttributeValue,
) -> Answer {
    let mut whole = [0; 8];
    whole[..attribute.bytes()].copy_from_slice(pointer::bytes(value.cast(), attribute.bytes())?);
    let whole = AttributeValue(u64::from_le_bytes(whole));
    table::cuMemPoolSetAttribute(pool, attribute, &raw const whole)
}

pub(crate) fn cuDeviceSetMemPool(device: CUdevice, pool: CUmemoryPool) -> Answer {
    devices::device(device)?;
    local::default_pool(device)?;
    table::cuDeviceSetMemPool(device, pool)?;
    pools::set_current(device, pool);
    Ok(())
}
