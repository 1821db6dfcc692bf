//! `paravane-backend`: one virtual machine's share of the host's GPU, as a
//! vhost-user back end of a virtio-gpu device.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args_os().nth(1) {
        Some(first) if first == "worker" => paravane_backend::worker::main(),
        _ => ExitCode::FAILURE,
    }
}
