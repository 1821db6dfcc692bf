//! The context stack, which is the guest thread's own.

use paravane_protocol::cuda_types::*;

use crate::boundary::Answer;
use crate::state::{current, devices, objects, stream};
use crate::{custom, pointer, wrap};

/// Without parameters this is cuCtxCreate_v2. Execution affinity and CIG are
/// CUDA_ERROR_NOT_SUPPORTED.
pub(crate) fn cuCtxCreate_v4(pctx: *mut CUcontext, params: Pointer, flags: u32, dev: CUdevice) -> Answer {
    if params.is_null() {
        return custom::cuCtxCreate_v2(pctx, flags, dev);
    }
    Err(CUDA_ERROR_NOT_SUPPORTED)
}

fn known(context: CUcontext) -> Answer {
    devices::hello()?;
    devices::of_context(context).map(|_| ())
}

pub(crate) fn cuCtxPushCurrent_v2(ctx: CUcontext) -> Answer {
    known(ctx)?;
    current::push(ctx);
    Ok(())
}

pub(crate) fn cuCtxPopCurrent_v2(pctx: *mut CUcontext) -> Answer {
    devices::hello()?;
    pointer::put_opt(pctx, current::pop()?);
    Ok(())
}

pub(crate) fn cuCtxSetCurrent(ctx: CUcontext) -> Answer {
    devices::hello()?;
    if ctx.0 != 0 {
        known(ctx)?;
    }
    current::set(ctx);
    Ok(())
}

pub(crate) fn cuCtxGetCurrent(pctx: *mut CUcontext) -> Answer {
    devices::hello()?;
    pointer::put(pctx, CUcontext(current::number()))
}

pub(crate) fn cuCtxGetDevice(device: *mut CUdevice) -> Answer {
    devices::hello()?;
    pointer::put(device, devices::of_context(current::context()?)?)
}

pub(crate) fn cuCtxGetDevice_v2(device: *mut CUdevice, ctx: CUcontext) -> Answer {
    if ctx.0 == 0 {
        return cuCtxGetDevice(device);
    }
    pointer::put(device, devices::of_context(ctx)?)
}

pub(crate) fn cuCtxSynchronize_v2(ctx: CUcontext) -> Answer {
    if ctx.0 == 0 || ctx.0 == current::number() {
        return wrap::cuCtxSynchronize();
    }
    cuCtxPushCurrent_v2(ctx)?;
    let answer = wrap::cuCtxSynchronize();
    current::pop()?;
    answer
}

/// The context of a stream; the default streams belong to the current one, and no thread has one of its
/// own in a green context.
fn context_of(stream: CUstream) -> Answer<CUcontext> {
    match stream::resolve(stream) {
        CU_STREAM_PER_THREAD if objects::CONTEXT_GREEN.get(current::number()).is_some() => {
            Err(CUDA_ERROR_INVALID_HANDLE)
        }
        CUstream(0) | CU_STREAM_PER_THREAD => current::context(),
        CUstream(number) => {
            let context = objects::STREAM_CONTEXT.get(number).map(CUcontext).ok_or(CUDA_ERROR_INVALID_HANDLE)?;
            // Streams outlive a green context.
            devices::of_context(context).map(|_| context).map_err(|_| CUDA_ERROR_STREAM_DETACHED)
        }
    }
}

pub(crate) fn cuStreamGetGreenCtx(stream: CUstream, into: *mut CUgreenCtx) -> Answer {
    let green = objects::CONTEXT_GREEN.get(context_of(stream)?.0);
    pointer::put(into, CUgreenCtx(green.unwrap_or(0)))
}

pub(crate) fn cuStreamGetCtx_v2(stream: CUstream, pctx: *mut CUcontext, into: *mut CUgreenCtx) -> Answer {
    if pctx.is_null() || into.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let context = context_of(stream)?;
    let green = objects::CONTEXT_GREEN.get(context.0);
    let whole = match green {
        Some(_) => devices::device(devices::of_context(context)?)?.primary,
        None => context,
    };
    pointer::put(pctx, whole)?;
    pointer::put(into, CUgreenCtx(green.unwrap_or(0)))
}

pub(crate) fn cuStreamGetCtx(stream: CUstream, pctx: *mut CUcontext) -> Answer {
    pointer::put(pctx, context_of(stream)?)
}

pub(crate) fn cuStreamGetDevice(stream: CUstream, device: *mut CUdevice) -> Answer {
    pointer::put(device, devices::of_context(context_of(stream)?)?)
}
