//! A launch on its way: which CTAs are still to start, which were set aside, how many are done.

use crate::exec::cta::{Cta, Outcome};
use crate::exec::fault::Fault;
use crate::exec::grid::Grid;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a thread stays with a launch while others wait for it.
const SLICE: Duration = Duration::from_millis(1);
/// CTAs set aside of one launch hold at most this much memory before no more are started.
const SUSPENDED_BYTES_MAX: usize = 1 << 30;

pub struct Launch {
    pub grid: Arc<Grid>,
    /// All CTAs run together, because they wait for each other.
    pub cooperative: bool,
    /// Where it differs from its stream's.
    pub priority: Option<i32>,
    total: u64,
    next: AtomicU64,
    finished: AtomicU64,
    suspended: Mutex<Vec<Cta>>,
    suspended_bytes: AtomicU64,
    /// Threads that are with it.
    threads: AtomicUsize,
    failed: AtomicBool,
    fault: Mutex<Option<Box<Fault>>>,
}

/// How a thread left a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// This thread finished the last CTA.
    Complete,
    /// There is more to do, and something else waits.
    Unfinished,
    /// Other threads have the rest.
    Nothing,
}

impl Launch {
    pub fn new(grid: Arc<Grid>, cooperative: bool) -> Self {
        Self {
            total: grid.ctas(),
            grid,
            cooperative,
            priority: None,
            next: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            suspended: Mutex::default(),
            suspended_bytes: AtomicU64::new(0),
            threads: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            fault: Mutex::default(),
        }
    }

    /// What went wrong, once the launch is complete.
    pub fn fault(&self) -> Option<Box<Fault>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether a thread that comes now finds something to do.
    pub fn has_work(&self) -> bool {
        self.next.load(Ordering::Relaxed) < self.total || self.suspended_bytes.load(Ordering::Relaxed) > 0
    }

    fn take_suspended(&self) -> Option<Cta> {
        let mut suspended = self.suspended.lock().unwrap_or_else(PoisonError::into_inner);
        if suspended.is_empty() {
            return None;
        }
        let cta = suspended.remove(0);
        self.suspended_bytes.fetch_sub(weight(&cta), Ordering::Relaxed);
        Some(cta)
    }

    fn suspend(&self, cta: Cta) {
        let mut suspended = self.suspended.lock().unwrap_or_else(PoisonError::into_inner);
        self.suspended_bytes.fetch_add(weight(&cta), Ordering::Relaxed);
        suspended.push(cta);
    }

    /// Counts `n` CTAs as done; true for the last.
    fn finish(&self, n: u64) -> bool {
        self.finished.fetch_add(n, Ordering::AcqRel) + n == self.total
    }

    /// A CTA that is ready to run on or to start: those set aside come first, unless all must be
    /// started because they wait for each other.
    fn claim(&self, spare: &mut Option<Cta>) -> Option<Cta> {
        let room = self.suspended_bytes.load(Ordering::Relaxed) < SUSPENDED_BYTES_MAX as u64;
        if !(self.cooperative && room)
            && let Some(cta) = self.take_suspended()
        {
            return Some(cta);
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if number < self.total {
            let mut cta = spare.take().unwrap_or_else(|| Cta::new(&self.grid));
            cta.start(number);
            return Some(cta);
        }
        self.next.store(self.total, Ordering::Relaxed);
        self.take_suspended()
    }

    /// A thread comes, the how many-th is told; one that only helps stays away when there are `most`.
    pub fn enter(&self, most: usize, helps: bool) -> Option<usize> {
        let inside = self.threads.fetch_add(1, Ordering::AcqRel) + 1;
        if helps && inside > most {
            self.leave();
            return None;
        }
        Some(inside)
    }

    /// A thread that came leaves.
    pub fn leave(&self) {
        self.threads.fetch_sub(1, Ordering::AcqRel);
    }

    /// Runs CTAs until there are none, or until the thread has to leave.
    ///
    /// `leave` tells, given whether a slice is over, whether this thread is wanted elsewhere.
    pub fn work(&self, leave: impl Fn(&dyn Fn() -> bool) -> bool) -> Left {
        let began = Instant::now();
        let leave = || leave(&|| began.elapsed() > SLICE);
        let mut spare = None;
        while let Some(mut cta) = self.claim(&mut spare) {
            loop {
                if self.failed.load(Ordering::Relaxed) {
                    break;
                }
                match cta.run() {
                    Outcome::Done => break,
                    Outcome::Fault(fault) => {
                        self.failed.store(true, Ordering::Relaxed);
                        self.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
                    }
                    Outcome::Yield if leave() => {
                        self.suspend(cta);
                        return Left::Unfinished;
                    }
                    // A CTA that spins for another lets that one run.
                    Outcome::Yield if self.has_work() => {
                        self.suspend(cta);
                        match self.claim(&mut spare) {
                            Some(next) => cta = next,
                            None => return Left::Nothing,
                        }
                    }
                    Outcome::Yield => {}
                }
            }
            if self.finish(1) {
                return Left::Complete;
            }
            spare = Some(cta);
            if self.has_work() && leave() {
                return Left::Unfinished;
            }
        }
        Left::Nothing
    }
}

/// A set-aside CTA's memory, at least one byte so that the sum tells whether there is any.
fn weight(cta: &Cta) -> u64 {
    cta.footprint().max(1) as u64
}
