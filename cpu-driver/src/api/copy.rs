//! Copies. A copy with nothing to wait for is done in the call when it is small, or when CUDA lets
//! the program reuse its memory once the call returns; other copies are tasks of their stream.

use super::copy_3d::{Side, between};
use super::{Answer, stream, work_stream};
use crate::capture;
use crate::graph::params::{CopyNode, Params};
use crate::memory::arena;
use crate::stream::Stream;
use crate::stream::task::{Copy, Source, Work};
use crate::transfer::{self, Place, place};
use paravane_protocol::cuda_types::{
    CU_MEMORYTYPE_ARRAY, CU_MEMORYTYPE_DEVICE, CU_MEMORYTYPE_HOST, CUDA_ERROR_INVALID_VALUE,
    CUDA_MEMCPY_NODE_PARAMS, CUDA_MEMCPY2D, CUDA_MEMCPY3D, CUarray, CUdeviceptr, CUstream,
};
use std::ffi::c_void;
use std::sync::Arc;

/// Copies of at most this size are done in the call when their stream is idle.
const INLINE_MAX: usize = 64 << 10;

/// What a call says about one end of its copy.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Host,
    Device,
    /// Told by the address.
    Unified,
    /// Inside of an array, as was checked against its extent.
    Array,
}

pub(super) fn address(pointer: *const c_void) -> u64 {
    u64::try_from(pointer.expose_provenance()).unwrap_or(0)
}

/// Checks one end over all its rows and slices.
fn check(at: u64, end: End, copy: &Copy, pitch: usize, slice: usize) -> Answer {
    let rows = pitch.checked_mul(copy.rows - 1).and_then(|before| before.checked_add(copy.row));
    let before = slice.checked_mul(copy.slices - 1);
    let extent = before.zip(rows).and_then(|(before, rows)| before.checked_add(rows));
    let extent = extent.and_then(|n| u64::try_from(n).ok()).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    let in_arena = at.wrapping_sub(arena().base()) < arena().size();
    let is_fine = match end {
        End::Array => true,
        // Pinned host memory is the device's to address too.
        _ if in_arena => arena().holds(at, extent),
        End::Device => place(at) == Place::Pinned,
        End::Host | End::Unified => at != 0,
    };
    if is_fine { Ok(()) } else { Err(CUDA_ERROR_INVALID_VALUE) }
}

/// One copy, checked and carried out or put on its stream.
pub(super) struct Request {
    pub(super) copy: Copy,
    pub(super) from: u64,
    pub(super) ends: (End, End),
    pub(super) is_async: bool,
    /// Where an end is in an array: array, bytes, rows and slices to skip; target and source.
    pub(super) arrays: [Option<(CUarray, [u64; 3])>; 2],
}

impl Request {
    fn flat(to: (u64, End), from: (u64, End), row: usize, is_async: bool) -> Self {
        let copy = Copy::flat(to.0, Source::Address(from.0), row);
        Self { copy, from: from.0, ends: (to.1, from.1), is_async, arrays: [None; 2] }
    }

