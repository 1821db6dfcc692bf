//! The goals that issue 2 of the project set, so that a run says how far it is
//! from them.

use crate::figure::unit;

/// When a figure is good enough.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goal {
    /// At this value.
    At(f64),
    /// At this share of the floor.
    OfFloor(f64),
    /// At this much above the floor.
    OverFloor(f64),
    /// At this share of the figure on libcuda alone, or of a VM alone.
    OfAlone(f64),
}

impl Goal {
    /// What the named figure should reach, if anybody said so.
    pub(crate) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "awaited call" => Self::At(1.2),
            "launch and stream synchronise" => Self::At(2.5),
            // It stays in the guest: no word goes to another core and back.
            "synchronise, nothing outstanding" => Self::OfFloor(1.0),
            "posted launch, in the caller" => Self::At(150.0),
            "launches, synchronise included" => Self::At(3.0),
            // No processor time at all; reading the figure costs some.
            "idle for 2 s, processor time" => Self::At(1.0),
            "memory per idle process" => Self::At(3.0),
            "process start to first kernel" => Self::OverFloor(5.0),
            sum if sum.ends_with(" together") => Self::OfFloor(1.0),
            fairness if fairness.ends_with(", fairness") => Self::At(0.9),
            // Issue 4: how VMs share.
            sched if sched.starts_with("sched: ") => return Self::of_sched(sched),
            small if small.ends_with("KiB") => return None,
            copy if copy.starts_with("pageable") => Self::OfFloor(0.5),
            copy if copy.starts_with("pinned") => Self::OfFloor(0.95),
            _ => return None,
        })
    }

    /// Kernels of 50 ms and the like are shown and have none.
    fn of_sched(name: &str) -> Option<Self> {
        let (scenario, figure) = name.trim_start_matches("sched: ").split_once(": ")?;
        let long = scenario.contains("50 ms") || scenario.ends_with("beside 1 s");
        Some(match figure {
            "overhead" | "error of the account" | "above it" => Self::At(1.0),
            "share error" | "largest share error" if scenario.ends_with("10 s") && !long => Self::At(1.0),
            "share error" if !long => Self::At(2.0),
            "missing of its half" => Self::At(2.0),
            "lost against one VM" if !long => Self::At(1.5),
            "P99" if !long => Self::OfAlone(1.1),
            // One kernel and 10 ms; the VM's own kernel is 10 ms at most.
            "longest" if scenario.ends_with("beside 1 s") => Self::At(1020.0),
            _ => return None,
        })
    }

    /// The goal as a value.
    pub(crate) fn value(self, floor: Option<f64>, alone: Option<f64>) -> Option<f64> {
        match self {
            Self::OfAlone(share) => alone.map(|alone| alone * share),
            Self::At(value) => Some(value),
            Self::OfFloor(share) => floor.map(|floor| floor * share),
            Self::OverFloor(more) => floor.map(|floor| floor + more),
        }
    }
}

/// Whether `value` is at least as good as `goal`.
pub(crate) fn reached(value: f64, goal: f64, unit_name: &str) -> bool {
    if unit::more_is_better(unit_name) { value >= goal } else { value <= goal }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_measured_by_its_share_of_memcpy_from_a_mebibyte_on() {
        assert_eq!(Goal::of("pageable to device, 1 MiB"), Some(Goal::OfFloor(0.5)));
        assert_eq!(Goal::of("pinned from device, 1 GiB"), Some(Goal::OfFloor(0.95)));
        assert_eq!(Goal::of("pinned from device, 4 KiB"), None);
        assert_eq!(Goal::of("pinned from device, 64 KiB"), None);
        assert_eq!(Goal::OfFloor(0.5).value(Some(9.0), None), Some(4.5));
        assert_eq!(Goal::OfFloor(0.5).value(None, None), None);
    }

    #[test]
    fn short_kernels_share_well_and_long_ones_are_shown() {
        let goal = Goal::of("sched: 3:1, 500 us, 10 s: share error");
        assert_eq!(goal, Some(Goal::At(1.0)));
        assert_eq!(Goal::of("sched: 3:1, 500 us, 1 s: share error"), Some(Goal::At(2.0)));
        assert_eq!(Goal::of("sched: 3:1, 50 ms, 10 s: share error"), None);
        let beside = Goal::of("sched: interactive kernel of 2 ms beside 500 us: P99");
        assert_eq!(beside.and_then(|goal| goal.value(None, Some(2.0))), Some(2.2));
    }

    #[test]
    fn a_rate_reaches_its_goal_from_below_and_a_time_from_above() {
        assert!(reached(3.1, 3.0, unit::M_PER_S) && !reached(2.9, 3.0, unit::M_PER_S));
        assert!(reached(1.1, 1.2, unit::US) && !reached(1.3, 1.2, unit::US));
    }
}
