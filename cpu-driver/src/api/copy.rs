//! Copies. A copy with nothing to wait for is done in the call when it is small, or when CUDA lets
//! the program reuse its memory once the call returns; other copies are tasks of their stream.

use super::{Answer, stream, work_stream};
use crate::capture;
use crate::graph::params::{CopyNode, Params};
use crate::memory::arena;
use crate::stream::Stream;
use crate::stream::task::{Copy, Source, Work};
use crate::transfer::{self, Place, place};
use paravane_protocol::cuda_types::{
    CU_MEMORYTYPE_ARRAY, CU_MEMORYTYPE_DEVICE, CU_MEMORYTYPE_HOST, CU_MEMORYTYPE_UNIFIED, CUDA_ERROR_INVALID_VALUE,
    CUDA_ERROR_NOT_SUPPORTED, CUDA_MEMCPY_NODE_PARAMS, CUDA_MEMCPY2D, CUDA_MEMCPY3D, CUdeviceptr, CUmemorytype, CUstream,
};
use std::ffi::c_void;
use std::sync::Arc;

/// Copies of at most this size are done in the call when their stream is idle.
const INLINE_MAX: usize = 64 << 10;

/// What a call says about one end of its copy.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Host,
    Device,
    /// Told by the address.
    Unified,
}

fn address(pointer: *const c_void) -> u64 {
    u64::try_from(pointer.expose_provenance()).unwrap_or(0)
}

/// Checks one end over all its rows.
fn check(at: u64, end: End, row: usize, rows: usize, pitch: usize) -> Answer {
    let extent = pitch.checked_mul(rows - 1).and_then(|before| before.checked_add(row)).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    let extent = u64::try_from(extent).map_err(|_| CUDA_ERROR_INVALID_VALUE)?;
    let in_arena = at.wrapping_sub(arena().base()) < arena().size();
    let is_fine = match end {
        // Pinned host memory is the device's to address too.
        _ if in_arena => arena().holds(at, extent),
        End::Device => place(at) == Place::Pinned,
        End::Host | End::Unified => at != 0,
    };
    if is_fine { Ok(()) } else { Err(CUDA_ERROR_INVALID_VALUE) }
}

/// One copy of `rows` rows, checked and carried out or put on its stream.
struct Request {
    copy: Copy,
    from: u64,
    ends: (End, End),
    is_async: bool,
}

impl Request {
    fn flat(to: (u64, End), from: (u64, End), row: usize, is_async: bool) -> Self {
        let copy = Copy { to: to.0, from: Source::Address(from.0), row, rows: 1, to_pitch: row, from_pitch: row };
        Self { copy, from: from.0, ends: (to.1, from.1), is_async }
    }

    fn carry_out(mut self, handle: CUstream) -> Answer {
        if !self.is_async {
            capture::refuse_unsafe()?;
        }
        let stream = if self.is_async { work_stream(handle)? } else { stream(handle)? };
        let copy = &self.copy;
        if copy.row == 0 || copy.rows == 0 {
            return Ok(());
        }
        check(copy.to, self.ends.0, copy.row, copy.rows, copy.to_pitch)?;
        check(self.from, self.ends.1, copy.row, copy.rows, copy.from_pitch)?;
        if stream.capture.is_taken() {
            return capture::add(&stream, Params::Copy(self.node())).map(|_| ());
        }
        let total = copy.row * copy.rows;
        let (to, from) = (place(copy.to), place(self.from));
        if !self.is_async || to == Place::Pageable {
            // The call returns when the copy is done.
            return self.now(&stream);
        }
        if stream.is_idle() && (total <= INLINE_MAX || from == Place::Pageable) {
            transfer::copy(&self.copy);
            return Ok(());
        }
        if from == Place::Pageable {
            if total > INLINE_MAX {
                return self.now(&stream);
            }
            self.stage();
        }
        stream.enqueue(Work::Copy(self.copy), None);
        Ok(())
    }

