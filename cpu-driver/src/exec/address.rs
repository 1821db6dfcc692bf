//! From a lane's address in a state space to host memory, with the checks that make a stray access
//! a fault of the kernel and not of the process.

use super::fault::FaultKind;
use super::op::Op;
use super::warp::Warp;
use crate::memory::{LOCAL_BASE, PARAM_BASE, SHARED_BASE, WINDOW_MASK};

pub const GENERIC: u8 = 0;
pub const GLOBAL: u8 = 1;
pub const SHARED: u8 = 2;
pub const LOCAL: u8 = 3;
/// A kernel's parameters, read-only.
pub const PARAM: u8 = 4;

/// An access that has no memory behind it.
pub struct BadAddress {
    pub kind: FaultKind,
    pub lane: u32,
    pub address: u64,
}

impl BadAddress {
    #[cold]
    pub fn report(&self, w: &mut Warp, op: &Op) -> *const Op {
        let what = match self.kind {
            FaultKind::MisalignedAddress => "misaligned address",
            _ => "illegal address",
        };
        w.fail(self.kind, op, self.lane, self.address, what)
    }
}

/// Host pointer of `size` bytes at `address` in `SPACE`, aligned to `size`.
#[inline(always)]
pub fn resolve<const SPACE: u8>(w: &Warp, lane: u32, address: u64, size: u64) -> Result<*mut u8, BadAddress> {
    if address & (size - 1) != 0 {
        return Err(BadAddress { kind: FaultKind::MisalignedAddress, lane, address });
    }
    let found = match SPACE {
        GLOBAL => global(w, address, size),
        SHARED => shared(w, address, size),
        LOCAL => local(w, lane, address, size),
        PARAM => param(w, address, size),
        _ => generic(w, lane, address, size),
    };
    found.ok_or(BadAddress { kind: FaultKind::IllegalAddress, lane, address })
}

#[inline(always)]
fn global(w: &Warp, address: u64, size: u64) -> Option<*mut u8> {
    w.cta().grid.view.holds(address, size).then(|| std::ptr::with_exposed_provenance_mut(address as usize))
}

#[inline(always)]
fn shared(w: &Warp, offset: u64, size: u64) -> Option<*mut u8> {
    let cta = w.cta();
    // SAFETY: checked against the size of the CTA's shared memory.
    (offset.saturating_add(size) <= u64::from(cta.shared_size)).then(|| unsafe { cta.shared.add(offset as usize) })
}

#[inline(always)]
fn local(w: &Warp, lane: u32, offset: u64, size: u64) -> Option<*mut u8> {
    let at = u64::from(lane) * w.local_stride + offset;
    // SAFETY: checked against the lane's stretch of the warp's local memory.
    (offset.saturating_add(size) <= w.local_stride).then(|| unsafe { w.local.add(at as usize) })
}

#[inline(always)]
fn param(w: &Warp, offset: u64, size: u64) -> Option<*mut u8> {
    let params = &w.cta().grid.params;
    let inside = offset.saturating_add(size) <= params.len() as u64;
    // SAFETY: checked against the buffer; decode makes no store to parameters.
    inside.then(|| unsafe { params.as_ptr().cast_mut().add(offset as usize) })
}

#[inline(always)]
fn generic(w: &Warp, lane: u32, address: u64, size: u64) -> Option<*mut u8> {
    match address & WINDOW_MASK {
        0 => global(w, address, size),
        SHARED_BASE => shared(w, address - SHARED_BASE, size),
        LOCAL_BASE => local(w, lane, address - LOCAL_BASE, size),
        PARAM_BASE => param(w, address - PARAM_BASE, size),
        _ => None,
    }
}

/// Host memory of `size` bytes at a generic address that need not be aligned, for built-ins.
pub fn generic_bytes(w: &Warp, lane: u32, address: u64, size: u64) -> Option<*mut u8> {
    generic(w, lane, address, size)
}
