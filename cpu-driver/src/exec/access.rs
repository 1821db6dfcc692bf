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
    /// The address so many bytes further, which wraps at the register's width.
    fn further(self, offset: u64) -> u64;
}

impl Address for u32 {
    #[inline(always)]
    fn further(self, offset: u64) -> u64 {
        u64::from(self.wrapping_add(offset as u32))
    }
}

impl Address for u64 {
    #[inline(always)]
    fn further(self, offset: u64) -> u64 {
        self.wrapping_add(offset)
    }
}

/// Slots of a vector's elements.
fn elements(op: &Op) -> [u32; 4] {
    [op.d, op.b, op.c, op.e]
}

/// How the lanes' addresses lie.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pattern {
    /// All lanes are active and touch neighbouring elements.
    Block,
    /// All lanes touch the same element.
    One,
    Scattered,
}

/// Reads the lanes' addresses; inactive lanes get an active one's.
///
/// # Safety
/// As `Run`; slot `a` holds addresses.
#[inline(always)]
unsafe fn addresses<A: Address>(w: &Warp, op: &Op) -> [u64; LANES] {
    // SAFETY: the caller's promise.
    let from = unsafe { *w.lanes::<[A; LANES]>(op.a) };
    let mut to = [0; LANES];
    for lane in 0..LANES {
        to[lane] = from[lane].further(op.imm);
    }
    if w.mask != u32::MAX {
        let active = to[w.mask.trailing_zeros() as usize % LANES];
        for (lane, to) in to.iter_mut().enumerate() {
            *to = if w.mask >> lane & 1 == 0 { active } else { *to };
        }
    }
    to
}

/// Checks all lanes together: what to add to each address to get a host pointer, and how they lie.
/// None: to be found out lane by lane, because windows differ or an address is wrong.
#[inline(always)]
fn together<const SPACE: u8>(w: &Warp, addresses: &[u64; LANES], size: u64) -> Option<(u64, Pattern)> {
    // Distances to the first lane fit 32 bits in all patterns that matter, and are half the work.
    const MIDDLE: u64 = 1 << 31;
    let first = addresses[0];
    let mut distances = [0u32; LANES];
    let (mut far, mut bits, mut apart) = (0, 0, 0);
    for (lane, address) in addresses.iter().enumerate() {
        let distance = address.wrapping_sub(first).wrapping_add(MIDDLE);
        far |= distance >> 32;
        distances[lane] = distance as u32;
        bits |= distance as u32;
        apart |= (distance as u32).wrapping_sub(MIDDLE as u32) ^ (lane as u64 * size) as u32;
    }
    if far != 0 || (u64::from(bits) | first) & (size - 1) != 0 {
        return None;
    }
    let (pattern, low, high) = if apart == 0 && w.mask == u32::MAX {
        (Pattern::Block, first, first.wrapping_add((LANES as u64 - 1) * size))
    } else {
        let low = distances.iter().fold(u32::MAX, |low, distance| low.min(*distance));
        let high = distances.iter().fold(0, |high, distance| high.max(*distance));
        let at = |distance: u32| first.wrapping_add(u64::from(distance)).wrapping_sub(MIDDLE);
        (if low == high { Pattern::One } else { Pattern::Scattered }, at(low), at(high))
    };
    // Below the lowest lane there may be no wrapping to the top of the address space.
    if low > high {
        return None;
    }
    let base = match SPACE {
        SHARED => shared_base(w, high, size)?,
        GLOBAL => global_base(w, low, high)?,
        GENERIC if high & WINDOW_MASK != low & WINDOW_MASK => return None,
        GENERIC if high & WINDOW_MASK == 0 => global_base(w, low, high)?,
        GENERIC if high & WINDOW_MASK == SHARED_BASE => {
            shared_base(w, high - SHARED_BASE, size)?.wrapping_sub(SHARED_BASE)
        }
        _ => return None,
    };
    Some((base, pattern))
}

#[inline(always)]
fn shared_base(w: &Warp, high: u64, size: u64) -> Option<u64> {
    let cta = w.cta();
    (high.saturating_add(size) <= u64::from(cta.shared_size)).then(|| cta.shared.expose_provenance() as u64)
}

