//! Sleeping and waking on the words of a ring's control page.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use paravane_protocol::ring::word;
use paravane_protocol::shared::{Shared, SharedPages};
use rustix::thread::futex;
use rustix::time::Timespec;

/// Sleeps while HOST_SLEEPS is 1, not longer than `limit`.
pub(super) fn sleep_as_host(control: &SharedPages, limit: Option<Duration>) {
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    let word = control.atomic_u32(word::HOST_SLEEPS);
    // Errors (the word changed, a signal, the time is over) mean: look again.
    let _ = futex::wait(word, futex::Flags::empty(), 1, limit.as_ref());
}

/// Wakes a ring's host thread if it sleeps.
pub(super) fn host_thread(control: &SharedPages) {
    if control.swap_u32(word::HOST_SLEEPS, 0) != 0 {
        let _ = futex::wake(
            control.atomic_u32(word::HOST_SLEEPS),
            futex::Flags::empty(),
            1,
        );
    }
}

/// Wakes a ring's guest thread, which sleeps: by futex where it shares the
/// kernel, else through the backend, which completes its fence.
pub(super) fn guest_thread(control: &SharedPages, same_kernel: bool, backend: BorrowedFd<'_>) {
    if same_kernel {
        let _ = futex::wake(
            control.atomic_u32(word::GUEST_SLEEPS),
            futex::Flags::empty(),
            1,
        );
    } else {
        // Only a full counter could refuse, and then the backend knows already.
        let _ = rustix::io::write(backend, &1_u64.to_ne_bytes());
    }
}
