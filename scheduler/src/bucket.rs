//! The hard cap: a bucket that fills at the cap's rate and is drained by what is used. Use beyond it is owed, and nothing
//! may be used while anything is owed.

use crate::settings::WHOLE;
use crate::{MS, Nanos};

/// Use that a VM can have saved while it was idle or waited for others' turns: so much that waiting loses nothing of the cap,
/// and so little that no second's use is a hundredth above it.
const SAVED_MAX: i64 = (6 * MS).cast_signed();

#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    /// Thousandths of time.
    rate: u32,
    /// Nanoseconds that may be used; below 0 they are owed.
    level: i64,
    /// Time that has filled no whole nanosecond yet, in thousandths of one.
    rest: u64,
    /// When `level` was right.
    at: Nanos,
}

impl Bucket {
    pub(crate) fn new(rate: u32, now: Nanos) -> Self {
        Bucket { rate, level: 0, rest: 0, at: now }
    }

    /// Another rate from now on; what is owed stays owed.
    pub(crate) fn set_rate(&mut self, rate: u32, now: Nanos) {
        self.fill(now);
        self.rate = rate;
    }

    fn fill(&mut self, now: Nanos) {
        let passed = now.saturating_sub(self.at);
        self.at = self.at.max(now);
        let thousandths = u128::from(passed) * u128::from(self.rate) + u128::from(self.rest);
        let whole = i64::try_from(thousandths / u128::from(WHOLE)).unwrap_or(i64::MAX);
        self.rest = u64::try_from(thousandths % u128::from(WHOLE)).unwrap_or(0);
        self.level = self.level.saturating_add(whole).min(SAVED_MAX);
    }

    pub(crate) fn drain(&mut self, used: Nanos, now: Nanos) {
        self.fill(now);
        self.level = self.level.saturating_sub(i64::try_from(used).unwrap_or(i64::MAX));
    }

    /// When the VM may go on: now, or when nothing is owed any more. `None` without a cap.
    pub(crate) fn free_at(&mut self, now: Nanos) -> Option<Nanos> {
        if self.rate >= WHOLE {
            return None;
        }
        self.fill(now);
        if self.level >= 0 {
            return None;
        }
        let owed = u128::from(self.level.unsigned_abs()) * u128::from(WHOLE) - u128::from(self.rest);
        let wait = owed.div_ceil(u128::from(self.rate.max(1)));
        Some(now.saturating_add(u64::try_from(wait).unwrap_or(Nanos::MAX)))
    }

    /// The longest turn that keeps to the cap, at least `least`: what is saved and what comes in meanwhile.
    pub(crate) fn longest(&self, wanted: Nanos, least: Nanos) -> Nanos {
        if self.rate >= WHOLE {
            return wanted;
        }
        wanted.min(u64::try_from(self.level).unwrap_or(0).max(least))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_owed_is_waited_for_exactly() {
        let mut bucket = Bucket::new(250, 0);
        bucket.drain(MS, 0);
        assert_eq!(bucket.free_at(0), Some(4 * MS));
        assert_eq!(bucket.free_at(3 * MS), Some(4 * MS));
        assert_eq!(bucket.free_at(4 * MS), None);
        bucket.drain(1, 4 * MS);
        assert_eq!(bucket.free_at(4 * MS), Some(4 * MS + 4));
    }

    #[test]
    fn thousandths_of_a_nanosecond_are_not_lost() {
        let mut bucket = Bucket::new(1, 0);
        bucket.drain(1, 0);
        for now in 1..1000 {
            assert_eq!(bucket.free_at(now), Some(1000), "at {now}");
        }
        assert_eq!(bucket.free_at(1000), None);
    }

    #[test]
    fn idleness_saves_a_little_and_not_more() {
        let mut bucket = Bucket::new(500, 0);
        bucket.drain(6 * MS, 60_000 * MS);
        assert_eq!(bucket.free_at(60_000 * MS), None);
        bucket.drain(1, 60_000 * MS);
        assert!(bucket.free_at(60_000 * MS).is_some());
    }

    #[test]
    fn a_whole_gpu_is_no_cap() {
        let mut bucket = Bucket::new(WHOLE, 0);
        bucket.drain(60_000 * MS, 0);
        assert_eq!(bucket.free_at(0), None);
        assert_eq!(bucket.longest(8 * MS, 1), 8 * MS);
    }
}
