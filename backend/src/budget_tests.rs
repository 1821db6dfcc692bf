//! The budget under threads, and under workers that die at any point of a
//! change.

use std::cell::Cell;

use super::*;

fn share(budget: &Budget, slot: &Slot) -> Share {
    Share::map(budget.file(), slot.number()).unwrap()
}

#[test]
fn the_quota_holds_to_the_byte() {
    let budget = Budget::create(100).unwrap();
    let slots = [budget.slot().unwrap(), budget.slot().unwrap()];
    let mut shares = slots.each_ref().map(|slot| share(&budget, slot));
    assert!(shares[0].reserve(60) && !shares[1].reserve(41) && shares[1].reserve(40));
    assert!(!shares[0].reserve(1) && shares[0].reserve(0) && !shares[0].reserve(u64::MAX));
    shares[0].show(60, 0);
    shares[0].give_back(60);
    let [drained, full] = slots;
    assert_eq!(budget.figures(), Figures { limit: 100, used: 40, pinned: 0, peak: 100 });
    drop(full);
    assert_eq!(budget.figures().used, 0);
    drop(drained);
}

#[test]
fn a_lower_quota_refuses_and_ends_nothing() {
    let budget = Budget::create(UNLIMITED).unwrap();
    let slot = budget.slot().unwrap();
    let mut share = share(&budget, &slot);
    assert!(share.reserve(100));
    budget.set_limit(50);
    assert!(!share.reserve(1));
    assert_eq!(share.figures().of_device(1000), (50, 50));
    share.force(10);
    share.give_back(70);
    assert!(share.reserve(10) && !share.reserve(1));
}

#[test]
fn pinned_memory_is_shown_where_there_is_a_quota() {
    let budget = Budget::create(UNLIMITED).unwrap();
    let slot = budget.slot().unwrap();
    let mut share = share(&budget, &slot);
    share.force(150);
    share.show(100, 30);
    share.give_back(50);
    assert_eq!(budget.figures().of_device(1000), (1000, 70));
    budget.set_limit(500);
    assert_eq!(budget.figures().of_device(1000), (500, 100));
    assert_eq!(budget.figures().of_device(80), (80, 80));
    drop(slot);
    assert_eq!(budget.figures(), Figures { limit: 500, used: 0, pinned: 0, peak: 100 });
}

#[test]
fn threads_and_deaths_leave_nothing() {
    let budget = Budget::create(1000).unwrap();
    std::thread::scope(|scope| {
        for number in 1..=4_u64 {
            let budget = &budget;
            scope.spawn(move || {
                for round in 0..50 {
                    let slot = budget.slot().unwrap();
                    let mut share = share(budget, &slot);
                    for step in 0..200 {
                        if share.reserve(number * 90) && (step + round) % 7 != 0 {
                            share.give_back(number * 90);
                        }
                        assert!(share.figures().used <= 1000);
                    }
                    // Dies with what it has.
                }
            });
        }
    });
    assert_eq!(budget.figures().used, 0);
}

/// The words of a worker that dies before its write of that number: nothing that
/// it does from then on is seen.
struct Dying<'a> {
    words: &'a SharedPages,
    writes_left: Cell<usize>,
}

impl Dying<'_> {
    fn lives(&self) -> bool {
        let left = self.writes_left.get();
        self.writes_left.set(left.saturating_sub(1));
        left > 0
    }
}

impl Words for Dying<'_> {
    fn load(&self, at: usize) -> u64 {
        Words::load(self.words, at)
    }
    fn store(&self, at: usize, value: u64) {
        if self.lives() {
            Words::store(self.words, at, value);
        }
    }
    fn exchange(&self, at: usize, old: u64, new: u64) -> Result<u64, u64> {
        if self.lives() { Words::exchange(self.words, at, old, new) } else { Ok(old) }
    }
    fn sub(&self, at: usize, value: u64) {
        if self.lives() {
            Words::sub(self.words, at, value);
        }
    }
}

#[test]
fn a_worker_may_die_at_any_point_of_a_change() {
    for writes in 0..14 {
        let budget = Budget::create(1000).unwrap();
        let (dies, lives) = (budget.slot().unwrap(), budget.slot().unwrap());
        let mut other = share(&budget, &lives);
        assert!(other.reserve(200));
        let dying = share(&budget, &dies);
        let words = Dying { words: dying.page.words(), writes_left: Cell::new(writes) };
        take(&words, dying.slot, 300, 1000);
        take(&words, dying.slot, 50, 1000);
        give_back(&words, dying.slot, 300);
        let used = budget.figures().used;
        assert!((200..=550).contains(&used), "never less than what the living have: {used}");
        assert!(other.reserve(100));
        drop(dies);
        assert_eq!(budget.figures().used, 300, "after {writes} writes");
        assert!(other.reserve(700) && !other.reserve(1));
        // The next owner of the slot starts afresh.
        let next = budget.slot().unwrap();
        assert_eq!(next.number(), dying.slot.checked_sub(FIRST_SLOT).unwrap() / SLOT_BYTES);
        other.give_back(500);
        assert!(share(&budget, &next).reserve(500));
        assert_eq!(budget.figures().used, 1000);
    }
}

#[test]
fn a_change_under_way_puts_the_repair_off() {
    let budget = Budget::create(1000).unwrap();
    let (dies, stopped) = (budget.slot().unwrap(), budget.slot().unwrap());
    share(&budget, &dies).force(300);
    let mut other = share(&budget, &stopped);
    other.force(20);
    // Stopped between USED and its slot.
    let words = other.page.words();
    words.store(other.slot + SEQUENCE, 3);
    let used = words.load(USED);
    words.store(USED, used + 5);
    drop(dies);
    assert_eq!(budget.figures().used, 325);
    words.store(other.slot + SUM, 25);
    words.store(other.slot + SEQUENCE, 4);
    assert_eq!(budget.figures().used, 25);
}
