//! Managed memory: shared pages that the worker has mapped at the program's
//! own address and registered with libcuda, so that host and device read and
//! write the same bytes at any time. Attaching, prefetching and discarding
//! therefore move nothing; advice is remembered, because a program may ask.

use std::sync::{Mutex, PoisonError};

use paravane_protocol::cuda_types::*;
use paravane_protocol::managed::{HOST as HOST_LOCATION, Managed, location_of};

use crate::boundary::Answer;
use crate::state::{current, devices, host_memory, stream};
use crate::{pointer, wrap};

static MANAGED: Mutex<Option<Managed>> = Mutex::new(None);

fn with<R>(look: impl FnOnce(&mut Managed) -> R) -> R {
    let mut managed = MANAGED.lock().unwrap_or_else(PoisonError::into_inner);
    look(managed.get_or_insert_default())
}

/// As [`with`], where a module's variable may be meant, which nobody allocates.
fn with_at<R>(dptr: CUdeviceptr, look: impl FnOnce(&mut Managed) -> R) -> R {
    let variable = usize::try_from(dptr.0).ok().and_then(host_memory::variable_at);
    with(|managed| {
        if let Some((start, bytes)) = variable
            && !managed.holds(start as u64, bytes as u64)
        {
            managed.add(start as u64, bytes as u64);
        }
        look(managed)
    })
}

fn devices_count() -> Answer<i32> {
    i32::try_from(devices::hello()?.devices.len()).map_err(|_| CUDA_ERROR_UNKNOWN)
}

const GLOBAL: u32 = 1;
const HOST: u32 = 2;
const SINGLE: u32 = 4;

