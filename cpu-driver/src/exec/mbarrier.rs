//! `mbarrier`: barriers in shared memory that count arrivals, and bytes of asynchronous copies, by
//! phases. Copies are done at once here, so what waits for them finds them done.

use super::address::{GENERIC, resolve};
use super::lanes::LANES;
use super::op::{Op, Run};
use super::sync::each;
use super::warp::{SPIN_COST, Warp};

/// The barrier's word: arrivals expected in each phase from bit 0, those still missing from bit 20,
/// bytes still missing from bit 40, and the phase's parity in bit 63.
const COUNT_BITS: u32 = 20;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
const BYTES_SHIFT: u32 = 40;
const BYTES_MASK: u64 = (1 << 21) - 1;
const PHASE: u64 = 1 << 63;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Word {
    expected: u64,
    missing: u64,
    bytes: u64,
    phase: u64,
}

impl Word {
    fn of(bits: u64) -> Self {
        Self {
            expected: bits & COUNT_MASK,
            missing: bits >> COUNT_BITS & COUNT_MASK,
            bytes: bits >> BYTES_SHIFT & BYTES_MASK,
            phase: bits & PHASE,
        }
    }

    fn bits(self) -> u64 {
        self.phase
            | (self.bytes & BYTES_MASK) << BYTES_SHIFT
            | (self.missing & COUNT_MASK) << COUNT_BITS
            | (self.expected & COUNT_MASK)
    }

    /// Ends the phase when nothing is missing any more.
    fn settled(mut self) -> Self {
        if self.missing & COUNT_MASK == 0 && self.bytes & BYTES_MASK == 0 {
            self.missing = self.expected;
            self.phase ^= PHASE;
        }
        self
    }
}

/// What an operation does with the word; `n` is its count.
pub const INIT: u8 = 0;
pub const ARRIVE: u8 = 1;
pub const ARRIVE_DROP: u8 = 2;
/// Expects `n` bytes more.
pub const EXPECT: u8 = 3;
/// Expects `n` bytes more, then arrives once.
pub const EXPECT_ARRIVE: u8 = 4;
pub const EXPECT_ARRIVE_DROP: u8 = 5;
/// `n` bytes have come.
pub const COMPLETE: u8 = 6;

fn changed(kind: u8, word: Word, n: u64) -> Word {
    let mut word = word;
    match kind {
        INIT => return Word { expected: n, missing: n, bytes: 0, phase: 0 },
        ARRIVE | ARRIVE_DROP => word.missing = word.missing.wrapping_sub(n),
        EXPECT | EXPECT_ARRIVE | EXPECT_ARRIVE_DROP => word.bytes = word.bytes.wrapping_add(n),
        _ => word.bytes = word.bytes.wrapping_sub(n),
    }
    if matches!(kind, EXPECT_ARRIVE | EXPECT_ARRIVE_DROP) {
        word.missing = word.missing.wrapping_sub(1);
    }
    match kind {
        ARRIVE_DROP => word.expected = word.expected.wrapping_sub(n),
        EXPECT_ARRIVE_DROP => word.expected = word.expected.wrapping_sub(1),
        EXPECT => return word,
        _ => {}
    }
    word.settled()
}

/// Changes the word at the generic addresses in `a` by the counts in `b`; its old bits go to `d`.
///
/// # Safety
/// As `Run`.
unsafe fn change<const KIND: u8>(w: &mut Warp, at: *const Op) -> *const Op {
    // SAFETY: `Run`'s contract; pointers come from `resolve`. A CTA's shared memory is one thread's.
    unsafe {
        let op = &*at;
        let (addresses, counts) = (*w.lanes::<[u64; LANES]>(op.a), *w.lanes::<[u32; LANES]>(op.b));
        for lane in each(w.mask) {
            match resolve::<GENERIC>(w, lane as u32, addresses[lane], 8) {
                Ok(place) => {
                    let place = place.cast::<u64>();
                    let old = place.read();
                    place.write(changed(KIND, Word::of(old), u64::from(counts[lane])).bits());
                    *w.lanes::<u64>(op.d).add(lane) = old;
                }
                Err(bad) => return bad.report(w, op),
            }
        }
        at.add(1)
    }
}

