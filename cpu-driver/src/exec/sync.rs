//! `.sync` operations of a warp: shuffles, votes, matches, reductions. Lanes meet by the member
//! mask that each of them names; a set runs once all its living members are there.

use super::lanes::LANES;
use super::op::{Op, Run};
use super::warp::{Warp, Wait};

type Values = [u32; LANES];

/// Lanes of a mask, lowest first.
pub fn each(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lane = mask.trailing_zeros() as usize;
        mask &= mask.wrapping_sub(1);
        (lane < LANES).then_some(lane)
    })
}

/// Runs `body` for every set of lanes that is complete; the others wait here. `members` is the slot
/// of the member masks.
///
/// # Safety
/// As `Run`.
#[inline(always)]
pub(super) unsafe fn meet(w: &mut Warp, at: *const Op, members: u32, body: impl Fn(&mut Warp, u32)) -> *const Op {
    // SAFETY: `Run`'s contract.
    let masks = unsafe { *w.lanes::<Values>(members) };
    let first = masks[w.mask.trailing_zeros() as usize % LANES];
    let equal = each(w.mask).all(|lane| masks[lane] == first);
    if equal && first & w.live & !w.mask == 0 && !w.force_sync {
        body(w, w.mask);
        // SAFETY: decode ends every function with an operation that does not fall through.
        return unsafe { at.add(1) };
    }
    // SAFETY: the same contract.
    unsafe { meet_in_parts(w, at, members, &body) }
}

/// # Safety
/// As `Run`.
unsafe fn meet_in_parts(w: &mut Warp, at: *const Op, members: u32, body: &dyn Fn(&mut Warp, u32)) -> *const Op {
    let frame = w.frame;
    let here = |group: &super::warp::Group| group.frame == frame && group.ip == at && group.wait == Wait::Lanes;
    let waiting = w.others.iter().filter(|group| here(group)).fold(0, |mask, group| mask | group.mask);
    w.others.retain(|group| !here(group));
    w.mask |= waiting;
    // SAFETY: `Run`'s contract.
    let masks = unsafe { *w.lanes::<Values>(members) };
    let force = std::mem::take(&mut w.force_sync);
    let (mut rest, mut done) = (w.mask, 0);
    while rest != 0 {
        let mask = masks[rest.trailing_zeros() as usize];
        let same = each(rest).filter(|&lane| masks[lane] == mask).fold(0, |set, lane| set | 1 << lane);
        rest &= !same;
        if force || mask & w.live & !same == 0 {
            body(w, same);
            done |= same;
        } else {
            w.file(frame, at, same, Wait::Lanes);
        }
    }
    w.mask = done;
    if done == 0 {
        return w.pick();
    }
    // SAFETY: as in `meet`.
    w.arrive(unsafe { at.add(1) })
}

/// How a shuffle finds its source lane.
pub const SHUFFLE_UP: u8 = 0;
pub const SHUFFLE_DOWN: u8 = 1;
pub const SHUFFLE_BUTTERFLY: u8 = 2;
pub const SHUFFLE_INDEX: u8 = 3;

/// Source lane, and whether it lies in the segment (PTX ISA, `shfl`).
pub fn shuffle_source(mode: u8, lane: u32, b: u32, c: u32) -> (u32, bool) {
    let (b, segment) = (b & 31, c >> 8 & 31);
    let clamp = c & 31;
    let highest = (lane & segment) | (clamp & !segment);
    let lowest = lane & segment;
    let (source, inside) = match mode {
        SHUFFLE_UP => {
            let source = i64::from(lane) - i64::from(b);
            ((source & 31) as u32, source >= i64::from(highest))
        }
        SHUFFLE_DOWN => (lane + b, lane + b <= highest),
        SHUFFLE_BUTTERFLY => (lane ^ b, lane ^ b <= highest),
        _ => {
            let source = lowest | (b & !segment);
            (source, source <= highest)
        }
    };
    if inside { (source, true) } else { (lane, false) }
}

/// `shfl`: value `a`, lane `b`, clamp and segment `c`, member masks `e`, result `d`; `imm` holds the
/// slot of the predicate that tells a source inside the segment.
///
/// # Safety
/// As `Run`.
unsafe fn shuffle<const MODE: u8>(w: &mut Warp, at: *const Op) -> *const Op {
    // SAFETY: `Run`'s contract for all slots.
    unsafe {
        let op = &*at;
        meet(w, at, op.e, |w, set| {
            let (a, b) = (*w.lanes::<Values>(op.a), *w.lanes::<Values>(op.b));
            let (c, d) = (*w.lanes::<Values>(op.c), w.lanes::<u32>(op.d));
            let inside_bits = w.predicate(op.imm as u32);
            let mut bits = 0;
            for lane in each(set) {
                let (source, inside) = shuffle_source(MODE, lane as u32, b[lane], c[lane]);
                *d.add(lane) = a[source as usize % LANES];
                bits |= u32::from(inside) << lane;
            }
            *inside_bits = (*inside_bits & !set) | bits;
        })
    }
}

pub fn shuffle_op(mode: u8) -> Run {
    match mode {
        SHUFFLE_UP => shuffle::<SHUFFLE_UP>,
        SHUFFLE_DOWN => shuffle::<SHUFFLE_DOWN>,
        SHUFFLE_BUTTERFLY => shuffle::<SHUFFLE_BUTTERFLY>,
        _ => shuffle::<SHUFFLE_INDEX>,
    }
}

