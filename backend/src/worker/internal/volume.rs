//! Copies in three dimensions and with arrays: libcuda's own 3D copy, its ends
//! named by the guest as those of other copies are.

use paravane_protocol::cuda_types::*;
use paravane_protocol::internal::OPERAND_ARRAY;

use super::copy::{Operand, Order, count};
use crate::worker::dispatch::Command;
use crate::worker::libcuda::{Answer, cuda};
use crate::worker::process::Process;

/// One end: kind and address as an operand's, or an array's id; bytes, rows
/// and slices to skip in an array; bytes from row to row, rows from slice to
/// slice.
struct End([u64; 7]);

/// An end as libcuda takes it.
struct Resolved {
    kind: CUmemorytype,
    host: u64,
    device: CUdeviceptr,
    array: CUarray,
    /// Keeps an area mapped; `None` for an array.
    operand: Option<Operand>,
}

impl End {
    fn resolve(&self, process: &Process, [width, rows, slices]: [u64; 3]) -> Answer<Resolved> {
        let [kind, at, x, y, z, pitch, height] = self.0;
        let none = Resolved {
            kind: CU_MEMORYTYPE_ARRAY,
            host: 0,
            device: CUdeviceptr(0),
            array: CUarray(0),
            operand: None,
        };
        if kind == OPERAND_ARRAY {
            return Ok(Resolved { array: process.handles.resolve(CUarray(at))?, ..none });
        }
        // What the guest skips in linear memory is in the address already.
        let span = height
            .checked_mul(slices - 1)
            .and_then(|before| before.checked_add(rows - 1)?.checked_mul(pitch)?.checked_add(width))
            .filter(|_| x == 0 && y == 0 && z == 0)
            .ok_or(CUDA_ERROR_INVALID_VALUE)?;
        let operand = Operand::find(process, [kind, at], span)?;
        let (kind, host, device) = super::copy::parts(&operand);
        Ok(Resolved { kind, host, device, operand: Some(operand), ..none })
    }
}

/// In: destination, source, width in bytes, rows, slices, stream, flags.
pub(super) fn volume(command: &mut Command) -> Answer {
    let to = End(std::array::from_fn(|_| command.from.word()));
    let from = End(std::array::from_fn(|_| command.from.word()));
    let extent: [u64; 3] = std::array::from_fn(|_| command.from.word());
    let [stream, flags] = std::array::from_fn(|_| command.from.word());
    command.read_all()?;
    if extent.contains(&0) {
        return Ok(());
    }
    let process = command.thread.process();
    let (dst, src) = (to.resolve(&process, extent)?, from.resolve(&process, extent)?);
    let order = Order::resolve(&process, stream, flags)?;
    let copy = CUDA_MEMCPY3D {
        srcXInBytes: from.0[2],
        srcY: from.0[3],
        srcZ: from.0[4],
        srcLOD: 0,
        srcMemoryType: src.kind,
        pad0: 0,
        srcHost: src.host,
        srcDevice: src.device,
        srcArray: src.array,
        reserved0: 0,
        srcPitch: from.0[5],
        srcHeight: from.0[6],
        dstXInBytes: to.0[2],
        dstY: to.0[3],
        dstZ: to.0[4],
        dstLOD: 0,
        dstMemoryType: dst.kind,
        pad1: 0,
        dstHost: dst.host,
        dstDevice: dst.device,
        dstArray: dst.array,
        reserved1: 0,
        dstPitch: to.0[5],
        dstHeight: to.0[6],
        WidthInBytes: extent[0],
        Height: extent[1],
        Depth: extent[2],
    };
    let lib = &process.lib;
    if order.is_plain() {
        cuda!(lib.cuMemcpy3D_v2(&raw const copy))?;
    } else {
        cuda!(lib.cuMemcpy3DAsync_v2(&raw const copy, order.stream))?;
        order.settle(lib)?;
    }
    let bytes = extent[0].saturating_mul(extent[1]).saturating_mul(extent[2]);
    count(command, dst.operand.as_ref(), src.operand.as_ref(), bytes);
    Ok(())
}
