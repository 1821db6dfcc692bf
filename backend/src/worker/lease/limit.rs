//! Slices as far as the VM's limit on a kernel is about them: whether the device
//! has begun with one, and since when. Those of streams that are blocked have
//! not begun, and hide no others.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use paravane_protocol::cuda_types::*;
use paravane_scheduler::Nanos;

use crate::worker::libcuda::{Libcuda, beside_captures, cuda};

/// A slice that is not over.
#[derive(Default)]
struct Watched {
    /// Reached when the device begins with it, on one of its streams.
    starts: Vec<CUevent>,
    /// Whether that cannot be told.
    is_blind: bool,
    /// When it was first seen to have begun, and the library's clock then.
    begun: Option<(Instant, Nanos)>,
}

/// All slices that are not over, by their numbers.
#[derive(Default)]
pub(super) struct Watch(BTreeMap<u64, Watched>);

impl Watch {
    /// A slice has begun on this side.
    pub(super) fn add(&mut self, slice: u64) {
        self.0.insert(slice, Watched::default());
    }

    /// A slice comes to a stream; `start` is its beginning there, if there is an
    /// event.
    pub(super) fn note(&mut self, slice: u64, start: Option<CUevent>) {
        let Some(watched) = self.0.get_mut(&slice) else { return };
        match start {
            Some(start) => watched.starts.push(start),
            None => watched.is_blind = true,
        }
    }

    /// A slice is over.
    pub(super) fn remove(&mut self, slice: u64) {
        self.0.remove(&slice);
    }

    /// Events end with their contexts: none is asked any more.
    pub(super) fn forget_events(&mut self) {
        for watched in self.0.values_mut() {
            watched.is_blind |= !watched.starts.is_empty();
            watched.starts.clear();
        }
    }

    /// Whether the device has been at a slice for longer than `limit`. Where it has
    /// a clock, that must have gone on meanwhile: else a stream waits for its own
    /// program.
    pub(super) fn has_overrun(&mut self, lib: &Libcuda, clock_ns: Option<Nanos>, limit: Duration) -> bool {
        for watched in self.0.values_mut() {
            let Watched { starts, is_blind, begun } = watched;
            let is_reached = |start: &CUevent| beside_captures(lib, || cuda!(lib.cuEventQuery(*start))).is_ok();
            if begun.is_none() && (*is_blind || starts.iter().any(is_reached)) {
                *begun = Some((Instant::now(), clock_ns.unwrap_or(0)));
            }
        }
        self.is_over(limit, clock_ns)
    }

    fn is_over(&self, limit: Duration, clock_ns: Option<Nanos>) -> bool {
        let worked = |since: Nanos| {
            clock_ns.is_none_or(|now| Duration::from_nanos(now.saturating_sub(since)) > limit)
        };
        let mut begun = self.0.values().filter_map(|watched| watched.begun);
        begun.any(|(at, clock)| at.elapsed() > limit && worked(clock))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(seconds: u64, clock: Nanos) -> Watched {
        let at = Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        Watched { begun: Some((at, clock)), ..Watched::default() }
    }

    #[test]
    fn only_what_the_device_is_at_is_too_long() {
        let limit = Duration::from_secs(2);
        let mut watch = Watch::default();
        watch.add(0);
        assert!(!watch.is_over(limit, None), "it is blocked");
        watch.0.insert(1, begun(3, 10));
        assert!(watch.is_over(limit, None), "behind one that is blocked");
        assert!(!watch.is_over(limit, Some(1_000_000_010)), "the clock stood still");
        assert!(watch.is_over(limit, Some(2_000_000_011)));
        watch.remove(1);
        watch.0.insert(2, begun(1, 0));
        assert!(!watch.is_over(limit, None), "not yet");
    }

    #[test]
    fn what_cannot_be_asked_has_begun() {
        let mut watch = Watch::default();
        watch.add(0);
        watch.note(0, Some(CUevent(5)));
        watch.note(1, Some(CUevent(6)));
        assert!(watch.0.values().all(|watched| !watched.is_blind) && watch.0.len() == 1);
        watch.forget_events();
        assert!(watch.0.values().all(|watched| watched.is_blind && watched.starts.is_empty()));
    }
}
