//! Events.

use super::context::named_or_current;
use super::{Answer, current, give, usable, work_stream};
use crate::capture;
use crate::graph::params::Params;
use crate::memory::ipc::{self, Name, Refusal};
use crate::memory::{Sort, arena};
use crate::objects::EVENTS;
use crate::stream::Stream;
use crate::stream::event::Event;
use paravane_protocol::cuda_types::{
    CUDA_EVENT_NODE_PARAMS,
    CUDA_ERROR_INVALID_CONTEXT, CUDA_ERROR_INVALID_HANDLE, CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_NOT_READY,
    CUDA_ERROR_OUT_OF_MEMORY, CUcontext, CUevent, CUipcHandle, CUstream,
};
use std::sync::Arc;

const DISABLE_TIMING: u32 = 2;
const INTERPROCESS: u32 = 4;
const FLAGS_MASK: u32 = 7;
/// Bytes of the page that an interprocess event counts in.
const PAGE: u64 = 4096;

fn event(handle: CUevent) -> Answer<Arc<Event>> {
    EVENTS.get(handle.0).ok_or(CUDA_ERROR_INVALID_HANDLE)
}

pub unsafe fn cuEventCreate(phEvent: *mut CUevent, Flags: u32) -> Answer {
    let context = current()?.owned_home();
    if Flags & !FLAGS_MASK != 0 || phEvent.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    if Flags & INTERPROCESS == 0 {
        return give(phEvent, CUevent(EVENTS.insert_with(|_| Event::new(&context, Flags)).0));
    }
    // What several processes record can tell no time.
    if Flags & DISABLE_TIMING == 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let page = arena().allocate(context.memory(Sort::Device, PAGE)).ok_or(CUDA_ERROR_OUT_OF_MEMORY)?;
    crate::memory::write(page, &[0; 16]);
    // Before anybody uses the page: its pages are replaced.
    ipc::export(page, PAGE, context.device, ipc::NO_POOL).ok_or(CUDA_ERROR_OUT_OF_MEMORY)?;
    give(phEvent, CUevent(EVENTS.insert_with(|_| Event::shared(&context, Flags, page)).0))
}

pub unsafe fn cuEventRecord(hEvent: CUevent, hStream: CUstream) -> Answer {
    let (stream, event) = recorded(hEvent, hStream)?;
    if stream.capture.is_taken() {
        return capture::record(&stream, &event);
    }
    event.record(&stream);
    Ok(())
}

/// An event and a stream that fit.
fn recorded(hEvent: CUevent, hStream: CUstream) -> Answer<(Arc<Stream>, Arc<Event>)> {
    let (stream, event) = (work_stream(hStream)?, event(hEvent)?);
    if event.context.owner != stream.context.owner {
        return Err(CUDA_ERROR_INVALID_HANDLE);
    }
    Ok((stream, event))
}

pub unsafe fn cuEventRecordWithFlags(hEvent: CUevent, hStream: CUstream, flags: u32) -> Answer {
    const EXTERNAL: u32 = 1;
    if flags & !EXTERNAL != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let (stream, _) = recorded(hEvent, hStream)?;
    if flags == EXTERNAL && stream.capture.is_taken() {
        let asked = CUDA_EVENT_NODE_PARAMS { event: hEvent, ctx: CUcontext(0) };
        return capture::add(&stream, Params::Record(asked)).map(|_| ());
    }
    // SAFETY: the same contract.
    unsafe { cuEventRecord(hEvent, hStream) }
}

/// An event that a launch may record: one that measures no time.
pub(super) fn check_untimed(handle: CUevent) -> Answer {
    if event(handle)?.flags & DISABLE_TIMING == 0 { Err(CUDA_ERROR_INVALID_VALUE) } else { Ok(()) }
}

pub unsafe fn cuEventQuery(hEvent: CUevent) -> Answer {
    let event = event(hEvent)?;
    capture::refuse_marked(&event)?;
    capture::refuse_unsafe()?;
    let is_done = event.is_done();
    usable(&event.context)?;
    if is_done { Ok(()) } else { Err(CUDA_ERROR_NOT_READY) }
}

pub unsafe fn cuEventSynchronize(hEvent: CUevent) -> Answer {
    let event = event(hEvent)?;
    capture::refuse_marked(&event)?;
    capture::refuse_unsafe()?;
    event.synchronize();
    usable(&event.context)
}

pub unsafe fn cuEventDestroy_v2(hEvent: CUevent) -> Answer {
    EVENTS.remove(hEvent.0).map(|_| ()).ok_or(CUDA_ERROR_INVALID_HANDLE)
}

pub unsafe fn cuEventElapsedTime(pMilliseconds: *mut f32, hStart: CUevent, hEnd: CUevent) -> Answer {
    let (start, end) = (event(hStart)?, event(hEnd)?);
    capture::refuse_marked(&start)?;
    capture::refuse_marked(&end)?;
    usable(&start.context)?;
    if start.context.device != end.context.device {
        return Err(CUDA_ERROR_INVALID_HANDLE);
    }
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
    if event.context.owner != context.owner {
        return Err(CUDA_ERROR_INVALID_HANDLE);
    }
    capture::refuse_context(&context)?;
    event.record_context(&context);
    Ok(())
}

pub unsafe fn cuCtxWaitEvent(hCtx: CUcontext, hEvent: CUevent) -> Answer {
    let (context, event) = (named_or_current(hCtx)?, event(hEvent)?);
    usable(&context)?;
    capture::refuse_context(&context)?;
    capture::refuse_marked(&event)?;
    if let Some(task) = event.pending() {
        context.barrier.add(task);
    }
    Ok(())
}

pub unsafe fn cuIpcGetEventHandle(pHandle: *mut CUipcHandle, hEvent: CUevent) -> Answer {
    let page = event(hEvent)?.page().ok_or(CUDA_ERROR_INVALID_HANDLE)?;
    // Made when the event was; None for an event that another process has made.
    let name = ipc::name_of(page).ok_or(CUDA_ERROR_INVALID_HANDLE)?;
    give(pHandle, CUipcHandle { bytes: name.to_bytes() })
}

/// The page stays until the process ends: work that waits for it may come by later.
pub unsafe fn cuIpcOpenEventHandle(phEvent: *mut CUevent, handle: CUipcHandle) -> Answer {
    let context = current()?.owned_home();
    let name = Name::from_bytes(&handle.bytes).filter(|name| name.size == PAGE).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    if phEvent.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let page = ipc::open(&name, context.device).map_err(|refusal| match refusal {
        Refusal::Own => CUDA_ERROR_INVALID_CONTEXT,
        Refusal::Unknown => CUDA_ERROR_INVALID_VALUE,
        Refusal::NoAddresses => CUDA_ERROR_OUT_OF_MEMORY,
    })?;
    let flags = INTERPROCESS | DISABLE_TIMING;
    give(phEvent, CUevent(EVENTS.insert_with(|_| Event::shared(&context, flags, page)).0))
}
