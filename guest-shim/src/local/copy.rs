//! The copies. Host memory that the device can reach is named by area and
//! offset; pageable memory goes through the frame when it is short, through
//! the reply, or through staging.

use paravane_protocol::cuda_types::*;
use paravane_protocol::internal::{
    COPY, COPY_ASYNC, COPY_INLINE, COPY_REPLY, NOTHING, OPERAND_AREA, OPERAND_DEVICE,
};
use paravane_protocol::limits::REPLY_BYTES_MAX;

use super::copy_2d;
use crate::boundary::Answer;
use crate::connection::{ThreadRing, with_ring};
use crate::state::staging::{self, SLOT, SLOTS, Staging};
use crate::state::{capture, host_memory, ranges, stream};
use crate::{pointer, state};

/// Longest copy to the device that travels in its frame: beyond, a copy into a
/// slot and a wake-up of the host cost less than two copies through a ring.
const INLINE_MAX: usize = 8 * 1024;
/// Longest copy from the device that travels in the reply, its length apart.
const REPLY_MAX: usize = REPLY_BYTES_MAX as usize - 8;

/// Shortest piece of a staged copy: its frame costs a tenth of its bytes.
const PIECE_MIN: usize = 32 * 1024;

/// Bytes that a staged copy puts into one slot: a short copy comes in several
/// pieces too, so that both sides work at it at the same time.
fn piece(bytes: usize) -> usize {
    (bytes / SLOTS).next_multiple_of(4096).clamp(PIECE_MIN, SLOT)
}

/// One end of a copy.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Device(u64),
    Area(u16, u64),
    Pageable(usize),
}

impl Place {
    /// Host memory from `address`.
    pub(super) fn host(address: usize, bytes: usize) -> Answer<Self> {
        if address == 0 {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        Ok(match host_memory::find(address, bytes) {
            Some((area, offset)) => Self::Area(area, offset),
            None => Self::Pageable(address),
        })
    }

    /// Whatever lies at an address of the unified address space.
    pub(super) fn unified(address: CUdeviceptr, bytes: usize) -> Answer<Self> {
        if ranges::is_device(address.0) {
            return Ok(Self::Device(address.0));
        }
        Self::host(usize::try_from(address.0).map_err(|_| CUDA_ERROR_INVALID_VALUE)?, bytes)
    }

    /// Memory type, host address, device address, as CUDA's structures have them.
    fn parts(self) -> (CUmemorytype, u64, CUdeviceptr) {
        let host = |address: usize| (CU_MEMORYTYPE_HOST, address as u64, CUdeviceptr(0));
        match self {
            Self::Device(address) => (CU_MEMORYTYPE_DEVICE, 0, CUdeviceptr(address)),
            Self::Area(area, offset) => host(host_memory::address_of(area, offset).unwrap_or(0)),
            Self::Pageable(address) => host(address),
        }
    }

    /// The two words of an operand; `None` for pageable memory.
    pub(super) fn operand(self) -> Option<[u64; 2]> {
        match self {
            Self::Device(address) => Some([OPERAND_DEVICE, address]),
            Self::Area(area, offset) => Some([OPERAND_AREA | u64::from(area), offset]),
            Self::Pageable(_) => None,
        }
    }
}

/// When a copy has to be over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    /// Resolved.
    pub(super) stream: CUstream,
    pub(super) asynchronous: bool,
}

impl Order {
    /// In the default stream's order, over when the call returns.
    pub(super) fn synchronous() -> Self {
        Self { stream: stream::default_stream(), asynchronous: false }
    }

    /// In a stream's order; returns when it may.
    pub(super) fn on(stream: CUstream) -> Self {
        Self { stream: stream::resolve(stream), asynchronous: true }
    }

    pub(super) fn flags(self) -> u64 {
        if self.asynchronous { COPY_ASYNC } else { 0 }
    }
}

/// Sends a command of words: awaited or posted.
pub(super) fn send(ring: &mut ThreadRing, opcode: u16, words: &[u64], awaited: bool) -> Answer {
    let encode = |to: &mut paravane_protocol::codec::Encoder| {
        words.iter().for_each(|word| to.word(*word));
        Ok(())
    };
    let awaited = awaited || capture::is_any();
    if awaited { ring.call(opcode, encode, |_| ()) } else { ring.post(opcode, encode) }
}