#[inline(always)]
fn global_base(w: &Warp, low: u64, high: u64) -> Option<u64> {
    w.cta().grid.view.holds_all(low, high).then_some(0)
}

/// The host pointer of a checked address.
#[inline(always)]
fn host<T>(base: u64, address: u64) -> *mut T {
    std::ptr::with_exposed_provenance_mut(base.wrapping_add(address) as usize)
}

/// # Safety
/// As `Run`; `a` holds addresses, the elements' slots hold lanes of T.
#[inline(always)]
unsafe fn load<T: Lane, A: Address, const SPACE: u8, const N: usize>(w: &mut Warp, at: *const Op) -> *const Op {
    // SAFETY: `Run`'s contract; pointers were checked by `together`.
    unsafe {
        let op = &*at;
        let lanes = addresses::<A>(w, op);
        let Some((base, pattern)) = together::<SPACE>(w, &lanes, (size_of::<T>() * N) as u64) else {
            return load_each::<T, SPACE, N>(w, at, &lanes);
        };
        for (i, slot) in elements(op).iter().enumerate().take(N) {
            let d = w.lanes::<T>(*slot);
            let base = base.wrapping_add((i * size_of::<T>()) as u64);
            let first = host::<T>(base, lanes[0]);
            if pattern == Pattern::Block && N == 1 {
                *d.cast::<[T; LANES]>() = first.cast::<[T; LANES]>().read_unaligned();
            } else if w.mask != u32::MAX {
                for lane in each(w.mask) {
                    *d.add(lane) = host::<T>(base, lanes[lane]).read_unaligned();
                }
            } else if pattern == Pattern::One {
                *d.cast::<[T; LANES]>() = [first.read_unaligned(); LANES];
            } else {
                for (lane, address) in lanes.iter().enumerate() {
                    *d.add(lane) = host::<T>(base, *address).read_unaligned();
                }
            }
        }
        at.add(1)
    }
}

/// # Safety
/// As `load`; `lanes` are the active lanes' addresses.
#[cold]
unsafe fn load_each<T: Lane, const SPACE: u8, const N: usize>(
    w: &mut Warp,
    at: *const Op,
    lanes: &[u64; LANES],
) -> *const Op {
    // SAFETY: `Run`'s contract; pointers come from `resolve`.
    unsafe {
        let op = &*at;
        for lane in each(w.mask) {
            match resolve::<SPACE>(w, lane as u32, lanes[lane], (size_of::<T>() * N) as u64) {
                Ok(from) => {
                    for (i, slot) in elements(op).iter().enumerate().take(N) {
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
    // SAFETY: `Run`'s contract; pointers were checked by `together`.
    unsafe {
        let op = &*at;
        let lanes = addresses::<A>(w, op);
        let Some((base, pattern)) = together::<SPACE>(w, &lanes, (size_of::<T>() * N) as u64) else {
            return store_each::<T, SPACE, N>(w, at, &lanes);
        };
        if pattern == Pattern::Block && N == 1 {
            let first = host::<T>(base, lanes[0]);
            first.cast::<[T; LANES]>().write_unaligned(*w.lanes::<[T; LANES]>(op.d));
            return at.add(1);
        }
        // Lanes that write the same place write it in their order.
        for lane in each(w.mask) {
            let to = host::<T>(base, lanes[lane]);
            for (i, slot) in elements(op).iter().enumerate().take(N) {
                to.add(i).write_unaligned(*w.lanes::<T>(*slot).add(lane));
            }
        }
        at.add(1)
    }
}

/// # Safety
/// As `store`; `lanes` are the active lanes' addresses.
#[cold]
unsafe fn store_each<T: Lane, const SPACE: u8, const N: usize>(
    w: &mut Warp,
    at: *const Op,
    lanes: &[u64; LANES],
) -> *const Op {
    // SAFETY: `Run`'s contract; pointers come from `resolve`.
    unsafe {
        let op = &*at;
        for lane in each(w.mask) {
            match resolve::<SPACE>(w, lane as u32, lanes[lane], (size_of::<T>() * N) as u64) {
                Ok(to) => {
                    for (i, slot) in elements(op).iter().enumerate().take(N) {
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
