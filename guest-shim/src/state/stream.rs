//! Which streams have work outstanding. A stream is marked before work for it
//! is sent and cleared before a synchronise is sent, so a clear mark means
//! that all its work was synchronised with; then a synchronise need not leave
//! the guest. Streams beyond the marks' number count as busy always.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use paravane_protocol::cuda_types::*;

use super::current;
use crate::handles::index;

const STREAMS: usize = 1 << 16;
const CONTEXTS: usize = 1 << 10;

static STREAM: [AtomicU8; STREAMS] = [const { AtomicU8::new(0) }; STREAMS];
/// Work on a context's legacy default stream.
static DEFAULT: [AtomicU8; CONTEXTS] = [const { AtomicU8::new(0) }; CONTEXTS];
/// Work on a context's other streams.
static OTHERS: [AtomicU8; CONTEXTS] = [const { AtomicU8::new(0) }; CONTEXTS];

/// The process has made a green context: work of one context may then be another's too.
static SHARED: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Inside a `_ptds` or `_ptsz` variant.
    static PER_THREAD_DEFAULT: Cell<bool> = const { Cell::new(false) };
    /// Work on this thread's default stream.
    static THREADS_OWN: Cell<bool> = const { Cell::new(false) };
}

/// Runs a call in which NULL means the calling thread's default stream.
pub(crate) fn with_per_thread_default<T>(call: impl FnOnce() -> T) -> T {
    PER_THREAD_DEFAULT.set(true);
    let answer = call();
    PER_THREAD_DEFAULT.set(false);
    answer
}

/// The stream that a call without one works on.
pub(crate) fn default_stream() -> CUstream {
    resolve(CUstream(0))
}

/// NULL and CU_STREAM_LEGACY become 0, or the per-thread default.
#[inline]
pub(crate) fn resolve(stream: CUstream) -> CUstream {
    match stream {
        CUstream(0) if PER_THREAD_DEFAULT.get() => CU_STREAM_PER_THREAD,
        CU_STREAM_LEGACY => CUstream(0),
        other => other,
    }
}

/// From now on every question about streams goes to the host.
pub(crate) fn contexts_share_work() {
    SHARED.store(true, Ordering::Relaxed);
}

fn context_index() -> usize {
    index(current::number()) as usize
}

/// Work is about to be sent for a resolved stream.
#[inline]
pub(crate) fn mark_busy(stream: CUstream) {
    let context = context_index();
    let marks = match stream {
        CUstream(0) => &DEFAULT,
        CU_STREAM_PER_THREAD => {
            THREADS_OWN.set(true);
            &OTHERS
        }
        CUstream(number) => {
            if let Some(mark) = STREAM.get(index(number) as usize) {
                mark.store(1, Ordering::Relaxed);
            }
            &OTHERS
        }
    };
    if let Some(mark) = marks.get(context) {
        mark.store(1, Ordering::Relaxed);
    }
}

fn is_set(marks: &[AtomicU8], at: usize) -> bool {
    marks.get(at).is_none_or(|mark| mark.load(Ordering::Relaxed) != 0)
}

/// Whether a resolved stream may have work outstanding. The legacy default
/// stream waits for all blocking streams, so it counts their work as its own.
#[inline]
pub(crate) fn is_busy(stream: CUstream) -> bool {
    let is_marked = match stream {
        CUstream(0) => context_is_busy(),
        CU_STREAM_PER_THREAD => THREADS_OWN.get() || is_set(&DEFAULT, context_index()),
        CUstream(number) => is_set(&STREAM, index(number) as usize),
    };
    is_marked || SHARED.load(Ordering::Relaxed)
}

/// Whether the current context may have work outstanding.
#[inline]
pub(crate) fn context_is_busy() -> bool {
    let context = context_index();
    is_set(&DEFAULT, context) || is_set(&OTHERS, context) || SHARED.load(Ordering::Relaxed)
}

fn set(marks: &[AtomicU8], at: usize, value: u8) {
    if let Some(mark) = marks.get(at) {
        mark.store(value, Ordering::Relaxed);
    }
}

/// A synchronise with a resolved stream is about to be sent (false), or has
/// failed, so that the next one has to ask again (true).
pub(crate) fn set_stream(stream: CUstream, busy: bool) {
    match stream {
        CUstream(0) => set(&DEFAULT, context_index(), u8::from(busy)),
        CU_STREAM_PER_THREAD => THREADS_OWN.set(busy),
        CUstream(number) => set(&STREAM, index(number) as usize, u8::from(busy)),
    }
}

/// As [`set_stream`], for the whole context.
pub(crate) fn set_context(busy: bool) {
    let context = context_index();
    set(&DEFAULT, context, u8::from(busy));
    set(&OTHERS, context, u8::from(busy));
}
