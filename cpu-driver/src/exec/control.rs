//! Operations that decide which operation comes next: branches, guards, exits and traps.

use super::fault::FaultKind;
use super::op::{Op, Run};
use super::warp::{Warp, Wait};

/// The operation at the relative distance in `imm`.
///
/// # Safety
/// As `Run`; `imm` was made by decode from a label of the same function.
#[inline(always)]
unsafe fn target(at: *const Op) -> *const Op {
    // SAFETY: the caller's promise.
    unsafe { at.offset((*at).imm.cast_signed() as isize) }
}

/// # Safety
/// As `Run`.
unsafe fn jump<const BACK: bool>(w: &mut Warp, at: *const Op) -> *const Op {
    // SAFETY: `Run`'s contract.
    let to = unsafe { target(at) };
    if BACK { w.arrive_backward(to) } else { w.arrive(to) }
}

/// # Safety
/// As `Run`.
unsafe fn branch<const NEGATED: bool, const BACK: bool>(w: &mut Warp, at: *const Op) -> *const Op {
    // SAFETY: `Run`'s contract: `a` is a predicate slot.
    let (truth, to, next) = unsafe { (*w.predicate((*at).a), target(at), at.add(1)) };
    let taken = w.mask & if NEGATED { !truth } else { truth };
    if taken == 0 {
        return w.arrive(next);
    }
    if taken != w.mask {
        w.file(w.frame, to, taken, Wait::Nothing);
        w.mask &= !taken;
        return if BACK { w.arrive_backward(next) } else { w.arrive(next) };
    }
    if BACK { w.arrive_backward(to) } else { w.arrive(to) }
}

/// `bra` without a guard.
pub fn jump_op(back: bool) -> Run {
    if back { jump::<true> } else { jump::<false> }
}

/// `@p bra` and `@!p bra`, on the predicate in slot `a`.
pub fn branch_op(negated: bool, back: bool) -> Run {
    match (negated, back) {
        (false, false) => branch::<false, false>,
        (false, true) => branch::<false, true>,
        (true, false) => branch::<true, false>,
        (true, true) => branch::<true, true>,
    }
}

/// Stands before a label that is reached by falling through: groups meet here.
///
/// # Safety
/// As `Run`.
pub unsafe fn join(w: &mut Warp, at: *const Op) -> *const Op {
    // SAFETY: decode never ends a function with a join.
    w.arrive(unsafe { at.add(1) })
}

/// Runs the next operation for those lanes alone whose predicate holds.
///
/// # Safety
/// As `Run`.
unsafe fn guard<const NEGATED: bool>(w: &mut Warp, at: *const Op) -> *const Op {
    // SAFETY: `Run`'s contract: `a` is a predicate slot, and decode put the guarded operation next.
    unsafe {
        let truth = *w.predicate((*at).a);
        let mask = w.mask;
        let active = mask & if NEGATED { !truth } else { truth };
        let guarded = at.add(1);
        if active == 0 {
            return guarded.add(1);
        }
        w.mask = active;
        let next = ((*guarded).run)(w, guarded);
        w.mask = mask;
        next
    }
}

/// Prefix of a guarded operation that neither branches nor waits.
pub fn guard_op(negated: bool) -> Run {
    if negated { guard::<true> } else { guard::<false> }
}

