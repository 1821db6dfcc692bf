//! Turns: which workers of a backend hold conversations. A guest thread and
//! its host thread that talk command by command want a core each. When more
//! processes do so than the machine has pairs of cores, every word costs two
//! switches between processes; so they take turns instead, a few milliseconds
//! each, and who waits for its turn sleeps. All that is known lies in one page
//! that the workers share; `worker/turn.rs` says who needs a turn.
//!
//! A turn is advice: nothing breaks when two have the same one. It ends by
//! itself, so a worker that is killed or stuck in a call holds nobody up.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use rustix::thread::futex;
use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::page::Page;

/// How long a turn lasts when others wait. After a change of turns the kernel
/// needs up to half a millisecond to bring the two threads to different cores;
/// measured, 3 ms lost a fifth and 12 ms one part in thirty.
pub const TURN: Duration = Duration::from_millis(6);

/// How much longer than the turns before its own a waiter sleeps before it
/// looks itself: who has a turn gives it on at its end, unless it is in a call.
const GRACE_US: u64 = 500;

/// More pairs of cores than this are not counted.
const PLACES_MAX: usize = 32;

/// Offsets in the page: how many wait, a count of turns given back, and the
/// places, each with its owner and the end of the turn; 0 is a free place.
mod word {
    pub(super) const WAITING: usize = 0;
    pub(super) const GIVEN_BACK: usize = 64;
    pub(super) const PLACES: usize = 128;
}

/// Bits of a place that hold the end of the turn, in microseconds: 12 days,
/// compared modulo that.
const END_BITS: u32 = 40;
const END_MASK: u64 = (1 << END_BITS) - 1;

/// A place in the page that was taken, and what was written there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    place: usize,
    mark: u64,
}

/// The mapped page, and how many may serve at once.
#[derive(Debug)]
pub struct Turns {
    page: Page,
    places: usize,
    turn_us: u64,
}

impl Turns {
    /// A fresh page for the workers of one backend, and its descriptor.
    pub fn create() -> io::Result<OwnedFd> {
        Ok(Page::create("paravane-turns")?.1)
    }

    /// Maps the page. `cores` are those of the machine.
    pub fn map(file: impl AsFd, cores: usize) -> io::Result<Self> {
        Ok(Self::new(Page::map(file)?, cores, TURN))
    }

    fn new(page: Page, cores: usize, turn: Duration) -> Self {
        let turn_us = u64::try_from(turn.as_micros()).unwrap_or(END_MASK / 2);
        Self { page, places: (cores / 2).clamp(1, PLACES_MAX), turn_us }
    }

    fn waiting(&self) -> &AtomicU32 {
        self.page.words().atomic_u32(word::WAITING)
    }

    fn given_back(&self) -> &AtomicU32 {
        self.page.words().atomic_u32(word::GIVEN_BACK)
    }

    fn place(&self, place: usize) -> &AtomicU64 {
        self.page.words().atomic_u64(word::PLACES + 8 * place)
    }

    /// Takes a turn for `owner`, a number of its own other than 0; waits until
    /// there is one, and calls `waits` with true before and with false after it.
    pub fn take(&self, owner: u32, waits: impl Fn(bool)) -> Turn {
        if self.waiting().load(Ordering::Relaxed) == 0
            && let Some(turn) = self.try_take(owner)
        {
            return turn;
        }
        waits(true);
        let mut position = None;
        let turn = loop {
            let waiting = self.waiting().fetch_add(1, Ordering::SeqCst) + 1;
            let seen = self.given_back().load(Ordering::Acquire);
            // Alone, it may have missed that a turn was given back. With
            // others there, a free place is for the one that is being woken.
            let alone = self.waiting().load(Ordering::SeqCst) <= 1;
            if alone && let Some(turn) = self.try_take(owner) {
                self.no_longer_waiting(1);
                break turn;
            }
            self.sleep(seen, *position.get_or_insert(waiting));
            position = Some(1);
            // Counted until it has taken the place, so that nobody barges in.
            let turn = self.try_take(owner);
            self.no_longer_waiting(1);
            if let Some(turn) = turn {
                break turn;
            }
        };
        waits(false);
        turn
    }

    /// A turn in a place that is free or whose turn is over.
    fn try_take(&self, owner: u32) -> Option<Turn> {
        let now = now_us();
        let end = now.wrapping_add(self.turn_us) & END_MASK;
        let mark = (u64::from(owner) << END_BITS) | end;
        (0..self.places).find_map(|place| {
            let held = self.place(place).load(Ordering::Relaxed);
            let free = held == 0 || over(held, now);
            let swap = || self.place(place).compare_exchange(held, mark, Ordering::AcqRel, Ordering::Relaxed);
            (free && swap().is_ok()).then_some(Turn { place, mark })
        })
    }

    /// Sleeps until a turn is given back after `seen`. The kernel wakes in the
    /// order of arrival, which who looks by himself leaves: so a waiter looks
    /// only when those before it should have had their turns.
    fn sleep(&self, seen: u32, position: u32) {
        let limit = Duration::from_micros(u64::from(position) * (self.turn_us + GRACE_US));
        let limit = Timespec::try_from(limit).ok();
        // Any error means: look again.
        let _ = futex::wait(self.given_back(), futex::Flags::empty(), seen, limit.as_ref());
    }