/// Copies `bytes` from one place to another.
pub(super) fn copy(to: Place, from: Place, bytes: usize, order: Order) -> Answer {
    state::current::context()?;
    if bytes == 0 {
        return Ok(());
    }
    if order.asynchronous {
        stream::mark_busy(order.stream);
        if [to, from].iter().any(|place| matches!(place, Place::Pageable(_))) && capture::is_capturing(order.stream)? {
            return super::capture_copy(order.stream, row(to, from, bytes));
        }
    }
    match (to, from) {
        (Place::Pageable(into), Place::Pageable(out_of)) => between_pageable(into, out_of, bytes),
        (Place::Pageable(into), from) => download(into, from, bytes, order),
        (to, Place::Pageable(out_of)) => upload(to, out_of, bytes, order),
        (to, from) => with_ring(|ring| {
            let words = copy_words(to, from, bytes, order).ok_or(CUDA_ERROR_INVALID_VALUE)?;
            send(ring, COPY, &words, !order.asynchronous)
        }),
    }
}

/// A linear copy in the form of graphs.
fn row(to: Place, from: Place, bytes: usize) -> CUDA_MEMCPY3D {
    let (dstMemoryType, dstHost, dstDevice) = to.parts();
    let (srcMemoryType, srcHost, srcDevice) = from.parts();
    CUDA_MEMCPY3D {
        dstMemoryType,
        dstHost,
        dstDevice,
        srcMemoryType,
        srcHost,
        srcDevice,
        WidthInBytes: bytes as u64,
        Height: 1,
        Depth: 1,
        ..Default::default()
    }
}

fn copy_words(to: Place, from: Place, bytes: usize, order: Order) -> Option<[u64; 7]> {
    let ([to_kind, to_at], [from_kind, from_at]) = (to.operand()?, from.operand()?);
    Some([to_kind, to_at, from_kind, from_at, bytes as u64, order.stream.0, order.flags()])
}

/// Both ends are the program's own memory: no device takes part, except that
/// work before the copy in the default stream comes first.
fn between_pageable(into: usize, out_of: usize, bytes: usize) -> Answer {
    if stream::is_busy(stream::default_stream()) {
        crate::wrap::cuStreamSynchronize(CUstream(0))?;
    }
    let from = pointer::bytes(out_of as *const u8, bytes)?;
    pointer::bytes_mut(into as *mut u8, bytes)?.copy_from_slice(from);
    Ok(())
}

fn upload(to: Place, out_of: usize, bytes: usize, order: Order) -> Answer {
    let source = pointer::bytes(out_of as *const u8, bytes)?;
    if let (Place::Device(address), true) = (to, bytes <= INLINE_MAX) {
        return upload_inline(address, source, order);
    }
    with_ring(|ring| {
        let mut staging = staging::take(ring)?;
        let piece = piece(bytes);
        let chunks = bytes.div_ceil(piece);
        for (number, chunk) in source.chunks(piece).enumerate() {
            let slot = number % SLOTS;
            staging.wait(ring, slot)?;
            staging.bytes(slot, chunk.len())?.copy_from_slice(chunk);
            let staged = Place::Area(staging.area(), Staging::offset(slot) as u64);
            let words = copy_words(advance(to, number * piece), staged, chunk.len(), order)
                .ok_or(CUDA_ERROR_INVALID_VALUE)?;
            send(ring, COPY, &words, number + 1 == chunks)?;
            staging.uses(ring, slot);
        }
        Ok(())
    })
}

fn upload_inline(address: u64, source: &[u8], order: Order) -> Answer {
    with_ring(|ring| {
        let encode = |to: &mut paravane_protocol::codec::Encoder| {
            to.word(address);
            to.word(order.stream.0);
            to.word(order.flags());
            to.bytes(source);
            Ok(())
        };
        if order.asynchronous && !capture::is_any() {
            ring.post(COPY_INLINE, encode)
        } else {
            ring.call(COPY_INLINE, encode, |_| ())
        }
    })
}

/// A copy into pageable memory is over when the call returns, as CUDA has it,
/// whatever the stream.
fn download(into: usize, from: Place, bytes: usize, order: Order) -> Answer {
    let target = pointer::bytes_mut(into as *mut u8, bytes)?;
    let order = Order { asynchronous: false, ..order };
    if let (Place::Device(address), true) = (from, bytes <= REPLY_MAX) {
        return with_ring(|ring| {
            let words = [address, bytes as u64, order.stream.0];
            let encode = |to: &mut paravane_protocol::codec::Encoder| {
                words.iter().for_each(|word| to.word(*word));
                Ok(())
            };
            ring.call(COPY_REPLY, encode, |reply| {
                let got = reply.bytes();
                if got.len() == target.len() {
                    target.copy_from_slice(got);
                    return Ok(());
                }
                Err(CUDA_ERROR_UNKNOWN)
            })?
        });
    }
    with_ring(|ring| download_staged(ring, target, from, order))
}

