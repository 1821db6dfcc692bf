//! Copies in three dimensions, with arrays, between contexts, and batches of copies: all become the
//! one request that other copies become too.

use super::array::array;
use super::copy::{End, Request};
use super::{Answer, cuMemcpy, cuMemcpyAsync, stream};
use crate::context::CONTEXTS;
use crate::objects::ARRAYS;
use crate::stream::Kind;
use crate::stream::task::{Copy, Source};
use paravane_protocol::cuda_types::*;
use std::ffi::c_void;

/// One end: what it is, where it begins, how its rows and slices lie.
#[derive(Clone, Copy)]
pub(super) struct Side {
    pub(super) kind: CUmemorytype,
    pub(super) at: u64,
    pub(super) array: CUarray,
    pub(super) skip: [u64; 3],
    pub(super) lod: u64,
    pub(super) pitch: u64,
    pub(super) height: u64,
}

/// An end as the request needs it: first byte, kind, bytes from row to row and slice to slice.
type Place = (u64, End, u64, u64);

impl Side {
    pub(super) fn new(kind: CUmemorytype, at: u64) -> Self {
        Self { kind, at, array: CUarray(0), skip: [0; 3], lod: 0, pitch: 0, height: 0 }
    }

    pub(super) fn array(array: CUarray, skip: [u64; 3]) -> Self {
        Self { array, skip, ..Self::new(CU_MEMORYTYPE_ARRAY, 0) }
    }

    /// An end in an array: inside of it, in whole elements.
    fn in_array(&self, extent: [u64; 3]) -> Option<Place> {
        let array = ARRAYS.get(self.array.0)?;
        let grid = &array.grid;
        let element = u64::from(grid.format.bytes());
        let sides = [u64::from(grid.extent[0]) * element, u64::from(grid.extent[1]), u64::from(grid.extent[2])];
        let is_inside = (0..3).all(|n| self.skip[n].checked_add(extent[n]).is_some_and(|end| end <= sides[n]));
        let is_whole = self.skip[0].is_multiple_of(element) && extent[0].is_multiple_of(element);
        let start = grid.start + self.skip[2] * grid.slice + self.skip[1] * grid.pitch + self.skip[0];
        (is_inside && is_whole && self.lod == 0).then_some((start, End::Array, grid.pitch, grid.slice))
    }

    fn in_memory(&self, end: End, [width, rows, slices]: [u64; 3]) -> Option<Place> {
        let pitch = if self.pitch == 0 { width } else { self.pitch };
        let height = if self.height == 0 { rows } else { self.height };
        if (pitch < width && rows.max(slices) > 1) || (height < rows && slices > 1) {
            return None;
        }
        let slice = height.checked_mul(pitch)?;
        let skipped = self.skip[2].checked_mul(slice)?.checked_add(self.skip[1].checked_mul(pitch)?)?;
        Some((self.at.checked_add(skipped.checked_add(self.skip[0])?)?, end, pitch, slice))
    }

    fn resolve(&self, extent: [u64; 3]) -> Answer<Place> {
        let found = match self.kind {
            CU_MEMORYTYPE_HOST => self.in_memory(End::Host, extent),
            CU_MEMORYTYPE_DEVICE => self.in_memory(End::Device, extent),
            CU_MEMORYTYPE_UNIFIED => self.in_memory(End::Unified, extent),
            CU_MEMORYTYPE_ARRAY => {
                array(self.array)?;
                self.in_array(extent)
            }
            _ => None,
        };
        found.ok_or(CUDA_ERROR_INVALID_VALUE)
    }
}

/// Copies `extent`: bytes in a row, rows in a slice, slices.
pub(super) fn between(to: &Side, from: &Side, extent: [u64; 3], is_async: bool, handle: CUstream) -> Answer {
    if extent.contains(&0) {
        return stream(handle).map(|_| ());
    }
    request(to, from, extent, is_async)?.carry_out(handle)
}

/// The request that a copy of something is.
fn request(to: &Side, from: &Side, extent: [u64; 3], is_async: bool) -> Answer<Request> {
    let arrays = [to, from].map(|side| (side.kind == CU_MEMORYTYPE_ARRAY).then_some((side.array, side.skip)));
    let (to, to_end, to_pitch, to_slice) = to.resolve(extent)?;
    let (from, from_end, from_pitch, from_slice) = from.resolve(extent)?;
    let count = |n: u64| usize::try_from(n).map_err(|_| CUDA_ERROR_INVALID_VALUE);
    let [row, rows, slices] = [count(extent[0])?, count(extent[1])?, count(extent[2])?];
    row.checked_mul(rows).and_then(|slice| slice.checked_mul(slices)).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    let copy = Copy {
        to,
        from: Source::Address(from),
        row,
        rows,
        to_pitch: count(to_pitch)?,
        from_pitch: count(from_pitch)?,
        slices,
        to_slice: count(to_slice)?,
        from_slice: count(from_slice)?,
    };
    Ok(Request { copy, from, ends: (to_end, from_end), is_async, arrays })
}

