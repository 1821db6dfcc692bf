//! Waiting for the host: a short spin for an answer that is on its way, then
//! giving way to whoever wants the core, then sleep. Nobody spins long when
//! others wait for the core.

use std::time::{Duration, Instant};

use crate::boundary::Answer;

/// Spins before the first yield. A pause takes about 40 ns on server cores:
/// two microseconds, the length of a call that is answered at once.
const SPINS: u32 = 50;

/// How long a waiter keeps yielding before it sleeps. A sleep and its wake-up
/// cost some 10 us on one host and more through a VM's doorbell.
const YIELD_FOR: Duration = Duration::from_micros(60);

/// A yield that takes longer gave the core to somebody: it is wanted, so the
/// waiter had better sleep.
const OTHERS_RAN: Duration = Duration::from_micros(5);

/// The steps of one wait.
pub(crate) enum Step {
    /// Look again at once.
    Again,
    /// Go to sleep.
    Sleep,
}

/// Counts one wait's steps.
pub(crate) struct Waiter {
    spins: u32,
    yielding_since: Option<Instant>,
}

impl Waiter {
    pub(crate) fn new() -> Self {
        Self { spins: 0, yielding_since: None }
    }

    /// Spends a moment and says how to go on.
    #[inline]
    pub(crate) fn step(&mut self) -> Step {
        if self.spins < SPINS {
            self.spins += 1;
            std::hint::spin_loop();
            return Step::Again;
        }
        let before = Instant::now();
        let since = *self.yielding_since.get_or_insert(before);
        std::thread::yield_now();
        let others_ran = before.elapsed() > OTHERS_RAN;
        if others_ran || since.elapsed() > YIELD_FOR { Step::Sleep } else { Step::Again }
    }
}

/// Waits with short sleeps, without a doorbell: for progress of the host that
/// is certain to come soon.
pub(crate) fn until(mut ready: impl FnMut() -> Answer<bool>) -> Answer {
    let mut waiter = Waiter::new();
    while !ready()? {
        if matches!(waiter.step(), Step::Sleep) {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
    Ok(())
}