/// `brx.idx`: slot `a` holds the index, `imm` the number of the function's branch table.
///
/// # Safety
/// As `Run`.
pub unsafe fn branch_indexed(w: &mut Warp, at: *const Op) -> *const Op {
    // SAFETY: `Run`'s contract; the frame's function holds the table and its targets.
    unsafe {
        let function = &*w.frames[w.frame as usize].function;
        let table = &function.branch_tables[(*at).imm as usize];
        let indices = *w.lanes::<[u32; 32]>((*at).a);
        let mut rest = w.mask;
        while rest != 0 {
            let lane = rest.trailing_zeros();
            let index = indices[lane as usize];
            let Some(&to) = table.get(index as usize) else {
                return w.fail(FaultKind::IllegalInstruction, &*at, lane, 0, "brx.idx beyond its branch targets");
            };
            let same = (0..32).filter(|&l| rest >> l & 1 != 0 && indices[l] == index).fold(0, |m, l| m | 1 << l);
            w.file(w.frame, function.ops.as_ptr().add(to as usize), same, Wait::Nothing);
            rest &= !same;
        }
        w.mask = 0;
        w.budget = w.budget.saturating_sub(1).max(1);
        w.pick()
    }
}

/// `exit`.
///
/// # Safety
/// As `Run`.
pub unsafe fn exit(w: &mut Warp, _at: *const Op) -> *const Op {
    w.exit_lanes()
}

/// `ret`: back to the caller, or `exit` in a kernel.
///
/// # Safety
/// As `Run`.
pub unsafe fn ret(w: &mut Warp, _at: *const Op) -> *const Op {
    let (frame, mask) = (w.frame as usize, w.mask);
    if w.frames[frame].depth == 0 {
        return w.exit_lanes();
    }
    w.frames[frame].lanes &= !mask;
    let (parent, to) = (w.frames[frame].parent, w.frames[frame].return_to);
    w.file(parent, to, mask, Wait::Nothing);
    w.pick()
}

/// `trap`.
///
/// # Safety
/// As `Run`.
pub unsafe fn trap(w: &mut Warp, at: *const Op) -> *const Op {
    let lane = w.mask.trailing_zeros();
    // SAFETY: `Run`'s contract.
    w.fail(FaultKind::LaunchFailed, unsafe { &*at }, lane, 0, "trap")
}

/// An instruction that this driver does not execute; `imm` numbers its text in the function.
///
/// # Safety
/// As `Run`.
pub unsafe fn unknown(w: &mut Warp, at: *const Op) -> *const Op {
    // SAFETY: `Run`'s contract; the frame's function holds the text.
    unsafe {
        let function = &*w.frames[w.frame as usize].function;
        let text = function.texts.get((*at).imm as usize).map_or("?", String::as_str);
        let lane = w.mask.trailing_zeros();
        w.fail(FaultKind::IllegalInstruction, &*at, lane, 0, text)
    }
}

/// Does nothing: hints, fences on one's own thread, pragmas.
///
/// # Safety
/// As `Run`.
pub unsafe fn nothing(_w: &mut Warp, at: *const Op) -> *const Op {
    // SAFETY: decode ends every function with an operation that does not fall through.
    unsafe { at.add(1) }
}

/// `membar`, `fence`: the host's full fence.
///
/// # Safety
/// As `Run`.
pub unsafe fn fence(_w: &mut Warp, at: *const Op) -> *const Op {
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    // SAFETY: as `nothing`.
    unsafe { at.add(1) }
}

/// `nanosleep`: lets others run.
///
/// # Safety
/// As `Run`.
pub unsafe fn nanosleep(w: &mut Warp, at: *const Op) -> *const Op {
    w.budget = w.budget.saturating_sub(super::warp::SPIN_COST).max(1);
    // SAFETY: as `nothing`.
    unsafe { at.add(1) }
}

/// `%clock64` and `%globaltimer`: the monotonic clock in nanoseconds, as u64 lanes.
///
/// # Safety
/// As `Run`.
pub unsafe fn clock(w: &mut Warp, at: *const Op) -> *const Op {
    static START: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
    let time = START.elapsed().as_nanos() as u64 + 1;
    w.budget = w.budget.saturating_sub(super::warp::SPIN_COST).max(1);
    // SAFETY: `Run`'s contract.
    unsafe {
        let d = w.lanes::<u64>((*at).d);
        for lane in super::sync::each(w.mask) {
            *d.add(lane) = time;
        }
        at.add(1)
    }
}
