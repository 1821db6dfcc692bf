//! What CUDA's functions do here, one file per family, under CUDA's names. `exports` makes the C
//! symbols of them from the API table.
#![allow(unsafe_code, reason = "arguments are pointers that a C program passes")]
#![allow(clippy::multiple_unsafe_ops_per_block, reason = "an element is reached and read in one step")]
#![allow(non_snake_case, reason = "CUDA's names")]
#![allow(clippy::missing_safety_doc, reason = "one contract for all: arguments as the CUDA driver API demands them")]
#![allow(clippy::too_many_arguments, reason = "CUDA's prototypes")]

mod affinity;
mod capture;
mod absent_hardware;
mod array;
mod context;
mod copy;
mod copy_3d;
mod device;
mod error_log;
mod event;
mod exports;
mod function;
mod graph;
mod green;
mod init;
mod ipc;
mod launch;
mod library;
mod link;
mod memop;
mod managed;
mod memory;
mod memset;
mod module;
mod occupancy;
mod old;
mod peer;
mod pointer;
mod pool;
mod primary;
mod proc_address;
mod profiler;
mod stream;
mod stream_attribute;
mod texture;
mod virtual_memory;

pub use affinity::*;
pub use capture::*;
pub use absent_hardware::*;
pub use array::*;
pub use context::*;
pub use copy::*;
pub use copy_3d::*;
pub use device::*;
pub use error_log::*;
pub use event::*;
pub use exports::table;
pub use function::*;
pub use graph::*;
pub use green::*;
pub use init::*;
pub use ipc::*;
pub use launch::*;
pub use library::*;
pub use link::*;
pub use memop::*;
pub use managed::*;
pub use memory::*;
pub use memset::*;
pub use module::*;
pub use occupancy::*;
pub use old::*;
pub use peer::*;
pub use pointer::*;
pub use pool::*;
pub use primary::*;
pub use proc_address::*;
pub use profiler::*;
pub use stream::*;
pub use stream_attribute::*;
pub use texture::*;
pub use virtual_memory::*;

use crate::capture as captures;
use crate::device::Device;
use crate::context::{Context, legacy_stream, per_thread_stream, with_current};
use crate::objects::STREAMS;
use crate::stream::Stream;
use paravane_protocol::cuda_types::{
    CU_STREAM_LEGACY, CU_STREAM_PER_THREAD, CUDA_ERROR_CONTEXT_IS_DESTROYED, CUDA_ERROR_INVALID_CONTEXT,
    CUDA_ERROR_INVALID_DEVICE, CUDA_ERROR_INVALID_HANDLE, CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_NOT_INITIALIZED, CUDA_ERROR_STREAM_DETACHED,
    CUdevice, CUresult, CUstream,
};
use std::cell::Cell;
use std::ffi::{CStr, c_char};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What every function answers: Ok is CUDA_SUCCESS.
pub type Answer<T = ()> = Result<T, CUresult>;

static INITIALISED: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Set while a `_ptds` or `_ptsz` variant runs: the NULL stream is the thread's own.
    static PER_THREAD_DEFAULT: Cell<bool> = const { Cell::new(false) };
}

/// Set in a child of fork(): the threads that would run its work stayed in the parent.
static FORKED: AtomicBool = AtomicBool::new(false);

fn initialised() -> Answer {
    if INITIALISED.load(Ordering::Relaxed) && !FORKED.load(Ordering::Relaxed) { Ok(()) } else { Err(CUDA_ERROR_NOT_INITIALIZED) }
}

/// Fails as a context does that was destroyed or that a kernel has failed in.
fn usable(context: &Context) -> Answer {
    if FORKED.load(Ordering::Relaxed) {
        return Err(CUDA_ERROR_NOT_INITIALIZED);
    }
    if context.is_dead.load(Ordering::Relaxed) || context.home().is_dead.load(Ordering::Relaxed) {
        return Err(CUDA_ERROR_CONTEXT_IS_DESTROYED);
    }
    context.failure().map_or(Ok(()), Err)
}

/// The current context, which must be there and not failed.
fn current() -> Answer<Arc<Context>> {
    look_at_current(|context| Ok(Arc::clone(context)))
}

