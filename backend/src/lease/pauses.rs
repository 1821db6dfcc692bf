//! How long a VM's programs pause when their work is done: what waits for each
//! piece of its work, a frame mostly, has nothing at the gate until it has seen
//! the last one. A lease that ended at each such pause would make VMs take turns
//! piece by piece, whatever their weights.

use paravane_scheduler::{MS, Nanos};

use super::page::Wants;

/// A holder without work keeps the lease so long in any case: a program that
/// launches and synchronises is not done between two kernels. Its worker tells
/// that it has no work only when its threads have slept or polled for some 60 us.
pub(super) const ANTICIPATION: Nanos = MS / 20;
/// Nobody is waited for longer.
const LINGER_MAX: Nanos = 10 * MS;
/// Nor at all, whose pauses last longer than this part of its work between two:
/// so much of the device's time may be lost where it comes as it mostly does.
const PART: Nanos = 4;
/// How much the last pause, and the last work, count beside those before.
const BLEND: Nanos = 4;

/// What was seen of one VM.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    state: State,
    pause: Option<Nanos>,
    work: Option<Nanos>,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// Nobody looked when it began.
    #[default]
    Unseen,
    /// It has had work since it had been measured to have used so much.
    Works { from: Nanos },
    /// It has had none since then.
    Pauses { since: Nanos },
}

impl Pauses {
    /// A look at what a VM wants. Under an open lease nobody looks in time; and who
    /// still has a lease when its pause is over calls nobody, so how long that was is
    /// not known.
    pub(super) fn look(&mut self, wants: &Wants, open: bool, now: Nanos) {
        let (busy, used) = (wants.in_flight || wants.waiting > 0, wants.gpu_ns);
        self.state = match (self.state, busy) {
            _ if open => State::Unseen,
            (State::Works { from }, false) => {
                self.work = blend(self.work, used.saturating_sub(from));
                State::Pauses { since: now }
            }
            (State::Pauses { since }, true) if wants.waiting > 0 => {
                self.pause = blend(self.pause, now.saturating_sub(since));
                State::Works { from: used }
            }
            (State::Unseen | State::Pauses { .. }, true) => State::Works { from: used },
            (same, _) => same,
        };
    }

    /// How long the lease is worth keeping for what the VM brings next, if that is
    /// its due.
    pub(super) fn worth(&self) -> Nanos {
        let (Some(pause), Some(work)) = (self.pause, self.work) else { return ANTICIPATION };
        // As long again as they last on average.
        let linger = pause.saturating_mul(2);
        if linger > LINGER_MAX.min(work / PART * 2) { ANTICIPATION } else { linger.max(ANTICIPATION) }
    }
}

fn blend(old: Option<Nanos>, new: Nanos) -> Option<Nanos> {
    Some(old.map_or(new, |old| old - old / BLEND + new / BLEND))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_the_gate(used: Nanos) -> Wants {
        Wants { waiting: 1, gpu_ns: used, ..Wants::default() }
    }

    fn without_work(used: Nanos) -> Wants {
        Wants { gpu_ns: used, ..Wants::default() }
    }

    /// A VM that has used `work`, and pauses for so long, some times.
    fn seen(work: Nanos, pause: Nanos) -> Pauses {
        let (mut pauses, mut now, mut used) = (Pauses::default(), 0, 0);
        for _ in 0..20 {
            pauses.look(&at_the_gate(used), false, now);
            (now, used) = (now + 2 * work, used + work);
            pauses.look(&without_work(used), false, now);
            now += pause;
        }
        pauses
    }

    #[test]
    fn short_pauses_between_long_work_are_waited_for() {
        let worth = seen(20 * MS, 2 * MS).worth();
        assert!((4 * MS - MS / 10..=4 * MS).contains(&worth), "{worth}");
        assert_eq!(seen(20 * MS, MS / 100).worth(), ANTICIPATION);
        for (work, pause) in [(20 * MS, 6 * MS), (4 * MS, 2 * MS), (MS, 16 * MS), (0, MS)] {
            assert_eq!(seen(work, pause).worth(), ANTICIPATION, "{work} {pause}");
        }
        assert_eq!(Pauses::default().worth(), ANTICIPATION);
    }

    #[test]
    fn pauses_whose_end_nobody_has_seen_count_for_nothing() {
        let mut pauses = seen(20 * MS, 2 * MS);
        let before = pauses.worth();
        pauses.look(&without_work(0), true, 10_000 * MS);
        pauses.look(&at_the_gate(0), false, 20_000 * MS);
        pauses.look(&without_work(20 * MS), false, 20_020 * MS);
        pauses.look(&Wants { in_flight: true, gpu_ns: 20 * MS, ..Wants::default() }, false, 30_000 * MS);
        assert!(pauses.worth().abs_diff(before) < MS / 100, "{} {before}", pauses.worth());
    }

    #[test]
    fn a_program_that_changes_its_habits_is_known_soon() {
        let mut pauses = seen(20 * MS, 2 * MS);
        pauses.look(&at_the_gate(0), false, 1000 * MS);
        pauses.look(&without_work(20 * MS), false, 1020 * MS);
        pauses.look(&at_the_gate(20 * MS), false, 1320 * MS);
        assert_eq!(pauses.worth(), ANTICIPATION, "once is enough");
    }
}
