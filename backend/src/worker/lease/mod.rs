//! The gate: where commands that make the device work wait for the VM's lease,
//! and how what they cost is measured and learned. There is one for each device
//! (`devices` says which is whose). `work` sorts commands, `part` is a ring
//! thread's side, `slice` what lies between two edges; a thread for each device
//! waits for slices to end (`monitor`); `limit` tells which of them are at a kernel
//! that runs for too long.

mod devices;
mod limit;
mod monitor;
mod part;
mod slice;
mod work;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use paravane_protocol::cuda_types::*;
use paravane_scheduler::{Estimates, Nanos, Shape};

use super::libcuda::{Libcuda, clock_ns, cuda};
use super::process::Process;
use crate::lease::Holdings;
use crate::lease::gate::{Gate, Over};
use devices::Common;
use limit::Watch;
use slice::Slice;

pub(super) use devices::Leases;
pub(super) use monitor::start;
pub(super) use part::Part;
pub(super) use work::Class;

/// When nothing in flight has ended for so long, it may wait for the very thread
/// that is held: nobody is held until something ends, and what was in flight
/// does not count any more.
const STUCK: Duration = Duration::from_millis(20);
/// A held thread looks by itself so often what has ended: the monitor may be at
/// a slice that does not.
const REAP: Duration = Duration::from_millis(1);
/// The VM's limit is looked at not more often.
const LIMIT_LOOK: Duration = Duration::from_millis(20);
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
    /// Those and the one that it waits for: how many, and the weight of those
    /// that count.
    flying: usize,
    weight: Nanos,
    /// Counts slices that have ended on this side, and those that are over.
    sent: u64,
    over: u64,
    /// Slices before this one do not count; and nothing has ended since that was
    /// so.
    excused: u64,
    stuck: bool,
    /// Slices that have begun on this side so far, and those that are not over.
    begun: u64,
    watch: Watch,
    /// The library's clock, as last read.
    clock_ns: u64,
    /// What other VMs have had of this one's time, as far as it is taken off.
    overlap_ns: Nanos,
}

/// A process's side of its VM's lease of a device.
pub(super) struct ProcessLease {
    pub(super) gate: Arc<Gate>,
    pub(super) holdings: Arc<Holdings>,
    /// The device's place among the VM's.
    number: usize,
    state: Mutex<State>,
    arrived: Condvar,
    departed: Condvar,
    /// As the library names the device; none while nothing has been done there.
    device: OnceLock<CUdevice>,
    common: Arc<Common>,
}

impl ProcessLease {
    fn new(gate: Arc<Gate>, number: usize, common: Arc<Common>) -> Self {
        let holdings = Arc::new(Holdings::new(Arc::clone(&gate)));
        Self {
            gate,
            holdings,
            number,
            state: Mutex::default(),
            arrived: Condvar::new(),
            departed: Condvar::new(),
            device: OnceLock::new(),
            common,
        }
    }

    /// The library names the device so.
    fn is_of(&self, device: CUdevice) {
        // It is said again at most.
        let _ = self.device.set(device);
    }

    /// As the library names the device.
    pub(super) fn device(&self) -> Option<CUdevice> {
        self.device.get().copied()
    }

