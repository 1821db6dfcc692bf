//! Loads and stores. Lanes that touch neighbouring elements, the usual case, are checked once and
//! copied as one block; any other pattern goes lane by lane.

use super::address::{GENERIC, GLOBAL, LOCAL, PARAM, SHARED, resolve};
use super::lanes::{LANES, Lane};
use super::op::{Op, Run};
use super::sync::each;
use super::warp::{SPIN_COST, Warp};
use crate::memory::{SHARED_BASE, WINDOW_MASK};

/// An address register's lane.
pub trait Address: Lane {
    fn wide(self) -> u64;
}

impl Address for u32 {
    fn wide(self) -> u64 {
        u64::from(self)
    }
}

impl Address for u64 {
    fn wide(self) -> u64 {
        self
    }
}

/// Slots of a vector's elements.
fn elements(op: &Op) -> [u32; 4] {
    [op.d, op.b, op.c, op.e]
}

/// Host pointer to 32 neighbouring elements when the whole warp touches such.
///
/// # Safety
/// As `Run`; slot `a` holds addresses.
#[inline(always)]
unsafe fn block<A: Address, const SPACE: u8>(w: &Warp, op: &Op, size: u64) -> Option<*mut u8> {
    // SAFETY: the caller's promise.
    let addresses = unsafe { &*w.lanes::<[A; LANES]>(op.a) };
    let first = addresses[0].wide();
    let mut differs = 0;
    for (lane, address) in addresses.iter().enumerate() {
        differs |= address.wide().wrapping_sub(first) ^ (lane as u64 * size);
    }
    if differs != 0 || w.mask != u32::MAX {
        return None;
    }
    let start = first.wrapping_add(op.imm);
    let last = start.wrapping_add((LANES as u64 - 1) * size);
    let is_shared = SPACE == SHARED || (SPACE == GENERIC && start & WINDOW_MASK == SHARED_BASE);
    if is_shared || SPACE == GLOBAL || (SPACE == GENERIC && start & WINDOW_MASK == 0) {
        // A block is at most two granules, so both ends checked is all checked.
        resolve::<SPACE>(w, 31, last, size).ok()?;
        return resolve::<SPACE>(w, 0, start, size).ok();
    }
    None
}

/// # Safety
/// As `Run`; `a` holds addresses, the elements' slots hold lanes of T.
#[inline(always)]
unsafe fn load<T: Lane, A: Address, const SPACE: u8, const N: usize>(w: &mut Warp, at: *const Op) -> *const Op {
    // SAFETY: `Run`'s contract; pointers come from `resolve`.
    unsafe {
        let op = &*at;
        let size = size_of::<T>() as u64;
        if N == 1
            && let Some(from) = block::<A, SPACE>(w, op, size)
        {
            *w.lanes::<[T; LANES]>(op.d) = from.cast::<[T; LANES]>().read_unaligned();
            return at.add(1);
        }
        let addresses = *w.lanes::<[A; LANES]>(op.a);
        let slots = elements(op);
        for lane in each(w.mask) {
            let address = addresses[lane].wide().wrapping_add(op.imm);
            match resolve::<SPACE>(w, lane as u32, address, size * N as u64) {
                Ok(from) => {
                    for (i, slot) in slots.iter().enumerate().take(N) {
                        *w.lanes::<T>(*slot).add(lane) = from.cast::<T>().add(i).read_unaligned();
                    }
                }
                Err(bad) => return bad.report(w, op),
            }
        }
        at.add(1)
    }
}

/// # Safety
/// As `Run`; `a` holds addresses, the elements' slots hold lanes of T.
#[inline(always)]
unsafe fn store<T: Lane, A: Address, const SPACE: u8, const N: usize>(w: &mut Warp, at: *const Op) -> *const Op {
    // SAFETY: `Run`'s contract; pointers come from `resolve`.
    unsafe {
        let op = &*at;
        let size = size_of::<T>() as u64;
        if N == 1
            && let Some(to) = block::<A, SPACE>(w, op, size)
        {
            to.cast::<[T; LANES]>().write_unaligned(*w.lanes::<[T; LANES]>(op.d));
            return at.add(1);
        }
        let addresses = *w.lanes::<[A; LANES]>(op.a);
        let slots = elements(op);
        for lane in each(w.mask) {
            let address = addresses[lane].wide().wrapping_add(op.imm);
            match resolve::<SPACE>(w, lane as u32, address, size * N as u64) {
                Ok(to) => {
                    for (i, slot) in slots.iter().enumerate().take(N) {
                        to.cast::<T>().add(i).write_unaligned(*w.lanes::<T>(*slot).add(lane));
                    }
                }
                Err(bad) => return bad.report(w, op),
            }
        }
        at.add(1)
    }
}

