//! The threads that wait until the devices are done with a process's slices: one
//! for each.

use std::io;
use std::sync::{Arc, PoisonError};

use super::State;
use crate::worker::libcuda::relax;
use crate::worker::process::Process;

/// Starts the threads, which live as long as the process.
pub(in crate::worker) fn start(process: &Arc<Process>) -> io::Result<()> {
    (0..process.leases.all().count()).try_for_each(|device| {
        let process = Arc::clone(process);
        std::thread::Builder::new().name("slices".into()).spawn(move || serve(&process, device)).map(drop)
    })
}

fn serve(process: &Arc<Process>, device: usize) {
    let _ = relax(&process.lib);
    loop {
        let lease = process.leases.at(device);
        let none = |state: &mut State| state.ended.is_empty();
        let waited = lease.arrived.wait_while(lease.lock(), none);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        let Some(slice) = state.ended.pop_front() else { continue };
        drop(state);
        slice.wait(process);
        lease.slice_is_over(process, slice);
    }
}
