//! Threads that only hand messages on. On a machine that has more to do than
//! processors, each of them would wait for its turn behind whoever computes, as
//! often as a message passes. So they ask for short slices (Linux 6.12's EEVDF:
//! sched_attr's runtime): who asks for little at a time is let in soon, and gets
//! no more of the processor in sum.
#![allow(unsafe_code, reason = "system calls that no crate wraps")]
#![deny(clippy::indexing_slicing)]

use std::io;

/// The shortest that the kernel grants, in nanoseconds.
const SLICE_NS: u64 = 100_000;
/// What the thread starts computes: it has slices as everybody has.
const RESET_ON_FORK: u64 = 1;

/// `sched_attr`'s first version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}
const SIZE: u32 = 48;
const _: () = assert!(size_of::<Attributes>() == SIZE as usize);

/// Gives this thread short slices, where the kernel has them: before 6.12 it
/// changes nothing.
pub(crate) fn shorten() {
    if let Err(error) = try_shorten() {
        log::debug!("this thread keeps its slices: {error}");
    }
}

fn try_shorten() -> io::Result<()> {
    let mut attributes = get()?;
    if attributes.policy != libc::SCHED_OTHER.unsigned_abs() {
        // The operator's own choice counts.
        return Ok(());
    }
    attributes.flags |= RESET_ON_FORK;
    attributes.runtime = SLICE_NS;
    // SAFETY: the structure has the size that it says, and the call reads it.
    checked(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) })
}

fn get() -> io::Result<Attributes> {
    let mut attributes = Attributes::default();
    // SAFETY: the call writes no more than the size that it is told, and any
    // bytes are good numbers.
    checked(unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, SIZE, 0) })?;
    Ok(attributes)
}

fn checked(returned: libc::c_long) -> io::Result<()> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In a thread of its own, because it does not come back from short slices.
    #[test]
    fn only_the_slices_of_this_thread_change() {
        let looked = || {
            let before = get().unwrap();
            try_shorten().unwrap();
            let after = get().unwrap();
            (before, after, std::thread::spawn(get).join().unwrap().unwrap())
        };
        let (before, after, child) = std::thread::spawn(looked).join().unwrap();
        let expected = Attributes { runtime: after.runtime, flags: before.flags | RESET_ON_FORK, ..before };
        assert_eq!(after, expected);
        // 0 before Linux 6.12.
        assert!(after.runtime == SLICE_NS || after.runtime == 0, "{after:?}");
        assert_eq!((child.runtime, child.nice), (before.runtime, before.nice));
    }
}
