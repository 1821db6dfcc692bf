//! A VM's memory budget: a page that the backend and all workers of the VM
//! share. A worker takes from it before it asks the library for memory, and
//! gives back what is freed; the backend gives back what a dead worker had. All
//! bytes count alike: of the device, pinned, of several devices.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use paravane_protocol::limits::{CONNECTIONS_MAX, WORKERS_MAX};
use paravane_protocol::shared::SharedPages;

use crate::page::Page;

/// No quota.
pub const UNLIMITED: u64 = u64::MAX;

/// One slot for each worker in use, two for each renderer (its textures, its Vulkan), and some for spares and for those that end.
const SLOTS: usize = WORKERS_MAX + 2 * CONNECTIONS_MAX + 64;

/// Most bytes that may be in use; [`UNLIMITED`] for no quota. Written by the backend.
const LIMIT: usize = 0;
/// Bytes in use, never more than LIMIT by a [`Share::reserve`].
const USED: usize = 8;
/// Most that were ever in use behind a call that has succeeded.
const PEAK: usize = 16;
const FIRST_SLOT: usize = 64;
const SLOT_BYTES: usize = 32;
/// In a slot: odd while its worker changes slot and USED.
const SEQUENCE: usize = 0;
/// In a slot: what its worker has of USED.
const SUM: usize = 8;
/// In a slot: how much of that is pinned host memory.
const PINNED: usize = 16;

const PAGE_BYTES: usize = (FIRST_SLOT + SLOTS * SLOT_BYTES).next_multiple_of(4096);

/// How often the backend looks for a moment without changes, before it leaves
/// that to a later time.
const LOOKS: usize = 10_000;

/// The page's words; a trait, so that a test can stop a worker between two.
trait Words {
    fn load(&self, at: usize) -> u64;
    fn store(&self, at: usize, value: u64);
    fn exchange(&self, at: usize, old: u64, new: u64) -> Result<u64, u64>;
    fn sub(&self, at: usize, value: u64);
}

impl Words for SharedPages {
    fn load(&self, at: usize) -> u64 {
        self.atomic_u64(at).load(SeqCst)
    }
    fn store(&self, at: usize, value: u64) {
        self.atomic_u64(at).store(value, SeqCst);
    }
    fn exchange(&self, at: usize, old: u64, new: u64) -> Result<u64, u64> {
        self.atomic_u64(at).compare_exchange_weak(old, new, SeqCst, SeqCst)
    }
    fn sub(&self, at: usize, value: u64) {
        self.atomic_u64(at).fetch_sub(value, SeqCst);
    }
}

/// A change of slot and USED: while it is under way the slot's sequence is odd.
/// USED is never less than the sum of the slots, so a worker that dies in between
/// leaves too much in USED, which [`repair`] takes out.
fn change<W: Words>(words: &W, slot: usize, act: impl FnOnce() -> bool) -> bool {
    let sequence = words.load(slot + SEQUENCE);
    words.store(slot + SEQUENCE, sequence.wrapping_add(1));
    let done = act();
    words.store(slot + SEQUENCE, sequence.wrapping_add(2));
    done
}

/// Takes bytes if USED stays within `limit`; nothing is always there.
fn take<W: Words>(words: &W, slot: usize, bytes: u64, limit: u64) -> bool {
    if bytes == 0 {
        return true;
    }
    change(words, slot, || {
        let mut used = words.load(USED);
        loop {
            let Some(after) = used.checked_add(bytes).filter(|after| *after <= limit) else { return false };
            match words.exchange(USED, used, after) {
                Ok(_) => break,
                Err(now) => used = now,
            }
        }
        words.store(slot + SUM, words.load(slot + SUM).saturating_add(bytes));
        true
    })
}

/// Gives bytes back that were taken.
fn give_back<W: Words>(words: &W, slot: usize, bytes: u64) {
    change(words, slot, || {
        let sum = words.load(slot + SUM);
        let bytes = bytes.min(sum);
        words.store(slot + SUM, sum - bytes);
        words.sub(USED, bytes);
        true
    });
}

/// Takes what no living worker has out of USED: what dead ones had, and what
/// they were about to take or to give back. Works on a moment in which no living
/// worker changes anything; `false` where none was found. Whatever happens behind
/// that moment adds up with what is taken out here, because both are differences.
fn repair<W: Words>(words: &W, alive: &[usize]) -> bool {
    let sequences = || alive.iter().map(|slot| words.load(slot + SEQUENCE));
    for look in 0..LOOKS {
        if look > 0 {
            std::thread::yield_now();
        }
        let before: Vec<u64> = sequences().collect();
        if before.iter().any(|sequence| sequence % 2 == 1) {
            continue;
        }
        let used = words.load(USED);
        let sum = alive.iter().fold(0, |sum: u64, slot| sum.wrapping_add(words.load(slot + SUM)));
        if sequences().eq(before) {
            words.sub(USED, used.wrapping_sub(sum));
            return true;
        }
    }
    false
}

/// A worker's part of the budget. There is one in a process: changes of a slot
/// must not overlap.
#[derive(Debug)]
pub struct Share {
    page: Page,
    slot: usize,
}