    /// The copy as a graph's node: addresses, whatever is there when it runs.
    fn node(self) -> CopyNode {
        let wide = |n: usize| u64::try_from(n).unwrap_or(0);
        let kind = |at| if place(at) == Place::Device { CU_MEMORYTYPE_DEVICE } else { CU_MEMORYTYPE_HOST };
        let host = |at, kind| if kind == CU_MEMORYTYPE_HOST { at } else { 0 };
        let (to, from) = (kind(self.copy.to), kind(self.from));
        let copyParams = CUDA_MEMCPY3D {
            srcMemoryType: from,
            srcHost: host(self.from, from),
            srcDevice: CUdeviceptr(self.from - host(self.from, from)),
            srcPitch: wide(self.copy.from_pitch),
            dstMemoryType: to,
            dstHost: host(self.copy.to, to),
            dstDevice: CUdeviceptr(self.copy.to - host(self.copy.to, to)),
            dstPitch: wide(self.copy.to_pitch),
            WidthInBytes: wide(self.copy.row),
            Height: wide(self.copy.rows),
            Depth: 1,
            ..CUDA_MEMCPY3D::default()
        };
        let asked = CUDA_MEMCPY_NODE_PARAMS { copyParams, ..CUDA_MEMCPY_NODE_PARAMS::default() };
        CopyNode { asked, planes: [self.copy].into() }
    }

    /// Waits for what is before, and copies.
    fn now(self, stream: &Arc<Stream>) -> Answer {
        stream.synchronize();
        stream.context.failure().map_or(Ok(()), Err)?;
        transfer::copy(&self.copy);
        Ok(())
    }

    /// Takes the source's bytes now, because the program may change them once the call returns.
    fn stage(&mut self) {
        let copy = &mut self.copy;
        let mut bytes = vec![0u8; copy.row * copy.rows];
        let target = u64::try_from(bytes.as_mut_ptr().expose_provenance()).unwrap_or(0);
        transfer::copy(&Copy { to: target, to_pitch: copy.row, ..copy.clone() });
        copy.from = Source::Staged(bytes.into());
        copy.from_pitch = copy.row;
    }
}

pub unsafe fn cuMemcpy(dst: CUdeviceptr, src: CUdeviceptr, ByteCount: usize) -> Answer {
    Request::flat((dst.0, End::Unified), (src.0, End::Unified), ByteCount, false).carry_out(CUstream(0))
}

pub unsafe fn cuMemcpyAsync(dst: CUdeviceptr, src: CUdeviceptr, ByteCount: usize, hStream: CUstream) -> Answer {
    Request::flat((dst.0, End::Unified), (src.0, End::Unified), ByteCount, true).carry_out(hStream)
}

pub unsafe fn cuMemcpyHtoD_v2(dstDevice: CUdeviceptr, srcHost: *mut c_void, ByteCount: usize) -> Answer {
    Request::flat((dstDevice.0, End::Device), (address(srcHost), End::Host), ByteCount, false).carry_out(CUstream(0))
}

pub unsafe fn cuMemcpyDtoH_v2(dstHost: *mut c_void, srcDevice: CUdeviceptr, ByteCount: usize) -> Answer {
    Request::flat((address(dstHost), End::Host), (srcDevice.0, End::Device), ByteCount, false).carry_out(CUstream(0))
}

/// Device to device: asynchronous to the program even in this form, as CUDA has it.
pub unsafe fn cuMemcpyDtoD_v2(dstDevice: CUdeviceptr, srcDevice: CUdeviceptr, ByteCount: usize) -> Answer {
    Request::flat((dstDevice.0, End::Device), (srcDevice.0, End::Device), ByteCount, true).carry_out(CUstream(0))
}

pub unsafe fn cuMemcpyHtoDAsync_v2(
    dstDevice: CUdeviceptr,
    srcHost: *mut c_void,
    ByteCount: usize,
    hStream: CUstream,
) -> Answer {
    Request::flat((dstDevice.0, End::Device), (address(srcHost), End::Host), ByteCount, true).carry_out(hStream)
}

