//! Initialisation, version, error texts.

use super::{Answer, FORKED, INITIALISED, give, multiprocessors};
use crate::device::{self, Device};
use crate::memory::arena;
use crate::report;
use crate::stream::executor;
use paravane_protocol::CUDA_VERSION;
use paravane_protocol::cuda_types::{CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_NO_DEVICE, CUDA_ERROR_NOT_INITIALIZED, CUresult};
use std::ffi::c_char;
use std::sync::atomic::Ordering;

pub unsafe fn cuInit(Flags: u32) -> Answer {
    if Flags != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    if FORKED.load(Ordering::Relaxed) {
        return Err(CUDA_ERROR_NOT_INITIALIZED);
    }
    device::look();
    if Device::count() == 0 {
        return Err(CUDA_ERROR_NO_DEVICE);
    }
    // What reads the environment or maps memory does so now: a sandbox may be closed after this.
    multiprocessors();
    executor::prepare();
    report::prepare();
    super::device::compute_capability();
    arena();
    if !INITIALISED.swap(true, Ordering::Relaxed) {
        // SAFETY: the handler stores to an atomic, which is allowed after fork().
        unsafe { libc::pthread_atfork(None, None, Some(forked)) };
    }
    Ok(())
}

unsafe extern "C" fn forked() {
    FORKED.store(true, Ordering::Relaxed);
}

pub unsafe fn cuDriverGetVersion(driverVersion: *mut i32) -> Answer {
    give(driverVersion, CUDA_VERSION)
}

pub unsafe fn cuGetErrorName(error: CUresult, pStr: *mut *const c_char) -> Answer {
    give(pStr, error.name().map_or(std::ptr::null(), |name| name.as_ptr()))?;
    error.name().map(|_| ()).ok_or(CUDA_ERROR_INVALID_VALUE)
}

pub unsafe fn cuGetErrorString(error: CUresult, pStr: *mut *const c_char) -> Answer {
    give(pStr, error.meaning().map_or(std::ptr::null(), |text| text.as_ptr()))?;
    error.meaning().map(|_| ()).ok_or(CUDA_ERROR_INVALID_VALUE)
}
