//! The gate: where commands that make the device work wait for the VM's lease,
//! and how what they cost is measured and learned. `work` sorts commands,
//! `part` is a ring thread's side, `slice` what lies between two edges; one
//! thread of the process waits for slices to end (`monitor`).

mod monitor;
mod part;
mod slice;
mod work;

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use paravane_protocol::cuda_types::*;
use paravane_scheduler::{Estimates, MS, Nanos, Shape};

use super::libcuda::{cuda, figure};
use super::process::Process;
use crate::account::{AccountPage, Counter};
use crate::lease::VmPage;
use crate::lease::gate::{Gate, Over};
use slice::Slice;

pub(super) use monitor::start;
pub(super) use part::Part;
pub(super) use work::Class;

/// Predicted work in flight under an open lease, so that another VM that comes
/// finds a short queue.
const FLIGHT_MAX: Nanos = 4 * MS;
/// If nothing of it ends for so long, it may wait for the very thread that is
/// held: that goes on.
const STUCK: Duration = Duration::from_millis(20);
/// Events kept for a context.
const EVENTS_MAX: usize = 64;
/// How long the end of a context waits for its slices.
const CONTEXT_WAIT: Duration = Duration::from_secs(1);

#[derive(Default)]
struct State {
    estimates: Estimates,
    events: HashMap<u64, Vec<CUevent>>,
    /// Slices that have ended on this side, for the monitor.
    ended: VecDeque<Slice>,
    /// Those and the one that it waits for: how many, and their weight.
    flying: usize,
    weight: Nanos,
    /// Counts slices that are over.
    over: u64,
    /// The library's clock, as last read.
    clock_ns: u64,
}

/// A process's side of its VM's lease.
pub(super) struct ProcessLease {
    gate: Gate,
    state: Mutex<State>,
    arrived: Condvar,
    departed: Condvar,
    /// Captures that have begun and may not have ended.
    captures: AtomicU32,
    /// Nothing in flight ends: nobody is held for it.
    stuck: AtomicBool,
    /// Held while ends are recorded, and while a stream or context ends.
    edge: Mutex<()>,
}

