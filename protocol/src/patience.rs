//! How long a thread waits awake for the other side. Guest and host threads
//! use the same policy: a short spin for an answer that is on its way, then
//! giving way, then sleep. Who finds the processors crowded does not spin at
//! all: then the other side needs the core more than the waiter does. It does
//! not sleep at once either: a wake-up costs ten times a yield.

use std::time::{Duration, Instant};

/// Spins before the first yield. A pause takes about 40 ns on a server's
/// cores: two microseconds, the length of a call that is answered at once.
const SPINS: u32 = 50;

/// How long a waiter keeps yielding before it sleeps. A sleep and its wake-up
/// cost some 10 us on one host and more through a VM's doorbell.
const YIELD_FOR: Duration = Duration::from_micros(60);

/// A yield takes less than a microsecond when nobody wants the core; one that
/// took longer than this let somebody run.
const ALONE: Duration = Duration::from_micros(4);

/// Waits without a spin after a crowded one, unless they meet the crowd too.
const CROWDED_WAITS: u32 = 30;

/// What one thread has learnt of the processors it runs on.
#[derive(Debug, Default)]
pub struct Patience {
    crowded: u32,
}

/// What to do while there is nothing yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Look again at once.
    Again,
    /// Go to sleep.
    Sleep,
}

/// One wait.
#[derive(Debug)]
pub struct Wait<'a> {
    patience: &'a mut Patience,
    spins: u32,
    yielding_since: Option<Instant>,
}

impl Patience {
    /// Starts a wait.
    #[inline]
    pub fn wait(&mut self) -> Wait<'_> {
        Wait { patience: self, spins: 0, yielding_since: None }
    }

    /// A yield took so long.
    fn learn(&mut self, took: Duration) {
        if took > ALONE {
            self.crowded = CROWDED_WAITS;
        }
    }
}

impl Wait<'_> {
    /// Spends a moment and says how to go on.
    #[inline]
    pub fn step(&mut self) -> Step {
        if self.spins == 0 && self.patience.crowded > 0 {
            self.patience.crowded -= 1;
            self.spins = SPINS;
        }
        if self.spins < SPINS {
            self.spins += 1;
            std::hint::spin_loop();
            return Step::Again;
        }
        self.give_way()
    }

    #[cold]
    fn give_way(&mut self) -> Step {
        let before = Instant::now();
        let since = *self.yielding_since.get_or_insert(before);
        std::thread::yield_now();
        let now = Instant::now();
        self.patience.learn(now - before);
        if now - since > YIELD_FOR { Step::Sleep } else { Step::Again }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn a_wait_spins_first_and_sleeps_in_the_end() {
        let mut patience = Patience::default();
        let mut wait = patience.wait();
        assert!((0..SPINS).all(|_| wait.step() == Step::Again));
        assert!(wait.yielding_since.is_none());
        while wait.step() == Step::Again {}
        assert!(wait.yielding_since.is_some());
    }

    #[test]
    fn in_a_crowd_a_wait_gives_way_at_once_until_the_crowd_has_gone() {
        let mut patience = Patience::default();
        patience.learn(Duration::from_micros(1));
        assert_eq!(patience.crowded, 0);
        patience.learn(Duration::from_micros(9));
        for left in (0..CROWDED_WAITS).rev() {
            let mut wait = patience.wait();
            let _ = wait.step();
            assert!(wait.yielding_since.is_some());
            // Whatever this yield met.
            patience.crowded = left;
        }
        let mut wait = patience.wait();
        let _ = wait.step();
        assert!(wait.yielding_since.is_none());
    }
}
