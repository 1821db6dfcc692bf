//! Copies in three dimensions, and all copies with arrays. Both ends
//! reachable: one command. One end pageable: whole slices, whole rows or
//! pieces of a row are packed into staging slots, as many as fit.

use paravane_protocol::cuda_types::*;
use paravane_protocol::internal::{COPY_3D, OPERAND_ARRAY};

use super::copy::{self, Order, Place, advance, send, tell_failures};
use crate::boundary::Answer;
use crate::connection::{ThreadRing, with_ring};
use crate::state::staging::{self, SLOT, SLOTS, Staging};
use crate::{pointer, state};

/// Where one end of a copy begins.
#[derive(Clone, Copy, Debug)]
enum Spot {
    Linear(Place),
    /// An array, with bytes, rows and slices to skip.
    Array(CUarray, [usize; 3]),
}

/// One end: its begin, bytes from row to row, rows from slice to slice.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    spot: Spot,
    pitch: usize,
    height: usize,
}

/// Bytes in a row, rows in a slice, slices.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub(super) width: usize,
    pub(super) rows: usize,
    pub(super) slices: usize,
}

/// One end as a CUDA_MEMCPY3D describes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Side {
    pub(super) kind: CUmemorytype,
    pub(super) host: u64,
    pub(super) device: CUdeviceptr,
    pub(super) array: CUarray,
    pub(super) skip: [u64; 3],
    pub(super) lod: u64,
    pub(super) pitch: u64,
    pub(super) height: u64,
}

pub(super) fn size(value: u64) -> Answer<usize> {
    usize::try_from(value).map_err(|_| CUDA_ERROR_INVALID_VALUE)
}

impl Extent {
    fn is_empty(self) -> bool {
        self.width == 0 || self.rows == 0 || self.slices == 0
    }
}

impl Side {
    fn resolve(&self, extent: Extent) -> Answer<End> {
        let pitch = if self.pitch == 0 { extent.width } else { size(self.pitch)? };
        let height = if self.height == 0 { extent.rows } else { size(self.height)? };
        let [x, y, z] = [size(self.skip[0])?, size(self.skip[1])?, size(self.skip[2])?];
        if self.kind == CU_MEMORYTYPE_ARRAY {
            if self.lod != 0 {
                return Err(CUDA_ERROR_INVALID_VALUE);
            }
            return Ok(End { spot: Spot::Array(self.array, [x, y, z]), pitch: 0, height: 0 });
        }
        if (pitch < extent.width && (extent.rows > 1 || extent.slices > 1))
            || (height < extent.rows && extent.slices > 1)
        {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        let at = |rows: usize, bytes: usize| rows.checked_mul(pitch).and_then(|b| b.checked_add(bytes));
        let rows = |slices: usize, rows: usize| slices.checked_mul(height).and_then(|r| r.checked_add(rows));
        let skipped = rows(z, y).and_then(|rows| at(rows, x)).ok_or(CUDA_ERROR_INVALID_VALUE)?;
        let span = rows(extent.slices - 1, extent.rows - 1).and_then(|rows| at(rows, extent.width));
        let span = span.ok_or(CUDA_ERROR_INVALID_VALUE)?;
        let first = |base: u64| size(base)?.checked_add(skipped).ok_or(CUDA_ERROR_INVALID_VALUE);
        let place = match self.kind {
            CU_MEMORYTYPE_HOST => Place::host(first(self.host)?, span)?,
            CU_MEMORYTYPE_DEVICE => Place::Device(first(self.device.0)? as u64),
            CU_MEMORYTYPE_UNIFIED => Place::unified(CUdeviceptr(first(self.device.0)? as u64), span)?,
            _ => return Err(CUDA_ERROR_INVALID_VALUE),
        };
        Ok(End { spot: Spot::Linear(place), pitch, height })
    }
}

impl End {
    fn linear(place: Place, pitch: usize, height: usize) -> Self {
        Self { spot: Spot::Linear(place), pitch, height }
    }

    /// The same end, bytes, rows and slices further on.
    fn further(self, [x, y, z]: [usize; 3]) -> Self {
        let spot = match self.spot {
            Spot::Linear(place) => {
                Spot::Linear(advance(place, (z * self.height + y) * self.pitch + x))
            }
            Spot::Array(array, [at_x, at_y, at_z]) => {
                Spot::Array(array, [at_x + x, at_y + y, at_z + z])
            }
        };
        Self { spot, ..self }
    }

    /// The address of an end in pageable memory.
    fn pageable(self) -> Option<usize> {
        if let Spot::Linear(Place::Pageable(address)) = self.spot { Some(address) } else { None }
    }

