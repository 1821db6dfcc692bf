//! Initialisation and version.

use paravane_protocol::CUDA_VERSION;
use paravane_protocol::cuda_types::*;

use crate::boundary::{self, Answer, watch_forks};
use crate::state::devices;
use crate::{connection, journal, pointer};

/// Connects to the backend and learns the devices. Repeated calls are no-ops;
/// after a failure the next call tries again.
pub(crate) fn cuInit(flags: u32) -> Answer {
    journal::open();
    if flags != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    if !boundary::is_ready() {
        meet_host()?;
        // Here too if another thread has just asked and is not yet back.
        boundary::ready();
    }
    Ok(())
}

/// Connects and learns the devices, for cuInit or for NVML.
pub(crate) fn meet_host() -> Answer<&'static devices::Hello> {
    watch_forks();
    devices::ask(connection::open()?.token())
}

/// The host library's version, or before cuInit the interface's; no newer than
/// the interface, since newer calls would not be forwarded.
pub(crate) fn driver_version() -> i32 {
    let known = devices::hello().map_or(CUDA_VERSION, |hello| hello.driver_version);
    known.min(CUDA_VERSION)
}

pub(crate) fn cuDriverGetVersion(version: *mut i32) -> Answer {
    pointer::put(version, driver_version())
}
