//! Which pool is a device's: the default one and the current one. Pools of the
//! host's memory and of managed memory are CUDA_ERROR_NOT_SUPPORTED: the
//! device would have to reach memory that the guest cannot.

use paravane_protocol::cuda_types::*;

use crate::boundary::Answer;
use crate::state::{devices, pools};
use crate::{custom, pointer, wrap};

/// The default pool of a device.
pub(crate) fn default_pool(device: CUdevice) -> Answer<CUmemoryPool> {
    devices::device(device)?;
    match pools::default(device) {
        Some(pool) => Ok(pool),
        None => custom::ask_default_pool(device),
    }
}

/// The device of a location that pools are supported for.
fn device_of(location: *const CUmemLocation, kind: CUmemAllocationType) -> Answer<CUdevice> {
    let location = pointer::get(location)?;
    match (location.kind, kind) {
        (CU_MEM_LOCATION_TYPE_DEVICE, CU_MEM_ALLOCATION_TYPE_PINNED) => Ok(CUdevice(location.id)),
        (CUmemLocationType(1..=4), CUmemAllocationType(1..=2)) | (CUmemLocationType(0), CUmemAllocationType(2)) => {
            Err(CUDA_ERROR_NOT_SUPPORTED)
        }
        _ => Err(CUDA_ERROR_INVALID_VALUE),
    }
}

pub(crate) fn cuDeviceGetMemPool(pool: *mut CUmemoryPool, device: CUdevice) -> Answer {
    devices::device(device)?;
    let current = pools::current(device).map_or_else(|| default_pool(device), Ok)?;
    pointer::put(pool, current)
}

pub(crate) fn cuMemGetDefaultMemPool(
    pool: *mut CUmemoryPool,
    location: *const CUmemLocation,
    kind: CUmemAllocationType,
) -> Answer {
    pointer::put(pool, default_pool(device_of(location, kind)?)?)
}

pub(crate) fn cuMemGetMemPool(
    pool: *mut CUmemoryPool,
    location: *const CUmemLocation,
    kind: CUmemAllocationType,
) -> Answer {
    cuDeviceGetMemPool(pool, device_of(location, kind)?)
}

pub(crate) fn cuMemSetMemPool(
    location: *const CUmemLocation,
    kind: CUmemAllocationType,
    pool: CUmemoryPool,
) -> Answer {
    wrap::cuDeviceSetMemPool(device_of(location, kind)?, pool)
}
