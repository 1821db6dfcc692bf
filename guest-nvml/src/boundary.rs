//! The boundary to the program: every export passes here. Nothing panics into
//! a program, and nothing answers before nvmlInit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};

use paravane_protocol::nvml_types::*;

/// What this library's functions answer.
pub(crate) type Answer<T = ()> = Result<T, nvmlReturn_t>;

/// nvmlInit's less nvmlShutdown's.
static USERS: AtomicU32 = AtomicU32::new(0);

/// One more nvmlInit has succeeded.
pub(crate) fn initialized() {
    USERS.fetch_add(1, Ordering::AcqRel);
}

/// One nvmlShutdown; NVML_ERROR_UNINITIALIZED when there was no nvmlInit for it.
pub(crate) fn shut_down() -> Answer {
    let less = |users: u32| users.checked_sub(1);
    let changed = USERS.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
    changed.map(|_| ()).map_err(|_| NVML_ERROR_UNINITIALIZED)
}

/// Runs one NVML call.
pub(crate) fn enter(name: &str, call: impl FnOnce() -> Answer) -> nvmlReturn_t {
    if USERS.load(Ordering::Acquire) == 0 && !name.starts_with("nvmlInit") {
        return NVML_ERROR_UNINITIALIZED;
    }
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(())) => NVML_SUCCESS,
        Ok(Err(error)) => error,
        Err(_) => NVML_ERROR_UNKNOWN,
    }
}
