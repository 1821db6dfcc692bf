//! Linear copies with one-dimensional arrays: rows of one, offset in bytes.

use paravane_protocol::cuda_types::*;

use super::copy::Order;
use super::copy_3d::{Extent, Side, between};
use crate::boundary::Answer;

fn side(kind: CUmemorytype) -> Side {
    Side {
        kind,
        host: 0,
        device: CUdeviceptr(0),
        array: CUarray(0),
        skip: [0; 3],
        lod: 0,
        pitch: 0,
        height: 0,
    }
}

fn array(array: CUarray, offset: usize) -> Side {
    Side { array, skip: [offset as u64, 0, 0], ..side(CU_MEMORYTYPE_ARRAY) }
}

fn device(device: CUdeviceptr) -> Side {
    Side { device, ..side(CU_MEMORYTYPE_DEVICE) }
}

fn host(host: Pointer) -> Side {
    Side { host: host as u64, ..side(CU_MEMORYTYPE_HOST) }
}

fn copy(to: Side, from: Side, bytes: usize, order: Order) -> Answer {
    between(&to, &from, Extent { width: bytes, rows: 1, slices: 1 }, order)
}

pub(crate) fn cuMemcpyDtoA_v2(to: CUarray, offset: usize, from: CUdeviceptr, bytes: usize) -> Answer {
    copy(array(to, offset), device(from), bytes, Order::synchronous())
}

pub(crate) fn cuMemcpyAtoD_v2(to: CUdeviceptr, from: CUarray, offset: usize, bytes: usize) -> Answer {
    copy(device(to), array(from, offset), bytes, Order::synchronous())
}

pub(crate) fn cuMemcpyHtoA_v2(to: CUarray, offset: usize, from: Pointer, bytes: usize) -> Answer {
    copy(array(to, offset), host(from), bytes, Order::synchronous())
}

pub(crate) fn cuMemcpyAtoH_v2(to: Pointer, from: CUarray, offset: usize, bytes: usize) -> Answer {
    copy(host(to), array(from, offset), bytes, Order::synchronous())
}

pub(crate) fn cuMemcpyAtoA_v2(
    to: CUarray,
    to_offset: usize,
    from: CUarray,
    from_offset: usize,
    bytes: usize,
) -> Answer {
    copy(array(to, to_offset), array(from, from_offset), bytes, Order::synchronous())
}

pub(crate) fn cuMemcpyHtoAAsync_v2(
    to: CUarray,
    offset: usize,
    from: Pointer,
    bytes: usize,
    stream: CUstream,
) -> Answer {
    copy(array(to, offset), host(from), bytes, Order::on(stream))
}

pub(crate) fn cuMemcpyAtoHAsync_v2(
    to: Pointer,
    from: CUarray,
    offset: usize,
    bytes: usize,
    stream: CUstream,
) -> Answer {
    copy(host(to), array(from, offset), bytes, Order::on(stream))
}
