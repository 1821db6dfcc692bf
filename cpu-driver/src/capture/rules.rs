//! What a capture forbids: to ask or wait for captured streams, to use the legacy default stream
//! beside captured ones that it waits for, and calls that would not be repeated by the graph.

use super::{Capture, all, is_any};
use crate::context::Context;
use crate::stream::{Kind, Stream};
use paravane_protocol::cuda_types::*;
use std::cell::Cell;
use std::sync::Arc;

type Answer<T = ()> = Result<T, CUresult>;

thread_local! {
    static MODE: Cell<CUstreamCaptureMode> = const { Cell::new(CU_STREAM_CAPTURE_MODE_GLOBAL) };
}

/// Sets the calling thread's mode; the one before.
pub fn exchange_mode(mode: CUstreamCaptureMode) -> CUstreamCaptureMode {
    MODE.replace(mode)
}

/// Makes every capture that `is_meant` invalid; the error, if there was one.
fn refuse(error: CUresult, is_meant: impl Fn(&Arc<Capture>) -> bool) -> Answer {
    let mut found = false;
    for capture in all().iter().filter(|capture| is_meant(capture)) {
        capture.invalidate();
        found = true;
    }
    if found { Err(error) } else { Ok(()) }
}

/// A call that a graph would not repeat (an allocation, a synchronous copy): forbidden while this
/// thread captures, or any thread does in the global mode; the thread's own mode loosens that.
pub fn refuse_unsafe() -> Answer {
    if !is_any() {
        return Ok(());
    }
    let mode = MODE.get();
    let thread = std::thread::current().id();
    refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, |capture| {
        let is_own = capture.thread == thread && capture.mode != CU_STREAM_CAPTURE_MODE_RELAXED;
        let is_global = capture.mode == CU_STREAM_CAPTURE_MODE_GLOBAL;
        match mode {
            CU_STREAM_CAPTURE_MODE_RELAXED => false,
            CU_STREAM_CAPTURE_MODE_THREAD_LOCAL => is_own,
            _ => is_own || is_global,
        }
    })
}

/// Work for the legacy default stream would wait for captured streams that it waits for.
pub fn refuse_implicit(stream: &Stream) -> Answer {
    if !is_any() || stream.kind != Kind::Legacy {
        return Ok(());
    }
    refuse(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, |capture| {
        let mut streams = capture.streams().into_iter();
        capture.context.handle == stream.context.handle && streams.any(|other| other.kind == Kind::Blocking)
    })
}

/// A call about all of a context's work while some of it is captured.
pub fn refuse_context(context: &Context) -> Answer {
    if !is_any() {
        return Ok(());
    }
    refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, |capture| {
        capture.streams().iter().any(|stream| stream.context.handle == context.handle)
    })
}

/// A call that cannot be captured, on a stream that is.
pub fn refuse_captured(stream: &Stream) -> Answer {
    match stream.capture.lock().as_ref() {
        Some(part) => {
            part.capture.invalidate();
            Err(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED)
        }
        None => Ok(()),
    }
}