/// Keeps all slots but one under way while one is copied out.
fn download_staged(ring: &mut ThreadRing, target: &mut [u8], from: Place, order: Order) -> Answer {
    let mut staging = staging::take(ring)?;
    let bytes = target.len();
    let piece = piece(bytes);
    let chunks = bytes.div_ceil(piece);
    let mut targets = target.chunks_mut(piece);
    for number in 0..chunks + SLOTS - 1 {
        if number < chunks {
            let slot = number % SLOTS;
            let len = piece.min(bytes - number * piece);
            let staged = Place::Area(staging.area(), Staging::offset(slot) as u64);
            let words = copy_words(staged, advance(from, number * piece), len, order)
                .ok_or(CUDA_ERROR_INVALID_VALUE)?;
            send(ring, COPY, &words, false)?;
            staging.uses(ring, slot);
        }
        if let Some(done) = number.checked_sub(SLOTS - 1)
            && let Some(chunk) = targets.next()
        {
            let slot = done % SLOTS;
            staging.wait(ring, slot)?;
            chunk.copy_from_slice(staging.bytes(slot, chunk.len())?);
        }
    }
    tell_failures(ring)
}

/// After posted copies: asks for the failure if there was one.
pub(super) fn tell_failures(ring: &mut ThreadRing) -> Answer {
    if ring.connection().has_deferred() { send(ring, NOTHING, &[], true) } else { Ok(()) }
}

/// The place `by` bytes further on.
pub(super) fn advance(place: Place, by: usize) -> Place {
    match place {
        Place::Device(address) => Place::Device(address + by as u64),
        Place::Area(area, offset) => Place::Area(area, offset + by as u64),
        Place::Pageable(address) => Place::Pageable(address + by),
    }
}

pub(crate) fn cuMemcpy(dst: CUdeviceptr, src: CUdeviceptr, bytes: usize) -> Answer {
    copy(Place::unified(dst, bytes)?, Place::unified(src, bytes)?, bytes, Order::synchronous())
}

pub(crate) fn cuMemcpyAsync(dst: CUdeviceptr, src: CUdeviceptr, bytes: usize, stream: CUstream) -> Answer {
    copy(Place::unified(dst, bytes)?, Place::unified(src, bytes)?, bytes, Order::on(stream))
}

pub(crate) fn cuMemcpyHtoD_v2(dst: CUdeviceptr, src: Pointer, bytes: usize) -> Answer {
    copy(Place::Device(dst.0), Place::host(src as usize, bytes)?, bytes, Order::synchronous())
}

pub(crate) fn cuMemcpyDtoH_v2(dst: Pointer, src: CUdeviceptr, bytes: usize) -> Answer {
    copy(Place::host(dst as usize, bytes)?, Place::Device(src.0), bytes, Order::synchronous())
}

pub(crate) fn cuMemcpyDtoD_v2(dst: CUdeviceptr, src: CUdeviceptr, bytes: usize) -> Answer {
    copy(Place::Device(dst.0), Place::Device(src.0), bytes, Order::synchronous())
}

pub(crate) fn cuMemcpyHtoDAsync_v2(dst: CUdeviceptr, src: Pointer, bytes: usize, stream: CUstream) -> Answer {
    copy(Place::Device(dst.0), Place::host(src as usize, bytes)?, bytes, Order::on(stream))
}

pub(crate) fn cuMemcpyDtoHAsync_v2(dst: Pointer, src: CUdeviceptr, bytes: usize, stream: CUstream) -> Answer {
    copy(Place::host(dst as usize, bytes)?, Place::Device(src.0), bytes, Order::on(stream))
}

pub(crate) fn cuMemcpyDtoDAsync_v2(dst: CUdeviceptr, src: CUdeviceptr, bytes: usize, stream: CUstream) -> Answer {
    copy(Place::Device(dst.0), Place::Device(src.0), bytes, Order::on(stream))
}

pub(crate) fn cuMemcpy2D_v2(copy: *const CUDA_MEMCPY2D) -> Answer {
    copy_2d::copy(&pointer::get(copy)?, Order::synchronous())
}

pub(crate) fn cuMemcpy2DUnaligned_v2(copy: *const CUDA_MEMCPY2D) -> Answer {
    cuMemcpy2D_v2(copy)
}

pub(crate) fn cuMemcpy2DAsync_v2(copy: *const CUDA_MEMCPY2D, stream: CUstream) -> Answer {
    copy_2d::copy(&pointer::get(copy)?, Order::on(stream))
}
