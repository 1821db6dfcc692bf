//! Which streams began a capture here. While there is one, nothing about streams
//! is answered in the guest and nothing is posted: libcuda judges every call,
//! and its error comes back from the call that caused it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use paravane_protocol::cuda_types::*;

use crate::boundary::Answer;
use crate::remote::table;

static COUNT: AtomicUsize = AtomicUsize::new(0);
static BEGUN: Mutex<BTreeSet<u64>> = Mutex::new(BTreeSet::new());

/// Whether anything may be captured.
#[inline]
pub(crate) fn is_any() -> bool {
    COUNT.load(Ordering::Acquire) > 0
}

fn change(how: impl FnOnce(&mut BTreeSet<u64>)) {
    let mut begun = BEGUN.lock().unwrap_or_else(PoisonError::into_inner);
    how(&mut begun);
    COUNT.store(begun.len(), Ordering::Release);
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
        begun.insert(key(stream));
    });
}

/// The capture that began on a resolved stream is over, or never was.
pub(crate) fn end(stream: CUstream) {
    change(|begun| {
        begun.remove(&key(stream));
    });
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
