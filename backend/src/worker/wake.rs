//! Sleeping and waking on the words of a ring's control page.
#![allow(unsafe_code, reason = "futex(2)")]

use std::ffi::c_void;
use std::os::fd::BorrowedFd;

use paravane_protocol::ring::word;
use paravane_protocol::shared::{Shared, SharedPages};

fn futex(control: &SharedPages, offset: usize, operation: i32, value: u32) {
    let word = control.at(offset, 4).cast::<c_void>();
    let no_limit = std::ptr::null::<libc::timespec>();
    // SAFETY: a mapped, aligned word; the time limit is absent. Errors (the
    // word changed, a signal) mean: look again.
    unsafe { libc::syscall(libc::SYS_futex, word, operation, value, no_limit) };
}

/// Sleeps while HOST_SLEEPS is 1.
pub(super) fn sleep_as_host(control: &SharedPages) {
    futex(control, word::HOST_SLEEPS, libc::FUTEX_WAIT, 1);
}

/// Wakes a ring's host thread if it sleeps.
pub(super) fn host_thread(control: &SharedPages) {
    if control.swap_u32(word::HOST_SLEEPS, 0) != 0 {
        futex(control, word::HOST_SLEEPS, libc::FUTEX_WAKE, 1);
    }
}

/// Wakes a ring's guest thread, which sleeps: by futex where it shares the
/// kernel, else through the backend, which completes its fence.
pub(super) fn guest_thread(control: &SharedPages, same_kernel: bool, backend: BorrowedFd<'_>) {
    if same_kernel {
        futex(control, word::GUEST_SLEEPS, libc::FUTEX_WAKE, 1);
    } else {
        // Only a full counter could refuse, and then the backend knows already.
        let _ = rustix::io::write(backend, &1_u64.to_ne_bytes());
    }
}
