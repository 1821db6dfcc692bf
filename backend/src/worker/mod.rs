//! The worker process, until its own code lands: it maps nothing and serves no
//! ring, but says what a worker says, so that the device can be tested.

use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use crate::control::{self, CONTROL_FD, ControlError, FromWorker, ToWorker};

/// Entry of a process that the backend started with `worker` as argument.
pub fn main() -> ExitCode {
    match control::inherited(CONTROL_FD).map_err(ControlError::from).and_then(|s| serve(&s)) {
        Ok(()) | Err(ControlError::Closed) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn serve(socket: &OwnedFd) -> Result<(), ControlError> {
    loop {
        match ToWorker::receive(socket.as_fd())? {
            ToWorker::SetMemory { .. } => {}
            ToWorker::AddArea { area: 0, .. } => FromWorker::Ready.send(socket.as_fd())?,
            ToWorker::AddArea { .. } => {}
            ToWorker::RemoveArea { area } => FromWorker::Removed { area }.send(socket.as_fd())?,
        }
    }
}
