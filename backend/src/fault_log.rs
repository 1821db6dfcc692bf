//! Bounded logging of what guests do wrong: a hostile guest must not fill the
//! host's log.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use paravane_protocol::limits::FAULT_LOGS_MAX;

/// How many lines may still be written; one is added each second.
#[derive(Debug)]
pub(crate) struct Budget {
    left: u32,
    refilled: Instant,
    dropped: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { left: FAULT_LOGS_MAX, refilled: Instant::now(), dropped: 0 }
    }
}

impl Budget {
    /// As [`take`](Self::take), of one that several share.
    pub(crate) fn take_now(shared: &Mutex<Self>, now: Instant) -> Option<u64> {
        shared.lock().unwrap_or_else(PoisonError::into_inner).take(now)
    }

    /// Takes one line. `None`: not now. Else how many were dropped before it.
    fn take(&mut self, now: Instant) -> Option<u64> {
        let seconds = now.saturating_duration_since(self.refilled).as_secs();
        if seconds > 0 {
            let added = u32::try_from(seconds).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(added).min(FAULT_LOGS_MAX);
            self.refilled += Duration::from_secs(seconds);
        }
        if self.left == 0 {
            self.dropped += 1;
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.dropped))
    }
}

/// The one for a back end; all connections share its bound.
#[derive(Debug, Default)]
pub struct FaultLog {
    budget: Mutex<Budget>,
}

impl FaultLog {
    /// Logs a guest's fault, if the bound allows.
    pub fn guest(&self, connection: u64, fault: impl Display) {
        match Budget::take_now(&self.budget, Instant::now()) {
            None => {}
            Some(0) => log::warn!("connection {connection}: guest: {fault}"),
            Some(dropped) => {
                log::warn!("connection {connection}: guest: {fault} ({dropped} more not logged)");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_and_the_dropped_ones_counted() {
        let start = Instant::now();
        let mut budget = Budget { left: 2, refilled: start, dropped: 0 };
        assert_eq!(budget.take(start), Some(0));
        assert_eq!(budget.take(start), Some(0));
        assert_eq!(budget.take(start), None);
        assert_eq!(budget.take(start), None);
        assert_eq!(budget.take(start + Duration::from_millis(1500)), Some(2));
        assert_eq!(budget.take(start + Duration::from_millis(1900)), None);
        let later = start + Duration::from_secs(1_000_000);
        assert_eq!(budget.take(later), Some(1));
        assert_eq!(budget.left, FAULT_LOGS_MAX - 1);
    }
}
