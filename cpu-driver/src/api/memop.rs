//! Stream memory operations. Both versions of the interface are one here: what the first allowed and
//! the second does not is an error in the second.

use super::{Answer, work_stream};
use crate::capture;
use crate::graph::params::{MemoryNode, Params};
use crate::stream::memop::{Batch, MemOp, Until, Update, is_word};
use crate::stream::task::Work;
use paravane_protocol::cuda_types::*;
use std::sync::Arc;

/// Operations of one call, as CUDA bounds them.
const OPS_MAX: u32 = 256;
const FLUSH: u32 = 1 << 30;
const NO_MEMORY_BARRIER: u32 = 1;

fn until(flags: u32) -> Answer<Until> {
    // Nothing here reorders remote writes, so a flush is there already.
    Ok(match flags & !FLUSH {
        0 => Until::AtLeast,
        1 => Until::Equal,
        2 => Until::And,
        3 => Until::Nor,
        _ => return Err(CUDA_ERROR_INVALID_VALUE),
    })
}

fn at(address: CUdeviceptr, is_wide: bool) -> Answer<u64> {
    if is_word(address.0, is_wide) { Ok(address.0) } else { Err(CUDA_ERROR_INVALID_VALUE) }
}

fn wait(address: CUdeviceptr, is_wide: bool, value: u64, flags: u32) -> Answer<MemOp> {
    Ok(MemOp::Wait { at: at(address, is_wide)?, is_wide, value, until: until(flags)? })
}

fn write(address: CUdeviceptr, is_wide: bool, value: u64, flags: u32, is_v2: bool) -> Answer<MemOp> {
    let known = if is_v2 { 0 } else { NO_MEMORY_BARRIER };
    if flags & !known != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    Ok(MemOp::Update { at: at(address, is_wide)?, is_wide, value, update: Update::Write })
}

/// Operation, data type, address and operand of a reduction.
fn reduction(op: &CUstreamBatchMemOpParams) -> Answer<MemOp> {
    // cuda.h: CU_ATOMIC_OPERATION_INTEGER_ADD, _AND, _OR and the capability bits of the data type.
    const UNSIGNED_REDUCTION: u32 = 2 | 4;
    const SCALAR_32: u32 = 8;
    const SCALAR_64: u32 = 16;
    let update = match op.half(2) {
        0 => Update::Add,
        5 => Update::And,
        6 => Update::Or,
        _ => return Err(CUDA_ERROR_INVALID_VALUE),
    };
    let is_wide = match op.half(3) {
        kind if kind == UNSIGNED_REDUCTION | SCALAR_32 => false,
        kind if kind == UNSIGNED_REDUCTION | SCALAR_64 => true,
        _ => return Err(CUDA_ERROR_INVALID_VALUE),
    };
    if op.half(1) != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let [_, _, address, value, ..] = op.words;
    Ok(MemOp::Update { at: at(CUdeviceptr(address), is_wide)?, is_wide, value, update })
}

fn operation(op: &CUstreamBatchMemOpParams, is_v2: bool) -> Answer<MemOp> {
    let [_, address, value, ..] = op.words;
    let (address, flags) = (CUdeviceptr(address), op.half(6));
    let narrow = value & u64::from(u32::MAX);
    match op.kind() {
        CU_STREAM_MEM_OP_WAIT_VALUE_32 => wait(address, false, narrow, flags),
        CU_STREAM_MEM_OP_WAIT_VALUE_64 => wait(address, true, value, flags),
        CU_STREAM_MEM_OP_WRITE_VALUE_32 => write(address, false, narrow, flags, is_v2),
        CU_STREAM_MEM_OP_WRITE_VALUE_64 => write(address, true, value, flags, is_v2),
        CU_STREAM_MEM_OP_FLUSH_REMOTE_WRITES if op.half(1) == 0 => Ok(MemOp::Barrier),
        CU_STREAM_MEM_OP_BARRIER if is_v2 && op.half(1) <= 1 => Ok(MemOp::Barrier),
        CU_STREAM_MEM_OP_ATOMIC_REDUCTION if is_v2 => reduction(op),
        _ => Err(CUDA_ERROR_INVALID_VALUE),
    }
}

