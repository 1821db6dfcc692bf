//! Initialisation, version, error texts.

use super::{Answer, INITIALISED, give, multiprocessors};
use crate::memory::arena;
use crate::report;
use crate::stream::executor;
use paravane_protocol::CUDA_VERSION;
use paravane_protocol::cuda_types::{CUDA_ERROR_INVALID_VALUE, CUresult};
use std::ffi::c_char;
use std::sync::atomic::Ordering;

pub unsafe fn cuInit(Flags: u32) -> Answer {
    if Flags != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // What reads the environment or maps memory does so now: a sandbox may be closed after this.
    multiprocessors();
    executor::prepare();
    report::prepare();
    arena();
    INITIALISED.store(true, Ordering::Relaxed);
    Ok(())
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