/// `test_wait` and `try_wait`: predicate `d` tells whether the phase is over that the state in `b`
/// was taken in, or, with parity, the one of the parity in `b`.
///
/// # Safety
/// As `Run`.
unsafe fn test<const PARITY: bool>(w: &mut Warp, at: *const Op) -> *const Op {
    // SAFETY: `Run`'s contract; pointers come from `resolve`.
    unsafe {
        let op = &*at;
        let addresses = *w.lanes::<[u64; LANES]>(op.a);
        let mut over = 0u32;
        for lane in each(w.mask) {
            match resolve::<GENERIC>(w, lane as u32, addresses[lane], 8) {
                Ok(place) => {
                    let now = place.cast::<u64>().read() & PHASE;
                    let waited = if PARITY {
                        u64::from(w.lanes::<u32>(op.b).add(lane).read() & 1) << 63
                    } else {
                        w.lanes::<u64>(op.b).add(lane).read() & PHASE
                    };
                    over |= u32::from(now != waited) << lane;
                }
                Err(bad) => return bad.report(w, op),
            }
        }
        let d = w.predicate(op.d);
        *d = (*d & !w.mask) | over;
        w.budget = w.budget.saturating_sub(SPIN_COST).max(1);
        at.add(1)
    }
}

/// `pending_count` of a state's bits.
pub fn pending(state: u64) -> u32 {
    Word::of(state).missing as u32
}

pub fn change_op(kind: u8) -> Run {
    match kind {
        INIT => change::<INIT>,
        ARRIVE => change::<ARRIVE>,
        ARRIVE_DROP => change::<ARRIVE_DROP>,
        EXPECT => change::<EXPECT>,
        EXPECT_ARRIVE => change::<EXPECT_ARRIVE>,
        EXPECT_ARRIVE_DROP => change::<EXPECT_ARRIVE_DROP>,
        _ => change::<COMPLETE>,
    }
}

pub fn test_op(parity: bool) -> Run {
    if parity { test::<true> } else { test::<false> }
}

/// Asynchronous copies, done at once: from the generic addresses in `a` to those in `d`; `imm`
/// bytes of each are written, of which those beyond the number in `b` are zero. With `imm` 0 the
/// number in `b` is all.
///
/// # Safety
/// As `Run`.
pub unsafe fn copy(w: &mut Warp, at: *const Op) -> *const Op {
    // SAFETY: `Run`'s contract; pointers come from `resolve`.
    unsafe {
        let op = &*at;
        let (from, to) = (*w.lanes::<[u64; LANES]>(op.a), *w.lanes::<[u64; LANES]>(op.d));
        let counts = *w.lanes::<[u32; LANES]>(op.b);
        for lane in each(w.mask) {
            let count = u64::from(counts[lane]);
            let (written, step) = if op.imm == 0 { (count, 16) } else { (op.imm, op.imm) };
            let mut done = 0;
            while done < written {
                let mut bytes = [0u8; 16];
                let read = count.saturating_sub(done).min(step);
                if read > 0 {
                    match resolve::<GENERIC>(w, lane as u32, from[lane].wrapping_add(done), step) {
                        Ok(place) => std::ptr::copy_nonoverlapping(place, bytes.as_mut_ptr(), read as usize),
                        Err(bad) => return bad.report(w, op),
                    }
                }
                match resolve::<GENERIC>(w, lane as u32, to[lane].wrapping_add(done), step) {
                    Ok(place) => std::ptr::copy_nonoverlapping(bytes.as_ptr(), place, step as usize),
                    Err(bad) => return bad.report(w, op),
                }
                done += step;
            }
        }
        at.add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_ends_when_arrivals_and_bytes_are_there() {
        let mut word = changed(INIT, Word::of(0), 2);
        word = changed(EXPECT_ARRIVE, word, 64);
        assert_eq!((word.missing, word.bytes, word.phase), (1, 64, 0));
        word = changed(ARRIVE, word, 1);
        assert_eq!((word.missing, word.phase), (0, 0), "bytes are still missing");
        word = changed(COMPLETE, word, 64);
        assert_eq!((word.missing, word.bytes, word.phase), (2, 0, PHASE));
        word = changed(ARRIVE_DROP, word, 1);
        word = changed(ARRIVE, Word::of(word.bits()), 1);
        assert_eq!((word.expected, word.missing, word.phase), (1, 1, 0));
    }
}