impl ProcessLease {
    pub(super) fn new(page: VmPage, kick: OwnedFd) -> Self {
        Self {
            gate: Gate::new(page, kick),
            state: Mutex::default(),
            arrived: Condvar::new(),
            departed: Condvar::new(),
            captures: AtomicU32::new(0),
            stuck: AtomicBool::new(false),
            edge: Mutex::new(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether commands go on without asking: the quick look.
    #[inline]
    fn is_open(&self) -> bool {
        self.gate.is_open() && self.captures.load(Ordering::Relaxed) == 0
    }

    fn predict(&self, shape: Shape) -> (Nanos, bool) {
        let state = self.lock();
        (state.estimates.predict(shape), state.estimates.knows(shape))
    }

    /// Whether a command may be issued now; then its cost is taken off.
    fn pass(&self, cost: Nanos) -> bool {
        self.gate.pass(cost, || self.stuck.load(Ordering::Relaxed) || self.lock().weight < FLIGHT_MAX)
    }

    /// When the lease ends that is granted now, if it ends.
    fn end(&self) -> Option<Nanos> {
        self.gate.end()
    }

    /// Waits until [`Self::pass`].
    fn wait(&self, account: &AccountPage, cost: Nanos, mut holds: impl FnMut(bool)) {
        holds(true);
        self.gate.wait(account, || self.pass(cost), || self.wait_for_room());
        holds(false);
    }

    /// Waits until there is room in flight, or nothing in flight ends.
    fn wait_for_room(&self) {
        let state = self.lock();
        let over = state.over;
        let full = |state: &mut State| state.over == over && state.weight >= FLIGHT_MAX;
        let waited = self.departed.wait_timeout_while(state, STUCK, full);
        let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        drop(state);
        if timeout.timed_out() {
            self.stuck.store(true, Ordering::Relaxed);
        }
    }

    fn slice_begins(&self) {
        self.gate.begins();
    }

    fn add_ahead(&self, cost: Nanos) {
        self.gate.add_ahead(cost);
    }

    /// A slice has ended on this side; if the device is done with it, it is
    /// over.
    fn slice_ends(&self, process: &Process, mut slice: Slice) {
        let more = slice.weight.saturating_sub(slice.ahead);
        self.add_ahead(more);
        slice.ahead += more;
        let quiet = self.captures.load(Ordering::Relaxed) == 0;
        let mut state = self.lock();
        state.weight = state.weight.saturating_add(slice.weight);
        let first = state.flying == 0;
        state.flying += 1;
        if first && quiet && slice.is_over(process) {
            drop(state);
            self.slice_is_over(process, slice);
            return;
        }
        state.ended.push_back(slice);
        drop(state);
        self.arrived.notify_one();
    }

    /// The device is done with a slice.
    fn slice_is_over(&self, process: &Process, slice: Slice) {
        let mut state = self.lock();
        let used = match process.lib.busy_ns {
            Some(busy_ns) => {
                let now = figure(busy_ns);
                now.saturating_sub(std::mem::replace(&mut state.clock_ns, now))
            }
            None => slice.measure(process),
        };
        state.estimates.learn_together(&slice.commands, used);
        state.weight = state.weight.saturating_sub(slice.weight);
        state.flying -= 1;
        state.over += 1;
        drop(state);
        self.stuck.store(false, Ordering::Relaxed);
        self.departed.notify_all();
        if process.lib.busy_ns.is_none() {
            process.account.counter(Counter::GpuTimeNs).fetch_add(used, Ordering::Relaxed);
        }
        let over = Over { used, ahead: slice.ahead, until: slice.until };
        slice.give_back(process);
        self.gate.ends(&process.account, over);
    }

    /// What the library's clock says is told before a slice is over.
    pub(super) fn report(&self, process: &Process) {
        let Some(busy_ns) = process.lib.busy_ns.filter(|_| self.gate.has_slot()) else { return };
        let mut state = self.lock();
        let now = figure(busy_ns);
        let used = now.saturating_sub(std::mem::replace(&mut state.clock_ns, now));
        self.gate.add_used(used);
    }

    /// Bytes are copied.
    pub(super) fn count_copied(&self, bytes: u64) {
        self.gate.add_copied(bytes);
    }

    fn take_event(&self, context: u64) -> Option<CUevent> {
        self.lock().events.get_mut(&context)?.pop()
    }

    fn keep_event(&self, process: &Process, context: u64, event: CUevent) {
        // An event of a context that is gone is gone.
        if process.handles.resolve(CUcontext(context)).is_err() {
            return;
        }
        let mut state = self.lock();
        let events = state.events.entry(context).or_default();
        if events.len() < EVENTS_MAX {
            return events.push(event);
        }
        drop(state);
        let lib = &process.lib;
        // Nothing else names it.
        let _ = cuda!(lib.cuEventDestroy_v2(event));
    }

    fn edge(&self) -> MutexGuard<'_, ()> {
        self.edge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Streams or contexts may end while this is held.
    pub(super) fn hold_edge(&self) -> MutexGuard<'_, ()> {
        self.edge()
    }

    /// A context may end: what is measured in it is waited for, and its events
    /// are given back.
    pub(super) fn context_may_end(&self, process: &Process) {
        let state = self.lock();
        let flies = |state: &mut State| state.flying > 0;
        let waited = self.departed.wait_timeout_while(state, CONTEXT_WAIT, flies);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let events: Vec<_> = std::mem::take(&mut state.events).into_values().flatten().collect();
        drop(state);
        let lib = &process.lib;
        for event in events {
            let _ = cuda!(lib.cuEventDestroy_v2(event));
        }
    }

    /// A capture has begun, or one has ended.
    pub(super) fn capture_changed(&self, begins: bool) {
        let change = |count: u32| if begins { count.checked_add(1) } else { count.checked_sub(1) };
        let _ = self.captures.fetch_update(Ordering::SeqCst, Ordering::Relaxed, change);
    }

    fn is_captured_id(&self, process: &Process, stream: u64) -> bool {
        self.captures.load(Ordering::Relaxed) > 0
            && process.handles.resolve(CUstream(stream)).is_ok_and(|stream| self.is_captured(process, stream))
    }

    /// Whether commands on a stream go into a graph. Asked only while there is
    /// a capture in the process.
    fn is_captured(&self, process: &Process, stream: CUstream) -> bool {
        if self.captures.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let (lib, mut status) = (&process.lib, CU_STREAM_CAPTURE_STATUS_NONE);
        let asked = cuda!(lib.cuStreamIsCapturing(stream, &raw mut status));
        // What cannot be told is not touched.
        asked.is_err() || status != CU_STREAM_CAPTURE_STATUS_NONE
    }
}
