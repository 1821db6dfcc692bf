//! What `decode` makes of an instruction: a function and the slots it works on. A warp runs by
//! calling `run` of one operation after the other; each returns the operation to go on with.

use super::warp::Warp;

/// Executes one operation for the warp's active lanes and returns the next one, or null when the
/// warp has to stop; `Warp::stop` then says why.
///
/// # Safety
/// The operation was decoded for the function whose frame is current in the warp, so every slot
/// lies inside that frame, and the pointer is into that function's operations.
pub type Run = unsafe fn(&mut Warp, *const Op) -> *const Op;

/// A decoded operation. Slots are byte offsets from the frame's base.
#[derive(Clone, Copy)]
pub struct Op {
    pub run: Run,
    pub d: u32,
    pub a: u32,
    pub b: u32,
    pub c: u32,
    /// What the operation needs beside slots: an offset, a target, a table's address.
    pub imm: u64,
    /// Further slot of an operation with five operands.
    pub e: u32,
    /// Line of the PTX text.
    pub line: u32,
}

impl Op {
    /// An operation without operands.
    pub fn new(run: Run, line: u32) -> Self {
        Self { run, d: 0, a: 0, b: 0, c: 0, imm: 0, e: 0, line }
    }
}