pub(crate) fn cuMemAllocManaged(dptr: *mut CUdeviceptr, bytes: usize, flags: u32) -> Answer {
    current::context()?;
    if dptr.is_null() || bytes == 0 || !matches!(flags, GLOBAL | HOST) {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let address = host_memory::allocate_managed(bytes)? as u64;
    with(|managed| managed.add(address, bytes as u64));
    pointer::put(dptr, CUdeviceptr(address))
}

/// Frees managed memory after all work that may use it. False: it is none.
pub(crate) fn free_managed(dptr: CUdeviceptr) -> Answer<bool> {
    let Ok(address) = usize::try_from(dptr.0) else { return Ok(false) };
    let Some(bytes) = host_memory::managed_bytes(address) else { return Ok(false) };
    if host_memory::variable_at(address).is_some() {
        return Ok(false);
    }
    wrap::cuCtxSynchronize()?;
    host_memory::free(address)?;
    with(|managed| managed.remove(dptr.0, bytes as u64));
    Ok(true)
}

/// All of the memory, or length 0 for it; a single stream must be named.
pub(crate) fn cuStreamAttachMemAsync(
    hStream: CUstream,
    dptr: CUdeviceptr,
    length: usize,
    flags: u32,
) -> Answer {
    current::context()?;
    let whole = usize::try_from(dptr.0).ok().and_then(host_memory::managed_bytes);
    let whole = whole.ok_or(CUDA_ERROR_INVALID_VALUE)?;
    let single = flags == SINGLE && stream::resolve(hStream).0 != 0;
    if !(length == 0 || length == whole) || !(matches!(flags, GLOBAL | HOST) || single) {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    Ok(())
}

fn prefetch(dptr: CUdeviceptr, count: usize, location: CUmemLocation) -> Answer {
    current::context()?;
    let devices = devices_count()?;
    with_at(dptr, |managed| managed.prefetch(dptr.0, count as u64, location, devices))
}

pub(crate) fn cuMemPrefetchAsync(dptr: CUdeviceptr, count: usize, device: CUdevice, _: CUstream) -> Answer {
    prefetch(dptr, count, location_of(device.0))
}

pub(crate) fn cuMemPrefetchAsync_v2(
    dptr: CUdeviceptr,
    count: usize,
    location: CUmemLocation,
    flags: u32,
    _: CUstream,
) -> Answer {
    if flags != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    prefetch(dptr, count, location)
}

pub(crate) fn cuMemAdvise_v2(
    dptr: CUdeviceptr,
    count: usize,
    advice: CUmem_advise,
    location: CUmemLocation,
) -> Answer {
    let devices = devices_count()?;
    with_at(dptr, |managed| managed.advise(dptr.0, count as u64, advice, location, devices))
}

pub(crate) fn cuMemAdvise(dptr: CUdeviceptr, count: usize, advice: CUmem_advise, device: CUdevice) -> Answer {
    cuMemAdvise_v2(dptr, count, advice, location_of(device.0))
}

pub(crate) fn cuMemRangeGetAttribute(
    data: Pointer,
    bytes: usize,
    attribute: CUmem_range_attribute,
    dptr: CUdeviceptr,
    count: usize,
) -> Answer {
    devices::hello()?;
    let value = with_at(dptr, |managed| managed.attribute(attribute, bytes, dptr.0, count as u64))?;
    pointer::bytes_mut(data.cast(), value.len())?.copy_from_slice(&value);
    Ok(())
}

pub(crate) fn cuMemRangeGetAttributes(
    data: Pointers,
    sizes: *mut usize,
    attributes: *mut CUmem_range_attribute,
    attribute_count: usize,
    dptr: CUdeviceptr,
    count: usize,
) -> Answer {
    if attribute_count == 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    for at in 0..attribute_count {
        let attribute = pointer::element(attributes, at)?;
        let (into, bytes) = (pointer::element(data, at)?, pointer::element(sizes, at)?);
        cuMemRangeGetAttribute(into, bytes, attribute, dptr, count)?;
    }
    Ok(())
}

/// Each range, with the number of the location that holds for it.
fn each_range(
    dptrs: *mut CUdeviceptr,
    sizes: *mut usize,
    count: usize,
    flags: u64,
    mut run: impl FnMut(usize, CUdeviceptr, usize) -> Answer,
) -> Answer {
    current::context()?;
    if count == 0 || flags != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    for at in 0..count {
        run(at, pointer::element(dptrs, at)?, pointer::element(sizes, at)?)?;
    }
    Ok(())
}

/// The pages are the host's, whatever was prefetched.
pub(crate) fn cuMemGetLocationInfo(
    dptr: CUdeviceptr,
    bytes: usize,
    summary: usize,
    sampling: usize,
    locations: *mut CUmemLocation,
) -> Answer {
    devices::hello()?;
    let ask = |managed: &mut Managed| managed.regions(dptr.0, bytes as u64, summary as u64, sampling as u64);
    let count = usize::try_from(with_at(dptr, ask)?).map_err(|_| CUDA_ERROR_INVALID_VALUE)?;
    (0..count).try_for_each(|at| pointer::put(locations.wrapping_add(at), location_of(HOST_LOCATION)))
}

pub(crate) fn cuMemDiscardBatchAsync(
    dptrs: *mut CUdeviceptr,
    sizes: *mut usize,
    count: usize,
    flags: u64,
    _: CUstream,
) -> Answer {
    each_range(dptrs, sizes, count, flags, |_, dptr, bytes| {
        let known = with_at(dptr, |managed| managed.holds(dptr.0, bytes as u64));
        if known { Ok(()) } else { Err(CUDA_ERROR_INVALID_VALUE) }
    })
}

#[allow(clippy::too_many_arguments, reason = "CUDA's prototype")]
pub(crate) fn cuMemPrefetchBatchAsync(
    dptrs: *mut CUdeviceptr,
    sizes: *mut usize,
    count: usize,
    locations: *mut CUmemLocation,
    starts: *mut usize,
    location_count: usize,
    flags: u64,
    _: CUstream,
) -> Answer {
    // Each location holds from its index on: they rise, from 0.
    let mut next = 0;
    if location_count == 0 || location_count > count || pointer::get(starts)? != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    each_range(dptrs, sizes, count, flags, |at, dptr, bytes| {
        while next < location_count && pointer::element(starts, next)? <= at {
            next += 1;
        }
        prefetch(dptr, bytes, pointer::element(locations, next - 1)?)
    })
}

#[allow(clippy::too_many_arguments, reason = "CUDA's prototype")]
pub(crate) fn cuMemDiscardAndPrefetchBatchAsync(
    dptrs: *mut CUdeviceptr,
    sizes: *mut usize,
    count: usize,
    locations: *mut CUmemLocation,
    starts: *mut usize,
    location_count: usize,
    flags: u64,
    stream: CUstream,
) -> Answer {
    cuMemPrefetchBatchAsync(dptrs, sizes, count, locations, starts, location_count, flags, stream)
}
