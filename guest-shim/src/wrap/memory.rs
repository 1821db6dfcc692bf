//! Device memory: allocations are remembered, so that unified copies know the
//! device's addresses.

use std::ffi::c_char;

use paravane_protocol::cuda_types::*;

use crate::boundary::Answer;
use crate::{custom, local, pointer};
use crate::remote::table;
use crate::state::{globals, host_memory, ranges};

pub(crate) fn cuMemAlloc_v2(dptr: *mut CUdeviceptr, bytes: usize) -> Answer {
    table::cuMemAlloc_v2(dptr, bytes)?;
    ranges::insert(pointer::get(dptr)?.0, bytes as u64);
    Ok(())
}

pub(crate) fn cuMemAllocPitch_v2(
    dptr: *mut CUdeviceptr,
    pitch: *mut usize,
    width: usize,
    height: usize,
    element: u32,
) -> Answer {
    table::cuMemAllocPitch_v2(dptr, pitch, width, height, element)?;
    let bytes = pointer::get(pitch)?.saturating_mul(height);
    ranges::insert(pointer::get(dptr)?.0, bytes as u64);
    Ok(())
}

/// Forgets the range first: once the host has freed it, another thread's
/// allocation may get the same address.
pub(crate) fn cuMemFree_v2(dptr: CUdeviceptr) -> Answer {
    if dptr.0 == 0 {
        return crate::state::current::context().map(|_| ());
    }
    if ranges::remove(dptr.0).is_none() && local::free_managed(dptr)? {
        return Ok(());
    }
    table::cuMemFree_v2(dptr)?;
    custom::end_share(dptr.0)
}

/// The host does not tell which piece an error is about: none in particular.
pub(crate) fn cuMemBatchDecompressAsync(
    pieces: *const CUmemDecompressParams,
    count: usize,
    flags: u32,
    error: *mut usize,
    stream: CUstream,
) -> Answer {
    pointer::put_opt(error, usize::MAX);
    table::cuMemBatchDecompressAsync(pieces, count, flags, std::ptr::null_mut(), stream)
}

/// Host memory's range is the shim's to tell: the host has only registered it.
pub(crate) fn cuMemGetAddressRange_v2(base: *mut CUdeviceptr, size: *mut usize, dptr: CUdeviceptr) -> Answer {
    let Some((start, bytes)) = host_memory::allocation(dptr.0) else {
        return table::cuMemGetAddressRange_v2(base, size, dptr);
    };
    crate::state::current::context()?;
    pointer::put_opt(base, CUdeviceptr(start));
    pointer::put_opt(size, bytes);
    Ok(())
}

/// Asks for both results, whatever the caller declines, and remembers where
/// the global of that module or library lies.
fn global(
    owner: u64,
    dptr: *mut CUdeviceptr,
    bytes: *mut usize,
    ask: impl FnOnce(*mut CUdeviceptr, *mut usize) -> Answer,
) -> Answer {
    let (mut at, mut len) = (CUdeviceptr(0), 0);
    ask(&raw mut at, &raw mut len)?;
    globals::add(owner, at, len)?;
    pointer::put_opt(dptr, at);
    pointer::put_opt(bytes, len);
    Ok(())
}

pub(crate) fn cuModuleGetGlobal_v2(
    dptr: *mut CUdeviceptr,
    bytes: *mut usize,
    module: CUmodule,
    name: *const c_char,
) -> Answer {
    global(module.0, dptr, bytes, |at, len| table::cuModuleGetGlobal_v2(at, len, module, name))
}

pub(crate) fn cuLibraryGetGlobal(
    dptr: *mut CUdeviceptr,
    bytes: *mut usize,
    library: CUlibrary,
    name: *const c_char,
) -> Answer {
    global(library.0, dptr, bytes, |at, len| table::cuLibraryGetGlobal(at, len, library, name))
}

pub(crate) fn cuLibraryGetManaged(
    dptr: *mut CUdeviceptr,
    bytes: *mut usize,
    library: CUlibrary,
    name: *const c_char,
) -> Answer {
    global(library.0, dptr, bytes, |at, len| table::cuLibraryGetManaged(at, len, library, name))
}
