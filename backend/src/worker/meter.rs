//! How busy the devices were: where the library keeps their clocks
//! (cpu-driver does), the worker's main thread looks at it from time to time and
//! writes into the account how much of the period was work. NVML's utilisation
//! comes from there.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use super::process::Process;
use crate::account::Gauge;

/// Between looks at a device that works; NVIDIA's sample periods are 1/6 s to 1 s.
const BUSY_PERIOD: Duration = Duration::from_millis(200);
/// Between looks at one that does not.
const QUIET_PERIOD: Duration = Duration::from_secs(1);

/// The last look.
pub(super) struct Meter {
    at: Instant,
    busy_ns: u64,
    period: Duration,
}

impl Meter {
    /// A meter that has looked now.
    pub(super) fn new(process: &Process) -> Self {
        let busy_ns = process.leases.busy_ns(&process.lib).unwrap_or(0);
        Self { at: Instant::now(), busy_ns, period: BUSY_PERIOD }
    }

    /// How long until the next look; `None` where there is nothing to look at.
    pub(super) fn due(&self, process: &Process) -> Option<Duration> {
        process.lib.busy_ns?;
        Some(self.period.saturating_sub(self.at.elapsed()))
    }

    /// Looks, if it is time.
    pub(super) fn look(&mut self, process: &Process) {
        let Some(now) = process.leases.busy_ns(&process.lib) else { return };
        process.leases.all().for_each(|lease| lease.report(process));
        let elapsed = self.at.elapsed();
        if elapsed < self.period {
            return;
        }
        let percent = percent(now.saturating_sub(self.busy_ns), elapsed);
        let account = &process.account;
        process.leases.settle_time(process);
        account.gauge(Gauge::BusyPercent).store(percent, Ordering::Relaxed);
        account.gauge(Gauge::SeenUs).store(wall_us(), Ordering::Relaxed);
        let works = now != self.busy_ns;
        let period = if works { BUSY_PERIOD } else { QUIET_PERIOD };
        *self = Self { at: self.at + elapsed, busy_ns: now, period };
    }
}

/// So much work in a period, rounded to the nearest percent.
fn percent(busy_ns: u64, period: Duration) -> u64 {
    let period_ns = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX).max(1);
    (busy_ns.saturating_mul(100).saturating_add(period_ns / 2) / period_ns).min(100)
}

/// Microseconds since 1970.
fn wall_us() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_is_rounded_and_never_over_a_hundred() {
        let period = Duration::from_millis(200);
        let ms = 1_000_000;
        let expected = [(0, 0), (ms, 1), (100 * ms, 50), (200 * ms, 100), (900 * ms, 100)];
        for (busy, share) in expected {
            assert_eq!(percent(busy, period), share);
        }
        assert_eq!(percent(7, Duration::ZERO), 100);
    }
}
