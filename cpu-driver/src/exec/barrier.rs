//! `bar` and `barrier`: a group arrives, and waits until the CTA finds the barrier complete.

use super::cta::{BARRIERS, Barrier, Reduction};
use super::fault::FaultKind;
use super::op::Op;
use super::warp::{Warp, Wait};

/// Counts the group in at the barrier of slot `a` with the thread count of slot `b`.
///
/// # Safety
/// As `Run`.
unsafe fn arrive(w: &mut Warp, at: *const Op) -> Option<(u8, &mut Barrier)> {
    let lane = w.mask.trailing_zeros();
    // SAFETY: `Run`'s contract.
    let (number, count) = unsafe {
        let op = &*at;
        (w.lanes::<[u32; 32]>(op.a).read()[lane as usize], w.lanes::<[u32; 32]>(op.b).read()[lane as usize])
    };
    if number as usize >= BARRIERS {
        // SAFETY: `Run`'s contract.
        w.fail(FaultKind::IllegalInstruction, unsafe { &*at }, lane, 0, "barrier number above 15");
        return None;
    }
    // SAFETY: the CTA outlives its warps, and only this thread runs it.
    let barrier = unsafe { &mut (*w.cta).barriers[number as usize] };
    barrier.arrived += w.mask.count_ones();
    barrier.expected = count;
    Some((number as u8, barrier))
}

fn wait(w: &mut Warp, number: u8, at: *const Op) -> *const Op {
    // SAFETY: a barrier is never a function's last operation.
    let next = unsafe { at.add(1) };
    w.file(w.frame, next, w.mask, Wait::Barrier(number));
    w.pick()
}

/// `bar.sync`.
///
/// # Safety
/// As `Run`.
pub unsafe fn sync(w: &mut Warp, at: *const Op) -> *const Op {
    // SAFETY: the same contract.
    match unsafe { arrive(w, at) } {
        Some((number, _)) => wait(w, number, at),
        None => std::ptr::null(),
    }
}

/// `bar.arrive`.
///
/// # Safety
/// As `Run`.
pub unsafe fn arrive_only(w: &mut Warp, at: *const Op) -> *const Op {
    // SAFETY: the same contract.
    unsafe {
        match arrive(w, at) {
            Some(_) => at.add(1),
            None => std::ptr::null(),
        }
    }
}

/// `bar.red`: predicate in slot `c`, result in `d`; `imm` 0 and, 1 or, 2 popc; `e` 1 negates.
///
/// # Safety
/// As `Run`.
pub unsafe fn reduce(w: &mut Warp, at: *const Op) -> *const Op {
    // SAFETY: `Run`'s contract.
    let (truth, op) = unsafe { (*w.predicate((*at).c), *at) };
    let votes = (w.mask & if op.e == 0 { truth } else { !truth }).count_ones();
    // SAFETY: the same contract.
    match unsafe { arrive(w, at) } {
        Some((number, barrier)) => {
            barrier.votes += votes;
            barrier.result = Some(match op.imm {
                0 => Reduction::And(op.d),
                1 => Reduction::Or(op.d),
                _ => Reduction::Popc(op.d),
            });
            wait(w, number, at)
        }
        None => std::ptr::null(),
    }
}
