//! Surface loads, stores and reductions: by bytes (`.b`) or by elements (`.p`), with what happens
//! outside said by the instruction.

use super::fault::FaultKind;
use super::float::to_half;
use super::lanes::LANES;
use super::op::Op;
use super::sync::each;
use super::texture::{find, steps};
use super::warp::Warp;
use crate::memory::surface::{Channel, Grid};
use crate::memory::texture::SURFACES;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// What an access outside of the surface does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    Trap,
    Clamp,
    Zero,
}

/// What a reduction does with the value that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Combine {
    Add,
    Min,
    Max,
    And,
    Or,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Load,
    Store,
    /// Converts 32-bit values to the surface's elements.
    StoreFormatted,
    /// The operation, and whether values are signed.
    Reduce(Combine, bool),
}

/// One access.
#[derive(Debug, Clone)]
pub struct Access {
    pub object: u32,
    pub action: Action,
    pub edge: Edge,
    /// Sides that coordinates are given for, and whether a layer comes first.
    pub sides: usize,
    pub is_layered: bool,
    /// x counts bytes.
    pub by_bytes: bool,
    pub layer: u32,
    pub coordinates: [u32; 3],
    /// Bytes of a value, and the slots of the values.
    pub size: u32,
    pub values: Vec<u32>,
}

/// Where a lane's access goes.
enum Found {
    At(u64),
    /// Zeros are read, nothing is written.
    Nothing,
    Outside,
}

impl Access {
    /// Bytes that the access touches.
    fn bytes(&self, grid: &Grid) -> u64 {
        match self.action {
            Action::StoreFormatted => u64::from(grid.format.bytes()),
            _ => u64::from(self.size) * self.values.len() as u64,
        }
    }

    /// # Safety
    /// As `Run`: the slots are of the warp's current frame.
    unsafe fn place(&self, w: &Warp, lane: usize, grid: &Grid) -> Found {
        // SAFETY: the caller's promise.
        let whole = |slot: u32| i64::from(unsafe { *w.lanes::<i32>(slot).add(lane) });
        let bytes = i64::try_from(self.bytes(grid)).unwrap_or(i64::MAX);
        let element = i64::from(grid.format.bytes());
        let mut at = [whole(self.coordinates[0]), 0, 0];
        if !self.by_bytes {
            at[0] *= element;
        }
        for (at, slot) in at.iter_mut().zip(self.coordinates).take(self.sides).skip(1) {
            *at = whole(slot);
        }
        if self.is_layered {
            at[2] = whole(self.layer);
        }
        // The last place of each side where the access still lies inside.
        let last = [
            i64::from(grid.extent[0]) * element - bytes,
            i64::from(grid.extent[1]) - 1,
            i64::from(grid.extent[2]) - 1,
        ];
        let is_inside = (0..3).all(|n| (0..=last[n]).contains(&at[n]));
        if !is_inside {
            match self.edge {
                Edge::Trap => return Found::Outside,
                Edge::Zero => return Found::Nothing,
                Edge::Clamp if last[0] < 0 => return Found::Nothing,
                Edge::Clamp => {
                    at = std::array::from_fn(|n| at[n].clamp(0, last[n]));
                }
            }
        }
        let [x, y, z] = at.map(|n| u64::try_from(n).unwrap_or(0));
        if !x.is_multiple_of(u64::from(self.size.min(grid.format.bytes()))) {
            return Found::Outside;
        }
        Found::At(grid.start + z * grid.slice + y * grid.pitch + x)
    }
}

fn pointer<T>(address: u64) -> *mut T {
    std::ptr::with_exposed_provenance_mut(usize::try_from(address).unwrap_or(0))
}

/// Reads a value that lies in a surface, at a multiple of its size.
///
/// # Safety
/// The address is inside a surface's memory.
unsafe fn load(address: u64, size: u32) -> u64 {
    // SAFETY: the caller's promise; atomics, because other threads may write there.
    unsafe {
        match size {
            1 => u64::from(AtomicU8::from_ptr(pointer(address)).load(Ordering::Relaxed)),
            2 => u64::from(AtomicU16::from_ptr(pointer(address)).load(Ordering::Relaxed)),
            4 => u64::from(AtomicU32::from_ptr(pointer(address)).load(Ordering::Relaxed)),
            _ => AtomicU64::from_ptr(pointer(address)).load(Ordering::Relaxed),
        }
    }
}

