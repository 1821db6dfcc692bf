//! Stream memory operations: a stream waits until a word in memory has a value, or writes one. A
//! wait that is not over yet is looked at again and again by a thread of its own, so that it keeps
//! none of the executor's.
#![allow(unsafe_code, reason = "words in device memory")]

use super::executor;
use super::task::{Task, Work};
use crate::transfer::{Place, place};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

/// When a wait is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// The word, less the value, is not negative.
    AtLeast,
    Equal,
    /// They share a bit.
    And,
    /// There is a bit that neither has.
    Nor,
}

/// What is done to a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update {
    Write,
    Or,
    And,
    Add,
}

/// One operation on a word of 4 or 8 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemOp {
    Wait { at: u64, is_wide: bool, value: u64, until: Until },
    Update { at: u64, is_wide: bool, value: u64, update: Update },
    Barrier,
}

/// Operations that are carried out in their order.
pub struct Batch {
    ops: Arc<[MemOp]>,
    next: AtomicUsize,
}

impl Batch {
    pub fn new(ops: Arc<[MemOp]>) -> Self {
        Self { ops, next: AtomicUsize::new(0) }
    }

    pub fn ops(&self) -> Arc<[MemOp]> {
        Arc::clone(&self.ops)
    }

    /// Goes on as far as it can; None when a word is no longer there, else whether all is done.
    fn advance(&self) -> Option<bool> {
        while let Some(op) = self.ops.get(self.next.load(Ordering::Relaxed)) {
            if !step(op)? {
                return Some(false);
            }
            self.next.fetch_add(1, Ordering::Relaxed);
        }
        Some(true)
    }
}

/// Whether the word's value ends the wait.
fn is_over(word: u64, value: u64, is_wide: bool, until: Until) -> bool {
    let mask = if is_wide { u64::MAX } else { u64::from(u32::MAX) };
    let sign = if is_wide { 1 << 63 } else { 1 << 31 };
    match until {
        Until::AtLeast => word.wrapping_sub(value) & sign == 0,
        Until::Equal => word & mask == value & mask,
        Until::And => word & value & mask != 0,
        Until::Nor => !(word | value) & mask != 0,
    }
}

/// Carries one operation out; false when it has to wait, None when its word was freed.
fn step(op: &MemOp) -> Option<bool> {
    match *op {
        MemOp::Barrier => fence(Ordering::SeqCst),
        MemOp::Wait { at, is_wide, value, until } => {
            let word = if is_wide { wide(at)?.load(Ordering::SeqCst) } else { narrow(at)?.load(Ordering::SeqCst).into() };
            return Some(is_over(word, value, is_wide, until));
        }
        MemOp::Update { at, is_wide: true, value, update } => {
            let word = wide(at)?;
            match update {
                Update::Write => word.store(value, Ordering::SeqCst),
                Update::Or => drop(word.fetch_or(value, Ordering::SeqCst)),
                Update::And => drop(word.fetch_and(value, Ordering::SeqCst)),
                Update::Add => drop(word.fetch_add(value, Ordering::SeqCst)),
            }
        }
        MemOp::Update { at, value, update, .. } => {
            let (word, value) = (narrow(at)?, low(value));
            match update {
                Update::Write => word.store(value, Ordering::SeqCst),
                Update::Or => drop(word.fetch_or(value, Ordering::SeqCst)),
                Update::And => drop(word.fetch_and(value, Ordering::SeqCst)),
                Update::Add => drop(word.fetch_add(value, Ordering::SeqCst)),
            }
        }
    }
    Some(true)
}

#[allow(clippy::cast_possible_truncation, reason = "the low half is meant")]
fn low(value: u64) -> u32 {
    value as u32
}

/// Whether a word that the device reaches lies there, aligned.
pub fn is_word(at: u64, is_wide: bool) -> bool {
    at.is_multiple_of(if is_wide { 8 } else { 4 }) && place(at) != Place::Pageable
}

