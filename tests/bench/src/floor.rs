//! The floors: what this machine needs for the bare act under each figure,
//! measured in the same run. Nothing of Paravane is in here.
#![allow(unsafe_code, reason = "futex")]

use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use std::thread;

use crate::stats;

/// Seconds for a word to go to another core and back, both spinning.
pub(crate) fn spin_round_trip(rounds: u32) -> f64 {
    let spin = |word: &AtomicU32, value| {
        while word.load(Ordering::Acquire) != value {
            spin_loop();
        }
    };
    round_trip(rounds, Cores::Two, spin, |_| {})
}

/// Seconds for a word to go to another thread and back when both sleep until
/// they are woken.
pub(crate) fn sleeping_round_trip(rounds: u32) -> f64 {
    let sleep = |word: &AtomicU32, value| {
        loop {
            let seen = word.load(Ordering::Acquire);
            if seen == value {
                return;
            }
            futex(word, libc::FUTEX_WAIT, seen);
        }
    };
    round_trip(rounds, Cores::Any, sleep, |word| futex(word, libc::FUTEX_WAKE, 1))
}

/// Where the two threads of a round trip run.
#[derive(Clone, Copy)]
enum Cores {
    /// Where the kernel puts them.
    Any,
    /// On two different ones: two spinning threads on one core would wait for
    /// the kernel, not for each other.
    Two,
}

impl Cores {
    /// Binds the calling thread to the first or second processor it may use.
    fn bind(self, second: bool) {
        if matches!(self, Self::Any) {
            return;
        }
        // SAFETY: a set of processors is bits; all zeros is the empty set.
        let mut allowed: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        let bytes = size_of::<libc::cpu_set_t>();
        // SAFETY: the set is live and so large.
        unsafe { libc::sched_getaffinity(0, bytes, &raw mut allowed) };
        // SAFETY: a set of processors is bits; all zeros is the empty set.
        let mut one: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: the number is below CPU_SETSIZE, by the range.
        let is_allowed = |cpu: &usize| unsafe { libc::CPU_ISSET(*cpu, &allowed) };
        let mut cpus = (0..libc::CPU_SETSIZE.unsigned_abs() as usize).filter(is_allowed);
        if let Some(cpu) = cpus.nth(usize::from(second)) {
            // SAFETY: as above.
            unsafe { libc::CPU_SET(cpu, &mut one) };
            // SAFETY: as above; a refusal leaves the thread where it is.
            unsafe { libc::sched_setaffinity(0, bytes, &raw const one) };
        }
    }
}

fn futex(word: &AtomicU32, operation: i32, value: u32) {
    let none = std::ptr::null::<libc::timespec>();
    // SAFETY: the word outlives the call; no time limit is given.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, value, none) };
}

fn round_trip(
    rounds: u32,
    cores: Cores,
    wait: impl Fn(&AtomicU32, u32) + Copy + Send + 'static,
    wake: impl Fn(&AtomicU32) + Copy + Send + 'static,
) -> f64 {
    #[repr(align(128))]
    struct Line(AtomicU32);
    let words = Arc::new((Line(AtomicU32::new(0)), Line(AtomicU32::new(0)), AtomicBool::new(false)));
    let there = words.clone();
    let other = thread::spawn(move || {
        cores.bind(true);
        let mut value = 0_u32;
        loop {
            value = value.wrapping_add(1);
            wait(&there.0.0, value);
            if there.2.load(Ordering::Relaxed) {
                return;
            }
            there.1.0.store(value, Ordering::Release);
            wake(&there.1.0);
        }
    });
    // A thread of its own, so that the binding ends with it.
    let one = thread::spawn(move || {
        cores.bind(false);
        let mut value = 0_u32;
        let seconds = stats::seconds_of(rounds, || {
            value = value.wrapping_add(1);
            words.0.0.store(value, Ordering::Release);
            wake(&words.0.0);
            wait(&words.1.0, value);
        });
        words.2.store(true, Ordering::Relaxed);
        words.0.0.store(value.wrapping_add(1), Ordering::Release);
        wake(&words.0.0);
        seconds
    });
    let seconds = one.join().unwrap_or(f64::NAN);
    let _ = other.join();
    seconds
}

/// Seconds to draw a number, write a frame of a launch's size and publish it,
/// with nobody on the other side.
pub(crate) fn publish(rounds: u32) -> f64 {
    const BATCH: u32 = 100;
    let ticket = AtomicU64::new(0);
    let tail = AtomicU32::new(0);
    let mut ring = vec![[0_u64; 16]; 512];
    let mut at = 0;
    let batch = stats::seconds_of(rounds, || {
        for _ in 0..BATCH {
            let number = ticket.fetch_add(1, Ordering::Relaxed);
            at = (at + 1) % ring.len();
            if let Some(frame) = ring.get_mut(at) {
                *std::hint::black_box(frame) = [number; 16];
            }
            tail.fetch_add(128, Ordering::Release);
            fence(Ordering::SeqCst);
        }
    });
    batch / f64::from(BATCH)
}

/// Seconds to copy `bytes` from private memory to private memory.
pub(crate) fn copy(bytes: usize, rounds: u32) -> f64 {
    let from = vec![1_u8; bytes];
    let mut to = vec![2_u8; bytes];
    stats::seconds_of(rounds, || {
        to.copy_from_slice(std::hint::black_box(&from));
        std::hint::black_box(&mut to);
    })
}
