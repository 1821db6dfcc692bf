//! Drives a scalar function over a warp's 32 lanes. `decode` hands in a closure without captures
//! and gets a function pointer; the compiler vectorises each pairing twice, for the baseline and
//! for AVX2 with FMA, and the machine's features decide which one a module is decoded to.

use super::op::{Op, Run};
use super::warp::Warp;
use std::ptr::NonNull;

/// Lanes of a warp.
pub const LANES: usize = 32;
/// Lanes that are worked on at a time: one 256-bit vector of 32-bit values.
const CHUNK: usize = 8;
const CHUNK_BITS: [u32; CHUNK] = [1, 2, 4, 8, 16, 32, 64, 128];

/// A value that a register's lane can hold.
pub trait Lane: Copy + Default + 'static {}
impl<T: Copy + Default + 'static> Lane for T {}

/// Whether operations may be decoded to their AVX2 and FMA form.
pub fn has_avx2() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// Makes the value of a closure type that has no captures.
#[inline(always)]
pub fn conjure<F: Copy>() -> F {
    const { assert!(size_of::<F>() == 0, "lane functions must not capture") };
    // SAFETY: F is zero-sized and Copy, and its only value was handed to `unary` and its like.
    unsafe { NonNull::<F>::dangling().as_ptr().read() }
}

macro_rules! blend_as {
    ($int:ty, $to:expr, $new:expr, $mask:expr) => {{
        let to = $to.cast::<[$int; CHUNK]>();
        let old = *to;
        let new: [$int; CHUNK] = std::mem::transmute_copy(&$new);
        let mut out = [0; CHUNK];
        for j in 0..CHUNK {
            let select = <$int>::from($mask & CHUNK_BITS[j] != 0).wrapping_neg();
            out[j] = (new[j] & select) | (old[j] & !select);
        }
        *to = out;
    }};
}

/// Writes the lanes of `new` that `mask` names, by value, so that it becomes a masked vector store.
///
/// # Safety
/// `to` is a chunk of a slot of D.
#[inline(always)]
unsafe fn blend<D: Lane>(to: *mut [D; CHUNK], new: [D; CHUNK], mask: u32) {
    // SAFETY: an integer of D's size stands for D; the slot is the caller's promise.
    unsafe {
        match size_of::<D>() {
            1 => blend_as!(u8, to, new, mask),
            2 => blend_as!(u16, to, new, mask),
            4 => blend_as!(u32, to, new, mask),
            _ => blend_as!(u64, to, new, mask),
        }
    }
}

/// # Safety
/// As `Run`; `slot` holds 32 lanes of T.
#[inline(always)]
unsafe fn chunks<T>(w: &Warp, slot: u32) -> *mut [T; CHUNK] {
    // SAFETY: decode placed the slot inside the frame.
    unsafe { w.regs.add(slot as usize).cast() }
}

/// Computes every chunk with `lane(chunk)` and stores it under the warp's mask. Inactive lanes are
/// computed and thrown away: no lane function has side effects or traps.
///
/// # Safety
/// As `Run`; `d` holds 32 lanes of D.
#[inline(always)]
unsafe fn store_chunks<D: Lane>(w: &Warp, d: u32, lane: impl Fn(usize) -> [D; CHUNK]) {
    // SAFETY: the caller's promise, and four chunks are one slot.
    unsafe {
        let to = chunks::<D>(w, d);
        if w.mask == u32::MAX {
            for k in 0..LANES / CHUNK {
                *to.add(k) = lane(k);
            }
        } else {
            for k in 0..LANES / CHUNK {
                blend(to.add(k), lane(k), w.mask >> (k * CHUNK));
            }
        }
    }
}

