//! Host functions on streams. They may block and they are the program's own, so they run on a
//! thread apart from the executor's, one after the other.

use super::executor;
use super::task::{Task, Work};
use paravane_protocol::cuda_types::{CUhostFn, CUresult, CUstream, CUstreamCallback};
use std::ffi::c_void;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// What the program wants called.
pub enum Callback {
    /// cuLaunchHostFunc: not called once the context has failed.
    Function(CUhostFn, usize),
    /// cuStreamAddCallback: called with the context's state.
    Stream(CUstreamCallback, CUstream, usize),
}

static QUEUE: LazyLock<Mutex<Sender<Arc<Task>>>> = LazyLock::new(|| {
    let (sender, receiver) = channel::<Arc<Task>>();
    let run = move || {
        for task in receiver {
            call(&task);
            executor::complete(&task);
        }
    };
    if let Err(error) = std::thread::Builder::new().name("paravane-host".into()).spawn(run) {
        log::error!("no thread for host functions: {error}");
    }
    Mutex::new(sender)
});

/// Hands a ready host function to its thread.
pub(super) fn submit(task: &Arc<Task>) {
    let queue = QUEUE.lock().unwrap_or_else(PoisonError::into_inner);
    if queue.send(Arc::clone(task)).is_err() {
        log::error!("a host function is dropped: its thread could not be started");
        drop(queue);
        executor::complete(task);
    }
}

#[allow(unsafe_code, reason = "calls the program's function")]
fn call(task: &Task) {
    let failure = task.stream.context.failure();
    let Work::Host(callback) = &task.work else { return };
    match *callback {
        Callback::Function(Some(function), data) if failure.is_none() => {
            let data = std::ptr::with_exposed_provenance_mut::<c_void>(data);
            // SAFETY: the program gave the function for this, with this argument.
            unsafe { function(data) }
        }
        Callback::Stream(Some(function), stream, data) => {
            let data = std::ptr::with_exposed_provenance_mut::<c_void>(data);
            // SAFETY: as above.
            unsafe { function(stream, failure.unwrap_or(CUresult(0)), data) }
        }
        _ => {}
    }
}