fn look_at_current<R>(look: impl FnOnce(&Arc<Context>) -> Answer<R>) -> Answer<R> {
    with_current(|context| match context {
        Some(context) => {
            usable(context)?;
            look(context)
        }
        None => {
            initialised()?;
            Err(CUDA_ERROR_INVALID_CONTEXT)
        }
    })
}

/// The stream that a handle means for the calling thread, for a call that cannot be captured.
fn stream(handle: CUstream) -> Answer<Arc<Stream>> {
    let stream = work_stream(handle)?;
    captures::refuse_captured(&stream)?;
    Ok(stream)
}

/// As `stream`, for work that can be captured: the caller asks whether the stream is.
fn work_stream(handle: CUstream) -> Answer<Arc<Stream>> {
    let stream = any_stream(handle)?;
    captures::refuse_implicit(&stream)?;
    Ok(stream)
}

/// As `stream`, for questions that a capture does not mind.
fn any_stream(handle: CUstream) -> Answer<Arc<Stream>> {
    let per_thread = PER_THREAD_DEFAULT.get();
    match handle {
        CUstream(0) if per_thread => look_at_current(threads_own),
        CUstream(0) | CU_STREAM_LEGACY => look_at_current(|context| Ok(legacy_stream(context))),
        CU_STREAM_PER_THREAD => look_at_current(threads_own),
        CUstream(number) => {
            let stream = STREAMS.get(number).ok_or(CUDA_ERROR_INVALID_HANDLE)?;
            attached(&stream)?;
            Ok(stream)
        }
    }
}

/// The calling thread's own default stream, which a green context has not.
fn threads_own(context: &Arc<Context>) -> Answer<Arc<Stream>> {
    if context.green.is_some() { Err(CUDA_ERROR_INVALID_HANDLE) } else { Ok(per_thread_stream(context)) }
}

/// A stream outlives its green context, and does nothing any more.
fn attached(stream: &Stream) -> Answer {
    if stream.context.green.is_some() && stream.context.is_dead.load(Ordering::Relaxed) {
        return Err(CUDA_ERROR_STREAM_DETACHED);
    }
    usable(&stream.context)
}

/// Whether a stream has nothing to do, and is of the context numbered `owner` if one is asked for: found out
/// without taking a share in anything.
#[inline]
fn is_quiet(handle: CUstream, owner: Option<u64>) -> Answer<bool> {
    if captures::is_any() {
        return Ok(false);
    }
    let is_its = |context: &Context| owner.is_none_or(|owner| context.owner == owner);
    if handle.0 <= CU_STREAM_PER_THREAD.0 {
        // With no task in the whole context, its default streams are idle too.
        return look_at_current(|context| Ok(is_its(context) && context.pending.load(Ordering::Acquire) == 0));
    }
    let quiet = STREAMS.with(handle.0, |stream| attached(stream).map(|()| is_its(&stream.context) && stream.is_idle()));
    quiet.unwrap_or(Err(CUDA_ERROR_INVALID_HANDLE))
}

/// The device that a handle names.
fn device(device: CUdevice) -> Answer<Device> {
    initialised()?;
    Device::new(device.0).ok_or(CUDA_ERROR_INVALID_DEVICE)
}

/// Writes a result through a pointer that must not be NULL.
fn give<T>(to: *mut T, value: T) -> Answer {
    if to.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller of the CUDA function gives a pointer to the result's type.
    unsafe { to.write(value) };
    Ok(())
}

/// As `give`, where the caller may decline.
fn give_optional<T>(to: *mut T, value: T) {
    if !to.is_null() {
        // SAFETY: as in `give`.
        unsafe { to.write(value) }
    }
}

/// A string argument.
///
/// # Safety
/// `text` is NULL or NUL-terminated.
unsafe fn string<'a>(text: *const c_char) -> Answer<&'a str> {
    if text.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_str().map_err(|_| CUDA_ERROR_INVALID_VALUE)
}

/// Copies `text` with its NUL into a buffer of `length` bytes, cut where it does not fit.
fn give_string(to: *mut c_char, length: i32, text: &str) -> Answer {
    let length = usize::try_from(length).ok().filter(|&n| n > 0).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    if to.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let kept = text.len().min(length - 1);
    // SAFETY: the caller gives a buffer of `length` bytes.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), to.cast(), kept) };
    // SAFETY: as above; kept < length.
    unsafe { to.add(kept).write(0) };
    Ok(())
}
