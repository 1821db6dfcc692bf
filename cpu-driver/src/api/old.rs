//! What CUDA has kept from its first versions: symbols that later ones took the place of, and launches in several calls.

use super::library::kernel;
use super::{Answer, current, give};
use crate::memory::arena;
use paravane_lookup::{attached, old_launch};
use paravane_protocol::cuda_types::{
    CUDA_ERROR_INVALID_CONTEXT, CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY, CUcontext, CUdevice,
    CUdeviceptr, CUevent, CUfunction, CUipcHandle, CUstream,
};
use std::ffi::c_void;
use std::ptr;

/// Symbols that are their second versions under another name.
macro_rules! first_versions {
    ($($name:ident($($arg:ident: $type:ty),*) = $second:ident;)*) => {$(
        pub unsafe fn $name($($arg: $type),*) -> Answer {
            // SAFETY: the same contract.
            unsafe { super::$second($($arg),*) }
        }
    )*};
}

first_versions! {
    cuDevicePrimaryCtxRelease(dev: CUdevice) = cuDevicePrimaryCtxRelease_v2;
    cuDevicePrimaryCtxReset(dev: CUdevice) = cuDevicePrimaryCtxReset_v2;
    cuDevicePrimaryCtxSetFlags(dev: CUdevice, flags: u32) = cuDevicePrimaryCtxSetFlags_v2;
    cuCtxCreate(pctx: *mut CUcontext, flags: u32, dev: CUdevice) = cuCtxCreate_v2;
    cuCtxDestroy(ctx: CUcontext) = cuCtxDestroy_v2;
    cuCtxPopCurrent(pctx: *mut CUcontext) = cuCtxPopCurrent_v2;
    cuCtxPushCurrent(ctx: CUcontext) = cuCtxPushCurrent_v2;
    cuEventDestroy(hEvent: CUevent) = cuEventDestroy_v2;
    cuStreamDestroy(hStream: CUstream) = cuStreamDestroy_v2;
    cuIpcOpenMemHandle(pdptr: *mut CUdeviceptr, handle: CUipcHandle, flags: u32) = cuIpcOpenMemHandle_v2;
}

pub unsafe fn cuCtxAttach(pctx: *mut CUcontext, flags: u32) -> Answer {
    let context = CUcontext(current()?.handle);
    if flags != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    give(pctx, context)?;
    attached::attach(context);
    Ok(())
}

/// The context must be current; its last user's detaching destroys it.
pub unsafe fn cuCtxDetach(ctx: CUcontext) -> Answer {
    if current()?.handle != ctx.0 {
        return Err(CUDA_ERROR_INVALID_CONTEXT);
    }
    if attached::detach(ctx) {
        return Ok(());
    }
    // SAFETY: the same contract.
    unsafe { super::cuCtxDestroy_v2(ctx) }
}

/// In 32 bits: more memory than they can tell is told as their most.
pub unsafe fn cuDeviceTotalMem(bytes: *mut u32, dev: CUdevice) -> Answer {
    super::device(dev)?;
    give(bytes, u32::try_from(arena().device_size()).unwrap_or(u32::MAX))
}

/// Without execution affinity this is cuCtxCreate_v2.
pub unsafe fn cuCtxCreate_v3(pctx: *mut CUcontext, paramsArray: *mut c_void, numParams: i32, flags: u32, dev: CUdevice) -> Answer {
    if numParams > 0 && !paramsArray.is_null() {
        return Err(CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY);
    }
    // SAFETY: the same contract.
    unsafe { super::cuCtxCreate_v2(pctx, flags, dev) }
}

fn check(function: CUfunction) -> Answer {
    current()?;
    kernel(function.0).map(|_| ())
}

pub unsafe fn cuFuncSetBlockShape(hfunc: CUfunction, x: i32, y: i32, z: i32) -> Answer {
    check(hfunc)?;
    old_launch::set_block(hfunc.0, [x, y, z])
}

pub unsafe fn cuFuncSetSharedSize(hfunc: CUfunction, bytes: u32) -> Answer {
    check(hfunc)?;
    old_launch::set_shared(hfunc.0, bytes)
}

pub unsafe fn cuParamSetSize(hfunc: CUfunction, numbytes: u32) -> Answer {
    check(hfunc)?;
    old_launch::set_size(hfunc.0, numbytes)
}

pub unsafe fn cuParamSeti(hfunc: CUfunction, offset: i32, value: u32) -> Answer {
    check(hfunc)?;
    old_launch::set_param(hfunc.0, offset, &value.to_le_bytes())
}

pub unsafe fn cuParamSetf(hfunc: CUfunction, offset: i32, value: f32) -> Answer {
    check(hfunc)?;
    old_launch::set_param(hfunc.0, offset, &value.to_le_bytes())
}

pub unsafe fn cuParamSetv(hfunc: CUfunction, offset: i32, ptr: *mut c_void, numbytes: u32) -> Answer {
    check(hfunc)?;
    if ptr.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller passes that many bytes.
    old_launch::set_param(hfunc.0, offset, unsafe { std::slice::from_raw_parts(ptr.cast(), numbytes as usize) })
}

pub unsafe fn cuLaunch(f: CUfunction) -> Answer {
    // SAFETY: the same contract.
    unsafe { cuLaunchGrid(f, 1, 1) }
}

pub unsafe fn cuLaunchGrid(f: CUfunction, grid_width: i32, grid_height: i32) -> Answer {
    // SAFETY: the same contract.
    unsafe { cuLaunchGridAsync(f, grid_width, grid_height, CUstream(0)) }
}

pub unsafe fn cuLaunchGridAsync(f: CUfunction, grid_width: i32, grid_height: i32, hStream: CUstream) -> Answer {
    check(f)?;
    let side = |side: i32| u32::try_from(side).map_err(|_| CUDA_ERROR_INVALID_VALUE);
    let (width, height) = (side(grid_width)?, side(grid_height)?);
    let mut set = old_launch::get(f.0);
    if set.params.len() < kernel(f.0)?.function().param_size as usize {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let [x, y, z] = set.block;
    let mut size = set.params.len();
    let tag = ptr::without_provenance_mut;
    let mut extra: [*mut c_void; 5] = [tag(1), set.params.as_mut_ptr().cast(), tag(2), (&raw mut size).cast(), tag(0)];
    let (none, extra) = (ptr::null_mut(), extra.as_mut_ptr());
    // SAFETY: `extra` names the parameters' bytes and their number.
    unsafe { super::cuLaunchKernel(f, width, height, 1, x, y, z, set.shared_bytes, hStream, none, extra) }
}
