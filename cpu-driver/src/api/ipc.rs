//! Memory of one process in another.

use super::{Answer, current, give};
use crate::memory::ipc::{self, Name, Refusal};
use crate::memory::{Sort, arena};
use paravane_protocol::cuda_types::*;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::panic::catch_unwind;

/// The one flag there is, and it must be given.
const LAZY_ENABLE_PEER_ACCESS: u32 = 1;

/// Waits for all work first, because the allocation's pages are replaced.
pub unsafe fn cuIpcGetMemHandle(pHandle: *mut CUipcHandle, dptr: CUdeviceptr) -> Answer {
    let context = current()?;
    if pHandle.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let found = arena().find(dptr.0).filter(|(_, owner)| owner.sort == Sort::Device);
    let (start, owner) = found.ok_or(CUDA_ERROR_INVALID_VALUE)?;
    context.synchronize();
    let name = ipc::export(start, owner.size, owner.device, ipc::NO_POOL).ok_or(CUDA_ERROR_OUT_OF_MEMORY)?;
    give(pHandle, CUipcHandle { bytes: name.to_bytes() })
}

pub unsafe fn cuIpcOpenMemHandle_v2(pdptr: *mut CUdeviceptr, handle: CUipcHandle, Flags: u32) -> Answer {
    let device = current()?.device;
    if pdptr.is_null() || Flags != LAZY_ENABLE_PEER_ACCESS {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let name = Name::from_bytes(&handle.bytes).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    let address = ipc::open(&name, device).map_err(|refusal| match refusal {
        Refusal::Own => CUDA_ERROR_INVALID_CONTEXT,
        Refusal::Unknown => CUDA_ERROR_INVALID_VALUE,
        Refusal::NoAddresses => CUDA_ERROR_MAP_FAILED,
    })?;
    give(pdptr, CUdeviceptr(address))
}

/// Waits for all work first: a kernel may still use the memory.
pub unsafe fn cuIpcCloseMemHandle(dptr: CUdeviceptr) -> Answer {
    let context = current()?;
    context.synchronize();
    if ipc::close(dptr.0, false) { Ok(()) } else { Err(CUDA_ERROR_INVALID_VALUE) }
}

/// For whoever loads this library where processes cannot reach each other's descriptors: a
/// descriptor of what a handle of this process names, which the caller owns; -1 for none.
///
/// # Safety
/// `handle` points to a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paravane_cpu_ipc_file(handle: *const CUipcHandle) -> i32 {
    // SAFETY: the caller's promise.
    let handle = unsafe { handle.read_unaligned() };
    let file = catch_unwind(|| ipc::file_of(&Name::from_bytes(&handle.bytes)?));
    file.ok().flatten().map_or(-1, IntoRawFd::into_raw_fd)
}

/// The other end: a handle's descriptor, which now is this library's.
///
/// # Safety
/// `handle` points to a handle, and `file` is a descriptor that the caller gives away.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paravane_cpu_ipc_adopt(handle: *const CUipcHandle, file: i32) -> CUresult {
    // SAFETY: the caller's promise.
    let (handle, file) = unsafe { (handle.read_unaligned(), OwnedFd::from_raw_fd(file)) };
    let adopted = catch_unwind(|| Name::from_bytes(&handle.bytes).map(|name| ipc::adopt(&name, file)));
    if matches!(adopted, Ok(Some(()))) { CUDA_SUCCESS } else { CUDA_ERROR_INVALID_VALUE }
}
