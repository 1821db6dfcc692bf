//! Which streams began a capture here. While there is one, nothing about streams
//! is answered in the guest and nothing is posted: libcuda judges every call,
//! and its error comes back from the call that caused it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use paravane_protocol::cuda_types::*;

use crate::boundary::Answer;
use crate::remote::table;

static COUNT: AtomicUsize = AtomicUsize::new(0);
/// By stream; the id of the graph that the capture makes, 0 where it is not known
/// or the program's own.
static BEGUN: Mutex<BTreeMap<u64, u64>> = Mutex::new(BTreeMap::new());

/// Whether anything may be captured.
#[inline]
pub(crate) fn is_any() -> bool {
    COUNT.load(Ordering::Acquire) > 0
}

fn change<T>(how: impl FnOnce(&mut BTreeMap<u64, u64>) -> T) -> T {
    let mut begun = BEGUN.lock().unwrap_or_else(PoisonError::into_inner);
    let answer = how(&mut begun);
    COUNT.store(begun.len(), Ordering::Release);
    answer
}

/// One stream per thread has this number, so threads are told apart.
fn key(stream: CUstream) -> u64 {
    thread_local!(static HERE: u8 = const { 0 });
    if stream == CU_STREAM_PER_THREAD {
        return HERE.with(|here| std::ptr::from_ref(here) as u64);
    }
    stream.0
}

/// A capture has begun on a resolved stream.
pub(crate) fn begin(stream: CUstream) {
    change(|begun| {
        begun.entry(key(stream)).or_default();
    });
}

/// The graph that the capture of a resolved stream makes.
pub(crate) fn makes(stream: CUstream, graph: CUgraph) {
    change(|begun| {
        begun.insert(key(stream), graph.0);
    });
}

/// The capture that began on a resolved stream is over, or never was. The graph
/// that it made, 0 where none is known.
pub(crate) fn end(stream: CUstream) -> CUgraph {
    CUgraph(change(|begun| begun.remove(&key(stream)).unwrap_or(0)))
}

/// Whether a resolved stream is captured now. An invalid capture is none: the
/// call itself is to say so.
pub(crate) fn is_capturing(stream: CUstream) -> Answer<bool> {
    if !is_any() || stream == CUstream(0) {
        return Ok(false);
    }
    let mut status = CU_STREAM_CAPTURE_STATUS_NONE;
    table::cuStreamIsCapturing(stream, &raw mut status)?;
    Ok(status == CU_STREAM_CAPTURE_STATUS_ACTIVE)
}