/// Writes a value, as [`load`] reads it.
///
/// # Safety
/// As [`load`].
#[allow(clippy::cast_possible_truncation, reason = "a value of that size")]
unsafe fn store(address: u64, size: u32, value: u64) {
    // SAFETY: as in `load`.
    unsafe {
        match size {
            1 => AtomicU8::from_ptr(pointer(address)).store(value as u8, Ordering::Relaxed),
            2 => AtomicU16::from_ptr(pointer(address)).store(value as u16, Ordering::Relaxed),
            4 => AtomicU32::from_ptr(pointer(address)).store(value as u32, Ordering::Relaxed),
            _ => AtomicU64::from_ptr(pointer(address)).store(value, Ordering::Relaxed),
        }
    }
}

/// Combines a value with the one that is there, in one step for everybody.
///
/// # Safety
/// As [`load`].
#[allow(clippy::cast_possible_truncation, reason = "a value of that size")]
unsafe fn reduce(address: u64, size: u32, value: u64, combine: Combine, is_signed: bool) {
    // SAFETY: as in `load`.
    unsafe {
        if size == 4 {
            let (cell, value) = (AtomicU32::from_ptr(pointer(address)), value as u32);
            let signed = AtomicU32::as_ptr(cell).cast::<i32>();
            let signed = std::sync::atomic::AtomicI32::from_ptr(signed);
            match (combine, is_signed) {
                (Combine::Add, _) => cell.fetch_add(value, Ordering::Relaxed),
                (Combine::And, _) => cell.fetch_and(value, Ordering::Relaxed),
                (Combine::Or, _) => cell.fetch_or(value, Ordering::Relaxed),
                (Combine::Min, false) => cell.fetch_min(value, Ordering::Relaxed),
                (Combine::Max, false) => cell.fetch_max(value, Ordering::Relaxed),
                (Combine::Min, true) => signed.fetch_min(value.cast_signed(), Ordering::Relaxed).cast_unsigned(),
                (Combine::Max, true) => signed.fetch_max(value.cast_signed(), Ordering::Relaxed).cast_unsigned(),
            };
            return;
        }
        let cell = AtomicU64::from_ptr(pointer(address));
        let signed = std::sync::atomic::AtomicI64::from_ptr(AtomicU64::as_ptr(cell).cast());
        match (combine, is_signed) {
            (Combine::Add, _) => cell.fetch_add(value, Ordering::Relaxed),
            (Combine::And, _) => cell.fetch_and(value, Ordering::Relaxed),
            (Combine::Or, _) => cell.fetch_or(value, Ordering::Relaxed),
            (Combine::Min, false) => cell.fetch_min(value, Ordering::Relaxed),
            (Combine::Max, false) => cell.fetch_max(value, Ordering::Relaxed),
            (Combine::Min, true) => signed.fetch_min(value.cast_signed(), Ordering::Relaxed).cast_unsigned(),
            (Combine::Max, true) => signed.fetch_max(value.cast_signed(), Ordering::Relaxed).cast_unsigned(),
        };
    }
}

/// A 32-bit value as a surface's channel has it.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "what the format holds")]
fn formatted(channel: Channel, bits: u32) -> u64 {
    let float = f32::from_bits(bits);
    let symmetric = |max: f32| ((float.clamp(-1.0, 1.0) * max).round_ties_even() as i32).cast_unsigned();
    u64::from(match channel {
        Channel::F16 => u32::from(to_half(float)),
        Channel::Unorm8 => steps(float, 255.0),
        Channel::Unorm16 => steps(float, 65_535.0),
        Channel::Snorm8 => symmetric(127.0),
        Channel::Snorm16 => symmetric(32_767.0),
        _ => bits,
    })
}

/// A value in a slot of lanes of `size` bytes.
///
/// # Safety
/// As `Run`: the slot is of the warp's current frame, and of that size.
unsafe fn value(w: &Warp, slot: u32, size: u32, lane: usize) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        match size {
            1 => u64::from(*w.lanes::<u8>(slot).add(lane)),
            2 => u64::from(*w.lanes::<u16>(slot).add(lane)),
            4 => u64::from(*w.lanes::<u32>(slot).add(lane)),
            _ => *w.lanes::<u64>(slot).add(lane),
        }
    }
}