/// Defines one driver: its always-inlined body and the two compilations of it.
macro_rules! driver {
    ($(#[$doc:meta])* $name:ident <$($ty:ident),*>, ($($arg:ident),*) -> $ret:ty, |$w:ident, $op:ident, $f:ident| $body:expr) => {
        $(#[$doc])*
        pub fn $name<$($ty: Lane,)* F: Fn($($arg),*) -> $ret + Copy>(_f: F) -> Run {
            /// # Safety
            /// As `Run`.
            #[inline(always)]
            unsafe fn body<$($ty: Lane,)* F: Fn($($arg),*) -> $ret + Copy>($w: &mut Warp, at: *const Op) -> *const Op {
                let $f = conjure::<F>();
                // SAFETY: `Run`'s contract holds for the slots of the operation and for the next one.
                unsafe {
                    let $op = &*at;
                    $body;
                    at.add(1)
                }
            }
            /// # Safety
            /// As `Run`.
            unsafe fn baseline<$($ty: Lane,)* F: Fn($($arg),*) -> $ret + Copy>(w: &mut Warp, at: *const Op) -> *const Op {
                // SAFETY: the same contract.
                unsafe { body::<$($ty,)* F>(w, at) }
            }
            /// # Safety
            /// As `Run`, on a machine with AVX2 and FMA.
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt,f16c")]
            unsafe fn avx2<$($ty: Lane,)* F: Fn($($arg),*) -> $ret + Copy>(w: &mut Warp, at: *const Op) -> *const Op {
                // SAFETY: the same contract.
                unsafe { body::<$($ty,)* F>(w, at) }
            }
            #[cfg(target_arch = "x86_64")]
            if has_avx2() {
                return avx2::<$($ty,)* F>;
            }
            baseline::<$($ty,)* F>
        }
    };
}

#[inline(always)]
fn map1<A: Lane, D: Lane>(a: [A; CHUNK], f: impl Fn(A) -> D) -> [D; CHUNK] {
    let mut out = [D::default(); CHUNK];
    for j in 0..CHUNK {
        out[j] = f(a[j]);
    }
    out
}

#[inline(always)]
fn map2<A: Lane, B: Lane, D: Lane>(a: [A; CHUNK], b: [B; CHUNK], f: impl Fn(A, B) -> D) -> [D; CHUNK] {
    let mut out = [D::default(); CHUNK];
    for j in 0..CHUNK {
        out[j] = f(a[j], b[j]);
    }
    out
}

driver! {
    /// `d = f(a)`.
    unary<A, D>, (A) -> D, |w, op, f| {
        let a = chunks::<A>(w, op.a);
        store_chunks(w, op.d, |k| map1(*a.add(k), f));
    }
}

driver! {
    /// `d = f(a, b)`.
    binary<A, B, D>, (A, B) -> D, |w, op, f| {
        let (a, b) = (chunks::<A>(w, op.a), chunks::<B>(w, op.b));
        store_chunks(w, op.d, |k| map2(*a.add(k), *b.add(k), f));
    }
}

driver! {
    /// `d = f(a, b, c)`.
    ternary<A, B, C, D>, (A, B, C) -> D, |w, op, f| {
        let (a, b, c) = (chunks::<A>(w, op.a), chunks::<B>(w, op.b), chunks::<C>(w, op.c));
        store_chunks(w, op.d, |k| {
            let (x, y, z) = (*a.add(k), *b.add(k), *c.add(k));
            let mut out = [D::default(); CHUNK];
            for j in 0..CHUNK {
                out[j] = f(x[j], y[j], z[j]);
            }
            out
        });
    }
}

driver! {
    /// `d = f(a, b, c, e)`.
    quaternary<A, B, C, E, D>, (A, B, C, E) -> D, |w, op, f| {
        let (a, b) = (chunks::<A>(w, op.a), chunks::<B>(w, op.b));
        let (c, e) = (chunks::<C>(w, op.c), chunks::<E>(w, op.e));
        store_chunks(w, op.d, |k| {
            let (x, y, z, v) = (*a.add(k), *b.add(k), *c.add(k), *e.add(k));
            let mut out = [D::default(); CHUNK];
            for j in 0..CHUNK {
                out[j] = f(x[j], y[j], z[j], v[j]);
            }
            out
        });
    }
}

driver! {
    /// `d = f(a, b)` where d is a predicate: one bit a lane.
    test<A, B>, (A, B) -> bool, |w, op, f| {
        let (a, b) = (w.lanes::<A>(op.a), w.lanes::<B>(op.b));
        let mut bits = 0u32;
        // Written lane by lane, which is the form that becomes vector comparisons.
        for lane in 0..LANES {
            bits |= u32::from(f(a.add(lane).read(), b.add(lane).read())) << lane;
        }
        let d = w.predicate(op.d);
        *d = (*d & !w.mask) | (bits & w.mask);
    }
}

driver! {
    /// `d = f(a, b, p)` where p is a predicate.
    with_predicate<A, B, D>, (A, B, bool) -> D, |w, op, f| {
        let (a, b, p) = (chunks::<A>(w, op.a), chunks::<B>(w, op.b), *w.predicate(op.c));
        store_chunks(w, op.d, |k| {
            let (x, y, bits) = (*a.add(k), *b.add(k), p >> (k * CHUNK));
            let mut out = [D::default(); CHUNK];
            for j in 0..CHUNK {
                out[j] = f(x[j], y[j], bits & CHUNK_BITS[j] != 0);
            }
            out
        });
    }
}

/// `d = f(a, b)` on whole predicates.
pub fn logic<F: Fn(u32, u32) -> u32 + Copy>(_f: F) -> Run {
    /// # Safety
    /// As `Run`.
    unsafe fn body<F: Fn(u32, u32) -> u32 + Copy>(w: &mut Warp, at: *const Op) -> *const Op {
        // SAFETY: `Run`'s contract: d, a and b are predicate slots.
        unsafe {
            let op = &*at;
            let bits = conjure::<F>()(*w.predicate(op.a), *w.predicate(op.b));
            let d = w.predicate(op.d);
            *d = (*d & !w.mask) | (bits & w.mask);
            at.add(1)
        }
    }
    body::<F>
}