macro_rules! compiled_twice {
    ($name:ident, $body:ident) => {
        fn $name<T: Lane, A: Address, const SPACE: u8, const N: usize>() -> Run {
            /// # Safety
            /// As `Run`.
            unsafe fn baseline<T: Lane, A: Address, const S: u8, const N: usize>(w: &mut Warp, at: *const Op) -> *const Op {
                // SAFETY: the same contract.
                unsafe { $body::<T, A, S, N>(w, at) }
            }
            /// # Safety
            /// As `Run`, on a machine with AVX2.
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,bmi1,bmi2")]
            unsafe fn avx2<T: Lane, A: Address, const S: u8, const N: usize>(w: &mut Warp, at: *const Op) -> *const Op {
                // SAFETY: the same contract.
                unsafe { $body::<T, A, S, N>(w, at) }
            }
            #[cfg(target_arch = "x86_64")]
            if super::lanes::has_avx2() {
                return avx2::<T, A, SPACE, N>;
            }
            baseline::<T, A, SPACE, N>
        }
    };
}
compiled_twice!(load_run, load);
compiled_twice!(store_run, store);

/// How an access is decoded.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub space: u8,
    /// Bytes of an element: 1, 2, 4 or 8.
    pub size: u32,
    /// Elements: 1, 2 or 4.
    pub count: usize,
    /// Whether addresses are 64-bit; only shared and local memory have others.
    pub wide: bool,
}

macro_rules! select {
    ($run:ident, $shape:expr) => {
        match $shape.size {
            1 => select!(@count $run, u8, $shape),
            2 => select!(@count $run, u16, $shape),
            4 => select!(@count $run, u32, $shape),
            _ => select!(@count $run, u64, $shape),
        }
    };
    (@count $run:ident, $t:ty, $shape:expr) => {
        match $shape.count {
            1 => select!(@space $run, $t, $shape, 1),
            2 => select!(@space $run, $t, $shape, 2),
            _ => select!(@space $run, $t, $shape, 4),
        }
    };
    (@space $run:ident, $t:ty, $shape:expr, $n:literal) => {
        match ($shape.space, $shape.wide) {
            (GLOBAL, _) => $run::<$t, u64, GLOBAL, $n>(),
            (SHARED, true) => $run::<$t, u64, SHARED, $n>(),
            (SHARED, false) => $run::<$t, u32, SHARED, $n>(),
            (LOCAL, true) => $run::<$t, u64, LOCAL, $n>(),
            (LOCAL, false) => $run::<$t, u32, LOCAL, $n>(),
            (PARAM, _) => $run::<$t, u64, PARAM, $n>(),
            _ => $run::<$t, u64, GENERIC, $n>(),
        }
    };
}

pub fn load_op(shape: Shape) -> Run {
    select!(load_run, shape)
}

pub fn store_op(shape: Shape) -> Run {
    select!(store_run, shape)
}

/// A kernel parameter at a fixed offset, `imm`: the same in all lanes.
///
/// # Safety
/// As `Run`; decode checked the offset against the kernel's parameters.
unsafe fn parameter<T: Lane>(w: &mut Warp, at: *const Op) -> *const Op {
    // SAFETY: a launch brings a buffer of the size that decode laid out.
    unsafe {
        let op = &*at;
        let value = w.cta().grid.params.as_ptr().add(op.imm as usize).cast::<T>().read_unaligned();
        let d = w.lanes::<T>(op.d);
        if w.mask == u32::MAX {
            *d.cast::<[T; LANES]>() = [value; LANES];
        } else {
            for lane in each(w.mask) {
                *d.add(lane) = value;
            }
        }
        at.add(1)
    }
}

pub fn parameter_op(size: u32) -> Run {
    match size {
        1 => parameter::<u8>,
        2 => parameter::<u16>,
        4 => parameter::<u32>,
        _ => parameter::<u64>,
    }
}

/// Stands before a volatile or acquiring load: such loads spin, so they spend budget.
///
/// # Safety
/// As `Run`.
pub unsafe fn spin_hint(w: &mut Warp, at: *const Op) -> *const Op {
    w.budget = w.budget.saturating_sub(SPIN_COST).max(1);
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    // SAFETY: decode never ends a function with a hint.
    unsafe { at.add(1) }
}
