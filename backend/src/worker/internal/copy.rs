//! Copies between areas and the device. A synchronous copy on the legacy
//! default stream uses libcuda's synchronous call; on another stream it is an
//! asynchronous one and a synchronise with the stream.

use std::sync::Arc;

use paravane_protocol::cuda_types::*;
use paravane_protocol::internal::{COPY_ASYNC, OPERAND_AREA, OPERAND_DEVICE};
use paravane_protocol::limits::REPLY_BYTES_MAX;

use crate::account::Counter;
use crate::worker::area::Mapping;
use crate::worker::dispatch::Command;
use crate::worker::libcuda::{Answer, Libcuda, cuda};
use crate::worker::process::Process;

/// One end of a copy.
pub(super) enum Operand {
    Device(CUdeviceptr),
    /// An address in an area, which stays mapped as long as this is held.
    Host(Pointer, #[allow(dead_code, reason = "keeps the area mapped")] Arc<Mapping>),
}

impl Operand {
    /// Checks that an operand of an area has `bytes`.
    pub(super) fn find(process: &Process, [kind, at]: [u64; 2], bytes: u64) -> Answer<Self> {
        if kind == OPERAND_DEVICE {
            return Ok(Self::Device(CUdeviceptr(at)));
        }
        let area = kind.checked_sub(OPERAND_AREA).and_then(|area| u16::try_from(area).ok());
        let area = area.ok_or(CUDA_ERROR_INVALID_VALUE)?;
        let mapping = process.areas.mapped(area).ok_or(CUDA_ERROR_INVALID_VALUE)?;
        let address = mapping.address(at, bytes).ok_or(CUDA_ERROR_INVALID_VALUE)?;
        Ok(Self::Host(address.cast(), mapping))
    }
}

/// When a copy has to be over.
pub(super) struct Order {
    pub(super) stream: CUstream,
    asynchronous: bool,
}

impl Order {
    pub(super) fn resolve(process: &Process, stream: u64, flags: u64) -> Answer<Self> {
        let stream = process.handles.resolve(CUstream(stream))?;
        Ok(Self { stream, asynchronous: flags & COPY_ASYNC != 0 })
    }

    /// Whether libcuda's synchronous call does it.
    pub(super) fn is_plain(&self) -> bool {
        !self.asynchronous && self.stream == CUstream(0)
    }

