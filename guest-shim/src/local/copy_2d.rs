//! Two-dimensional copies. Both ends reachable: one command. One end pageable:
//! rows are packed into staging slots, as many as fit; a row longer than a
//! slot is copied by itself.

use paravane_protocol::cuda_types::*;
use paravane_protocol::internal::COPY_2D;

use super::copy_3d;
use super::copy::{self, Order, Place, advance, send, tell_failures};
use crate::boundary::Answer;
use crate::connection::with_ring;
use crate::state::staging::{self, SLOT, SLOTS, Staging};
use crate::{pointer, state};

/// One end of a 2D copy: its first byte and the distance between rows.
#[derive(Clone, Copy, Debug)]
struct Plane {
    place: Place,
    pitch: usize,
}

#[derive(Clone, Copy, Debug)]
struct Extent {
    width: usize,
    height: usize,
}

/// Does what a CUDA_MEMCPY2D says; with an array it is a 3D copy of one slice.
pub(super) fn copy(what: &CUDA_MEMCPY2D, order: Order) -> Answer {
    state::current::context()?;
    if what.dstMemoryType == CU_MEMORYTYPE_ARRAY || what.srcMemoryType == CU_MEMORYTYPE_ARRAY {
        return copy_3d::plane(what, order);
    }
    let extent = Extent { width: size(what.WidthInBytes)?, height: size(what.Height)? };
    if extent.width == 0 || extent.height == 0 {
        return Ok(());
    }
    let to = plane(
        what.dstMemoryType,
        (what.dstHost, what.dstDevice),
        (what.dstXInBytes, what.dstY, what.dstPitch),
        extent,
    )?;
    let from = plane(
        what.srcMemoryType,
        (what.srcHost, what.srcDevice),
        (what.srcXInBytes, what.srcY, what.srcPitch),
        extent,
    )?;
    if order.asynchronous {
        state::stream::mark_busy(order.stream);
        let is_pageable = [to.place, from.place].iter().any(|place| matches!(place, Place::Pageable(_)));
        if is_pageable && state::capture::is_capturing(order.stream)? {
            return super::capture_copy(order.stream, of_graph(what));
        }
    }
    match (to.place, from.place) {
        (Place::Pageable(_), Place::Pageable(_)) => rows_apart(to, from, extent, order),
        (Place::Pageable(_), _) | (_, Place::Pageable(_)) if extent.width > SLOT => {
            rows_apart(to, from, extent, order)
        }
        (Place::Pageable(into), _) => download(into, to.pitch, from, extent, order),
        (_, Place::Pageable(out_of)) => upload(to, out_of, from.pitch, extent, order),
        _ => with_ring(|ring| {
            let words = words(to, from, extent, order).ok_or(CUDA_ERROR_INVALID_VALUE)?;
            send(ring, COPY_2D, &words, !order.asynchronous)
        }),
    }
}

/// The copy in the form of graphs.
fn of_graph(what: &CUDA_MEMCPY2D) -> CUDA_MEMCPY3D {
    CUDA_MEMCPY3D {
        srcXInBytes: what.srcXInBytes,
        srcY: what.srcY,
        srcMemoryType: what.srcMemoryType,
        srcHost: what.srcHost,
        srcDevice: what.srcDevice,
        srcPitch: what.srcPitch,
        dstXInBytes: what.dstXInBytes,
        dstY: what.dstY,
        dstMemoryType: what.dstMemoryType,
        dstHost: what.dstHost,
        dstDevice: what.dstDevice,
        dstPitch: what.dstPitch,
        WidthInBytes: what.WidthInBytes,
        Height: what.Height,
        Depth: 1,
        ..Default::default()
    }
}

fn size(value: u64) -> Answer<usize> {
    usize::try_from(value).map_err(|_| CUDA_ERROR_INVALID_VALUE)
}

