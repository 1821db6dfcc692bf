//! Events.

use super::context::named_or_current;
use super::{Answer, current, give, stream, usable};
use crate::objects::EVENTS;
use crate::stream::event::Event;
use paravane_protocol::cuda_types::{
    CUDA_ERROR_INVALID_HANDLE, CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_NOT_READY, CUDA_ERROR_NOT_SUPPORTED, CUcontext,
    CUevent, CUstream,
};
use std::sync::Arc;

const DISABLE_TIMING: u32 = 2;
const INTERPROCESS: u32 = 4;
const FLAGS_MASK: u32 = 7;

fn event(handle: CUevent) -> Answer<Arc<Event>> {
    EVENTS.get(handle.0).ok_or(CUDA_ERROR_INVALID_HANDLE)
}

pub unsafe fn cuEventCreate(phEvent: *mut CUevent, Flags: u32) -> Answer {
    let context = current()?;
    if Flags & !FLAGS_MASK != 0 || phEvent.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    if Flags & INTERPROCESS != 0 {
        return Err(CUDA_ERROR_NOT_SUPPORTED);
    }
    let (handle, _) = EVENTS.insert_with(|_| Event::new(&context, Flags));
    give(phEvent, CUevent(handle))
}

pub unsafe fn cuEventRecord(hEvent: CUevent, hStream: CUstream) -> Answer {
    let stream = stream(hStream)?;
    let event = event(hEvent)?;
    if event.context.handle != stream.context.handle {
        return Err(CUDA_ERROR_INVALID_HANDLE);
    }
    event.record(&stream);
    Ok(())
}

pub unsafe fn cuEventRecordWithFlags(hEvent: CUevent, hStream: CUstream, flags: u32) -> Answer {
    // The external flag matters in stream capture only.
    if flags > 1 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the same contract.
    unsafe { cuEventRecord(hEvent, hStream) }
}

pub unsafe fn cuEventQuery(hEvent: CUevent) -> Answer {
    let event = event(hEvent)?;
    let is_done = event.pending().is_none();
    usable(&event.context)?;
    if is_done { Ok(()) } else { Err(CUDA_ERROR_NOT_READY) }
}

pub unsafe fn cuEventSynchronize(hEvent: CUevent) -> Answer {
    let event = event(hEvent)?;
    event.synchronize();
    usable(&event.context)
}

pub unsafe fn cuEventDestroy_v2(hEvent: CUevent) -> Answer {
    EVENTS.remove(hEvent.0).map(|_| ()).ok_or(CUDA_ERROR_INVALID_HANDLE)
}

pub unsafe fn cuEventElapsedTime(pMilliseconds: *mut f32, hStart: CUevent, hEnd: CUevent) -> Answer {
    let (start, end) = (event(hStart)?, event(hEnd)?);
    usable(&start.context)?;
    if (start.flags | end.flags) & DISABLE_TIMING != 0 || !start.is_recorded() || !end.is_recorded() {
        return Err(CUDA_ERROR_INVALID_HANDLE);
    }
    let (Some(start), Some(end)) = (start.time(), end.time()) else { return Err(CUDA_ERROR_NOT_READY) };
    let forward = end.saturating_duration_since(start).as_secs_f32();
    let backward = start.saturating_duration_since(end).as_secs_f32();
    give(pMilliseconds, (forward - backward) * 1e3)
}

pub unsafe fn cuEventElapsedTime_v2(pMilliseconds: *mut f32, hStart: CUevent, hEnd: CUevent) -> Answer {
    // SAFETY: the same contract.
    unsafe { cuEventElapsedTime(pMilliseconds, hStart, hEnd) }
}

pub unsafe fn cuCtxRecordEvent(hCtx: CUcontext, hEvent: CUevent) -> Answer {
    let (context, event) = (named_or_current(hCtx)?, event(hEvent)?);
    usable(&context)?;
    if event.context.handle != context.handle {
        return Err(CUDA_ERROR_INVALID_HANDLE);
    }
    event.record_context();
    Ok(())
}

pub unsafe fn cuCtxWaitEvent(hCtx: CUcontext, hEvent: CUevent) -> Answer {
    let (context, event) = (named_or_current(hCtx)?, event(hEvent)?);
    usable(&context)?;
    if let Some(task) = event.pending() {
        context.barrier.add(task);
    }
    Ok(())
}
