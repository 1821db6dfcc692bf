//! Memsets: one request, whatever the width, the rows and the stream.

use super::{Answer, work_stream};
use crate::capture;
use crate::graph::params::{Params, SetNode};
use crate::memory::arena;
use crate::stream::task::{Set, Work};
use crate::transfer;
use paravane_protocol::cuda_types::{
    CUDA_ERROR_INVALID_VALUE, CUDA_MEMSET_NODE_PARAMS, CUDA_MEMSET_NODE_PARAMS_v2, CUcontext, CUdeviceptr, CUstream,
};

/// Memsets of at most this size are done in the call when their stream is idle.
const INLINE_MAX: usize = 64 << 10;

fn carry_out(set: Set, handle: CUstream) -> Answer {
    let stream = work_stream(handle)?;
    let row = set.count.checked_mul(set.width).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    if row == 0 || set.rows == 0 {
        return Ok(());
    }
    let width = u64::try_from(set.width).unwrap_or(1);
    let pitch = if set.rows == 1 { row } else { set.pitch };
    let extent = pitch.checked_mul(set.rows - 1).and_then(|before| before.checked_add(row));
    let extent = extent.and_then(|n| u64::try_from(n).ok()).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    let is_aligned = set.to.is_multiple_of(width) && pitch.is_multiple_of(set.width);
    let is_allocated = arena().holds(set.to, extent) || transfer::place(set.to) == transfer::Place::Pinned;
    if !is_aligned || pitch < row || !is_allocated {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    if stream.capture.is_taken() {
        return capture::add(&stream, Params::Set(node(set))).map(|_| ());
    }
    if stream.is_idle() && row.saturating_mul(set.rows) <= INLINE_MAX {
        transfer::set(&set);
    } else {
        stream.enqueue(Work::Set(set), None);
    }
    Ok(())
}

/// The memset as a graph's node.
fn node(set: Set) -> SetNode {
    let wide = |n: usize| u64::try_from(n).unwrap_or(0);
    let asked = CUDA_MEMSET_NODE_PARAMS {
        dst: CUdeviceptr(set.to),
        pitch: wide(set.pitch),
        value: set.value,
        elementSize: u32::try_from(set.width).unwrap_or(0),
        width: wide(set.count),
        height: wide(set.rows),
    };
    SetNode { asked: CUDA_MEMSET_NODE_PARAMS_v2 { set: asked, ctx: CUcontext(0) }, set }
}

fn flat(to: CUdeviceptr, value: u32, width: usize, count: usize) -> Set {
    Set { to: to.0, value, width, count, rows: 1, pitch: 0 }
}

pub unsafe fn cuMemsetD8_v2(dstDevice: CUdeviceptr, uc: u8, N: usize) -> Answer {
    carry_out(flat(dstDevice, u32::from(uc), 1, N), CUstream(0))
}

pub unsafe fn cuMemsetD16_v2(dstDevice: CUdeviceptr, us: u16, N: usize) -> Answer {
    carry_out(flat(dstDevice, u32::from(us), 2, N), CUstream(0))
}

pub unsafe fn cuMemsetD32_v2(dstDevice: CUdeviceptr, ui: u32, N: usize) -> Answer {
    carry_out(flat(dstDevice, ui, 4, N), CUstream(0))
}

pub unsafe fn cuMemsetD8Async(dstDevice: CUdeviceptr, uc: u8, N: usize, hStream: CUstream) -> Answer {
    carry_out(flat(dstDevice, u32::from(uc), 1, N), hStream)
}

pub unsafe fn cuMemsetD16Async(dstDevice: CUdeviceptr, us: u16, N: usize, hStream: CUstream) -> Answer {
    carry_out(flat(dstDevice, u32::from(us), 2, N), hStream)
}

pub unsafe fn cuMemsetD32Async(dstDevice: CUdeviceptr, ui: u32, N: usize, hStream: CUstream) -> Answer {
    carry_out(flat(dstDevice, ui, 4, N), hStream)
}

macro_rules! rectangles {
    ($($name:ident, $asynchronous:ident, $value:ident: $int:ty;)*) => {$(
        pub unsafe fn $name(dstDevice: CUdeviceptr, dstPitch: usize, $value: $int, Width: usize, Height: usize) -> Answer {
            // SAFETY: the same contract.
            unsafe { $asynchronous(dstDevice, dstPitch, $value, Width, Height, CUstream(0)) }
        }

        pub unsafe fn $asynchronous(
            dstDevice: CUdeviceptr,
            dstPitch: usize,
            $value: $int,
            Width: usize,
            Height: usize,
            hStream: CUstream,
        ) -> Answer {
            let (value, width) = (u32::from($value), size_of::<$int>());
            carry_out(Set { to: dstDevice.0, value, width, count: Width, rows: Height, pitch: dstPitch }, hStream)
        }
    )*};
}
rectangles! {
    cuMemsetD2D8_v2, cuMemsetD2D8Async, uc: u8;
    cuMemsetD2D16_v2, cuMemsetD2D16Async, us: u16;
    cuMemsetD2D32_v2, cuMemsetD2D32Async, ui: u32;
}
