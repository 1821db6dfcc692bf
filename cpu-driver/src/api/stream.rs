//! Streams, and host functions on them.

use super::{Answer, any_stream, current, give, is_quiet, stream, work_stream};
use crate::capture;
use crate::graph::params::{Params, exposed};
use crate::objects::{EVENTS, STREAMS};
use crate::stream::host::Callback;
use crate::stream::task::Work;
use crate::stream::{Kind, Stream};
use paravane_protocol::cuda_types::{
    CU_STREAM_CAPTURE_MODE_RELAXED, CUDA_EVENT_NODE_PARAMS, CUDA_HOST_NODE_PARAMS, CUDA_HOST_NODE_PARAMS_v2,
    CUDA_ERROR_INVALID_HANDLE, CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_NOT_READY,
    CUcontext, CUdevice, CUevent, CUhostFn, CUstream, CUstreamCallback, CUstreamCaptureMode,
};
use std::ffi::c_void;
use std::sync::atomic::Ordering;

pub(super) const NON_BLOCKING: u32 = 1;
/// Lower numbers are more urgent; 0 is the least.
pub(super) const GREATEST_PRIORITY: i32 = -5;

pub unsafe fn cuStreamCreate(phStream: *mut CUstream, Flags: u32) -> Answer {
    // SAFETY: the same contract.
    unsafe { cuStreamCreateWithPriority(phStream, Flags, 0) }
}

pub unsafe fn cuStreamCreateWithPriority(phStream: *mut CUstream, flags: u32, priority: i32) -> Answer {
    let context = current()?;
    if flags & !NON_BLOCKING != 0 || phStream.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let kind = if flags & NON_BLOCKING != 0 { Kind::NonBlocking } else { Kind::Blocking };
    let priority = priority.clamp(GREATEST_PRIORITY, 0);
    let (handle, stream) = STREAMS.insert_with(|_| Stream::new(&context, kind, flags, priority));
    context.add_stream(&stream);
    give(phStream, CUstream(handle))
}

/// Work that is on the stream still runs: its tasks hold the stream.
pub unsafe fn cuStreamDestroy_v2(hStream: CUstream) -> Answer {
    let stream = STREAMS.remove(hStream.0).ok_or(CUDA_ERROR_INVALID_HANDLE)?;
    capture::abandon(&stream);
    Ok(())
}

pub unsafe fn cuStreamQuery(hStream: CUstream) -> Answer {
    let stream = stream(hStream)?;
    let is_done = stream.query();
    stream.context.failure().map_or(Ok(()), Err)?;
    if is_done { Ok(()) } else { Err(CUDA_ERROR_NOT_READY) }
}

pub unsafe fn cuStreamSynchronize(hStream: CUstream) -> Answer {
    if is_quiet(hStream, None)? {
        return Ok(());
    }
    let stream = stream(hStream)?;
    stream.synchronize();
    stream.context.failure().map_or(Ok(()), Err)
}

pub unsafe fn cuStreamWaitEvent(hStream: CUstream, hEvent: CUevent, Flags: u32) -> Answer {
    const EXTERNAL: u32 = 1;
    let stream = work_stream(hStream)?;
    let event = EVENTS.get(hEvent.0).ok_or(CUDA_ERROR_INVALID_HANDLE)?;
    if Flags & EXTERNAL != 0 && stream.capture.is_taken() {
        let asked = CUDA_EVENT_NODE_PARAMS { event: hEvent, ctx: CUcontext(0) };
        return capture::add(&stream, Params::Wait(asked)).map(|_| ());
    }
    if capture::is_any() && capture::wait(&stream, &event)? {
        return Ok(());
    }
    if let Some(task) = event.pending() {
        stream.enqueue(Work::Nothing, Some(task));
    }
    Ok(())
}

pub unsafe fn cuStreamGetPriority(hStream: CUstream, priority: *mut i32) -> Answer {
    give(priority, any_stream(hStream)?.priority.load(Ordering::Relaxed))
}

pub unsafe fn cuStreamGetFlags(hStream: CUstream, flags: *mut u32) -> Answer {
    give(flags, any_stream(hStream)?.flags)
}

pub unsafe fn cuStreamGetId(hStream: CUstream, streamId: *mut u64) -> Answer {
    give(streamId, any_stream(hStream)?.id)
}

pub unsafe fn cuStreamGetCtx(hStream: CUstream, pctx: *mut CUcontext) -> Answer {
    give(pctx, CUcontext(any_stream(hStream)?.context.handle))
}

pub unsafe fn cuLaunchHostFunc(hStream: CUstream, func: CUhostFn, userData: *mut c_void) -> Answer {
    let stream = work_stream(hStream)?;
    let Some(function) = func else { return Err(CUDA_ERROR_INVALID_VALUE) };
    if stream.capture.is_taken() {
        let host = CUDA_HOST_NODE_PARAMS {
            func: exposed(function as *const c_void),
            userData: exposed(userData.cast_const()),
        };
        let asked = CUDA_HOST_NODE_PARAMS_v2 { host, ..CUDA_HOST_NODE_PARAMS_v2::default() };
        return capture::add(&stream, Params::Host(asked)).map(|_| ());
    }
    stream.enqueue(Work::Host(Callback::Function(func, userData.expose_provenance())), None);
    Ok(())
}

pub unsafe fn cuLaunchHostFunc_v2(hStream: CUstream, func: CUhostFn, userData: *mut c_void, syncMode: u32) -> Answer {
    // How the thread of host functions waits for the next one is a hint.
    if syncMode > 1 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the same contract.
    unsafe { cuLaunchHostFunc(hStream, func, userData) }
}

pub unsafe fn cuStreamGetDevice(hStream: CUstream, device: *mut CUdevice) -> Answer {
    give(device, any_stream(hStream)?.context.device.cuda())
}

/// The calling thread's mode of before is given back.
pub unsafe fn cuThreadExchangeStreamCaptureMode(mode: *mut CUstreamCaptureMode) -> Answer {
    if mode.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller passes a pointer to a mode.
    let new = unsafe { *mode };
    if new > CU_STREAM_CAPTURE_MODE_RELAXED {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    give(mode, capture::exchange_mode(new))
}

pub unsafe fn cuStreamAddCallback(
    hStream: CUstream,
    callback: CUstreamCallback,
    userData: *mut c_void,
    flags: u32,
) -> Answer {
    let stream = stream(hStream)?;
    if callback.is_none() || flags != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    stream.enqueue(Work::Host(Callback::Stream(callback, hStream, userData.expose_provenance())), None);
    Ok(())
}