    /// The library's clock of the device, where it has one.
    fn clock_ns(&self, lib: &Libcuda) -> Option<Nanos> {
        clock_ns(lib, self.device()?)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether commands go on without asking: the quick look.
    #[inline]
    fn is_open(&self) -> bool {
        self.gate.is_open() && !self.common.captures(Ordering::Relaxed)
    }

    fn predict(&self, shape: Shape) -> (Nanos, bool) {
        let state = self.lock();
        (state.estimates.predict(shape), state.estimates.knows(shape))
    }

    /// Predicted work after which a slice ends, so that two of them may be in
    /// flight.
    #[inline]
    fn slice_ns(&self) -> Nanos {
        self.gate.flight_ns() / 2
    }

    /// Whether less is in flight than may be, so that another VM that comes
    /// finds a short queue.
    fn has_room(&self) -> bool {
        let state = self.lock();
        state.stuck || state.weight < self.gate.flight_ns()
    }

    /// Whether a command may be issued now; then its cost is taken off.
    fn pass(&self, cost: Nanos) -> bool {
        self.gate.pass(cost, || self.has_room())
    }

    /// When the lease ends that is granted now, if it ends.
    fn end(&self) -> Option<Nanos> {
        self.gate.end()
    }

    /// Waits until [`Self::pass`].
    fn wait(&self, process: &Process, cost: Nanos, mut holds: impl FnMut(bool)) {
        holds(true);
        let pass = || self.pass(cost);
        self.gate.wait(&process.account, pass, || self.has_room(), || self.wait_for_room(process));
        holds(false);
    }

    /// Waits until something in flight has ended, or makes room without that.
    fn wait_for_room(&self, process: &Process) {
        let since = Instant::now();
        let mut state = self.lock();
        let (over, flight) = (state.over, self.gate.flight_ns());
        while state.over == over && state.weight >= flight {
            if since.elapsed() >= STUCK {
                (state.weight, state.excused, state.stuck) = (0, state.sent, true);
                return;
            }
            let waited = self.departed.wait_timeout(state, REAP);
            let timeout;
            (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            // In a capture this thread asks nothing that could end it.
            if timeout.timed_out() && !self.common.captures(Ordering::Relaxed) {
                let ended = state.ended.iter().position(|slice| slice.is_over(process));
                if let Some(slice) = ended.and_then(|at| state.ended.remove(at)) {
                    drop(state);
                    return self.slice_is_over(process, slice);
                }
            }
        }
    }

    /// A slice begins on this side.
    fn slice_begins(&self) -> Slice {
        self.gate.begins();
        let mut state = self.lock();
        if state.begun == state.over {
            state.overlap_ns = self.gate.overlap_ns();
        }
        let id = state.begun;
        state.begun += 1;
        state.watch.add(id);
        Slice { id, ..Slice::default() }
    }

    /// Whether the VM's kernels have a limit.
    fn has_limit(&self) -> bool {
        self.gate.limit().is_some()
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
        let quiet = !self.common.captures(Ordering::Relaxed);
        let mut state = self.lock();
        state.weight = state.weight.saturating_add(slice.weight);
        slice.number = state.sent;
        state.sent += 1;
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
        let used = match self.clock_ns(&process.lib) {
            Some(now) => now.saturating_sub(std::mem::replace(&mut state.clock_ns, now)),
            None => self.gate.own_part(slice.measure(process), &mut state.overlap_ns),
        };
        state.estimates.learn_together(&slice.commands, used);
        if slice.number >= state.excused {
            state.weight = state.weight.saturating_sub(slice.weight);
        }
        state.flying -= 1;
        state.watch.remove(slice.id);
        state.over += 1;
        state.stuck = false;
        drop(state);
        self.departed.notify_all();
        if process.lib.busy_ns.is_none() {
            process.account.add_gpu_time(self.number, used);
        }
        let over = Over { used, ahead: slice.ahead, until: slice.until };
        slice.give_back(process, self);
        self.gate.ends(&process.account, over);
    }

    /// When to ask whether a kernel has run too long; `None` without a limit.
    pub(super) fn limit_due(&self) -> Option<Duration> {
        self.gate.limit().map(|limit| (limit / 8).max(LIMIT_LOOK))
    }

    /// Whether the device has worked on what one thread issued within a slice
    /// for longer than a kernel of the VM may run. A stream that waits for its
    /// own program does not count.
    pub(super) fn has_overrun(&self, process: &Process) -> bool {
        let lib = &process.lib;
        self.gate.limit().is_some_and(|limit| self.lock().watch.has_overrun(lib, self.clock_ns(lib), limit))
    }

    /// What the library's clock says is told before a slice is over.
    pub(super) fn report(&self, process: &Process) {
        if !self.gate.has_slot() {
            return;
        }
        let Some(now) = self.clock_ns(&process.lib) else { return };
        let mut state = self.lock();
        let used = now.saturating_sub(std::mem::replace(&mut state.clock_ns, now));
        self.gate.add_used(used);
    }

    /// A copy between host and device is about to be issued: waits for the VM's
    /// round of them.
    #[inline]
    pub(super) fn admit_copy(&self, process: &Process, mut holds: impl FnMut(bool)) {
        if !self.gate.may_copy() {
            holds(true);
            self.gate.wait_for_copies(&process.account);
            holds(false);
        }
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

    /// A context may end: what is measured is waited for, and events are given
    /// back.
    fn context_may_end(&self, process: &Process) {
        let state = self.lock();
        let flies = |state: &mut State| state.flying > 0;
        let waited = self.departed.wait_timeout_while(state, CONTEXT_WAIT, flies);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.watch.forget_events();
        let events: Vec<_> = std::mem::take(&mut state.events).into_values().flatten().collect();
        drop(state);
        let lib = &process.lib;
        for event in events {
            let _ = cuda!(lib.cuEventDestroy_v2(event));
        }
    }

    fn is_captured_id(&self, process: &Process, stream: u64) -> bool {
        self.common.captures(Ordering::Relaxed)
            && process.handles.resolve(CUstream(stream)).is_ok_and(|stream| self.is_captured(process, stream))
    }

    /// Whether commands on a stream go into a graph. Asked only while there is
    /// a capture in the process.
    fn is_captured(&self, process: &Process, stream: CUstream) -> bool {
        if !self.common.captures(Ordering::Relaxed) {
            return false;
        }
        let (lib, mut status) = (&process.lib, CU_STREAM_CAPTURE_STATUS_NONE);
        let asked = cuda!(lib.cuStreamIsCapturing(stream, &raw mut status));
        // What cannot be told is not touched.
        asked.is_err() || status != CU_STREAM_CAPTURE_STATUS_NONE
    }
}
