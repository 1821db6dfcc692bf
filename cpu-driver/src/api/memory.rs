//! Memory: device allocations, pinned host memory, registered host ranges.

use super::{Answer, current, give, give_optional};
use crate::context::Context;
use crate::memory::{GRANULE, Pool, Range, Sort, arena, register, registered, unregister};
use paravane_protocol::cuda_types::{
    CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, CUDA_ERROR_INVALID_VALUE,
    CUDA_ERROR_NOT_FOUND, CUDA_ERROR_OUT_OF_MEMORY, CUdeviceptr,
};
use std::ffi::c_void;
use std::sync::Arc;

const HOST_ALLOC_FLAGS_MASK: u32 = 7;
const HOST_REGISTER_FLAGS_MASK: u32 = 15;

fn bytes(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn size(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

fn address(pointer: *mut c_void) -> u64 {
    bytes(pointer.expose_provenance())
}

/// Every allocation of a context's own memory passes here.
fn allocate(context: &Arc<Context>, size: u64, sort: Sort) -> Answer<u64> {
    arena().allocate(context.memory(sort, size)).ok_or(CUDA_ERROR_OUT_OF_MEMORY)
}

pub unsafe fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> Answer {
    let device = current()?.device;
    give(free, size(arena().device_size() - arena().device_used(device)))?;
    give(total, size(arena().device_size()))
}

pub unsafe fn cuMemAlloc_v2(dptr: *mut CUdeviceptr, bytesize: usize) -> Answer {
    let context = current()?;
    crate::capture::refuse_unsafe()?;
    if bytesize == 0 || dptr.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    give(dptr, CUdeviceptr(allocate(&context, bytes(bytesize), Sort::Device)?))
}

pub unsafe fn cuMemAllocPitch_v2(
    dptr: *mut CUdeviceptr,
    pPitch: *mut usize,
    WidthInBytes: usize,
    Height: usize,
    ElementSizeBytes: u32,
) -> Answer {
    let context = current()?;
    crate::capture::refuse_unsafe()?;
    if WidthInBytes == 0 || Height == 0 || !matches!(ElementSizeBytes, 4 | 8 | 16) || dptr.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let pitch = bytes(WidthInBytes).checked_next_multiple_of(GRANULE).ok_or(CUDA_ERROR_OUT_OF_MEMORY)?;
    let total = pitch.checked_mul(bytes(Height)).ok_or(CUDA_ERROR_OUT_OF_MEMORY)?;
    give(pPitch, size(pitch))?;
    give(dptr, CUdeviceptr(allocate(&context, total, Sort::Device)?))
}

/// Waits for all work first, as CUDA does: a kernel may still use the memory.
/// Memory of a graph goes back to its node.
fn freed_to_graph(context: &Arc<Context>, at: u64) -> Option<Answer> {
    let allocation = crate::graph::memory::find(at)?;
    context.synchronize();
    Some(if allocation.give_back() { Ok(()) } else { Err(CUDA_ERROR_INVALID_VALUE) })
}

pub unsafe fn cuMemFree_v2(dptr: CUdeviceptr) -> Answer {
    let context = current()?;
    crate::capture::refuse_unsafe()?;
    if dptr.0 == 0 {
        return Ok(());
    }
    if let Some(answer) = freed_to_graph(&context, dptr.0) {
        return answer;
    }
    let pool = match arena().find(dptr.0) {
        Some((start, owner)) if start == dptr.0 => match owner.sort {
            Sort::Device | Sort::Managed => None,
            Sort::Pool => Some(Pool::of(dptr.0).ok_or(CUDA_ERROR_INVALID_VALUE)?),
            Sort::Host(_) | Sort::Global | Sort::Variable | Sort::Heap | Sort::Graph | Sort::Array | Sort::Mapped => return Err(CUDA_ERROR_INVALID_VALUE),
            Sort::Attached => return super::pool::free_imported(&context, dptr.0),
        },
        _ => return Err(CUDA_ERROR_INVALID_VALUE),
    };
    context.synchronize();
    if let Some(pool) = pool {
        return if pool.give_back(dptr.0) { Ok(()) } else { Err(CUDA_ERROR_INVALID_VALUE) };
    }
    arena().release(dptr.0).map(|_| ()).ok_or(CUDA_ERROR_INVALID_VALUE)
}

pub unsafe fn cuMemGetAddressRange_v2(pbase: *mut CUdeviceptr, psize: *mut usize, dptr: CUdeviceptr) -> Answer {
    current()?;
    let found = arena().find(dptr.0).filter(|(_, owner)| owner.sort != Sort::Array);
    let (start, owner) = found.ok_or(CUDA_ERROR_NOT_FOUND)?;
    give_optional(pbase, CUdeviceptr(start));
    give_optional(psize, size(owner.size));
    Ok(())
}

pub unsafe fn cuMemHostAlloc(pp: *mut *mut c_void, bytesize: usize, Flags: u32) -> Answer {
    let context = current()?;
    crate::capture::refuse_unsafe()?;
    if bytesize == 0 || Flags & !HOST_ALLOC_FLAGS_MASK != 0 || pp.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let at = allocate(&context, bytes(bytesize), Sort::Host(Flags))?;
    give(pp, std::ptr::with_exposed_provenance_mut(size(at)))
}

pub unsafe fn cuMemAllocHost_v2(pp: *mut *mut c_void, bytesize: usize) -> Answer {
    // SAFETY: the same contract.
    unsafe { cuMemHostAlloc(pp, bytesize, 0) }
}

pub unsafe fn cuMemFreeHost(p: *mut c_void) -> Answer {
    let context = current()?;
    crate::capture::refuse_unsafe()?;
    match arena().find(address(p)) {
        Some((start, owner)) if start == address(p) && owner.host_flags().is_some() => {}
        _ => return Err(CUDA_ERROR_INVALID_VALUE),
    }
    context.synchronize();
    arena().release(address(p)).map(|_| ()).ok_or(CUDA_ERROR_INVALID_VALUE)
}

/// Flags of pinned memory; None for what is not pinned.
fn pinned_flags(at: u64) -> Option<u32> {
    match arena().find(at) {
        Some((_, owner)) => owner.host_flags(),
        None => registered(at).map(|range| range.flags),
    }
}

pub unsafe fn cuMemHostGetDevicePointer_v2(pdptr: *mut CUdeviceptr, p: *mut c_void, Flags: u32) -> Answer {
    current()?;
    if Flags != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    pinned_flags(address(p)).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    give(pdptr, CUdeviceptr(address(p)))
}

pub unsafe fn cuMemHostGetFlags(pFlags: *mut u32, p: *mut c_void) -> Answer {
    current()?;
    // Every pinned page is mapped for the device (CU_MEMHOSTALLOC_DEVICEMAP), and says so.
    give(pFlags, pinned_flags(address(p)).ok_or(CUDA_ERROR_INVALID_VALUE)? | 2)
}

pub unsafe fn cuMemHostRegister_v2(p: *mut c_void, bytesize: usize, Flags: u32) -> Answer {
    current()?;
    crate::capture::refuse_unsafe()?;
    if p.is_null() || bytesize == 0 || Flags & !HOST_REGISTER_FLAGS_MASK != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let is_new = register(Range { start: address(p), size: bytes(bytesize), flags: Flags });
    if is_new { Ok(()) } else { Err(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED) }
}

pub unsafe fn cuMemHostUnregister(p: *mut c_void) -> Answer {
    let context = current()?;
    crate::capture::refuse_unsafe()?;
    context.synchronize();
    if unregister(address(p)) { Ok(()) } else { Err(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED) }
}