impl Share {
    /// Maps the page that [`Budget::file`] names, with the slot of that number.
    pub fn map(file: impl AsFd, number: usize) -> io::Result<Self> {
        if number >= SLOTS {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(Self { page: Page::map_long(file, PAGE_BYTES)?, slot: FIRST_SLOT + number * SLOT_BYTES })
    }

    /// Takes bytes; `false` where they would go beyond the quota.
    pub fn reserve(&mut self, bytes: u64) -> bool {
        take(self.page.words(), self.slot, bytes, self.limit())
    }

    /// Takes bytes that are in use already, quota or not.
    pub fn force(&mut self, bytes: u64) {
        take(self.page.words(), self.slot, bytes, u64::MAX);
    }

    /// Gives bytes back.
    pub fn give_back(&mut self, bytes: u64) {
        give_back(self.page.words(), self.slot, bytes);
    }

    /// Tells what this process has for good, without what it has reserved for
    /// calls under way, and how much of that is pinned host memory.
    pub fn show(&self, bytes: u64, pinned: u64) {
        let words = self.page.words();
        words.store(self.slot + PINNED, pinned);
        let under_way = words.load(self.slot + SUM).saturating_sub(bytes);
        let used = words.load(USED).saturating_sub(under_way);
        let mut peak = words.load(PEAK);
        while peak < used
            && let Err(now) = words.exchange(PEAK, peak, used)
        {
            peak = now;
        }
    }

    /// The quota.
    pub fn limit(&self) -> u64 {
        self.page.words().load(LIMIT)
    }

    /// What the VM has.
    pub fn figures(&self) -> Figures {
        Figures::read(&self.page)
    }
}

/// What a VM has of its budget, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// The quota; [`UNLIMITED`] for none.
    pub limit: u64,
    /// In use.
    pub used: u64,
    /// Of these, pinned host memory.
    pub pinned: u64,
    /// Most that were ever in use.
    pub peak: u64,
}

impl Figures {
    fn read(page: &Page) -> Self {
        let words = page.words();
        let slots = (0..SLOTS).map(|number| words.load(FIRST_SLOT + number * SLOT_BYTES + PINNED));
        let pinned = slots.fold(0, u64::saturating_add);
        let [limit, used, peak] = [LIMIT, USED, PEAK].map(|at| words.load(at));
        Self { limit, used, pinned: pinned.min(used), peak }
    }

    /// What a guest is told of a device with `device_bytes`: total and used.
    /// Pinned memory is none of the device's; it counts where there is a quota,
    /// because it is of the quota.
    pub fn of_device(&self, device_bytes: u64) -> (u64, u64) {
        let used = if self.limit == UNLIMITED { self.used - self.pinned } else { self.used };
        let total = device_bytes.min(self.limit);
        (total, used.min(total))
    }
}

#[derive(Debug, Default)]
struct Slots {
    /// The numbers that living workers have.
    taken: Vec<usize>,
    /// A worker has died since USED was right.
    is_stale: bool,
}

/// The budget of a VM, as its backend has it.
#[derive(Debug)]
pub struct Budget {
    page: Page,
    file: OwnedFd,
    slots: Mutex<Slots>,
}

impl Budget {
    /// A fresh budget with a quota, or with [`UNLIMITED`].
    pub fn create(limit: u64) -> io::Result<Arc<Self>> {
        let (page, file) = Page::create_long("paravane-budget", PAGE_BYTES)?;
        page.words().store(LIMIT, limit);
        Ok(Arc::new(Self { page, file, slots: Mutex::default() }))
    }

    /// The descriptor to give to workers.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Changes the quota. Where more is in use, nothing ends; new memory is
    /// refused until less is.
    pub fn set_limit(&self, limit: u64) {
        self.page.words().store(LIMIT, limit);
    }

    /// What the VM has.
    pub fn figures(&self) -> Figures {
        self.mend(&mut self.slots());
        Figures::read(&self.page)
    }

    /// A slot for a worker that is to be started; `None` where all are taken.
    pub fn slot(self: &Arc<Self>) -> Option<Slot> {
        let mut slots = self.slots();
        let number = (0..SLOTS).find(|number| !slots.taken.contains(number))?;
        // Before it counts as alive: its last owner may have died in a change.
        for word in [SEQUENCE, SUM, PINNED] {
            self.page.words().store(FIRST_SLOT + number * SLOT_BYTES + word, 0);
        }
        slots.taken.push(number);
        drop(slots);
        Some(Slot { budget: Arc::clone(self), number })
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mend(&self, slots: &mut Slots) {
        if slots.is_stale {
            let alive: Vec<usize> = slots.taken.iter().map(|number| FIRST_SLOT + number * SLOT_BYTES).collect();
            slots.is_stale = !repair(self.page.words(), &alive);
        }
    }
}

/// A living worker's slot. Dropped when the process is gone: what it had is
/// given back then.
#[derive(Debug)]
pub struct Slot {
    budget: Arc<Budget>,
    number: usize,
}

impl Slot {
    /// Its number, for [`Share::map`].
    pub fn number(&self) -> usize {
        self.number
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let words = self.budget.page.words();
        words.store(FIRST_SLOT + self.number * SLOT_BYTES + PINNED, 0);
        let mut slots = self.budget.slots();
        slots.taken.retain(|number| *number != self.number);
        slots.is_stale = true;
        self.budget.mend(&mut slots);
    }
}

#[cfg(test)]
#[path = "budget_tests.rs"]
mod tests;