/// Writes a value to such a slot.
///
/// # Safety
/// As [`value`].
#[allow(clippy::cast_possible_truncation, reason = "a value of that size")]
unsafe fn set_value(w: &Warp, slot: u32, size: u32, lane: usize, value: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        match size {
            1 => *w.lanes::<u8>(slot).add(lane) = value as u8,
            2 => *w.lanes::<u16>(slot).add(lane) = value as u16,
            4 => *w.lanes::<u32>(slot).add(lane) = value as u32,
            _ => *w.lanes::<u64>(slot).add(lane) = value,
        }
    }
}

/// Carries out one lane's access at an address, or nowhere.
///
/// # Safety
/// As `Run`; the address is inside the surface.
unsafe fn perform(w: &Warp, access: &Access, lane: usize, grid: &Grid, address: Option<u64>) {
    for (n, slot) in (0..).zip(&access.values) {
        let at = address.map(|address| address + n * u64::from(access.size));
        // SAFETY: the caller's promise, for each value.
        unsafe {
            match (access.action, at) {
                (Action::Load, at) => {
                    let found = at.map_or(0, |at| load(at, access.size));
                    set_value(w, *slot, access.size, lane, found);
                }
                (_, None) => {}
                (Action::Store, Some(at)) => store(at, access.size, value(w, *slot, access.size, lane)),
                (Action::Reduce(combine, is_signed), Some(at)) => {
                    reduce(at, access.size, value(w, *slot, access.size, lane), combine, is_signed);
                }
                (Action::StoreFormatted, Some(_)) if n >= u64::from(grid.format.channels) => {}
                (Action::StoreFormatted, Some(_)) => {
                    let bytes = grid.format.channel.bytes();
                    let at = address.unwrap_or(0) + n * u64::from(bytes);
                    let bits = u32::try_from(value(w, *slot, 4, lane)).unwrap_or(0);
                    store(at, bytes, formatted(grid.format.channel, bits));
                }
            }
        }
    }
}

/// `suld`, `sust`, `sured`: `imm` is the number of the access in its function.
///
/// # Safety
/// As `Run`.
pub unsafe fn access(w: &mut Warp, at: *const Op) -> *const Op {
    // SAFETY: `Run`'s contract; the access was made by decode for this function.
    unsafe {
        let op = &*at;
        let function = &*w.frames[w.frame as usize].function;
        let access = &function.accesses[op.imm as usize];
        let objects = *w.lanes::<[u64; LANES]>(access.object);
        let mut cached = None;
        for lane in each(w.mask) {
            let Some(surface) = find(&mut cached, objects[lane], |handle| SURFACES.get(handle)) else {
                return w.fail(FaultKind::IllegalAddress, op, lane as u32, objects[lane], "no such surface");
            };
            let address = match access.place(w, lane, &surface.grid) {
                Found::At(address) => Some(address),
                Found::Nothing => None,
                Found::Outside => {
                    let what = "access outside of a surface";
                    return w.fail(FaultKind::IllegalAddress, op, lane as u32, objects[lane], what);
                }
            };
            perform(w, access, lane, &surface.grid, address);
        }
        at.add(1)
    }
}

/// `suq`: `a` holds objects, `imm` the side, or 3 for layers.
///
/// # Safety
/// As `Run`.
pub unsafe fn query(w: &mut Warp, at: *const Op) -> *const Op {
    // SAFETY: `Run`'s contract.
    unsafe {
        let op = &*at;
        let objects = *w.lanes::<[u64; LANES]>(op.a);
        let mut cached = None;
        for lane in each(w.mask) {
            let Some(surface) = find(&mut cached, objects[lane], |handle| SURFACES.get(handle)) else {
                return w.fail(FaultKind::IllegalAddress, op, lane as u32, objects[lane], "no such surface");
            };
            let grid = &surface.grid;
            let side = op.imm as usize;
            *w.lanes::<u32>(op.d).add(lane) = match side {
                3 => grid.extent[2],
                _ if (side as u32) < grid.dimensions => grid.extent[side],
                _ => 0,
            };
        }
        at.add(1)
    }
}