pub unsafe fn cuMemcpyDtoHAsync_v2(
    dstHost: *mut c_void,
    srcDevice: CUdeviceptr,
    ByteCount: usize,
    hStream: CUstream,
) -> Answer {
    Request::flat((address(dstHost), End::Host), (srcDevice.0, End::Device), ByteCount, true).carry_out(hStream)
}

pub unsafe fn cuMemcpyDtoDAsync_v2(
    dstDevice: CUdeviceptr,
    srcDevice: CUdeviceptr,
    ByteCount: usize,
    hStream: CUstream,
) -> Answer {
    Request::flat((dstDevice.0, End::Device), (srcDevice.0, End::Device), ByteCount, true).carry_out(hStream)
}

/// One end of a 2D copy: its first byte, what it is, and its pitch.
struct Side {
    kind: CUmemorytype,
    host: u64,
    device: CUdeviceptr,
    x: u64,
    y: u64,
    pitch: u64,
}

impl Side {
    fn resolve(&self, width: u64, height: u64) -> Answer<(u64, End, usize)> {
        let (base, end) = match self.kind {
            CU_MEMORYTYPE_HOST => (self.host, End::Host),
            CU_MEMORYTYPE_DEVICE => (self.device.0, End::Device),
            CU_MEMORYTYPE_UNIFIED => (self.device.0, End::Unified),
            CU_MEMORYTYPE_ARRAY => return Err(CUDA_ERROR_NOT_SUPPORTED),
            _ => return Err(CUDA_ERROR_INVALID_VALUE),
        };
        // A pitch of 0 means rows without a gap.
        let pitch = if self.pitch == 0 { width } else { self.pitch };
        let row_end = self.x.checked_add(width).ok_or(CUDA_ERROR_INVALID_VALUE)?;
        if pitch < row_end && height > 1 {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        let skipped = self.y.checked_mul(pitch).and_then(|rows| rows.checked_add(self.x));
        let start = skipped.and_then(|skipped| base.checked_add(skipped)).ok_or(CUDA_ERROR_INVALID_VALUE)?;
        Ok((start, end, usize::try_from(pitch).map_err(|_| CUDA_ERROR_INVALID_VALUE)?))
    }
}

fn rectangle(pCopy: *const CUDA_MEMCPY2D, is_async: bool, handle: CUstream) -> Answer {
    if pCopy.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller passes a pointer to the structure.
    let c = unsafe { *pCopy };
    let from =
        Side { kind: c.srcMemoryType, host: c.srcHost, device: c.srcDevice, x: c.srcXInBytes, y: c.srcY, pitch: c.srcPitch };
    let to =
        Side { kind: c.dstMemoryType, host: c.dstHost, device: c.dstDevice, x: c.dstXInBytes, y: c.dstY, pitch: c.dstPitch };
    let (to, to_end, to_pitch) = to.resolve(c.WidthInBytes, c.Height)?;
    let (from, from_end, from_pitch) = from.resolve(c.WidthInBytes, c.Height)?;
    let count = |n: u64| usize::try_from(n).map_err(|_| CUDA_ERROR_INVALID_VALUE);
    let (row, rows) = (count(c.WidthInBytes)?, count(c.Height)?);
    row.checked_mul(rows).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    let copy = Copy { to, from: Source::Address(from), row, rows, to_pitch, from_pitch };
    Request { copy, from, ends: (to_end, from_end), is_async }.carry_out(handle)
}

pub unsafe fn cuMemcpy2D_v2(pCopy: *const CUDA_MEMCPY2D) -> Answer {
    rectangle(pCopy, false, CUstream(0))
}

pub unsafe fn cuMemcpy2DUnaligned_v2(pCopy: *const CUDA_MEMCPY2D) -> Answer {
    rectangle(pCopy, false, CUstream(0))
}

pub unsafe fn cuMemcpy2DAsync_v2(pCopy: *const CUDA_MEMCPY2D, hStream: CUstream) -> Answer {
    rectangle(pCopy, true, hStream)
}
