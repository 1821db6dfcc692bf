//! Managed memory: memory of the arena, which host and device reach at any time. Attaching,
//! prefetching and discarding therefore move nothing; advice is remembered, because a program may ask.

use super::{Answer, current, give, initialised, stream};
use crate::context::{CONTEXTS, Context};
use crate::device::Device;
use crate::memory::{Owner, Sort, arena};
use crate::stream::Kind;
use paravane_protocol::cuda_types::*;
use paravane_protocol::managed::{HOST as HOST_LOCATION, Managed, location_of};
use std::ffi::c_void;
use std::panic::catch_unwind;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

static MANAGED: LazyLock<Mutex<Managed>> = LazyLock::new(Mutex::default);

const GLOBAL: u32 = 1;
const HOST: u32 = 2;
const SINGLE: u32 = 4;
/// How many devices there are.
fn devices() -> i32 {
    i32::try_from(Device::count()).unwrap_or(0)
}

fn managed() -> MutexGuard<'static, Managed> {
    MANAGED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bytes(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// The managed allocation that holds an address: where it begins, what it is.
fn find(address: u64) -> Answer<(u64, Owner)> {
    let found = arena().find(address).filter(|(_, owner)| owner.is_managed());
    let (start, owner) = found.ok_or(CUDA_ERROR_INVALID_VALUE)?;
    let mut managed = managed();
    if owner.sort == Sort::Variable && !managed.holds(start, owner.size) {
        managed.add(start, owner.size);
    }
    Ok((start, owner))
}

pub unsafe fn cuMemAllocManaged(dptr: *mut CUdeviceptr, bytesize: usize, flags: u32) -> Answer {
    let context = current()?;
    if dptr.is_null() || bytesize == 0 || !matches!(flags, GLOBAL | HOST) {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let size = bytes(bytesize);
    let at = arena().allocate(context.memory(Sort::Managed, size)).ok_or(CUDA_ERROR_OUT_OF_MEMORY)?;
    managed().add(at, size);
    give(dptr, CUdeviceptr(at))
}

/// All of the memory, or length 0 for it; a single stream must be named.
pub unsafe fn cuStreamAttachMemAsync(hStream: CUstream, dptr: CUdeviceptr, length: usize, flags: u32) -> Answer {
    let stream = stream(hStream)?;
    let (start, owner) = find(dptr.0)?;
    let is_whole = start == dptr.0 && (length == 0 || bytes(length) == owner.size);
    let is_single = flags == SINGLE && stream.kind != Kind::Legacy;
    let is_known = matches!(flags, GLOBAL | HOST) || is_single;
    if is_whole && is_known { Ok(()) } else { Err(CUDA_ERROR_INVALID_VALUE) }
}

fn prefetch(devPtr: CUdeviceptr, count: usize, location: CUmemLocation, handle: CUstream) -> Answer {
    stream(handle)?;
    find(devPtr.0)?;
    managed().prefetch(devPtr.0, bytes(count), location, devices())
}

pub unsafe fn cuMemPrefetchAsync(devPtr: CUdeviceptr, count: usize, dstDevice: CUdevice, hStream: CUstream) -> Answer {
    prefetch(devPtr, count, location_of(dstDevice.0), hStream)
}

pub unsafe fn cuMemPrefetchAsync_v2(
    devPtr: CUdeviceptr,
    count: usize,
    location: CUmemLocation,
    flags: u32,
    hStream: CUstream,
) -> Answer {
    if flags != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    prefetch(devPtr, count, location, hStream)
}

pub unsafe fn cuMemAdvise(devPtr: CUdeviceptr, count: usize, advice: CUmem_advise, device: CUdevice) -> Answer {
    // SAFETY: the same contract.
    unsafe { cuMemAdvise_v2(devPtr, count, advice, location_of(device.0)) }
}

pub unsafe fn cuMemAdvise_v2(devPtr: CUdeviceptr, count: usize, advice: CUmem_advise, location: CUmemLocation) -> Answer {
    initialised()?;
    find(devPtr.0)?;
    managed().advise(devPtr.0, bytes(count), advice, location, devices())
}

pub unsafe fn cuMemRangeGetAttribute(
    data: *mut c_void,
    dataSize: usize,
    attribute: CUmem_range_attribute,
    devPtr: CUdeviceptr,
    count: usize,
) -> Answer {
    initialised()?;
    find(devPtr.0)?;
    let value = managed().attribute(attribute, dataSize, devPtr.0, bytes(count))?;
    if data.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller gives `dataSize` bytes, and so many the value has.
    unsafe { std::ptr::copy_nonoverlapping(value.as_ptr(), data.cast(), value.len()) };
    Ok(())
}

/// Element `at` of an array that the caller says is long enough.
fn element<T: Copy>(from: *const T, at: usize) -> Answer<T> {
    if from.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller's promise about the array's length.
    Ok(unsafe { from.add(at).read_unaligned() })
}

pub unsafe fn cuMemRangeGetAttributes(
    data: *mut *mut c_void,
    dataSizes: *mut usize,
    attributes: *mut CUmem_range_attribute,
    numAttributes: usize,
    devPtr: CUdeviceptr,
    count: usize,
) -> Answer {
    if numAttributes == 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    for at in 0..numAttributes {
        let (into, size) = (element(data, at)?, element(dataSizes, at)?);
        // SAFETY: the same contract for each attribute.
        unsafe { cuMemRangeGetAttribute(into, size, element(attributes, at)?, devPtr, count) }?;
    }
    Ok(())
}

/// There is one memory, the host's.
pub unsafe fn cuMemGetLocationInfo(
    ptr: CUdeviceptr,
    size: usize,
    summaryGranularity: usize,
    samplingGranularity: usize,
    location_out: *mut CUmemLocation,
) -> Answer {
    initialised()?;
    find(ptr.0)?;
    let count = managed().regions(ptr.0, bytes(size), bytes(summaryGranularity), bytes(samplingGranularity))?;
    (0..usize::try_from(count).unwrap_or(0))
        .try_for_each(|at| give(location_out.wrapping_add(at), location_of(HOST_LOCATION)))
}

pub unsafe fn cuMemDiscardBatchAsync(
    dptrs: *mut CUdeviceptr,
    sizes: *mut usize,
    count: usize,
    flags: u64,
    hStream: CUstream,
) -> Answer {
    stream(hStream)?;
    if count == 0 || flags != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    for at in 0..count {
        let dptr = element(dptrs, at)?;
        find(dptr.0)?;
        if !managed().holds(dptr.0, bytes(element(sizes, at)?)) {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
    }
    Ok(())
}

/// Each location holds from its index on: they rise, from 0.
pub unsafe fn cuMemPrefetchBatchAsync(
    dptrs: *mut CUdeviceptr,
    sizes: *mut usize,
    count: usize,
    prefetchLocs: *mut CUmemLocation,
    prefetchLocIdxs: *mut usize,
    numPrefetchLocs: usize,
    flags: u64,
    hStream: CUstream,
) -> Answer {
    if count == 0 || flags != 0 || numPrefetchLocs == 0 || numPrefetchLocs > count || element(prefetchLocIdxs, 0)? != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let mut next = 0;
    for at in 0..count {
        while next < numPrefetchLocs && element(prefetchLocIdxs, next)? <= at {
            next += 1;
        }
        prefetch(element(dptrs, at)?, element(sizes, at)?, element(prefetchLocs, next - 1)?, hStream)?;
    }
    Ok(())
}

pub unsafe fn cuMemDiscardAndPrefetchBatchAsync(
    dptrs: *mut CUdeviceptr,
    sizes: *mut usize,
    count: usize,
    prefetchLocs: *mut CUmemLocation,
    prefetchLocIdxs: *mut usize,
    numPrefetchLocs: usize,
    flags: u64,
    hStream: CUstream,
) -> Answer {
    // SAFETY: the same contract.
    unsafe {
        cuMemPrefetchBatchAsync(dptrs, sizes, count, prefetchLocs, prefetchLocIdxs, numPrefetchLocs, flags, hStream)
    }
}

/// For whoever loads this library for a process that has no part of this one's memory: lends the pages of
/// the managed variable that begins at `dptr`. They are `bytes` from there, and other pages may be laid in
/// their place until [`paravane_cpu_take_back`]. Waits for all work first.
///
/// # Safety
/// `bytes` points to a size_t.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paravane_cpu_lend_variable(dptr: CUdeviceptr, bytes: *mut usize) -> CUresult {
    let lent = catch_unwind(|| {
        CONTEXTS.all().iter().for_each(Context::synchronize);
        arena().lend(dptr.0)
    });
    let Some(size) = lent.ok().flatten().and_then(|size| usize::try_from(size).ok()) else {
        return CUDA_ERROR_INVALID_VALUE;
    };
    give(bytes, size).err().unwrap_or(CUDA_SUCCESS)
}

/// The lent pages from `dptr` are this library's again, and hold zeros.
#[unsafe(no_mangle)]
pub extern "C" fn paravane_cpu_take_back(dptr: CUdeviceptr) -> CUresult {
    match catch_unwind(|| arena().take_back(dptr.0)) {
        Ok(true) => CUDA_SUCCESS,
        _ => CUDA_ERROR_INVALID_VALUE,
    }
}
