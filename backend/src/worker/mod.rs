//! The worker process, until its own code lands: it says that it cannot serve.

use std::os::fd::AsFd;
use std::process::ExitCode;

use crate::control::{self, CONTROL_FD, FromWorker};

const CUDA_ERROR_NOT_SUPPORTED: u32 = 801;

/// Entry of a process that the backend started with `worker` as argument.
pub fn main() -> ExitCode {
    let told = control::inherited(CONTROL_FD).map_err(control::ControlError::from).and_then(
        |socket| FromWorker::Failed { result: CUDA_ERROR_NOT_SUPPORTED }.send(socket.as_fd()),
    );
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