/// The copy that a graph's node comes to, checked.
pub(super) fn of_node(asked: &CUDA_MEMCPY3D) -> Answer<Copy> {
    let (to, from, extent) = sides(asked);
    if extent.contains(&0) {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let request = request(&to, &from, extent, true)?;
    request.check()?;
    Ok(request.copy)
}

/// Reads a structure that must be there.
fn read<T: std::marker::Copy>(from: *const T) -> Answer<T> {
    if from.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller passes a pointer to the structure.
    Ok(unsafe { from.read_unaligned() })
}

/// Target, source and extent.
fn sides(c: &CUDA_MEMCPY3D) -> (Side, Side, [u64; 3]) {
    let at = |kind: CUmemorytype, host: u64, device: CUdeviceptr| if kind == CU_MEMORYTYPE_HOST { host } else { device.0 };
    let to = Side {
        kind: c.dstMemoryType,
        at: at(c.dstMemoryType, c.dstHost, c.dstDevice),
        array: c.dstArray,
        skip: [c.dstXInBytes, c.dstY, c.dstZ],
        lod: c.dstLOD,
        pitch: c.dstPitch,
        height: c.dstHeight,
    };
    let from = Side {
        kind: c.srcMemoryType,
        at: at(c.srcMemoryType, c.srcHost, c.srcDevice),
        array: c.srcArray,
        skip: [c.srcXInBytes, c.srcY, c.srcZ],
        lod: c.srcLOD,
        pitch: c.srcPitch,
        height: c.srcHeight,
    };
    (to, from, [c.WidthInBytes, c.Height, c.Depth])
}

fn volume(pCopy: *const CUDA_MEMCPY3D, is_async: bool, handle: CUstream) -> Answer {
    let (to, from, extent) = sides(&read(pCopy)?);
    between(&to, &from, extent, is_async, handle)
}

pub unsafe fn cuMemcpy3D_v2(pCopy: *const CUDA_MEMCPY3D) -> Answer {
    volume(pCopy, false, CUstream(0))
}

pub unsafe fn cuMemcpy3DAsync_v2(pCopy: *const CUDA_MEMCPY3D, hStream: CUstream) -> Answer {
    volume(pCopy, true, hStream)
}

/// Contexts share the one device's address space, so they only have to be there.
fn peers(contexts: [CUcontext; 2]) -> Answer {
    let known = |context: CUcontext| context.0 == 0 || CONTEXTS.get(context.0).is_some();
    if contexts.into_iter().all(known) { Ok(()) } else { Err(CUDA_ERROR_INVALID_CONTEXT) }
}

pub unsafe fn cuMemcpy3DPeer(pCopy: *const CUDA_MEMCPY3D) -> Answer {
    let copy = read(pCopy)?;
    peers([copy.reserved0, copy.reserved1].map(CUcontext))?;
    volume(pCopy, false, CUstream(0))
}

pub unsafe fn cuMemcpy3DPeerAsync(pCopy: *const CUDA_MEMCPY3D, hStream: CUstream) -> Answer {
    let copy = read(pCopy)?;
    peers([copy.reserved0, copy.reserved1].map(CUcontext))?;
    volume(pCopy, true, hStream)
}

pub unsafe fn cuMemcpyPeer(
    dstDevice: CUdeviceptr,
    dstContext: CUcontext,
    srcDevice: CUdeviceptr,
    srcContext: CUcontext,
    ByteCount: usize,
) -> Answer {
    peers([dstContext, srcContext])?;
    // SAFETY: the same contract.
    unsafe { cuMemcpy(dstDevice, srcDevice, ByteCount) }
}

pub unsafe fn cuMemcpyPeerAsync(
    dstDevice: CUdeviceptr,
    dstContext: CUcontext,
    srcDevice: CUdeviceptr,
    srcContext: CUcontext,
    ByteCount: usize,
    hStream: CUstream,
) -> Answer {
    peers([dstContext, srcContext])?;
    // SAFETY: the same contract.
    unsafe { cuMemcpyAsync(dstDevice, srcDevice, ByteCount, hStream) }
}

fn linear(to: Side, from: Side, bytes: usize, handle: Option<CUstream>) -> Answer {
    let bytes = u64::try_from(bytes).map_err(|_| CUDA_ERROR_INVALID_VALUE)?;
    between(&to, &from, [bytes, 1, 1], handle.is_some(), handle.unwrap_or(CUstream(0)))
}

fn in_array(array: CUarray, offset: usize) -> Side {
    Side::array(array, [u64::try_from(offset).unwrap_or(u64::MAX), 0, 0])
}

fn on_device(pointer: CUdeviceptr) -> Side {
    Side::new(CU_MEMORYTYPE_DEVICE, pointer.0)
}

fn on_host(pointer: *mut c_void) -> Side {
    Side::new(CU_MEMORYTYPE_HOST, super::copy::address(pointer))
}

pub unsafe fn cuMemcpyAtoD_v2(dstDevice: CUdeviceptr, srcArray: CUarray, srcOffset: usize, ByteCount: usize) -> Answer {
    linear(on_device(dstDevice), in_array(srcArray, srcOffset), ByteCount, None)
}

pub unsafe fn cuMemcpyDtoA_v2(dstArray: CUarray, dstOffset: usize, srcDevice: CUdeviceptr, ByteCount: usize) -> Answer {
    linear(in_array(dstArray, dstOffset), on_device(srcDevice), ByteCount, None)
}

pub unsafe fn cuMemcpyHtoA_v2(dstArray: CUarray, dstOffset: usize, srcHost: *mut c_void, ByteCount: usize) -> Answer {
    linear(in_array(dstArray, dstOffset), on_host(srcHost), ByteCount, None)
}

pub unsafe fn cuMemcpyAtoH_v2(dstHost: *mut c_void, srcArray: CUarray, srcOffset: usize, ByteCount: usize) -> Answer {
    linear(on_host(dstHost), in_array(srcArray, srcOffset), ByteCount, None)
}

pub unsafe fn cuMemcpyAtoA_v2(
    dstArray: CUarray,
    dstOffset: usize,
    srcArray: CUarray,
    srcOffset: usize,
    ByteCount: usize,
) -> Answer {
    linear(in_array(dstArray, dstOffset), in_array(srcArray, srcOffset), ByteCount, None)
}

pub unsafe fn cuMemcpyHtoAAsync_v2(
    dstArray: CUarray,
    dstOffset: usize,
    srcHost: *mut c_void,
    ByteCount: usize,
    hStream: CUstream,
) -> Answer {
    linear(in_array(dstArray, dstOffset), on_host(srcHost), ByteCount, Some(hStream))
}

pub unsafe fn cuMemcpyAtoHAsync_v2(
    dstHost: *mut c_void,
    srcArray: CUarray,
    srcOffset: usize,
    ByteCount: usize,
    hStream: CUstream,
) -> Answer {
    linear(on_host(dstHost), in_array(srcArray, srcOffset), ByteCount, Some(hStream))
}

/// What `failIdx` tells when no single copy is to blame.
const NO_INDEX: usize = usize::MAX;

/// The legacy default stream takes no batches.
fn batch_stream(handle: CUstream) -> Answer {
    if stream(handle)?.kind == Kind::Legacy { Err(CUDA_ERROR_INVALID_VALUE) } else { Ok(()) }
}

fn check_attributes(attributes: &CUmemcpyAttributes) -> Answer {
    let is_known = matches!(attributes.srcAccessOrder.0, 1..=3) && attributes.flags & !1 == 0;
    if is_known { Ok(()) } else { Err(CUDA_ERROR_INVALID_VALUE) }
}

/// Each attribute holds from its index on: they rise, from 0.
fn check_runs(attributes: *const CUmemcpyAttributes, starts: *const usize, runs: usize, count: usize) -> Answer {
    if runs == 0 || runs > count {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let mut last = None;
    for run in 0..runs {
        check_attributes(&read(attributes.wrapping_add(run))?)?;
        let start = read(starts.wrapping_add(run))?;
        if start >= count || !last.map_or(start == 0, |last| start > last) {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        last = Some(start);
    }
    Ok(())
}

pub unsafe fn cuMemcpyBatchAsync_v2(
    dsts: *mut CUdeviceptr,
    srcs: *mut CUdeviceptr,
    sizes: *mut usize,
    count: usize,
    attrs: *mut CUmemcpyAttributes,
    attrsIdxs: *mut usize,
    numAttrs: usize,
    hStream: CUstream,
) -> Answer {
    let none = std::ptr::null_mut();
    // SAFETY: the same contract.
    unsafe { cuMemcpyBatchAsync(dsts, srcs, sizes, count, attrs, attrsIdxs, numAttrs, none, hStream) }
}

pub unsafe fn cuMemcpyBatchAsync(
    dsts: *mut CUdeviceptr,
    srcs: *mut CUdeviceptr,
    sizes: *mut usize,
    count: usize,
    attrs: *mut CUmemcpyAttributes,
    attrsIdxs: *mut usize,
    numAttrs: usize,
    failIdx: *mut usize,
    hStream: CUstream,
) -> Answer {
    super::give_optional(failIdx, NO_INDEX);
    batch_stream(hStream)?;
    check_runs(attrs, attrsIdxs, numAttrs, count)?;
    for at in 0..count {
        let copy = || {
            let (to, from) = (read(dsts.wrapping_add(at))?, read(srcs.wrapping_add(at))?);
            let bytes = read(sizes.wrapping_add(at))?;
            // SAFETY: the same contract for each copy.
            unsafe { cuMemcpyAsync(to, from, bytes, hStream) }
        };
        copy().inspect_err(|_| super::give_optional(failIdx, at))?;
    }
    Ok(())
}

pub unsafe fn cuMemcpyWithAttributesAsync(
    dst: CUdeviceptr,
    src: CUdeviceptr,
    size: usize,
    attr: *mut CUmemcpyAttributes,
    hStream: CUstream,
) -> Answer {
    check_attributes(&read(attr)?)?;
    // SAFETY: the same contract.
    unsafe { cuMemcpyAsync(dst, src, size, hStream) }
}

fn one_volume(op: &CUDA_MEMCPY3D_BATCH_OP, handle: CUstream) -> Answer {
    if !matches!(op.srcAccessOrder.0, 1..=3) || op.flags & !1 != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // Extents are in an array's elements, in bytes where none takes part.
    let of_array = |operand: &CUmemcpy3DOperand| {
        (operand.kind == CU_MEMCPY_OPERAND_TYPE_ARRAY).then(|| array(CUarray(operand.words[0])))
    };
    let element = match of_array(&op.src).or_else(|| of_array(&op.dst)) {
        Some(array) => u64::from(array?.grid.format.bytes()),
        None => 1,
    };
    let bytes = |elements: u64| elements.checked_mul(element).ok_or(CUDA_ERROR_INVALID_VALUE);
    let side = |operand: &CUmemcpy3DOperand| {
        let [first, second, third, fourth] = operand.words;
        Ok(match operand.kind {
            CU_MEMCPY_OPERAND_TYPE_POINTER => {
                Side { pitch: bytes(second)?, height: third, ..Side::new(CU_MEMORYTYPE_UNIFIED, first) }
            }
            CU_MEMCPY_OPERAND_TYPE_ARRAY => Side::array(CUarray(first), [bytes(second)?, third, fourth]),
            _ => return Err(CUDA_ERROR_INVALID_VALUE),
        })
    };
    let [width, height, depth] = op.extent;
    between(&side(&op.dst)?, &side(&op.src)?, [bytes(width)?, height, depth], true, handle)
}

fn volumes(count: usize, ops: *mut CUDA_MEMCPY3D_BATCH_OP, failIdx: *mut usize, flags: u64, handle: CUstream) -> Answer {
    if count == 0 || flags != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    for at in 0..count {
        let copy = || one_volume(&read(ops.wrapping_add(at))?, handle);
        copy().inspect_err(|_| super::give_optional(failIdx, at))?;
    }
    Ok(())
}

pub unsafe fn cuMemcpy3DBatchAsync(
    numOps: usize,
    opList: *mut CUDA_MEMCPY3D_BATCH_OP,
    failIdx: *mut usize,
    flags: u64,
    hStream: CUstream,
) -> Answer {
    super::give_optional(failIdx, NO_INDEX);
    batch_stream(hStream)?;
    volumes(numOps, opList, failIdx, flags, hStream)
}

pub unsafe fn cuMemcpy3DBatchAsync_v2(
    numOps: usize,
    opList: *mut CUDA_MEMCPY3D_BATCH_OP,
    flags: u64,
    hStream: CUstream,
) -> Answer {
    batch_stream(hStream)?;
    volumes(numOps, opList, std::ptr::null_mut(), flags, hStream)
}

pub unsafe fn cuMemcpy3DWithAttributesAsync(op: *mut CUDA_MEMCPY3D_BATCH_OP, flags: u64, hStream: CUstream) -> Answer {
    volumes(1, op, std::ptr::null_mut(), flags, hStream)
}
