//! What CUDA has kept from its first versions: symbols that later ones took the
//! place of, and launches in several calls.

use std::ptr;

use paravane_lookup::{attached, old_launch};
use paravane_protocol::cuda_types::*;

use super::{cuCtxPopCurrent_v2, cuCtxPushCurrent_v2};
use crate::boundary::Answer;
use crate::state::{current, functions, stream};
use crate::{custom, pointer, wrap};

pub(crate) fn cuDevicePrimaryCtxRelease(dev: CUdevice) -> Answer {
    wrap::cuDevicePrimaryCtxRelease_v2(dev)
}

pub(crate) fn cuDevicePrimaryCtxReset(dev: CUdevice) -> Answer {
    wrap::cuDevicePrimaryCtxReset_v2(dev)
}

pub(crate) fn cuDevicePrimaryCtxSetFlags(dev: CUdevice, flags: u32) -> Answer {
    wrap::cuDevicePrimaryCtxSetFlags_v2(dev, flags)
}

pub(crate) fn cuIpcOpenMemHandle(dptr: *mut CUdeviceptr, handle: CUipcHandle, flags: u32) -> Answer {
    custom::cuIpcOpenMemHandle_v2(dptr, handle, flags)
}

pub(crate) fn cuCtxAttach(pctx: *mut CUcontext, flags: u32) -> Answer {
    let context = current::context()?;
    if flags != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    pointer::put(pctx, context)?;
    attached::attach(context);
    Ok(())
}

/// The context must be current; its last user's detaching destroys it.
pub(crate) fn cuCtxDetach(context: CUcontext) -> Answer {
    if context.0 == 0 || current::number() != context.0 {
        return Err(CUDA_ERROR_INVALID_CONTEXT);
    }
    if attached::detach(context) { Ok(()) } else { custom::cuCtxDestroy_v2(context) }
}

/// In 32 bits: more memory than they can tell is told as their most.
pub(crate) fn cuDeviceTotalMem(bytes: *mut u32, dev: CUdevice) -> Answer {
    let total = super::device::total_bytes(dev)?;
    pointer::put(bytes, u32::try_from(total).unwrap_or(u32::MAX))
}

pub(crate) fn cuCtxCreate(pctx: *mut CUcontext, flags: u32, dev: CUdevice) -> Answer {
    custom::cuCtxCreate_v2(pctx, flags, dev)
}

/// Without execution affinity this is cuCtxCreate_v2.
pub(crate) fn cuCtxCreate_v3(
    pctx: *mut CUcontext,
    params: Pointer,
    count: i32,
    flags: u32,
    dev: CUdevice,
) -> Answer {
    if count > 0 && !params.is_null() {
        return Err(CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY);
    }
    custom::cuCtxCreate_v2(pctx, flags, dev)
}

pub(crate) fn cuCtxDestroy(ctx: CUcontext) -> Answer {
    custom::cuCtxDestroy_v2(ctx)
}

pub(crate) fn cuCtxPopCurrent(pctx: *mut CUcontext) -> Answer {
    cuCtxPopCurrent_v2(pctx)
}

pub(crate) fn cuCtxPushCurrent(ctx: CUcontext) -> Answer {
    cuCtxPushCurrent_v2(ctx)
}

pub(crate) fn cuEventDestroy(event: CUevent) -> Answer {
    wrap::cuEventDestroy_v2(event)
}

pub(crate) fn cuStreamDestroy(stream: CUstream) -> Answer {
    wrap::cuStreamDestroy_v2(stream)
}

pub(crate) fn cuFuncSetBlockShape(function: CUfunction, x: i32, y: i32, z: i32) -> Answer {
    functions::get(function.0)?;
    old_launch::set_block(function.0, [x, y, z])
}

pub(crate) fn cuFuncSetSharedSize(function: CUfunction, bytes: u32) -> Answer {
    functions::get(function.0)?;
    old_launch::set_shared(function.0, bytes)
}

pub(crate) fn cuParamSetSize(function: CUfunction, bytes: u32) -> Answer {
    functions::get(function.0)?;
    old_launch::set_size(function.0, bytes)
}

pub(crate) fn cuParamSeti(function: CUfunction, offset: i32, value: u32) -> Answer {
    functions::get(function.0)?;
    old_launch::set_param(function.0, offset, &value.to_le_bytes())
}

pub(crate) fn cuParamSetf(function: CUfunction, offset: i32, value: f32) -> Answer {
    functions::get(function.0)?;
    old_launch::set_param(function.0, offset, &value.to_le_bytes())
}

pub(crate) fn cuParamSetv(function: CUfunction, offset: i32, from: Pointer, bytes: u32) -> Answer {
    functions::get(function.0)?;
    old_launch::set_param(function.0, offset, pointer::bytes(from.cast(), bytes as usize)?)
}

pub(crate) fn cuLaunch(function: CUfunction) -> Answer {
    cuLaunchGrid(function, 1, 1)
}

pub(crate) fn cuLaunchGrid(function: CUfunction, width: i32, height: i32) -> Answer {
    cuLaunchGridAsync(function, width, height, CUstream(0))
}

pub(crate) fn cuLaunchGridAsync(function: CUfunction, width: i32, height: i32, on: CUstream) -> Answer {
    functions::get(function.0)?;
    let side = |side: i32| u32::try_from(side).map_err(|_| CUDA_ERROR_INVALID_VALUE);
    let (width, height) = (side(width)?, side(height)?);
    let mut set = old_launch::get(function.0);
    let [x, y, z] = set.block;
    let mut size = set.params.len();
    let tag = ptr::without_provenance_mut;
    let mut extra: [Pointer; 5] =
        [tag(1), set.params.as_mut_ptr().cast(), tag(2), (&raw mut size).cast(), tag(0)];
    let (none, extra) = (ptr::null_mut(), extra.as_mut_ptr());
    let on = stream::resolve(on);
    custom::cuLaunchKernel(function, width, height, 1, x, y, z, set.shared_bytes, on, none, extra)
}
