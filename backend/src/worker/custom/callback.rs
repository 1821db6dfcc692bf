//! Host functions. The stream reaches a function of ours, which tells the
//! guest's waiting thread and holds the stream until the guest has run its own.
#![allow(unsafe_code, reason = "callbacks from libcuda")]

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ffi::c_void;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use paravane_protocol::cuda_types::*;
use paravane_protocol::internal::{CALLBACK_ENDED, CALLBACK_REFUSED};

use crate::worker::dispatch::Command;
use crate::worker::libcuda::{Answer, cuda};

#[derive(Default)]
struct State {
    /// Reached by their streams, not yet told.
    due: VecDeque<(u64, u64)>,
    /// Told, not yet returned.
    running: BTreeSet<u64>,
    /// Functions that a graph may reach: their data's address and number.
    kept: HashMap<usize, u64>,
    /// User objects of the guest's, by their destructors' numbers.
    objects: HashMap<u64, CUuserObject>,
}

/// The host functions of one guest process.
pub(in crate::worker) struct Callbacks {
    state: Mutex<State>,
    changed: Condvar,
}

impl Callbacks {
    pub(in crate::worker) fn new() -> Self {
        Self { state: Mutex::new(State::default()), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a stream has reached a host function, or refused it: its
    /// number, and CUresult or CALLBACK_REFUSED.
    pub(in crate::worker) fn next(&self) -> (u64, u64) {
        let mut state = self
            .changed
            .wait_while(self.lock(), |state| state.due.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        state.due.pop_front().unwrap_or((0, CALLBACK_REFUSED))
    }

    /// The guest's thread must not wait for this one.
    fn refuse(&self, number: u64) {
        self.lock().due.push_back((number, CALLBACK_REFUSED));
        self.changed.notify_all();
    }

    /// The guest's function has returned.
    pub(in crate::worker) fn done(&self, number: u64) {
        self.lock().running.remove(&number);
        self.changed.notify_all();
    }

    /// Runs on a thread of libcuda's: tells the guest and waits for it.
    fn reached(&self, number: u64, status: CUresult) {
        let mut state = self.lock();
        state.running.insert(number);
        state.due.push_back((number, status.to_word()));
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |state| state.running.contains(&number)));
    }
}

/// A guest's function that a graph reaches at every launch, until libcuda ends
/// the user object that it is.
pub(in crate::worker) struct Kept(*mut Due);

impl Kept {
    /// libcuda will reach the guest's function with this number.
    pub(in crate::worker) fn new(callbacks: &Arc<Callbacks>, number: u64) -> Self {
        let due = Box::into_raw(Box::new(Due { callbacks: Arc::clone(callbacks), number }));
        callbacks.lock().kept.insert(due.addr(), number);
        Self(due)
    }

    /// libcuda's function and its argument, for a host node.
    pub(in crate::worker) fn host_node(&self) -> (u64, u64) {
        let function = graph_function as unsafe extern "C" fn(*mut c_void) as *const c_void;
        (function.expose_provenance() as u64, self.0.expose_provenance() as u64)
    }

    /// The argument of a user object that ends it.
    pub(in crate::worker) fn data(&self) -> Pointer {
        self.0.cast()
    }

    /// libcuda has refused what it was for.
    pub(in crate::worker) fn drop_unused(self) {
        // SAFETY: the box of new(), which nothing else has.
        let due = unsafe { Box::from_raw(self.0) };
        due.callbacks.lock().kept.remove(&self.0.addr());
    }
}

impl Callbacks {
    /// The guest's number of a host node's function, by its argument.
    pub(in crate::worker) fn number_of(&self, data: u64) -> Option<u64> {
        self.lock().kept.get(&usize::try_from(data).ok()?).copied()
    }

    /// A destructor belongs to a user object of the guest's.
    pub(in crate::worker) fn add_object(&self, number: u64, object: CUuserObject) {
        self.lock().objects.insert(number, object);
    }

    /// The user object that a destructor belonged to.
    pub(in crate::worker) fn take_object(&self, number: u64) -> Option<CUuserObject> {
        self.lock().objects.remove(&number)
    }

    /// Nothing will reach the guest's function any more.
    fn ended(&self, number: u64) {
        self.lock().due.push_back((number, CALLBACK_ENDED));
        self.changed.notify_all();
    }
}

unsafe extern "C" fn graph_function(data: *mut c_void) {
    // SAFETY: Kept's box, which a user object of the graph keeps.
    let due = unsafe { &*data.cast::<Due>() };
    due.callbacks.reached(due.number, CUDA_SUCCESS);
}

/// The destructor of a user object: the guest's function will not be reached
/// any more, or is due for the last time.
pub(in crate::worker) unsafe extern "C" fn end_kept(data: *mut c_void) {
    // SAFETY: Kept's box; libcuda calls once, when nothing holds the object.
    let due = unsafe { Box::from_raw(data.cast::<Due>()) };
    due.callbacks.lock().kept.remove(&data.addr());
    due.callbacks.ended(due.number);
}

/// What libcuda hands back.
struct Due {
    callbacks: Arc<Callbacks>,
    number: u64,
}

unsafe extern "C" fn host_function(data: *mut c_void) {
    // SAFETY: the box that the enqueuing call leaked; libcuda calls once.
    let due = unsafe { Box::from_raw(data.cast::<Due>()) };
    due.callbacks.reached(due.number, CUDA_SUCCESS);
}

unsafe extern "C" fn stream_callback(_: CUstream, status: CUresult, data: *mut c_void) {
    // SAFETY: as in host_function.
    let due = unsafe { Box::from_raw(data.cast::<Due>()) };
    due.callbacks.reached(due.number, status);
}

/// In: stream, the number that the guest gave its function.
fn enqueue(command: &mut Command, into_library: impl FnOnce(CUstream, Pointer) -> Answer) -> Answer {
    let stream = CUstream(command.from.word());
    let number = command.from.word();
    command.read_all()?;
    let process = command.thread.process();
    let enqueued = process.handles.resolve(stream).and_then(|stream| {
        let callbacks = Arc::clone(&process.callbacks);
        let due = Box::into_raw(Box::new(Due { callbacks, number }));
        into_library(stream, due.cast()).inspect_err(|_| {
            // SAFETY: leaked just above, and refused by libcuda.
            drop(unsafe { Box::from_raw(due) });
        })
    });
    enqueued.inspect_err(|_| process.callbacks.refuse(number))
}

pub(in crate::worker) fn cuLaunchHostFunc(command: &mut Command) -> Answer {
    let process = command.thread.process();
    let lib = &process.lib;
    enqueue(command, |stream, data| cuda!(lib.cuLaunchHostFunc(stream, Some(host_function), data)))
}

pub(in crate::worker) fn cuStreamAddCallback(command: &mut Command) -> Answer {
    let process = command.thread.process();
    let lib = &process.lib;
    enqueue(command, |stream, data| {
        cuda!(lib.cuStreamAddCallback(stream, Some(stream_callback), data, 0))
    })
}