    /// Kind, address, bytes, rows and slices to skip, pitch, height.
    fn words(self) -> Answer<[u64; 7]> {
        let (pitch, height) = (self.pitch as u64, self.height as u64);
        match self.spot {
            Spot::Linear(place) => {
                let [kind, at] = place.operand().ok_or(CUDA_ERROR_INVALID_VALUE)?;
                Ok([kind, at, 0, 0, 0, pitch, height])
            }
            Spot::Array(array, [x, y, z]) => {
                Ok([OPERAND_ARRAY, array.0, x as u64, y as u64, z as u64, pitch, height])
            }
        }
    }
}

/// Copies from one side to another. Nothing to copy is no error.
pub(super) fn between(to: &Side, from: &Side, extent: Extent, order: Order) -> Answer {
    state::current::context()?;
    if extent.is_empty() {
        return Ok(());
    }
    let asked = (to, from);
    let (to, from) = (to.resolve(extent)?, from.resolve(extent)?);
    if order.asynchronous {
        state::stream::mark_busy(order.stream);
        let is_pageable = to.pageable().or(from.pageable()).is_some();
        if is_pageable && state::capture::is_capturing(order.stream)? {
            return super::capture_copy(order.stream, of_graph(asked, extent));
        }
    }
    match (to.pageable(), from.pageable()) {
        (Some(into), Some(out_of)) => rows_apart((into, to), (out_of, from), extent, order),
        (Some(into), None) => {
            let order = Order { asynchronous: false, ..order };
            with_ring(|ring| staged(ring, (into, to), from, extent, order, true))
        }
        (None, Some(out_of)) => {
            with_ring(|ring| staged(ring, (out_of, from), to, extent, order, false))
        }
        (None, None) => {
            with_ring(|ring| command(ring, to, from, extent, order, !order.asynchronous))
        }
    }
}

fn command(
    ring: &mut ThreadRing,
    to: End,
    from: End,
    extent: Extent,
    order: Order,
    awaited: bool,
) -> Answer {
    let mut words = Vec::with_capacity(19);
    words.extend(to.words()?);
    words.extend(from.words()?);
    words.extend([extent.width as u64, extent.rows as u64, extent.slices as u64]);
    words.extend([order.stream.0, order.flags()]);
    send(ring, COPY_3D, &words, awaited)
}

/// Both ends are the program's own memory.
fn rows_apart(
    (into, to): (usize, End),
    (out_of, from): (usize, End),
    extent: Extent,
    order: Order,
) -> Answer {
    for row in 0..extent.slices * extent.rows {
        let (z, y) = (row / extent.rows, row % extent.rows);
        let at = |base: usize, end: End| Place::Pageable(base + (z * end.height + y) * end.pitch);
        copy::copy(at(into, to), at(out_of, from), extent.width, order)?;
    }
    Ok(())
}

/// What fits a slot: where it begins and its extent.
fn pieces(extent: Extent) -> impl Iterator<Item = ([usize; 3], Extent)> {
    let Extent { width, rows, slices } = extent;
    let in_piece = if width > SLOT {
        [SLOT, 1, 1]
    } else if width * rows > SLOT {
        [width, SLOT / width, 1]
    } else {
        [width, rows, SLOT / (width * rows)]
    };
    let counts = [width.div_ceil(in_piece[0]), rows.div_ceil(in_piece[1]), slices.div_ceil(in_piece[2])];
    (0..counts[0] * counts[1] * counts[2]).map(move |number| {
        let start = [
            number % counts[0] * in_piece[0],
            number / counts[0] % counts[1] * in_piece[1],
            number / counts[0] / counts[1] * in_piece[2],
        ];
        let width = in_piece[0].min(width - start[0]);
        let rows = in_piece[1].min(rows - start[1]);
        (start, Extent { width, rows, slices: in_piece[2].min(slices - start[2]) })
    })
}

/// One end is pageable: through staging, to the program (`down`) or from it.
fn staged(
    ring: &mut ThreadRing,
    (address, own): (usize, End),
    other: End,
    extent: Extent,
    order: Order,
    down: bool,
) -> Answer {
    let mut staging = staging::take(ring)?;
    let last = pieces(extent).count().saturating_sub(1);
    for (number, (start, piece)) in pieces(extent).enumerate() {
        let slot = number % SLOTS;
        staging.wait(ring, slot)?;
        let place = Place::Area(staging.area(), Staging::offset(slot) as u64);
        let packed = End::linear(place, piece.width, piece.rows);
        let bytes = staging.bytes(slot, piece.width * piece.rows * piece.slices)?;
        let row_at = |row: usize| {
            let (z, y) = (start[2] + row / piece.rows, start[1] + row % piece.rows);
            address + (z * own.height + y) * own.pitch + start[0]
        };
        if down {
            command(ring, packed, other.further(start), piece, order, true)?;
            for (row, out_of) in bytes.chunks_exact(piece.width).enumerate() {
                pointer::bytes_mut(row_at(row) as *mut u8, piece.width)?.copy_from_slice(out_of);
            }
        } else {
            for (row, into) in bytes.chunks_exact_mut(piece.width).enumerate() {
                into.copy_from_slice(pointer::bytes(row_at(row) as *const u8, piece.width)?);
            }
            command(ring, other.further(start), packed, piece, order, number == last)?;
            staging.uses(ring, slot);
        }
    }
    tell_failures(ring)
}

/// The copy as a graph's node has it.
fn of_graph((to, from): (&Side, &Side), extent: Extent) -> CUDA_MEMCPY3D {
    // An address in the unified space says itself whose memory is there.
    let at = |side: &Side| if side.kind == CU_MEMORYTYPE_HOST { (side.host, CUdeviceptr(0)) } else { (0, side.device) };
    let ((srcHost, srcDevice), (dstHost, dstDevice)) = (at(from), at(to));
    CUDA_MEMCPY3D {
        srcXInBytes: from.skip[0],
        srcY: from.skip[1],
        srcZ: from.skip[2],
        srcMemoryType: from.kind,
        srcHost,
        srcDevice,
        srcArray: from.array,
        srcPitch: from.pitch,
        srcHeight: from.height,
        dstXInBytes: to.skip[0],
        dstY: to.skip[1],
        dstZ: to.skip[2],
        dstMemoryType: to.kind,
        dstHost,
        dstDevice,
        dstArray: to.array,
        dstPitch: to.pitch,
        dstHeight: to.height,
        WidthInBytes: extent.width as u64,
        Height: extent.rows as u64,
        Depth: extent.slices as u64,
        ..Default::default()
    }
}

fn sides(copy: &CUDA_MEMCPY3D) -> Answer<(Side, Side, Extent)> {
    let to = Side {
        kind: copy.dstMemoryType,
        host: copy.dstHost,
        device: copy.dstDevice,
        array: copy.dstArray,
        skip: [copy.dstXInBytes, copy.dstY, copy.dstZ],
        lod: copy.dstLOD,
        pitch: copy.dstPitch,
        height: copy.dstHeight,
    };
    let from = Side {
        kind: copy.srcMemoryType,
        host: copy.srcHost,
        device: copy.srcDevice,
        array: copy.srcArray,
        skip: [copy.srcXInBytes, copy.srcY, copy.srcZ],
        lod: copy.srcLOD,
        pitch: copy.srcPitch,
        height: copy.srcHeight,
    };
    let (width, rows) = (size(copy.WidthInBytes)?, size(copy.Height)?);
    Ok((to, from, Extent { width, rows, slices: size(copy.Depth)? }))
}

/// A two-dimensional copy with an array.
pub(super) fn plane(copy: &CUDA_MEMCPY2D, order: Order) -> Answer {
    let to = Side {
        kind: copy.dstMemoryType,
        host: copy.dstHost,
        device: copy.dstDevice,
        array: copy.dstArray,
        skip: [copy.dstXInBytes, copy.dstY, 0],
        lod: 0,
        pitch: copy.dstPitch,
        height: 0,
    };
    let from = Side {
        kind: copy.srcMemoryType,
        host: copy.srcHost,
        device: copy.srcDevice,
        array: copy.srcArray,
        skip: [copy.srcXInBytes, copy.srcY, 0],
        lod: 0,
        pitch: copy.srcPitch,
        height: 0,
    };
    let (width, rows) = (size(copy.WidthInBytes)?, size(copy.Height)?);
    between(&to, &from, Extent { width, rows, slices: 1 }, order)
}

fn volume(copy: *const CUDA_MEMCPY3D, order: Order) -> Answer {
    let (to, from, extent) = sides(&pointer::get(copy)?)?;
    between(&to, &from, extent, order)
}

pub(crate) fn cuMemcpy3D_v2(copy: *const CUDA_MEMCPY3D) -> Answer {
    volume(copy, Order::synchronous())
}

pub(crate) fn cuMemcpy3DAsync_v2(copy: *const CUDA_MEMCPY3D, stream: CUstream) -> Answer {
    volume(copy, Order::on(stream))
}

/// The contexts must be there; an address says by itself whose memory it is.
fn peers(copy: *const CUDA_MEMCPY3D) -> Answer {
    let copy = pointer::get(copy)?;
    // The contexts stand where the other copy has reserved words.
    for context in [copy.reserved0, copy.reserved1].map(CUcontext) {
        if context.0 != 0 {
            state::devices::of_context(context)?;
        }
    }
    Ok(())
}

pub(crate) fn cuMemcpy3DPeer(copy: *const CUDA_MEMCPY3D) -> Answer {
    peers(copy)?;
    volume(copy, Order::synchronous())
}

pub(crate) fn cuMemcpy3DPeerAsync(copy: *const CUDA_MEMCPY3D, stream: CUstream) -> Answer {
    peers(copy)?;
    volume(copy, Order::on(stream))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_every_byte_once_and_fit_a_slot() {
        for (width, rows, slices) in
            [(1, 1, 1), (SLOT, 3, 2), (SLOT + 5, 2, 2), (1000, 700, 3), (16, 16, 5000), (3, 90_000, 2)]
        {
            let mut bytes = 0;
            let mut last = None;
            for (start, piece) in pieces(Extent { width, rows, slices }) {
                let of_piece = piece.width * piece.rows * piece.slices;
                assert!(of_piece > 0 && of_piece <= SLOT);
                assert!(start[0] + piece.width <= width && start[1] + piece.rows <= rows);
                assert!(start[2] + piece.slices <= slices);
                let order = (start[2], start[1], start[0]);
                assert!(last.is_none_or(|last| last < order), "{order:?} comes again");
                last = Some(order);
                bytes += of_piece;
            }
            assert_eq!(bytes, width * rows * slices);
        }
    }
}
