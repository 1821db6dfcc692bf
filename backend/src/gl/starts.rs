//! How often a VM's renderers may be started: a guest that kills each must not
//! keep the host busy with starting them.
#![deny(clippy::indexing_slicing)]

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many at one go, and then one more for each period.
const STARTS_MAX: u32 = 10;
const PERIOD: Duration = Duration::from_secs(6);

#[derive(Debug)]
struct State {
    left: u32,
    since: Instant,
    told: bool,
}

/// The starts of all connections of a back end.
#[derive(Debug)]
pub struct Starts(Mutex<State>);

impl Default for Starts {
    fn default() -> Self {
        Self(Mutex::new(State { left: STARTS_MAX, since: Instant::now(), told: false }))
    }
}

impl Starts {
    /// Takes one. There is none: whether that has not been said yet.
    ///
    /// # Errors
    /// As said.
    pub(super) fn take(&self, now: Instant) -> Result<(), bool> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while state.left < STARTS_MAX && now.saturating_duration_since(state.since) >= PERIOD {
            state.left += 1;
            state.since += PERIOD;
        }
        if state.left == STARTS_MAX {
            state.since = now;
        }
        if state.left == 0 {
            return Err(!std::mem::replace(&mut state.told, true));
        }
        state.left -= 1;
        // It is said again when all have been there again.
        state.told &= state.left + 1 < STARTS_MAX;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_bounded_and_come_back() {
        let starts = Starts::default();
        let mut now = Instant::now() + PERIOD;
        (0..STARTS_MAX).for_each(|_| assert_eq!(starts.take(now), Ok(())));
        assert_eq!([starts.take(now), starts.take(now)], [Err(true), Err(false)]);
        now += PERIOD * 2;
        assert_eq!([starts.take(now), starts.take(now)], [Ok(()); 2]);
        assert_eq!(starts.take(now), Err(false), "it is known");
        now += PERIOD * 1000;
        (0..STARTS_MAX).for_each(|_| assert_eq!(starts.take(now), Ok(())));
        assert_eq!(starts.take(now), Err(true), "this is another time");
    }
}
