//! The boundary to the program: every export passes here. A panic becomes
//! CUDA_ERROR_UNKNOWN, a call before cuInit or in a forked child is refused,
//! and what is not implemented says so once.
#![allow(unsafe_code, reason = "fork handler")]

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use paravane_protocol::cuda_types::*;

use crate::connection;

/// What the shim's functions answer: nothing, or the CUresult that failed.
pub(crate) type Answer<T = ()> = Result<T, CUresult>;

/// Where the process stands: nothing yet, cuInit has succeeded, or a child of
/// the process whose rings these are.
static STANDING: AtomicU8 = AtomicU8::new(FRESH);
const FRESH: u8 = 0;
const READY: u8 = 1;
const FORKED: u8 = 2;

/// What answers before cuInit.
const EARLY: &[&str] = &[
    "cuInit",
    "cuDriverGetVersion",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuGetExportTable",
    "cuGetProcAddress",
    "cuGetProcAddress_v2",
];

/// Whether this is a child of the process whose cuInit has succeeded.
#[inline]
pub(crate) fn is_forked() -> bool {
    STANDING.load(Ordering::Relaxed) == FORKED
}

/// Whether cuInit has succeeded.
pub(crate) fn is_ready() -> bool {
    STANDING.load(Ordering::Acquire) == READY
}

/// cuInit has succeeded; other threads see what it did by its own locks.
pub(crate) fn ready() {
    STANDING.compare_exchange(FRESH, READY, Ordering::Release, Ordering::Relaxed).ok();
}

#[cold]
fn is_refused(name: &str) -> bool {
    is_forked() || !EARLY.contains(&name)
}

/// Runs one CUDA call.
#[inline]
pub(crate) fn enter(name: &str, call: impl FnOnce() -> Answer) -> CUresult {
    if STANDING.load(Ordering::Acquire) != READY && is_refused(name) {
        return CUDA_ERROR_NOT_INITIALIZED;
    }
    caught(name, call)
}

/// Runs a call that is no CUDA call, in a forked child too.
#[inline]
pub(crate) fn caught(name: &str, call: impl FnOnce() -> Answer) -> CUresult {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(())) => CUDA_SUCCESS,
        Ok(Err(error)) => {
            log::debug!("{name}: {error}");
            paravane_lookup::error_log::note(name, error);
            error
        }
        Err(_) => {
            log::error!("{name}: panicked");
            CUDA_ERROR_UNKNOWN
        }
    }
}

/// Answers for a symbol that is exported but not implemented.
pub(crate) fn absent(name: &'static str) -> CUresult {
    static TOLD: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());
    if TOLD.lock().unwrap_or_else(PoisonError::into_inner).insert(name) {
        log::warn!("{name} is not implemented: CUDA_ERROR_NOT_SUPPORTED");
    }
    CUDA_ERROR_NOT_SUPPORTED
}

/// Makes calls in a forked child answer CUDA_ERROR_NOT_INITIALIZED, as
/// libcuda does: the rings belong to the parent's threads. Where the parent has
/// used NVML alone, the child starts afresh.
pub(crate) fn watch_forks() {
    extern "C" fn in_child() {
        connection::forget();
        // What is FRESH stays so.
        let _ = STANDING.compare_exchange(READY, FORKED, Ordering::Relaxed, Ordering::Relaxed);
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handler only touches atomics, which is allowed after a
        // fork, and lives as long as the process: the library is linked so that
        // dlclose does not unmap it.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
}
