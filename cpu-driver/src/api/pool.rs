//! Stream-ordered allocation, and the pools it allocates from.

use super::graph::{captured_alloc, captured_free};
use super::{Answer, device, give, work_stream};
use crate::capture;
use crate::graph::params::Params;
use crate::context::Context;
use crate::device::{DEVICES_MAX, Device};
use crate::memory::ipc::{self, Name, Refusal};
use crate::memory::{Pool, Sort, arena};
use crate::objects::POOLS;
use crate::stream::task::Work;
use paravane_protocol::cuda_types::*;
use std::ffi::c_void;
use std::os::fd::{AsFd, IntoRawFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// Each device's default pool with its handle, and its current pool's handle; 0 for the default one.
static DEFAULTS: LazyLock<Vec<(u64, Arc<Pool>)>> = LazyLock::new(|| {
    let pools = Device::all().map(|device| Pool::new(device, 0, 0, true));
    pools.map(|pool| (file_pool(&pool), pool)).collect()
});
static CURRENT: Mutex<[u64; DEVICES_MAX]> = Mutex::new([0; DEVICES_MAX]);

fn current_handle(of: Device) -> u64 {
    CURRENT.lock().unwrap_or_else(PoisonError::into_inner)[of.index()]
}

/// Gives a pool its handle.
fn file_pool(pool: &Arc<Pool>) -> u64 {
    let (handle, _) = POOLS.insert_with(|_| Arc::clone(pool));
    pool.handle.store(handle, Ordering::Relaxed);
    handle
}

fn bytes(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn pool(handle: CUmemoryPool) -> Answer<Arc<Pool>> {
    POOLS.with(handle.0, |pool| Arc::clone(&**pool)).ok_or(CUDA_ERROR_INVALID_VALUE)
}

/// The handle of a pool; 0 once it has ended.
pub(super) fn handle_of(pool: &Arc<Pool>) -> u64 {
    pool.handle.load(Ordering::Relaxed)
}

fn current_pool(of: Device) -> Arc<Pool> {
    let current = POOLS.with(current_handle(of), |pool| Arc::clone(&**pool));
    current.unwrap_or_else(|| Arc::clone(&DEFAULTS[of.index()].1))
}

/// Every stream-ordered allocation passes here.
fn allocate(dptr: *mut CUdeviceptr, bytesize: usize, pool: &Arc<Pool>, hStream: CUstream) -> Answer {
    let stream = work_stream(hStream)?;
    if dptr.is_null() || bytesize == 0 || pool.is_imported {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    if stream.capture.is_taken() {
        let node = captured_alloc(pool.device, bytes(bytesize))?;
        let (at, allocation) = (node.asked.dptr, Arc::clone(&node.allocation));
        capture::add(&stream, Params::Alloc(node)).inspect_err(|_| allocation.end())?;
        return give(dptr, at);
    }
    let wanted = bytes(bytesize);
    let found = pool.allocate(wanted, stream.id).or_else(|| {
        // Memory that is about to be free is worth waiting for.
        if !pool.has_pending() {
            return None;
        }
        stream.context.synchronize();
        pool.allocate(wanted, stream.id)
    });
    give(dptr, CUdeviceptr(found.ok_or(CUDA_ERROR_OUT_OF_MEMORY)?))
}

pub unsafe fn cuMemAllocAsync(dptr: *mut CUdeviceptr, bytesize: usize, hStream: CUstream) -> Answer {
    let device = work_stream(hStream)?.context.device;
    allocate(dptr, bytesize, &current_pool(device), hStream)
}

pub unsafe fn cuMemAllocFromPoolAsync(
    dptr: *mut CUdeviceptr,
    bytesize: usize,
    memory: CUmemoryPool,
    hStream: CUstream,
) -> Answer {
    allocate(dptr, bytesize, &pool(memory)?, hStream)
}

/// Memory that was allocated at once may be freed like this too; then the call waits for its stream.
pub unsafe fn cuMemFreeAsync(dptr: CUdeviceptr, hStream: CUstream) -> Answer {
    let stream = work_stream(hStream)?;
    if stream.capture.is_taken() {
        let graph = capture::graph_of(&stream)?;
        return capture::add(&stream, captured_free(dptr, &graph)?).map(|_| ());
    }
    if let Some(allocation) = crate::graph::memory::find(dptr.0) {
        stream.synchronize();
        return if allocation.give_back() { Ok(()) } else { Err(CUDA_ERROR_INVALID_VALUE) };
    }
    match arena().find(dptr.0) {
        Some((start, owner)) if start == dptr.0 && owner.sort == Sort::Device => {
            stream.context.synchronize();
            arena().release(dptr.0).map(|_| ()).ok_or(CUDA_ERROR_INVALID_VALUE)
        }
        Some((start, owner)) if start == dptr.0 && owner.sort == Sort::Pool => {
            let pool = Pool::of(dptr.0).ok_or(CUDA_ERROR_INVALID_VALUE)?;
            let freed = pool.free(dptr.0, stream.id).ok_or(CUDA_ERROR_INVALID_VALUE)?;
            if stream.is_idle() {
                freed.settle();
            } else {
                stream.enqueue(Work::Free(freed), None);
            }
            Ok(())
        }
        Some((_, owner)) if owner.sort == Sort::Attached => free_imported(&stream.context, dptr.0),
        _ => Err(CUDA_ERROR_INVALID_VALUE),
    }
}

/// Lets another process's memory go, once nothing uses it.
pub(super) fn free_imported(context: &Arc<Context>, address: u64) -> Answer {
    context.synchronize();
    if ipc::close(address, true) { Ok(()) } else { Err(CUDA_ERROR_INVALID_VALUE) }
}

pub unsafe fn cuMemPoolExportToShareableHandle(
    handle_out: *mut c_void,
    memory: CUmemoryPool,
    handleType: CUmemAllocationHandleType,
    flags: u64,
) -> Answer {
    let pool = pool(memory)?;
    if handle_out.is_null() || flags != 0 || handleType.0 == 0 || pool.handle_types & handleType.0 == 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let file = pool.export().ok_or(CUDA_ERROR_OPERATING_SYSTEM)?;
    give(handle_out.cast::<i32>(), file.into_raw_fd())
}

/// The descriptor stays the program's.
pub unsafe fn cuMemPoolImportFromShareableHandle(
    pool_out: *mut CUmemoryPool,
    handle: *mut c_void,
    handleType: CUmemAllocationHandleType,
    flags: u64,
) -> Answer {
    super::initialised()?;
    if pool_out.is_null() || flags != 0 || handleType != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let file = super::virtual_memory::duplicate(handle)?;
    let (device, token) = Pool::named_in(file.as_fd()).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    give(pool_out, CUmemoryPool(file_pool(&Pool::imported(device, token))))
}

/// Waits for all work first, because the memory's pages are replaced.
pub unsafe fn cuMemPoolExportPointer(shareData_out: *mut CUmemPoolPtrExportData, ptr: CUdeviceptr) -> Answer {
    let context = super::current()?;
    let pool = Pool::of(ptr.0).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    let (_, owner) = arena().find(ptr.0).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    let token = pool.token.filter(|_| !shareData_out.is_null()).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    context.synchronize();
    let name = ipc::export(ptr.0, owner.size, owner.device, token).ok_or(CUDA_ERROR_OUT_OF_MEMORY)?;
    give(shareData_out, CUmemPoolPtrExportData { bytes: name.to_bytes() })
}

pub unsafe fn cuMemPoolImportPointer(
    ptr_out: *mut CUdeviceptr,
    memory: CUmemoryPool,
    shareData: *mut CUmemPoolPtrExportData,
) -> Answer {
    let device = super::current()?.device;
    let pool = pool(memory)?;
    if ptr_out.is_null() || shareData.is_null() || !pool.is_imported {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller passes a pointer to the structure.
    let data = unsafe { shareData.read_unaligned() };
    let name = Name::from_bytes(&data.bytes).filter(|name| Some(name.pool) == pool.token);
    let address = ipc::open(&name.ok_or(CUDA_ERROR_INVALID_VALUE)?, device).map_err(|refusal| match refusal {
        Refusal::Own | Refusal::Unknown => CUDA_ERROR_INVALID_VALUE,
        Refusal::NoAddresses => CUDA_ERROR_MAP_FAILED,
    })?;
    give(ptr_out, CUdeviceptr(address))
}

pub unsafe fn cuMemPoolCreate(out: *mut CUmemoryPool, poolProps: *const CUmemPoolProps) -> Answer {
    super::initialised()?;
    if out.is_null() || poolProps.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller passes a pointer to the structure.
    let props = unsafe { poolProps.read_unaligned() };
    let shared = [CU_MEM_HANDLE_TYPE_NONE, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR];
    if props.allocType != CU_MEM_ALLOCATION_TYPE_PINNED || !shared.contains(&props.handleTypes) {
        // Managed pools, and memory for other machines.
        return Err(CUDA_ERROR_NOT_SUPPORTED);
    }
    let of = match props.location {
        CUmemLocation { kind: CU_MEM_LOCATION_TYPE_DEVICE, id } => device(CUdevice(id))?,
        CUmemLocation { kind: CUmemLocationType(2..=4), .. } => return Err(CUDA_ERROR_NOT_SUPPORTED),
        _ => return Err(CUDA_ERROR_INVALID_VALUE),
    };
    give(out, CUmemoryPool(file_pool(&Pool::new(of, props.maxSize, props.handleTypes.0, false))))
}

/// Memory of the pool stays good until it is freed.
pub unsafe fn cuMemPoolDestroy(memory: CUmemoryPool) -> Answer {
    let pool = pool(memory)?;
    if pool.is_default {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    POOLS.remove(memory.0);
    pool.handle.store(0, Ordering::Relaxed);
    pool.close();
    Ok(())
}

pub unsafe fn cuMemPoolTrimTo(memory: CUmemoryPool, minBytesToKeep: usize) -> Answer {
    pool(memory)?.trim(bytes(minBytesToKeep));
    Ok(())
}

pub unsafe fn cuMemPoolGetAttribute(
    memory: CUmemoryPool,
    attr: CUmemPool_attribute,
    value: *mut AttributeValue,
) -> Answer {
    let pool = pool(memory)?;
    let figures = pool.figures();
    let word = match attr {
        CUmemPool_attribute(number @ 1..=3) => u64::from(figures.reuse[number as usize - 1]),
        CU_MEMPOOL_ATTR_RELEASE_THRESHOLD => figures.release_threshold,
        CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT => figures.reserved,
        CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH => figures.reserved_high,
        CU_MEMPOOL_ATTR_USED_MEM_CURRENT => figures.used,
        CU_MEMPOOL_ATTR_USED_MEM_HIGH => figures.used_high,
        CU_MEMPOOL_ATTR_ALLOCATION_TYPE => CU_MEM_ALLOCATION_TYPE_PINNED.to_word(),
        CU_MEMPOOL_ATTR_EXPORT_HANDLE_TYPES => u64::from(pool.handle_types),
        CU_MEMPOOL_ATTR_LOCATION_ID => pool.device.cuda().0.to_word(),
        CU_MEMPOOL_ATTR_HW_DECOMPRESS_ENABLED => 0,
        CU_MEMPOOL_ATTR_LOCATION_TYPE => CU_MEM_LOCATION_TYPE_DEVICE.to_word(),
        CU_MEMPOOL_ATTR_MAX_POOL_SIZE => pool.max_size,
        _ => return Err(CUDA_ERROR_INVALID_VALUE),
    };
    if attr.bytes() == 8 { give(value.cast::<u64>(), word) } else { give(value.cast(), u32::from_word(word)) }
}

pub unsafe fn cuMemPoolSetAttribute(
    memory: CUmemoryPool,
    attr: CUmemPool_attribute,
    value: *const AttributeValue,
) -> Answer {
    let pool = pool(memory)?;
    if value.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller gives what the attribute takes; each value begins with an int.
    let small = unsafe { value.cast::<u32>().read_unaligned() };
    // SAFETY: as above, for the attributes of eight bytes.
    let word = if attr.bytes() == 8 { unsafe { value.cast::<u64>().read_unaligned() } } else { 0 };
    match attr {
        CUmemPool_attribute(number @ 1..=3) => pool.change(|figures| figures.reuse[number as usize - 1] = small),
        CU_MEMPOOL_ATTR_RELEASE_THRESHOLD => pool.change(|figures| figures.release_threshold = word),
        // The high marks can be set back, to nothing but what is now.
        CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH if word == 0 => {
            pool.change(|figures| figures.reserved_high = figures.reserved);
        }
        CU_MEMPOOL_ATTR_USED_MEM_HIGH if word == 0 => pool.change(|figures| figures.used_high = figures.used),
        _ => return Err(CUDA_ERROR_INVALID_VALUE),
    }
    Ok(())
}

/// The device itself reads and writes; others do where a program has said so.
pub unsafe fn cuMemPoolGetAccess(
    flags: *mut CUmemAccess_flags,
    memPool: CUmemoryPool,
    location: *const CUmemLocation,
) -> Answer {
    let pool = pool(memPool)?;
    if location.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller passes a pointer to the structure.
    match unsafe { location.read_unaligned() } {
        CUmemLocation { kind: CU_MEM_LOCATION_TYPE_DEVICE, id } => {
            let reaches = pool.reach() & device(CUdevice(id))?.bit() != 0;
            give(flags, if reaches { CU_MEM_ACCESS_FLAGS_PROT_READWRITE } else { CU_MEM_ACCESS_FLAGS_PROT_NONE })
        }
        _ => Err(CUDA_ERROR_INVALID_VALUE),
    }
}

/// All or nothing, for reading and writing; the device's own access cannot be taken away.
pub unsafe fn cuMemPoolSetAccess(memory: CUmemoryPool, map: *const CUmemAccessDesc, count: usize) -> Answer {
    let pool = pool(memory)?;
    if map.is_null() && count > 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let mut reach = pool.reach();
    for at in 0..count {
        // SAFETY: the caller passes `count` structures.
        let asked = unsafe { map.add(at).read_unaligned() };
        if asked.location.kind != CU_MEM_LOCATION_TYPE_DEVICE {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        let of = device(CUdevice(asked.location.id))?;
        match asked.flags {
            CU_MEM_ACCESS_FLAGS_PROT_READWRITE => reach |= of.bit(),
            CU_MEM_ACCESS_FLAGS_PROT_NONE if of != pool.device => reach &= !of.bit(),
            _ => return Err(CUDA_ERROR_INVALID_VALUE),
        }
    }
    pool.set_reach(reach);
    Ok(())
}

pub unsafe fn cuDeviceGetDefaultMemPool(pool_out: *mut CUmemoryPool, dev: CUdevice) -> Answer {
    give(pool_out, CUmemoryPool(DEFAULTS[device(dev)?.index()].0))
}

pub unsafe fn cuDeviceGetMemPool(out: *mut CUmemoryPool, dev: CUdevice) -> Answer {
    let of = device(dev)?;
    let handle = current_handle(of);
    // A pool that has ended is current no more.
    let handle = if POOLS.with(handle, |_| ()).is_some() { handle } else { DEFAULTS[of.index()].0 };
    give(out, CUmemoryPool(handle))
}

pub unsafe fn cuDeviceSetMemPool(dev: CUdevice, memory: CUmemoryPool) -> Answer {
    let (of, pool) = (device(dev)?, pool(memory)?);
    if pool.is_imported || pool.device != of {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    CURRENT.lock().unwrap_or_else(PoisonError::into_inner)[of.index()] = memory.0;
    Ok(())
}

/// The device of a location that pools are supported for: the device's own memory.
fn device_of(location: *const CUmemLocation, kind: CUmemAllocationType) -> Answer<CUdevice> {
    if location.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller passes a pointer to the structure.
    let location = unsafe { location.read_unaligned() };
    match (location.kind, kind) {
        (CU_MEM_LOCATION_TYPE_DEVICE, CU_MEM_ALLOCATION_TYPE_PINNED) => Ok(CUdevice(location.id)),
        (CUmemLocationType(1..=4), CUmemAllocationType(1..=2)) | (CUmemLocationType(0), CUmemAllocationType(2)) => {
            Err(CUDA_ERROR_NOT_SUPPORTED)
        }
        _ => Err(CUDA_ERROR_INVALID_VALUE),
    }
}

pub unsafe fn cuMemGetDefaultMemPool(
    pool_out: *mut CUmemoryPool,
    location: *const CUmemLocation,
    kind: CUmemAllocationType,
) -> Answer {
    // SAFETY: the same contract.
    unsafe { cuDeviceGetDefaultMemPool(pool_out, device_of(location, kind)?) }
}

pub unsafe fn cuMemGetMemPool(
    out: *mut CUmemoryPool,
    location: *const CUmemLocation,
    kind: CUmemAllocationType,
) -> Answer {
    // SAFETY: the same contract.
    unsafe { cuDeviceGetMemPool(out, device_of(location, kind)?) }
}

pub unsafe fn cuMemSetMemPool(location: *const CUmemLocation, kind: CUmemAllocationType, memory: CUmemoryPool) -> Answer {
    // SAFETY: the same contract.
    unsafe { cuDeviceSetMemPool(device_of(location, kind)?, memory) }
}