/// Checks every operation, so that all are done or none.
pub(super) fn batch(ops: &[CUstreamBatchMemOpParams], flags: u32, is_v2: bool) -> Answer<Arc<[MemOp]>> {
    if flags != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    ops.iter().map(|op| operation(op, is_v2)).collect()
}

/// The operations that a program passes.
///
/// # Safety
/// `array` has `count` elements.
pub(super) unsafe fn operations<'a>(
    count: u32,
    array: *const CUstreamBatchMemOpParams,
) -> Answer<&'a [CUstreamBatchMemOpParams]> {
    if count == 0 || count > OPS_MAX || array.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(array, count as usize) })
}

fn enqueue(handle: CUstream, asked: &[CUstreamBatchMemOpParams], ops: Arc<[MemOp]>) -> Answer {
    let stream = work_stream(handle)?;
    if stream.capture.is_taken() {
        let ctx = CUcontext(stream.context.handle);
        let count = u32::try_from(asked.len()).unwrap_or(0);
        let node = CUDA_BATCH_MEM_OP_NODE_PARAMS { ctx, count, ..CUDA_BATCH_MEM_OP_NODE_PARAMS::default() };
        let node = MemoryNode { asked: node, operations: asked.into(), checked: ops };
        return capture::add(&stream, Params::Memory(node)).map(|_| ());
    }
    stream.enqueue(Work::Memory(Batch::new(ops)), None);
    Ok(())
}

macro_rules! waits_and_writes {
    ($($wait:ident $write:ident $value:ty, $is_wide:literal, $is_v2:literal, $of_wait:ident $of_write:ident;)*) => {$(
        pub unsafe fn $wait(stream: CUstream, addr: CUdeviceptr, value: $value, flags: u32) -> Answer {
            let asked = CUstreamBatchMemOpParams::of($of_wait, addr, u64::from(value), flags);
            enqueue(stream, &[asked], [wait(addr, $is_wide, u64::from(value), flags)?].into())
        }

        pub unsafe fn $write(stream: CUstream, addr: CUdeviceptr, value: $value, flags: u32) -> Answer {
            let asked = CUstreamBatchMemOpParams::of($of_write, addr, u64::from(value), flags);
            enqueue(stream, &[asked], [write(addr, $is_wide, u64::from(value), flags, $is_v2)?].into())
        }
    )*};
}
waits_and_writes! {
    cuStreamWaitValue32 cuStreamWriteValue32 u32, false, false, CU_STREAM_MEM_OP_WAIT_VALUE_32 CU_STREAM_MEM_OP_WRITE_VALUE_32;
    cuStreamWaitValue64 cuStreamWriteValue64 u64, true, false, CU_STREAM_MEM_OP_WAIT_VALUE_64 CU_STREAM_MEM_OP_WRITE_VALUE_64;
    cuStreamWaitValue32_v2 cuStreamWriteValue32_v2 u32, false, true, CU_STREAM_MEM_OP_WAIT_VALUE_32 CU_STREAM_MEM_OP_WRITE_VALUE_32;
    cuStreamWaitValue64_v2 cuStreamWriteValue64_v2 u64, true, true, CU_STREAM_MEM_OP_WAIT_VALUE_64 CU_STREAM_MEM_OP_WRITE_VALUE_64;
}

pub unsafe fn cuStreamBatchMemOp(
    stream: CUstream,
    count: u32,
    paramArray: *const CUstreamBatchMemOpParams,
    flags: u32,
) -> Answer {
    // SAFETY: the caller passes an array of that length.
    let asked = unsafe { operations(count, paramArray) }?;
    enqueue(stream, asked, batch(asked, flags, false)?)
}

pub unsafe fn cuStreamBatchMemOp_v2(
    stream: CUstream,
    count: u32,
    paramArray: *const CUstreamBatchMemOpParams,
    flags: u32,
) -> Answer {
    // SAFETY: as above.
    let asked = unsafe { operations(count, paramArray) }?;
    enqueue(stream, asked, batch(asked, flags, true)?)
}