/// What a vote asks.
pub const VOTE_ALL: u8 = 0;
pub const VOTE_ANY: u8 = 1;
pub const VOTE_UNIFORM: u8 = 2;
pub const VOTE_BALLOT: u8 = 3;

/// `vote`: predicate `a` (negated when `c` is 1), member masks `e`, result `d`.
///
/// # Safety
/// As `Run`.
unsafe fn vote<const MODE: u8>(w: &mut Warp, at: *const Op) -> *const Op {
    // SAFETY: `Run`'s contract for all slots.
    unsafe {
        let op = &*at;
        meet(w, at, op.e, |w, set| {
            let truth = *w.predicate(op.a) ^ if op.c == 1 { u32::MAX } else { 0 };
            let yes = truth & set;
            if MODE == VOTE_BALLOT {
                let d = w.lanes::<u32>(op.d);
                for lane in each(set) {
                    *d.add(lane) = yes;
                }
                return;
            }
            let result = match MODE {
                VOTE_ALL => yes == set,
                VOTE_ANY => yes != 0,
                _ => yes == set || yes == 0,
            };
            let d = w.predicate(op.d);
            *d = (*d & !set) | if result { set } else { 0 };
        })
    }
}

pub fn vote_op(mode: u8) -> Run {
    match mode {
        VOTE_ALL => vote::<VOTE_ALL>,
        VOTE_ANY => vote::<VOTE_ANY>,
        VOTE_UNIFORM => vote::<VOTE_UNIFORM>,
        _ => vote::<VOTE_BALLOT>,
    }
}

/// `match.any` and `match.all`: value `a`, member masks `e`, result mask `d`; `match.all` tells in
/// the predicate of slot `imm` whether all agree.
///
/// # Safety
/// As `Run`.
unsafe fn matches<T: Copy + PartialEq, const ALL: bool>(w: &mut Warp, at: *const Op) -> *const Op {
    // SAFETY: `Run`'s contract for all slots.
    unsafe {
        let op = &*at;
        meet(w, at, op.e, |w, set| {
            let values = *w.lanes::<[T; LANES]>(op.a);
            let d = w.lanes::<u32>(op.d);
            let mut agree = 0;
            for lane in each(set) {
                let same = each(set).filter(|&l| values[l] == values[lane]).fold(0, |m, l| m | 1 << l);
                *d.add(lane) = if ALL && same != set { 0 } else { same };
                agree |= u32::from(same == set) << lane;
            }
            if ALL {
                let all = w.predicate(op.imm as u32);
                *all = (*all & !set) | agree;
            }
        })
    }
}

pub fn match_op(wide: bool, all: bool) -> Run {
    match (wide, all) {
        (false, false) => matches::<u32, false>,
        (false, true) => matches::<u32, true>,
        (true, false) => matches::<u64, false>,
        (true, true) => matches::<u64, true>,
    }
}

/// `redux`: value `a`, member masks `e`, result `d`, combined by the function that `F` is.
pub fn reduce_op<F: Fn(u32, u32) -> u32 + Copy>(_f: F) -> Run {
    /// # Safety
    /// As `Run`.
    unsafe fn reduce<F: Fn(u32, u32) -> u32 + Copy>(w: &mut Warp, at: *const Op) -> *const Op {
        // SAFETY: `Run`'s contract for all slots.
        unsafe {
            let op = &*at;
            meet(w, at, op.e, |w, set| {
                let f = super::lanes::conjure::<F>();
                let a = *w.lanes::<Values>(op.a);
                let d = w.lanes::<u32>(op.d);
                let total = each(set).map(|lane| a[lane]).reduce(f).unwrap_or(0);
                for lane in each(set) {
                    *d.add(lane) = total;
                }
            })
        }
    }
    reduce::<F>
}

/// `bar.warp.sync`, with member masks in `e`.
///
/// # Safety
/// As `Run`.
pub unsafe fn warp_sync(w: &mut Warp, at: *const Op) -> *const Op {
    // SAFETY: `Run`'s contract.
    unsafe { meet(w, at, (*at).e, |_, _| {}) }
}

/// `elect`: the lowest lane of the set in `d`, and a predicate, slot `imm`, that is true in it.
///
/// # Safety
/// As `Run`.
pub unsafe fn elect(w: &mut Warp, at: *const Op) -> *const Op {
    // SAFETY: `Run`'s contract for all slots.
    unsafe {
        let op = &*at;
        meet(w, at, op.e, |w, set| {
            let leader = set.trailing_zeros();
            let d = w.lanes::<u32>(op.d);
            for lane in each(set) {
                *d.add(lane) = leader;
            }
            let is_leader = w.predicate(op.imm as u32);
            *is_leader = (*is_leader & !set) | (1 << leader);
        })
    }
}

/// `activemask`.
///
/// # Safety
/// As `Run`.
pub unsafe fn active_mask(w: &mut Warp, at: *const Op) -> *const Op {
    // SAFETY: `Run`'s contract.
    unsafe {
        let d = w.lanes::<u32>((*at).d);
        for lane in each(w.mask) {
            *d.add(lane) = w.mask;
        }
        at.add(1)
    }
}