fn plane(
    kind: CUmemorytype,
    (host, device): (u64, CUdeviceptr),
    (x, y, pitch): (u64, u64, u64),
    extent: Extent,
) -> Answer<Plane> {
    let pitch = if pitch == 0 { extent.width } else { size(pitch)? };
    if pitch < extent.width && extent.height > 1 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let skipped = size(y)?.checked_mul(pitch).and_then(|rows| rows.checked_add(size(x).ok()?));
    let skipped = skipped.ok_or(CUDA_ERROR_INVALID_VALUE)?;
    let span = pitch.checked_mul(extent.height - 1).and_then(|rows| rows.checked_add(extent.width));
    let span = span.ok_or(CUDA_ERROR_INVALID_VALUE)?;
    let place = match kind {
        CU_MEMORYTYPE_HOST => {
            let first = size(host)?.checked_add(skipped).ok_or(CUDA_ERROR_INVALID_VALUE)?;
            Place::host(first, span)?
        }
        CU_MEMORYTYPE_DEVICE => advance(Place::Device(device.0), skipped),
        CU_MEMORYTYPE_UNIFIED => Place::unified(CUdeviceptr(device.0 + skipped as u64), span)?,
        _ => return Err(CUDA_ERROR_INVALID_VALUE),
    };
    Ok(Plane { place, pitch })
}

fn words(to: Plane, from: Plane, extent: Extent, order: Order) -> Option<[u64; 10]> {
    let ([to_kind, to_at], [from_kind, from_at]) = (to.place.operand()?, from.place.operand()?);
    Some([
        to_kind,
        to_at,
        to.pitch as u64,
        from_kind,
        from_at,
        from.pitch as u64,
        extent.width as u64,
        extent.height as u64,
        order.stream.0,
        order.flags(),
    ])
}

/// Each row as a copy of its own.
fn rows_apart(to: Plane, from: Plane, extent: Extent, order: Order) -> Answer {
    for row in 0..extent.height {
        let to = advance(to.place, row * to.pitch);
        let from = advance(from.place, row * from.pitch);
        copy::copy(to, from, extent.width, order)?;
    }
    Ok(())
}

/// The extents of the pieces that fit a slot, with the rows before each.
fn pieces(extent: Extent) -> impl Iterator<Item = (usize, usize, Extent)> {
    let rows = SLOT / extent.width;
    (0..extent.height.div_ceil(rows)).map(move |number| {
        let done = number * rows;
        (number, done, Extent { height: rows.min(extent.height - done), ..extent })
    })
}

fn upload(to: Plane, out_of: usize, pitch: usize, extent: Extent, order: Order) -> Answer {
    with_ring(|ring| {
        let mut staging = staging::take(ring)?;
        for (number, done, piece) in pieces(extent) {
            let slot = number % SLOTS;
            staging.wait(ring, slot)?;
            let packed = staging.bytes(slot, piece.width * piece.height)?;
            for (row, into) in packed.chunks_exact_mut(piece.width).enumerate() {
                let source = out_of + (done + row) * pitch;
                into.copy_from_slice(pointer::bytes(source as *const u8, piece.width)?);
            }
            let staged = Place::Area(staging.area(), Staging::offset(slot) as u64);
            let from = Plane { place: staged, pitch: piece.width };
            let to = Plane { place: advance(to.place, done * to.pitch), ..to };
            let words = words(to, from, piece, order).ok_or(CUDA_ERROR_INVALID_VALUE)?;
            send(ring, COPY_2D, &words, done + piece.height == extent.height)?;
            staging.uses(ring, slot);
        }
        Ok(())
    })
}

fn download(into: usize, pitch: usize, from: Plane, extent: Extent, order: Order) -> Answer {
    let order = Order { asynchronous: false, ..order };
    with_ring(|ring| {
        let staging = staging::take(ring)?;
        for (number, done, piece) in pieces(extent) {
            let slot = number % SLOTS;
            let staged = Place::Area(staging.area(), Staging::offset(slot) as u64);
            let to = Plane { place: staged, pitch: piece.width };
            let from = Plane { place: advance(from.place, done * from.pitch), ..from };
            let words = words(to, from, piece, order).ok_or(CUDA_ERROR_INVALID_VALUE)?;
            send(ring, COPY_2D, &words, true)?;
            let packed = staging.bytes(slot, piece.width * piece.height)?;
            for (row, out_of) in packed.chunks_exact(piece.width).enumerate() {
                let target = into + (done + row) * pitch;
                pointer::bytes_mut(target as *mut u8, piece.width)?.copy_from_slice(out_of);
            }
        }
        tell_failures(ring)
    })
}
