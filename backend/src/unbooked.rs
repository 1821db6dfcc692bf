//! Processes that have ended and are not in paravaned's ledger yet. It may be
//! away for long: beyond a bound the oldest become one sum.

use std::collections::{BTreeMap, BTreeSet};

use paravane_protocol::limits::PROCESSES_KEPT_MAX;

use crate::usage::{Counters, Finished, add};

/// The processes by their numbers, and the sum of those that are not kept.
#[derive(Default)]
pub(crate) struct Unbooked {
    processes: BTreeMap<u64, Finished>,
    /// Of which paravaned has been told while they ran: it may have booked a
    /// part, so they are never added to a sum. WORKERS_MAX at most run when it
    /// goes away.
    known: BTreeSet<u64>,
    /// What those have used that are not kept.
    pub(crate) rest: Counters,
}

impl Unbooked {
    /// Notes that these are told of while they run.
    pub(crate) fn known(&mut self, numbers: impl Iterator<Item = u64>) {
        self.known.extend(numbers);
    }

    /// Keeps a process that has ended.
    pub(crate) fn push(&mut self, finished: Finished) {
        self.processes.insert(finished.number, finished);
        let strangers = self.processes.keys().filter(|number| !self.known.contains(number));
        if strangers.clone().count() <= PROCESSES_KEPT_MAX {
            return;
        }
        let oldest = strangers.copied().next();
        if let Some(oldest) = oldest.and_then(|number| self.processes.remove(&number)) {
            add(&mut self.rest, &oldest.counters);
        }
    }

    /// Those that are kept.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Finished> {
        self.processes.values()
    }

    /// These are booked.
    pub(crate) fn remove(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.processes.remove(number);
            self.known.remove(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(number: u64) -> Finished {
        let mut counters = Counters::default();
        counters[0] = 1;
        Finished { number, pid: 1, name: String::new(), counters, on_devices: Default::default(), memory_peak_bytes: 0 }
    }

    #[test]
    fn what_is_not_kept_is_summed_unless_a_part_may_be_booked() {
        let mut unbooked = Unbooked::default();
        unbooked.known(1..=3);
        let many = u64::try_from(PROCESSES_KEPT_MAX).unwrap() + 13;
        (1..=many).for_each(|number| unbooked.push(finished(number)));
        assert_eq!(unbooked.rest[0], 10);
        let kept: Vec<u64> = unbooked.iter().map(|finished| finished.number).take(4).collect();
        assert_eq!(kept, [1, 2, 3, 14]);
        unbooked.remove(&[2, 14, 5000]);
        assert_eq!(unbooked.iter().count(), PROCESSES_KEPT_MAX + 1);
    }
}
