//! Copies and memsets, on addresses that the calls have checked. Also says what an address is:
//! device memory, pinned host memory or the program's own.
#![allow(unsafe_code, reason = "copies between device and program memory")]
#![allow(clippy::multiple_unsafe_ops_per_block, reason = "a pointer is derived and written in one step")]

use crate::memory::{arena, registered};
use crate::stream::task::{Copy, Set, Source};

/// Who can reach an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Device,
    /// Allocated or registered host memory: a copy may run after its call has returned.
    Pinned,
    /// Ordinary program memory.
    Pageable,
}

/// What `size` bytes at `address` are, judged by the first.
pub fn place(address: u64) -> Place {
    match arena().find(address) {
        Some((_, owner)) if owner.host_flags().is_none() => Place::Device,
        Some(_) => Place::Pinned,
        None if registered(address).is_some() => Place::Pinned,
        None => Place::Pageable,
    }
}

fn pointer(address: u64) -> *mut u8 {
    std::ptr::with_exposed_provenance_mut(usize::try_from(address).unwrap_or(0))
}

/// Copies every row of every slice. Overlapping rows are copied as if through a buffer.
pub fn copy(copy: &Copy) {
    let from = match &copy.from {
        Source::Address(address) => pointer(*address).cast_const(),
        Source::Staged(bytes) => bytes.as_ptr(),
    };
    for n in 0..copy.slices {
        slice(copy, pointer(copy.to).wrapping_add(n * copy.to_slice), from.wrapping_add(n * copy.from_slice));
    }
}

fn slice(copy: &Copy, to: *mut u8, from: *const u8) {
    let (rows, row) = if copy.to_pitch == copy.row && copy.from_pitch == copy.row {
        (1, copy.row * copy.rows)
    } else {
        (copy.rows, copy.row)
    };
    for n in 0..rows {
        let (from, to) = (from.wrapping_add(n * copy.from_pitch), to.wrapping_add(n * copy.to_pitch));
        // SAFETY: the call checked both ranges, or they are the program's own, given for this.
        unsafe { std::ptr::copy(from, to, row) }
    }
}

/// Writes every row.
#[allow(clippy::cast_possible_truncation, reason = "the value was widened from its own type")]
pub fn set(set: &Set) {
    for n in 0..set.rows {
        let to = pointer(set.to).wrapping_add(n * set.pitch);
        match set.width {
            // SAFETY: the call checked the range and its alignment.
            1 => unsafe { to.write_bytes(set.value as u8, set.count) },
            2 => fill(to.cast(), set.value as u16, set.count),
            _ => fill(to.cast(), set.value, set.count),
        }
    }
}

fn fill<T: std::marker::Copy>(to: *mut T, value: T, count: usize) {
    for i in 0..count {
        // SAFETY: as in `set`.
        unsafe { to.add(i).write(value) }
    }
}