    /// After an asynchronous call: waits if it must be over.
    pub(super) fn settle(&self, lib: &Libcuda) -> Answer {
        if self.asynchronous { Ok(()) } else { cuda!(lib.cuStreamSynchronize(self.stream)) }
    }
}

fn run(lib: &Libcuda, to: &Operand, from: &Operand, bytes: usize, order: &Order) -> Answer {
    let stream = order.stream;
    match (to, from) {
        (Operand::Device(to), Operand::Host(from, _)) if order.is_plain() => {
            cuda!(lib.cuMemcpyHtoD_v2(*to, *from, bytes))
        }
        (Operand::Host(to, _), Operand::Device(from)) if order.is_plain() => {
            cuda!(lib.cuMemcpyDtoH_v2(*to, *from, bytes))
        }
        (Operand::Device(to), Operand::Device(from)) if order.is_plain() => {
            cuda!(lib.cuMemcpyDtoD_v2(*to, *from, bytes))
        }
        (Operand::Device(to), Operand::Host(from, _)) => {
            cuda!(lib.cuMemcpyHtoDAsync_v2(*to, *from, bytes, stream))?;
            order.settle(lib)
        }
        (Operand::Host(to, _), Operand::Device(from)) => {
            cuda!(lib.cuMemcpyDtoHAsync_v2(*to, *from, bytes, stream))?;
            order.settle(lib)
        }
        (Operand::Device(to), Operand::Device(from)) => {
            cuda!(lib.cuMemcpyDtoDAsync_v2(*to, *from, bytes, stream))?;
            order.settle(lib)
        }
        (Operand::Host(to, _), Operand::Host(from, _)) => {
            let (to, from) = (CUdeviceptr(*to as u64), CUdeviceptr(*from as u64));
            cuda!(lib.cuMemcpyAsync(to, from, bytes, stream))?;
            order.settle(lib)
        }
    }
}

/// Counts a copy in the account. An array, `None` here, is the device's.
pub(super) fn count(command: &Command, to: Option<&Operand>, from: Option<&Operand>, bytes: u64) {
    let is_host = |end: Option<&Operand>| matches!(end, Some(Operand::Host(..)));
    match (is_host(to), is_host(from)) {
        (false, true) => command.thread.count_bytes(Counter::BytesToDevice, bytes),
        (true, false) => command.thread.count_bytes(Counter::BytesFromDevice, bytes),
        _ => {}
    }
}

fn size(value: u64) -> Answer<usize> {
    usize::try_from(value).map_err(|_| CUDA_ERROR_INVALID_VALUE)
}

/// In: destination, source, bytes, stream, flags.
pub(super) fn linear(command: &mut Command) -> Answer {
    let [to_kind, to_at, from_kind, from_at, bytes, stream, flags] =
        std::array::from_fn(|_| command.from.word());
    command.read_all()?;
    let process = command.thread.process();
    let to = Operand::find(&process, [to_kind, to_at], bytes)?;
    let from = Operand::find(&process, [from_kind, from_at], bytes)?;
    let order = Order::resolve(&process, stream, flags)?;
    run(&process.lib, &to, &from, size(bytes)?, &order)?;
    count(command, Some(&to), Some(&from), bytes);
    Ok(())
}

/// In: destination, its pitch, source, its pitch, width, height, stream, flags.
pub(super) fn plane(command: &mut Command) -> Answer {
    let [to_kind, to_at, to_pitch, from_kind, from_at, from_pitch, width, height, stream, flags] =
        std::array::from_fn(|_| command.from.word());
    command.read_all()?;
    if width == 0 || height == 0 {
        return Ok(());
    }
    let span = |pitch: u64| {
        let rows = pitch.checked_mul(height - 1);
        rows.and_then(|rows| rows.checked_add(width)).ok_or(CUDA_ERROR_INVALID_VALUE)
    };
    let process = command.thread.process();
    let to = Operand::find(&process, [to_kind, to_at], span(to_pitch)?)?;
    let from = Operand::find(&process, [from_kind, from_at], span(from_pitch)?)?;
    let order = Order::resolve(&process, stream, flags)?;
    let (to_type, to_host, to_device) = parts(&to);
    let (from_type, from_host, from_device) = parts(&from);
    let copy = CUDA_MEMCPY2D {
        srcXInBytes: 0,
        srcY: 0,
        srcMemoryType: from_type,
        pad0: 0,
        srcHost: from_host,
        srcDevice: from_device,
        srcArray: CUarray(0),
        srcPitch: from_pitch,
        dstXInBytes: 0,
        dstY: 0,
        dstMemoryType: to_type,
        pad1: 0,
        dstHost: to_host,
        dstDevice: to_device,
        dstArray: CUarray(0),
        dstPitch: to_pitch,
        WidthInBytes: width,
        Height: height,
    };
    let lib = &process.lib;
    if order.is_plain() {
        cuda!(lib.cuMemcpy2DUnaligned_v2(&raw const copy))?;
    } else {
        cuda!(lib.cuMemcpy2DAsync_v2(&raw const copy, order.stream))?;
        order.settle(lib)?;
    }
    count(command, Some(&to), Some(&from), width.saturating_mul(height));
    Ok(())
}

pub(super) fn parts(operand: &Operand) -> (CUmemorytype, u64, CUdeviceptr) {
    match operand {
        Operand::Device(address) => (CU_MEMORYTYPE_DEVICE, 0, *address),
        Operand::Host(address, _) => (CU_MEMORYTYPE_HOST, *address as u64, CUdeviceptr(0)),
    }
}

/// In: device address, stream, flags, bytes.
pub(super) fn from_frame(command: &mut Command) -> Answer {
    let to = CUdeviceptr(command.from.word());
    let (stream, flags) = (command.from.word(), command.from.word());
    let data = command.from.bytes();
    command.read_all()?;
    let process = command.thread.process();
    let order = Order::resolve(&process, stream, flags)?;
    let lib = &process.lib;
    let from: Pointer = data.as_ptr().cast_mut().cast();
    if order.is_plain() {
        cuda!(lib.cuMemcpyHtoD_v2(to, from, data.len()))?;
    } else {
        // Pageable for libcuda, so it has the bytes when the call returns.
        cuda!(lib.cuMemcpyHtoDAsync_v2(to, from, data.len(), order.stream))?;
        order.settle(lib)?;
    }
    command.thread.count_bytes(Counter::BytesToDevice, data.len() as u64);
    Ok(())
}

/// In: device address, bytes, stream.
pub(super) fn into_reply(command: &mut Command) -> Answer {
    let from = CUdeviceptr(command.from.word());
    let bytes = command.from.word();
    let stream = command.from.word();
    command.read_all()?;
    if bytes > u64::from(REPLY_BYTES_MAX) - 8 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let process = command.thread.process();
    let order = Order::resolve(&process, stream, 0)?;
    let mut data = vec![0_u8; size(bytes)?];
    let lib = &process.lib;
    let into: Pointer = data.as_mut_ptr().cast();
    if order.is_plain() {
        cuda!(lib.cuMemcpyDtoH_v2(into, from, data.len()))?;
    } else {
        cuda!(lib.cuMemcpyDtoHAsync_v2(into, from, data.len(), order.stream))?;
        order.settle(lib)?;
    }
    command.to.bytes(&data);
    command.thread.count_bytes(Counter::BytesFromDevice, bytes);
    Ok(())
}