    /// Whether `turn` should end: others wait and its time is over, or somebody
    /// has taken the place.
    #[inline]
    pub fn is_over(&self, turn: Turn) -> bool {
        if self.place(turn.place).load(Ordering::Relaxed) != turn.mark {
            return true;
        }
        self.waiting().load(Ordering::Relaxed) > 0 && over(turn.mark, now_us())
    }

    /// Gives a turn back; who has waited longest gets it.
    pub fn give_back(&self, turn: Turn) {
        let place = self.place(turn.place);
        // Somebody else's by now: that one gives it back.
        if place.compare_exchange(turn.mark, 0, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return;
        }
        // Before the look at the waiting: a waiter adds itself, then reads this.
        self.given_back().fetch_add(1, Ordering::SeqCst);
        let waiting = self.waiting().load(Ordering::SeqCst);
        if waiting > 0 && futex::wake(self.given_back(), futex::Flags::empty(), 1) == Ok(0) {
            // Killed while they waited, or on their way to sleep: those see
            // that the count has changed, and count themselves no more.
            self.no_longer_waiting(waiting);
        }
    }

    fn no_longer_waiting(&self, count: u32) {
        let less = |waiting: u32| Some(waiting.saturating_sub(count));
        let _ = self.waiting().fetch_update(Ordering::SeqCst, Ordering::Relaxed, less);
    }
}

/// Whether the turn in a place is over.
fn over(held: u64, now: u64) -> bool {
    // The half that lies ahead is the future.
    (held & END_MASK).wrapping_sub(now) & END_MASK > END_MASK / 2
}

/// Microseconds of the clock that all processes of a machine share.
fn now_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
    (seconds.wrapping_mul(1_000_000) + nanoseconds / 1_000) & END_MASK
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use super::*;

    fn turns(cores: usize, turn: Duration) -> Arc<Turns> {
        Arc::new(Turns::new(Page::create("test").unwrap().0, cores, turn))
    }

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn there_is_a_turn_for_each_pair_of_cores() {
        let turns = turns(5, LONG);
        let (a, b) = (turns.take(1, |_| ()), turns.take(2, |_| ()));
        assert_ne!(a.place, b.place);
        assert_eq!(turns.try_take(3), None);
        turns.give_back(a);
        assert_eq!(turns.try_take(3).map(|turn| turn.place), Some(a.place));
        assert!(!turns.is_over(b));
        // Its place has another owner now, which is not disturbed.
        assert!(turns.is_over(a));
        turns.give_back(a);
        assert_eq!(turns.try_take(4), None);
    }

    #[test]
    fn who_waits_gets_what_is_given_back() {
        let turns = turns(2, LONG);
        let first = turns.take(1, |_| ());
        let has_it = Arc::new(AtomicBool::new(false));
        let waiter = {
            let (turns, has_it) = (Arc::clone(&turns), Arc::clone(&has_it));
            std::thread::spawn(move || {
                let turn = turns.take(2, |_| ());
                has_it.store(true, Ordering::SeqCst);
                turns.give_back(turn);
            })
        };
        while turns.waiting().load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        assert!(!has_it.load(Ordering::SeqCst));
        turns.give_back(first);
        waiter.join().unwrap();
        assert_eq!(turns.waiting().load(Ordering::SeqCst), 0);
        assert!(turns.try_take(3).is_some());
    }

    #[test]
    fn the_turn_of_one_that_never_comes_back_ends() {
        let turns = turns(2, Duration::from_millis(1));
        let lost = turns.take(1, |_| ());
        let turn = turns.take(2, |_| ());
        assert!(turns.is_over(lost));
        assert_eq!(turns.waiting().load(Ordering::SeqCst), 0);
        turns.give_back(turn);
    }

    #[test]
    fn a_turn_lasts_while_nobody_waits() {
        let turns = turns(2, Duration::ZERO);
        let turn = turns.take(1, |_| ());
        while !over(turn.mark, now_us()) {
            std::thread::yield_now();
        }
        assert!(!turns.is_over(turn));
        turns.waiting().store(1, Ordering::SeqCst);
        assert!(turns.is_over(turn));
    }

    #[test]
    fn one_that_was_killed_while_it_waited_is_forgotten() {
        let turns = turns(2, LONG);
        turns.waiting().store(3, Ordering::SeqCst);
        let turn = turns.try_take(1).unwrap();
        turns.give_back(turn);
        assert_eq!(turns.waiting().load(Ordering::SeqCst), 0);
    }

    #[test]
    fn eight_threads_take_turns_and_none_starves() {
        const ROUNDS: u32 = 200;
        let turns = turns(4, Duration::from_micros(20));
        let inside = Arc::new(AtomicU32::new(0));
        let threads: Vec<_> = (1..=8)
            .map(|owner| {
                let (turns, inside) = (Arc::clone(&turns), Arc::clone(&inside));
                std::thread::spawn(move || {
                    for _ in 0..ROUNDS {
                        let turn = turns.take(owner, |_| ());
                        inside.fetch_add(1, Ordering::SeqCst);
                        turns.give_back(turn);
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(inside.load(Ordering::SeqCst), 8 * ROUNDS);
        assert_eq!(turns.waiting().load(Ordering::SeqCst), 0);
    }

    #[test]
    fn the_clock_may_wrap() {
        assert!(over(END_MASK, 0));
        assert!(!over(1, END_MASK));
        assert!(over(5 | (7 << END_BITS), 6));
    }
}