    pub(super) fn carry_out(mut self, handle: CUstream) -> Answer {
        if !self.is_async {
            capture::refuse_unsafe()?;
        }
        let stream = if self.is_async { work_stream(handle)? } else { stream(handle)? };
        let copy = &self.copy;
        if copy.row == 0 || copy.rows == 0 || copy.slices == 0 {
            return Ok(());
        }
        self.check()?;
        if stream.capture.is_taken() {
            return capture::add(&stream, Params::Copy(self.node())).map(|_| ());
        }
        let total = copy.row * copy.rows * copy.slices;
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

    /// The copy is checked: its ends are there over all its rows and slices.
    pub(super) fn check(&self) -> Answer {
        let copy = &self.copy;
        check(copy.to, self.ends.0, copy, copy.to_pitch, copy.to_slice)?;
        check(self.from, self.ends.1, copy, copy.from_pitch, copy.from_slice)
    }

    /// The copy as a graph's node: addresses or arrays, whatever is there when it runs.
    fn node(self) -> CopyNode {
        let wide = |n: usize| u64::try_from(n).unwrap_or(0);
        let kind = |at| if place(at) == Place::Device { CU_MEMORYTYPE_DEVICE } else { CU_MEMORYTYPE_HOST };
        let host = |at, kind| if kind == CU_MEMORYTYPE_HOST { at } else { 0 };
        let (to, from) = (kind(self.copy.to), kind(self.from));
        let mut copyParams = CUDA_MEMCPY3D {
            srcMemoryType: from,
            srcHost: host(self.from, from),
            srcDevice: CUdeviceptr(self.from - host(self.from, from)),
            srcPitch: wide(self.copy.from_pitch),
            srcHeight: wide(self.copy.from_slice / self.copy.from_pitch.max(1)),
            dstMemoryType: to,
            dstHost: host(self.copy.to, to),
            dstDevice: CUdeviceptr(self.copy.to - host(self.copy.to, to)),
            dstPitch: wide(self.copy.to_pitch),
            dstHeight: wide(self.copy.to_slice / self.copy.to_pitch.max(1)),
            WidthInBytes: wide(self.copy.row),
            Height: wide(self.copy.rows),
            Depth: wide(self.copy.slices),
            ..CUDA_MEMCPY3D::default()
        };
        let nowhere = (0, CUdeviceptr(0), 0, 0);
        if let Some((array, skip)) = self.arrays[0] {
            let c = &mut copyParams;
            (c.dstMemoryType, c.dstArray, [c.dstXInBytes, c.dstY, c.dstZ]) = (CU_MEMORYTYPE_ARRAY, array, skip);
            (c.dstHost, c.dstDevice, c.dstPitch, c.dstHeight) = nowhere;
        }
        if let Some((array, skip)) = self.arrays[1] {
            let c = &mut copyParams;
            (c.srcMemoryType, c.srcArray, [c.srcXInBytes, c.srcY, c.srcZ]) = (CU_MEMORYTYPE_ARRAY, array, skip);
            (c.srcHost, c.srcDevice, c.srcPitch, c.srcHeight) = nowhere;
        }
        let asked = CUDA_MEMCPY_NODE_PARAMS { copyParams, ..CUDA_MEMCPY_NODE_PARAMS::default() };
        CopyNode { asked, copy: self.copy }
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
        let slice = copy.row * copy.rows;
        let mut bytes = vec![0u8; slice * copy.slices];
        let target = u64::try_from(bytes.as_mut_ptr().expose_provenance()).unwrap_or(0);
        transfer::copy(&Copy { to: target, to_pitch: copy.row, to_slice: slice, ..copy.clone() });
        copy.from = Source::Staged(bytes.into());
        copy.from_pitch = copy.row;
        copy.from_slice = slice;
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

fn rectangle(pCopy: *const CUDA_MEMCPY2D, is_async: bool, handle: CUstream) -> Answer {
    if pCopy.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller passes a pointer to the structure.
    let c = unsafe { *pCopy };
    let at = |kind, host, device: CUdeviceptr| if kind == CU_MEMORYTYPE_HOST { host } else { device.0 };
    let to = Side {
        array: c.dstArray,
        skip: [c.dstXInBytes, c.dstY, 0],
        pitch: c.dstPitch,
        ..Side::new(c.dstMemoryType, at(c.dstMemoryType, c.dstHost, c.dstDevice))
    };
    let from = Side {
        array: c.srcArray,
        skip: [c.srcXInBytes, c.srcY, 0],
        pitch: c.srcPitch,
        ..Side::new(c.srcMemoryType, at(c.srcMemoryType, c.srcHost, c.srcDevice))
    };
    between(&to, &from, [c.WidthInBytes, c.Height, 1], is_async, handle)
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
