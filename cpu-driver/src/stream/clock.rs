//! The device's own clock of work: how long at least one thread has run a task. The executor tells
//! when the device becomes busy and when it has nothing to do; whoever keeps an account reads it.

use std::time::{Duration, Instant};

/// The sum of the intervals in which the device was busy.
#[derive(Default)]
pub(super) struct BusyClock {
    past: Duration,
    since: Option<Instant>,
}

impl BusyClock {
    /// The first thread takes up work.
    pub(super) fn start(&mut self) {
        self.since = Some(Instant::now());
    }

    /// The last thread has put down its work.
    pub(super) fn stop(&mut self) {
        if let Some(since) = self.since.take() {
            self.past += since.elapsed();
        }
    }

    /// Nanoseconds of work until now.
    pub(super) fn busy_ns(&self) -> u64 {
        let busy = self.past + self.since.map_or(Duration::ZERO, |since| since.elapsed());
        u64::try_from(busy.as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_time_between_start_and_stop_counts() {
        let mut clock = BusyClock::default();
        clock.stop();
        assert_eq!(clock.busy_ns(), 0);
        clock.start();
        while clock.busy_ns() == 0 {}
        clock.stop();
        let after = clock.busy_ns();
        assert!(after > 0);
        assert_eq!(clock.busy_ns(), after, "an idle device's clock stands still");
    }
}
