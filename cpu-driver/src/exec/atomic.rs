//! `atom` and `red`: read, combine, write back, lane by lane. Shared memory belongs to one thread
//! of the executor, so there a plain update does; elsewhere the host's compare-and-swap.

use super::address::{GENERIC, GLOBAL, SHARED, resolve};
use super::lanes::{LANES, Lane, conjure};
use super::op::{Op, Run};
use super::sync::each;
use super::warp::{SPIN_COST, Warp};
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

/// A value that the host can update atomically.
pub trait Cell: Lane {
    /// Replaces the value at `at` by `f` of it; returns the old one.
    ///
    /// # Safety
    /// `at` is valid for reads and writes and aligned.
    unsafe fn update(at: *mut u8, f: impl Fn(Self) -> Self) -> Self;
}

macro_rules! cell {
    ($int:ty, $atomic:ty) => {
        impl Cell for $int {
            #[inline(always)]
            unsafe fn update(at: *mut u8, f: impl Fn(Self) -> Self) -> Self {
                // SAFETY: the caller's promise.
                let atomic = unsafe { <$atomic>::from_ptr(at.cast()) };
                match atomic.fetch_update(Ordering::SeqCst, Ordering::Relaxed, |old| Some(f(old))) {
                    Ok(old) | Err(old) => old,
                }
            }
        }
    };
}
cell!(u16, AtomicU16);
cell!(u32, AtomicU32);
cell!(u64, AtomicU64);

/// # Safety
/// As `Run`: `a` holds 64-bit addresses, `b` and `c` operands, `d` takes the old value.
unsafe fn atomic<T: Cell, F: Fn(T, T, T) -> T + Copy, const SPACE: u8>(w: &mut Warp, at: *const Op) -> *const Op {
    // SAFETY: `Run`'s contract; pointers come from `resolve`.
    unsafe {
        let op = &*at;
        let f = conjure::<F>();
        let addresses = *w.lanes::<[u64; LANES]>(op.a);
        let (b, c) = (*w.lanes::<[T; LANES]>(op.b), *w.lanes::<[T; LANES]>(op.c));
        let d = w.lanes::<T>(op.d);
        for lane in each(w.mask) {
            let sum = addresses[lane].wrapping_add(op.imm);
            // Shared addresses have 32 bits.
            let address = if SPACE == SHARED { sum & u64::from(u32::MAX) } else { sum };
            match resolve::<SPACE>(w, lane as u32, address, size_of::<T>() as u64) {
                Ok(place) if SPACE == SHARED => {
                    let old = place.cast::<T>().read();
                    place.cast::<T>().write(f(old, b[lane], c[lane]));
                    *d.add(lane) = old;
                }
                Ok(place) => *d.add(lane) = T::update(place, |old| f(old, b[lane], c[lane])),
                Err(bad) => return bad.report(w, op),
            }
        }
        w.budget = w.budget.saturating_sub(SPIN_COST).max(1);
        at.add(1)
    }
}

/// `d = [a]; [a] = f([a], b, c)` in `space`.
pub fn atomic_op<T: Cell, F: Fn(T, T, T) -> T + Copy>(space: u8, _f: F) -> Run {
    match space {
        GLOBAL => atomic::<T, F, GLOBAL>,
        SHARED => atomic::<T, F, SHARED>,
        _ => atomic::<T, F, GENERIC>,
    }
}
