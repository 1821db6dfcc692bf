//! A slice: what one thread has issued between two edges. Its end is an event
//! on every stream that it used; where the library has no clock of its own, so
//! is its beginning, and the slice's GPU time is the union of what lies between.

use paravane_protocol::cuda_types::*;
use paravane_scheduler::{Nanos, Shape};

use super::ProcessLease;
use crate::worker::libcuda::{Answer, cuda};
use crate::worker::process::Process;

/// CU_EVENT_BLOCKING_SYNC, and that with CU_EVENT_DISABLE_TIMING.
const EVENT_TIMED: u32 = 1;
const EVENT_UNTIMED: u32 = 3;

/// A stream as a thread uses it, with its context: the current one, or that of
/// which it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Place {
    pub(super) context: u64,
    pub(super) stream: u64,
}

/// A stream that a slice has used.
pub(super) struct Used {
    pub(super) place: Place,
    start: Option<CUevent>,
    end: Option<CUevent>,
}

/// What is to be waited for and measured.
#[derive(Default)]
pub(super) struct Slice {
    /// Which of those that have begun it is, and which of those that have ended.
    pub(super) id: u64,
    pub(super) number: u64,
    pub(super) used: Vec<Used>,
    pub(super) commands: Vec<(Shape, u32)>,
    /// What was predicted of it; for what is unknown, what that counts for.
    pub(super) weight: Nanos,
    /// What of it stands in the page as ahead.
    pub(super) ahead: Nanos,
    /// When the last lease ended under which some of it was issued; 0: none did.
    pub(super) until: Nanos,
}

fn new_event(process: &Process, lease: &ProcessLease, context: u64) -> Option<CUevent> {
    if let Some(event) = lease.take_event(context) {
        return Some(event);
    }
    let lib = &process.lib;
    let flags = if lib.busy_ns.is_some() { EVENT_UNTIMED } else { EVENT_TIMED };
    let mut event = CUevent(0);
    cuda!(lib.cuEventCreate(&raw mut event, flags)).ok().map(|()| event)
}

/// Runs something with a context current; afterwards that of `back` is.
pub(super) fn within<R>(process: &Process, context: u64, back: u64, run: impl FnOnce() -> R) -> Option<R> {
    if context == back {
        return Some(run());
    }
    let lib = &process.lib;
    let native = process.handles.resolve(CUcontext(context)).ok()?;
    cuda!(lib.cuCtxSetCurrent(native)).ok()?;
    let result = run();
    let native = process.handles.resolve(CUcontext(back)).unwrap_or(CUcontext(0));
    cuda!(lib.cuCtxSetCurrent(native)).ok()?;
    Some(result)
}

impl Slice {
    /// A stream is used that was not before. `current` is the thread's context.
    pub(super) fn note(&mut self, process: &Process, lease: &ProcessLease, place: Place, current: u64) {
        if self.used.iter().any(|used| used.place == place) {
            return;
        }
        let lib = &process.lib;
        let needs_start = lib.busy_ns.is_none() || lease.has_limit();
        let start = needs_start.then(|| {
            within(process, place.context, current, || {
                let event = new_event(process, lease, place.context)?;
                let stream = process.handles.resolve(CUstream(place.stream));
                stream.and_then(|stream| cuda!(lib.cuEventRecord(event, stream))).ok().map(|()| event)
            })
        });
        let start = start.flatten().flatten();
        lease.lock().watch.note(self.id, start);
        self.used.push(Used { place, start, end: None });
    }

    /// Records the ends. `current` is the thread's context. A stream or context
    /// that is gone has no end to wait for.
    pub(super) fn record_ends(&mut self, process: &Process, lease: &ProcessLease, current: u64) {
        let _edge = lease.common.edge();
        let lib = &process.lib;
        for used in &mut self.used {
            let Place { context, stream } = used.place;
            used.end = within(process, context, current, || {
                let stream = process.handles.resolve(CUstream(stream)).ok()?;
                if lease.is_captured(process, stream) {
                    return None;
                }
                let event = new_event(process, lease, context)?;
                cuda!(lib.cuEventRecord(event, stream)).ok().map(|()| event)
            })
            .flatten();
        }
    }

    /// Whether the device has done all of it.
    pub(super) fn is_over(&self, process: &Process) -> bool {
        let lib = &process.lib;
        self.used.iter().filter_map(|used| used.end).all(|end| cuda!(lib.cuEventQuery(end)).is_ok())
    }

    /// Waits until the device has done all of it.
    pub(super) fn wait(&self, process: &Process) {
        let lib = &process.lib;
        for used in &self.used {
            let Some(end) = used.end else { continue };
            // What has failed is over as well.
            let _ = within(process, used.place.context, 0, || cuda!(lib.cuEventSynchronize(end)));
        }
    }

    /// How long the device worked between the events, for each context the
    /// union of its streams' intervals.
    pub(super) fn measure(&self, process: &Process) -> Nanos {
        let mut contexts: Vec<u64> = self.used.iter().map(|used| used.place.context).collect();
        contexts.sort_unstable();
        contexts.dedup();
        contexts.into_iter().map(|context| self.measure_context(process, context)).sum()
    }

    fn measure_context(&self, process: &Process, context: u64) -> Nanos {
        let of_context = self.used.iter().filter(|used| used.place.context == context);
        let pairs: Vec<_> = of_context.filter_map(|used| used.start.zip(used.end)).collect();
        let Some((base, _)) = pairs.first() else { return 0 };
        let since = |event: CUevent| elapsed_ns(process, *base, event);
        let spans = pairs.iter().filter_map(|(start, end)| Some((since(*start).ok()?, since(*end).ok()?)));
        union_ns(spans.collect())
    }

    /// The events can be used again.
    pub(super) fn give_back(self, process: &Process, lease: &ProcessLease) {
        for Used { place, start, end } in self.used {
            for event in [start, end].into_iter().flatten() {
                lease.keep_event(process, place.context, event);
            }
        }
    }
}

/// From one event to another, in nanoseconds; negative the other way.
fn elapsed_ns(process: &Process, from: CUevent, to: CUevent) -> Answer<i64> {
    let lib = &process.lib;
    let mut ms = 0_f32;
    cuda!(lib.cuEventElapsedTime(&raw mut ms, from, to))?;
    let ns = f64::from(ms) * 1e6;
    if !(-1e15..1e15).contains(&ns) {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // Within the bounds above.
    #[allow(clippy::cast_possible_truncation, reason = "checked")]
    Ok(ns as i64)
}

/// The length of the union of intervals.
fn union_ns(mut spans: Vec<(i64, i64)>) -> Nanos {
    spans.sort_unstable();
    let (mut sum, mut reached) = (0_i64, i64::MIN);
    for (start, end) in spans {
        sum = sum.saturating_add(end.saturating_sub(start.max(reached)).max(0));
        reached = reached.max(end);
    }
    u64::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_overlaps_counts_once() {
        assert_eq!(union_ns(vec![]), 0);
        assert_eq!(union_ns(vec![(0, 10), (5, 15), (20, 30), (21, 22)]), 25);
        assert_eq!(union_ns(vec![(20, 30), (-5, 0), (0, 10)]), 25);
        assert_eq!(union_ns(vec![(7, 3)]), 0);
    }
}
