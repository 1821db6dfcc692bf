//! What programs that a back end starts inherit of it: only what they are meant to.
//! vhost-user's library takes a front end's descriptors (guest memory, eventfds, the
//! socket for requests to the front end) without the mark that they are not for others.
#![allow(unsafe_code, reason = "what happens between fork and exec")]
#![deny(clippy::indexing_slicing)]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The first descriptor that is no standard one.
const FIRST: u32 = 3;

/// The command inherits the standard descriptors alone.
pub(crate) fn nothing_but_standard(command: &mut Command) {
    let mark = || {
        mark_from(FIRST);
        io::Result::Ok(())
    };
    // SAFETY: between fork and exec, mark_from() makes a system call and allocates nothing.
    unsafe { command.pre_exec(mark) };
}

/// Descriptors from this number on end with exec. Needs Linux 5.11; what Rust opens has the
/// mark already, so an older kernel changes nothing in that.
pub(crate) fn mark_from(first: u32) {
    // SAFETY: marks descriptors.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}
