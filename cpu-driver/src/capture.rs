//! Stream capture: the calling thread's mode.

use paravane_protocol::cuda_types::{CU_STREAM_CAPTURE_MODE_GLOBAL, CUstreamCaptureMode};
use std::cell::Cell;

thread_local! {
    static MODE: Cell<CUstreamCaptureMode> = const { Cell::new(CU_STREAM_CAPTURE_MODE_GLOBAL) };
}

/// Sets the calling thread's mode; the one before.
pub fn exchange_mode(mode: CUstreamCaptureMode) -> CUstreamCaptureMode {
    MODE.replace(mode)
}
