//! The process's present connection. A connection that was opened lives as
//! long as its process; a forked child lets go of its parent's, whose pages and
//! descriptors it still has and never touches.
#![allow(unsafe_code, reason = "a leaked object behind an atomic pointer")]

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use super::Connection;

static PRESENT: AtomicPtr<Connection> = AtomicPtr::new(ptr::null_mut());
/// Counts the forks on the way to this process.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// The connection, if there is one.
#[inline]
pub(super) fn get() -> Option<&'static Connection> {
    let present = PRESENT.load(Ordering::Acquire);
    // SAFETY: NULL, or from set(), which leaks it.
    unsafe { present.as_ref() }
}

/// From now on this is the connection.
pub(super) fn set(connection: Connection) -> &'static Connection {
    let leaked: &'static Connection = Box::leak(Box::new(connection));
    PRESENT.store(ptr::from_ref(leaked).cast_mut(), Ordering::Release);
    leaked
}

/// In a forked child: the connection is the parent's. Only stores to atomics,
/// which is allowed after a fork.
pub(crate) fn forget() {
    PRESENT.store(ptr::null_mut(), Ordering::Release);
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

/// Which process of a line of forks this is.
#[inline]
pub(super) fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}
