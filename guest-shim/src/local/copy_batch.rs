//! Batches of copies, copies with attributes, copies between contexts: each is
//! the copies that it is made of, in the stream's order. When a copy's source
//! is read is no question here: pageable memory is read during the call, which
//! every order allows.

use paravane_protocol::cuda_types::*;

use super::copy::{Order, cuMemcpy, cuMemcpyAsync};
use super::copy_3d::{Extent, Side, between, size};
use crate::boundary::Answer;
use crate::state::{arrays, devices, stream};
use crate::pointer;

/// What `failIdx` tells when no single copy is to blame.
const NO_INDEX: usize = usize::MAX;

fn check_attributes(attributes: &CUmemcpyAttributes) -> Answer {
    const PREFER_OVERLAP: u32 = 1;
    let known = matches!(attributes.srcAccessOrder.0, 1..=3) && attributes.flags & !PREFER_OVERLAP == 0;
    if known { Ok(()) } else { Err(CUDA_ERROR_INVALID_VALUE) }
}

/// The legacy default stream takes no batches.
fn check_stream(hStream: CUstream) -> Answer {
    if stream::resolve(hStream).0 == 0 { Err(CUDA_ERROR_INVALID_VALUE) } else { Ok(()) }
}

/// Each attribute holds from its index on: they rise, from 0.
fn check_runs(attributes: *const CUmemcpyAttributes, starts: *const usize, runs: usize, count: usize) -> Answer {
    if runs == 0 || runs > count {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let mut last = None;
    for run in 0..runs {
        check_attributes(&pointer::element(attributes, run)?)?;
        let start = pointer::element(starts, run)?;
        let rises = last.map_or(start == 0, |last| start > last);
        if !rises || start >= count {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        last = Some(start);
    }
    Ok(())
}

#[allow(clippy::too_many_arguments, reason = "CUDA's prototype")]
pub(crate) fn cuMemcpyBatchAsync_v2(
    dsts: *mut CUdeviceptr,
    srcs: *mut CUdeviceptr,
    sizes: *mut usize,
    count: usize,
    attributes: *mut CUmemcpyAttributes,
    starts: *mut usize,
    runs: usize,
    hStream: CUstream,
) -> Answer {
    let mut failed = NO_INDEX;
    cuMemcpyBatchAsync(dsts, srcs, sizes, count, attributes, starts, runs, &raw mut failed, hStream)
}

#[allow(clippy::too_many_arguments, reason = "CUDA's prototype")]
pub(crate) fn cuMemcpyBatchAsync(
    dsts: *mut CUdeviceptr,
    srcs: *mut CUdeviceptr,
    sizes: *mut usize,
    count: usize,
    attributes: *mut CUmemcpyAttributes,
    starts: *mut usize,
    runs: usize,
    failed: *mut usize,
    hStream: CUstream,
) -> Answer {
    pointer::put_opt(failed, NO_INDEX);
    if count == 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    check_stream(hStream)?;
    check_runs(attributes, starts, runs, count)?;
    for at in 0..count {
        let copy = || {
            let (to, from) = (pointer::element(dsts, at)?, pointer::element(srcs, at)?);
            cuMemcpyAsync(to, from, pointer::element(sizes, at)?, hStream)
        };
        copy().inspect_err(|_| pointer::put_opt(failed, at))?;
    }
    Ok(())
}

pub(crate) fn cuMemcpyWithAttributesAsync(
    dst: CUdeviceptr,
    src: CUdeviceptr,
    bytes: usize,
    attributes: *mut CUmemcpyAttributes,
    hStream: CUstream,
) -> Answer {
    check_attributes(&pointer::get(attributes)?)?;
    cuMemcpyAsync(dst, src, bytes, hStream)
}

/// Bytes of an element: an array's; between pointers extents are in bytes.
fn element_of(operation: &CUDA_MEMCPY3D_BATCH_OP) -> Answer<u64> {
    for operand in [&operation.src, &operation.dst] {
        if operand.kind == CU_MEMCPY_OPERAND_TYPE_ARRAY {
            let array = CUarray(operand.words[0]);
            return arrays::element_bytes(array).map(|bytes| bytes as u64);
        }
    }
    Ok(1)
}

fn side(operand: &CUmemcpy3DOperand, element: u64) -> Answer<Side> {
    let [first, second, third, fourth] = operand.words;
    let bytes = |elements: u64| elements.checked_mul(element).ok_or(CUDA_ERROR_INVALID_VALUE);
    let none = Side {
        kind: CU_MEMORYTYPE_UNIFIED,
        host: 0,
        device: CUdeviceptr(0),
        array: CUarray(0),
        skip: [0; 3],
        lod: 0,
        pitch: 0,
        height: 0,
    };
    match operand.kind {
        CU_MEMCPY_OPERAND_TYPE_POINTER => {
            Ok(Side { device: CUdeviceptr(first), pitch: bytes(second)?, height: third, ..none })
        }
        CU_MEMCPY_OPERAND_TYPE_ARRAY => {
            let skip = [bytes(second)?, third, fourth];
            Ok(Side { kind: CU_MEMORYTYPE_ARRAY, array: CUarray(first), skip, ..none })
        }
        _ => Err(CUDA_ERROR_INVALID_VALUE),
    }
}

fn one_volume(operation: &CUDA_MEMCPY3D_BATCH_OP, hStream: CUstream) -> Answer {
    if !matches!(operation.srcAccessOrder.0, 1..=3) || operation.flags & !1 != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let element = element_of(operation)?;
    let [width, height, depth] = operation.extent;
    let width = width.checked_mul(element).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    let extent = Extent { width: size(width)?, rows: size(height)?, slices: size(depth)? };
    let (to, from) = (side(&operation.dst, element)?, side(&operation.src, element)?);
    between(&to, &from, extent, Order::on(hStream))
}

pub(crate) fn cuMemcpy3DBatchAsync(
    count: usize,
    operations: *mut CUDA_MEMCPY3D_BATCH_OP,
    failed: *mut usize,
    flags: u64,
    hStream: CUstream,
) -> Answer {
    pointer::put_opt(failed, NO_INDEX);
    check_stream(hStream)?;
    volumes(count, operations, failed, flags, hStream)
}

fn volumes(
    count: usize,
    operations: *mut CUDA_MEMCPY3D_BATCH_OP,
    failed: *mut usize,
    flags: u64,
    hStream: CUstream,
) -> Answer {
    if count == 0 || flags != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    for at in 0..count {
        let copy = || one_volume(&pointer::element(operations, at)?, hStream);
        copy().inspect_err(|_| pointer::put_opt(failed, at))?;
    }
    Ok(())
}

pub(crate) fn cuMemcpy3DBatchAsync_v2(
    count: usize,
    operations: *mut CUDA_MEMCPY3D_BATCH_OP,
    flags: u64,
    hStream: CUstream,
) -> Answer {
    cuMemcpy3DBatchAsync(count, operations, std::ptr::null_mut(), flags, hStream)
}

pub(crate) fn cuMemcpy3DWithAttributesAsync(
    operation: *mut CUDA_MEMCPY3D_BATCH_OP,
    flags: u64,
    hStream: CUstream,
) -> Answer {
    volumes(1, operation, std::ptr::null_mut(), flags, hStream)
}

fn peers(to: CUcontext, from: CUcontext) -> Answer {
    devices::of_context(to)?;
    devices::of_context(from).map(|_| ())
}

pub(crate) fn cuMemcpyPeer(
    dst: CUdeviceptr,
    to: CUcontext,
    src: CUdeviceptr,
    from: CUcontext,
    bytes: usize,
) -> Answer {
    peers(to, from)?;
    cuMemcpy(dst, src, bytes)
}

pub(crate) fn cuMemcpyPeerAsync(
    dst: CUdeviceptr,
    to: CUcontext,
    src: CUdeviceptr,
    from: CUcontext,
    bytes: usize,
    hStream: CUstream,
) -> Answer {
    peers(to, from)?;
    cuMemcpyAsync(dst, src, bytes, hStream)
}
