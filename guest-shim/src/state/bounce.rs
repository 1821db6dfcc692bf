//! Copies of graphs to and from pageable memory. A graph remembers the address
//! and not the bytes, and the host cannot reach the address: so the copy is one
//! between the device and pages shared with the host, and a host function
//! beside it that moves the rows here at every launch.

use paravane_protocol::cuda_types::*;

use super::{current, host_memory};
use crate::boundary::Answer;
use crate::pointer;

/// Rows in the program's memory: first byte, distance of rows, of planes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    pub(crate) first: usize,
    pub(crate) pitch: usize,
    pub(crate) plane: usize,
}

/// Width in bytes, rows, planes.
pub(crate) type Extent = [usize; 3];

/// What a launch moves.
#[derive(Debug)]
pub(crate) struct Bounce {
    pub(crate) to: Rows,
    pub(crate) from: Rows,
    pub(crate) extent: Extent,
    /// The shared pages that are one of the two, or 0.
    pub(crate) pages: usize,
    /// The context that was current as they were made.
    pub(crate) context: u64,
}

/// Shared pages for rows without gaps between them.
pub(crate) fn pages([width, height, depth]: Extent) -> Answer<(usize, Rows)> {
    let plane = width.checked_mul(height).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    let bytes = plane.checked_mul(depth).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    let first = host_memory::allocate_unasked(bytes)?;
    Ok((first, Rows { first, pitch: width, plane }))
}

impl Bounce {
    /// Moves the rows.
    pub(crate) fn run(&self) {
        let [width, height, depth] = self.extent;
        for row in (0..depth).flat_map(|plane| (0..height).map(move |row| (plane, row))) {
            let at = |rows: &Rows| rows.first + row.0 * rows.plane + row.1 * rows.pitch;
            let from = pointer::bytes(at(&self.from) as *const u8, width);
            let to = pointer::bytes_mut(at(&self.to) as *mut u8, width);
            if let (Ok(from), Ok(to)) = (from, to) {
                to.copy_from_slice(from);
            }
        }
    }

    /// No launch moves anything any more. The pages go back on a thread of their
    /// own: that may wait for work which waits for the callbacks' thread.
    pub(crate) fn end(&self) {
        let (pages, context) = (self.pages, self.context);
        if pages == 0 {
            return;
        }
        let free = move || {
            current::set(CUcontext(context));
            if let Err(error) = host_memory::free(pages) {
                log::warn!("pages of a graph's copy: {error}");
            }
        };
        if let Err(error) = std::thread::Builder::new().name("paravane-free".into()).spawn(free) {
            log::warn!("pages of a graph's copy are kept: {error}");
        }
    }
}