fn narrow(at: u64) -> Option<&'static AtomicU32> {
    let pointer = std::ptr::with_exposed_provenance_mut(usize::try_from(at).ok()?);
    // SAFETY: an aligned word of device or pinned memory, which kernels change with atomics too.
    is_word(at, false).then(|| unsafe { AtomicU32::from_ptr(pointer) })
}

fn wide(at: u64) -> Option<&'static AtomicU64> {
    let pointer = std::ptr::with_exposed_provenance_mut(usize::try_from(at).ok()?);
    // SAFETY: as in `narrow`.
    is_word(at, true).then(|| unsafe { AtomicU64::from_ptr(pointer) })
}

/// Counts one more in a word of 8 bytes.
pub fn count(at: u64) {
    if let Some(word) = wide(at) {
        word.fetch_add(1, Ordering::SeqCst);
    }
}

/// What a word of 8 bytes has come to; 0 where none is.
pub fn counted(at: u64) -> u64 {
    wide(at).map_or(0, |word| word.load(Ordering::SeqCst))
}

static WAITING: LazyLock<Mutex<Sender<Arc<Task>>>> = LazyLock::new(|| {
    let (sender, receiver) = channel();
    let spawned = std::thread::Builder::new().name("paravane-wait".into()).spawn(move || watch(&receiver));
    if let Err(error) = spawned {
        log::error!("no thread to watch memory: {error}");
    }
    Mutex::new(sender)
});

/// A batch whose turn has come.
pub(super) fn submit(task: &Arc<Task>) {
    if settled(task) {
        return;
    }
    let queue = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    if queue.send(Arc::clone(task)).is_err() {
        drop(queue);
        task.stream.context.fail_internal();
        executor::complete(task);
    }
}

/// Goes on with a task; true when it is complete.
fn settled(task: &Arc<Task>) -> bool {
    let Work::Memory(batch) = &task.work else { return true };
    let failed = task.stream.context.failure().is_some();
    match if failed { Some(true) } else { batch.advance() } {
        Some(false) => return false,
        Some(true) => {}
        None => task.stream.context.fail_word(),
    }
    executor::complete(task);
    true
}

/// Looks at every word that is waited for: often at first, then every 100 microseconds.
fn watch(new: &Receiver<Arc<Task>>) {
    const LOOKS_AT_ONCE: u32 = 1000;
    const PAUSE: Duration = Duration::from_micros(100);
    let (mut waiting, mut looks) = (Vec::new(), 0_u32);
    loop {
        let got = if waiting.is_empty() {
            new.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else if looks < LOOKS_AT_ONCE {
            std::thread::yield_now();
            new.recv_timeout(Duration::ZERO)
        } else {
            new.recv_timeout(PAUSE)
        };
        match got {
            Ok(task) => {
                waiting.push(task);
                looks = 0;
            }
            Err(RecvTimeoutError::Timeout) => looks = looks.saturating_add(1),
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let before = waiting.len();
        waiting.retain(|task| !settled(task));
        if waiting.len() != before {
            looks = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_as_cuda_compares() {
        assert!(is_over(5, 5, false, Until::AtLeast) && is_over(6, 5, false, Until::AtLeast));
        assert!(!is_over(4, 5, false, Until::AtLeast));
        assert!(is_over(2, u64::from(u32::MAX), false, Until::AtLeast), "the comparison is cyclic");
        assert!(!is_over(u64::from(u32::MAX), 2, false, Until::AtLeast));
        assert!(is_over(1 << 40 | 7, 7, false, Until::Equal) && !is_over(1 << 40 | 7, 7, true, Until::Equal));
        assert!(is_over(6, 2, false, Until::And) && !is_over(4, 2, false, Until::And));
        let all = u64::from(u32::MAX);
        assert!(is_over(all ^ 8, 1, false, Until::Nor) && !is_over(all ^ 1, 1, false, Until::Nor));
    }
}
