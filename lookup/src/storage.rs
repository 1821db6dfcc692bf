//! Context-local storage (export table c693336e): values that libraries keep
//! with a context under keys of theirs, and whose destructors run when the
//! context ends. cudart looks here before almost every call, so the last value
//! that a thread found is found again without a lock.
#![allow(unsafe_code, reason = "destructors are the program's")]

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use paravane_protocol::cuda_types::CUcontext;

/// Called with context, key and value.
pub type Destructor = unsafe extern "C" fn(CUcontext, usize, usize);

struct Entry {
    value: usize,
    destructor: Option<Destructor>,
}

/// By context and key.
static ENTRIES: RwLock<Option<HashMap<(u64, usize), Entry>>> = RwLock::new(None);
/// Changes of [`ENTRIES`], counted; a thread's last find is good while it stays.
static CHANGES: AtomicU64 = AtomicU64::new(0);

#[derive(Clone, Copy)]
struct Find {
    changes: u64,
    context: u64,
    key: usize,
    value: usize,
}

thread_local! {
    static LAST: Cell<Option<Find>> = const { Cell::new(None) };
}

/// Runs `change` and makes every thread look anew.
fn changed<T>(change: impl FnOnce(&mut HashMap<(u64, usize), Entry>) -> T) -> T {
    let mut entries = ENTRIES.write().unwrap_or_else(PoisonError::into_inner);
    let result = change(entries.get_or_insert_default());
    CHANGES.fetch_add(1, Ordering::Release);
    result
}

/// Keeps a value; one under the same key is replaced, its destructor not run.
pub fn put(context: CUcontext, key: usize, value: usize, destructor: Option<Destructor>) {
    changed(|entries| entries.insert((context.0, key), Entry { value, destructor }));
}

/// Forgets a value without its destructor; whether there was one.
pub fn delete(context: CUcontext, key: usize) -> bool {
    changed(|entries| entries.remove(&(context.0, key))).is_some()
}

/// The value under a key.
#[inline]
pub fn get(context: CUcontext, key: usize) -> Option<usize> {
    let changes = CHANGES.load(Ordering::Acquire);
    // In a thread that ends there is no last find any more.
    let last = LAST.try_with(Cell::get).ok().flatten();
    if let Some(last) = last.filter(|last| last.changes == changes && last.context == context.0 && last.key == key) {
        return Some(last.value);
    }
    let entries = ENTRIES.read().unwrap_or_else(PoisonError::into_inner);
    let value = entries.as_ref()?.get(&(context.0, key))?.value;
    // Changes only move under the lock's other side, so this number belongs to the value.
    let changes = CHANGES.load(Ordering::Acquire);
    let _ = LAST.try_with(|last| last.set(Some(Find { changes, context: context.0, key, value })));
    Some(value)
}

/// The context ends or is reset: what is kept with it goes, each value by its
/// destructor.
pub fn end_context(context: CUcontext) {
    let ended: Vec<_> = changed(|entries| entries.extract_if(|key, _| key.0 == context.0).collect());
    // Without the lock: a destructor may come back here.
    for ((_, key), Entry { value, destructor }) in ended {
        if let Some(destructor) = destructor {
            // SAFETY: the program gave it for being called so once.
            unsafe { destructor(context, key, value) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static ENDED: AtomicU64 = AtomicU64::new(0);

    unsafe extern "C" fn count(context: CUcontext, key: usize, value: usize) {
        assert_eq!((context.0, key, value), (901, 5, 50));
        // It may look at the storage, which no longer has it.
        assert_eq!(get(context, key), None);
        ENDED.fetch_add(1, Ordering::Relaxed);
    }

    #[test]
    fn values_live_as_long_as_their_context() {
        let (mine, other) = (CUcontext(901), CUcontext(902));
        put(mine, 5, 50, Some(count));
        put(mine, 6, 60, Some(count));
        put(other, 5, 51, None);
        assert_eq!((get(mine, 5), get(mine, 5), get(other, 5)), (Some(50), Some(50), Some(51)));
        assert!(delete(mine, 6), "deleted without its destructor");
        assert_eq!((get(mine, 6), delete(mine, 6)), (None, false));
        end_context(mine);
        assert_eq!(ENDED.load(Ordering::Relaxed), 1);
        assert_eq!((get(mine, 5), get(other, 5)), (None, Some(51)));
    }

    #[test]
    fn what_another_thread_changes_is_seen() {
        let context = CUcontext(903);
        put(context, 1, 10, None);
        assert_eq!(get(context, 1), Some(10));
        std::thread::spawn(move || put(context, 1, 11, None)).join().unwrap();
        assert_eq!(get(context, 1), Some(11));
    }
}
