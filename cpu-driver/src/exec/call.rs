//! Calls. Arguments and results are bytes of local memory: the caller copies its arguments to
//! where the callee's frame will be, and results back from there, for the lanes that call.

use super::builtin;
use super::fault::FaultKind;
use super::frame::Frame;
use super::function::{Argument, CallSite, Function, Target};
use super::lanes::LANES;
use super::op::Op;
use super::sync::each;
use super::warp::{Wait, Warp};
use crate::memory::{FUNCTION_BASE, WINDOW_MASK};

/// Calls that one thread may nest.
const DEPTH_MAX: u32 = 4096;

/// Moves one argument between the frame's own place and the callee's.
///
/// # Safety
/// The frame is current; `there` plus the argument's offset and size lie in the thread's local memory.
unsafe fn copy(w: &Warp, mask: u32, argument: &Argument, here_base: u32, there_base: u32, to_callee: bool) {
    for lane in each(mask) {
        // SAFETY: decode laid the offsets out and `call` checked the frames against the stretch.
        unsafe {
            let stretch = w.local.add(lane * w.local_stride as usize);
            let (here, there, size) = match *argument {
                Argument::Local { here, there, size } => (stretch.add((here_base + here) as usize), there, size),
                Argument::Slot { slot, there, size } => {
                    (w.lanes::<u8>(slot).add(lane * size as usize), there, size)
                }
            };
            let there = stretch.add((there_base + there) as usize);
            let (from, to) = if to_callee { (here, there) } else { (there, here) };
            std::ptr::copy(from, to, size as usize);
        }
    }
}

/// Where the frame above the current one begins in local memory.
fn next_base(w: &Warp, function: &Function) -> u32 {
    w.frames[w.frame as usize].local_base + function.local_size.next_multiple_of(16)
}

/// The function that an indirect call of some lanes goes to; lanes that go elsewhere wait here.
///
/// # Safety
/// As `Run`; `slot` holds 64-bit function addresses.
unsafe fn indirect(w: &mut Warp, at: *const Op, slot: u32) -> Result<u32, u64> {
    // SAFETY: the caller's promise.
    let addresses = unsafe { *w.lanes::<[u64; LANES]>(slot) };
    let address = addresses[w.mask.trailing_zeros() as usize % LANES];
    let same = each(w.mask).filter(|&lane| addresses[lane] == address).fold(0, |mask, lane| mask | 1 << lane);
    if same != w.mask {
        w.file(w.frame, at, w.mask & !same, Wait::Nothing);
        w.mask = same;
    }
    if address & WINDOW_MASK == FUNCTION_BASE { Ok((address - FUNCTION_BASE) as u32) } else { Err(address) }
}

/// `call`: `imm` numbers the call site in the function.
///
/// # Safety
/// As `Run`.
pub unsafe fn call(w: &mut Warp, at: *const Op) -> *const Op {
    // SAFETY: `Run`'s contract; functions outlive the launch, which the CTA keeps.
    unsafe {
        let op = &*at;
        let function = &*w.frames[w.frame as usize].function;
        let site = &function.calls[op.imm as usize];
        let lane = w.mask.trailing_zeros();
        let callee = match site.target {
            Target::Builtin(which) => return builtin::run(w, at, which, site),
            Target::Function(index) => index,
            Target::Indirect(slot) => match indirect(w, at, slot) {
                Ok(index) => index,
                Err(address) => {
                    return w.fail(FaultKind::IllegalInstruction, op, lane, address, "call of what is no function");
                }
            },
        };
        let callee: *const Function = match w.cta().grid.functions.get(callee as usize) {
            Some(callee) if !callee.ops.is_empty() => callee,
            _ => return w.fail(FaultKind::IllegalInstruction, op, lane, 0, "call of a function without a body"),
        };
        enter(w, at, function, site, &*callee)
    }
}

/// # Safety
/// As `Run`; `function` is the current frame's.
unsafe fn enter(w: &mut Warp, at: *const Op, function: &Function, site: &CallSite, callee: &Function) -> *const Op {
    let base = next_base(w, function);
    let (here, depth) = (w.frames[w.frame as usize].local_base, w.frames[w.frame as usize].depth + 1);
    if u64::from(base) + u64::from(callee.local_size) > w.local_stride || depth > DEPTH_MAX {
        let lane = w.mask.trailing_zeros();
        // SAFETY: `Run`'s contract.
        return w.fail(FaultKind::StackOverflow, unsafe { &*at }, lane, 0, "stack overflow");
    }
    for argument in &site.arguments {
        // SAFETY: both frames lie in the stretch, checked above.
        unsafe { copy(w, w.mask, argument, here, base, true) };
    }
    let index = free_frame(w, callee);
    let (parent, lanes) = (w.frame, w.mask);
    let frame = &mut w.frames[index];
    (frame.lanes, frame.depth, frame.parent, frame.local_base) = (lanes, depth, parent, base);
    // SAFETY: a call is never a function's last operation.
    frame.return_to = unsafe { at.add(1) };
    let frame = &w.frames[index];
    frame.set_specials(w.cta(), w.index, false);
    w.regs = frame.regs();
    w.frame = index as u32;
    callee.ops.as_ptr()
}

/// A frame for `callee` that no lane is in.
fn free_frame(w: &mut Warp, callee: &Function) -> usize {
    let fits = |frame: &Frame| frame.lanes == 0 && std::ptr::eq(frame.function, callee);
    match w.frames.iter().skip(1).position(fits) {
        Some(index) => index + 1,
        None => {
            w.frames.push(Frame::new(callee));
            w.frames.len() - 1
        }
    }
}

/// Follows a `call` that has results: fetches them from where the callee left them.
///
/// # Safety
/// As `Run`.
pub unsafe fn results(w: &mut Warp, at: *const Op) -> *const Op {
    // SAFETY: `Run`'s contract; the callee's frame was just above this one.
    unsafe {
        let function = &*w.frames[w.frame as usize].function;
        let site = &function.calls[(*at).imm as usize];
        let (here, there) = (w.frames[w.frame as usize].local_base, next_base(w, function));
        for result in &site.results {
            copy(w, w.mask, result, here, there, false);
        }
        at.add(1)
    }
}
