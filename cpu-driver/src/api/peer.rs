//! Peers: there is one device, so none has any.

use super::{Answer, current, device, give};
use crate::context::CONTEXTS;
use paravane_protocol::cuda_types::*;

/// A device is no peer of itself.
pub unsafe fn cuDeviceCanAccessPeer(canAccessPeer: *mut i32, dev: CUdevice, peerDev: CUdevice) -> Answer {
    device(dev)?;
    device(peerDev)?;
    give(canAccessPeer, 0)
}

/// Attributes are of two different devices.
pub unsafe fn cuDeviceGetP2PAttribute(
    _value: *mut i32,
    attrib: CUdevice_P2PAttribute,
    srcDevice: CUdevice,
    dstDevice: CUdevice,
) -> Answer {
    device(srcDevice)?;
    device(dstDevice)?;
    if matches!(attrib.0, 1..=5) { Err(CUDA_ERROR_INVALID_DEVICE) } else { Err(CUDA_ERROR_INVALID_VALUE) }
}

/// What host and device do to each other's memory natively: they are one processor. Integers of 32 and 64 bits, and
/// floating-point sums; no lanes together, nothing of 128 bits.
fn capabilities(operation: CUatomicOperation) -> Option<u32> {
    const SIGNED: u32 = 1;
    const UNSIGNED: u32 = 2;
    const REDUCTION: u32 = 4;
    const SCALAR_32: u32 = 8;
    const SCALAR_64: u32 = 16;
    const BOTH_SIZES: u32 = REDUCTION | SCALAR_32 | SCALAR_64;
    match operation.0 {
        0..=2 => Some(SIGNED | UNSIGNED | BOTH_SIZES),
        3 | 4 => Some(UNSIGNED | REDUCTION | SCALAR_32),
        5..=7 => Some(UNSIGNED | BOTH_SIZES),
        8 | 9 => Some(UNSIGNED | SCALAR_32 | SCALAR_64),
        10 => Some(SIGNED | BOTH_SIZES),
        11 | 12 => Some(0),
        _ => None,
    }
}

pub unsafe fn cuDeviceGetHostAtomicCapabilities(
    capabilities: *mut u32,
    operations: *const CUatomicOperation,
    count: u32,
    dev: CUdevice,
) -> Answer {
    device(dev)?;
    if capabilities.is_null() || operations.is_null() || count == 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    for at in 0..count as usize {
        // SAFETY: the caller passes `count` of them.
        let operation = unsafe { operations.add(at).read_unaligned() };
        give(capabilities.wrapping_add(at), self::capabilities(operation).ok_or(CUDA_ERROR_INVALID_VALUE)?)?;
    }
    Ok(())
}

/// There is no other device.
pub unsafe fn cuDeviceGetP2PAtomicCapabilities(
    _capabilities: *mut u32,
    _operations: *const CUatomicOperation,
    _count: u32,
    srcDevice: CUdevice,
    dstDevice: CUdevice,
) -> Answer {
    device(srcDevice)?;
    device(dstDevice)?;
    Err(CUDA_ERROR_INVALID_DEVICE)
}

fn peer(peerContext: CUcontext) -> Answer {
    current()?;
    if CONTEXTS.get(peerContext.0).is_some() { Ok(()) } else { Err(CUDA_ERROR_INVALID_CONTEXT) }
}

/// Contexts of one device are no peers.
pub unsafe fn cuCtxEnablePeerAccess(peerContext: CUcontext, Flags: u32) -> Answer {
    peer(peerContext)?;
    if Flags == 0 { Err(CUDA_ERROR_PEER_ACCESS_UNSUPPORTED) } else { Err(CUDA_ERROR_INVALID_VALUE) }
}

pub unsafe fn cuCtxDisablePeerAccess(peerContext: CUcontext) -> Answer {
    peer(peerContext)?;
    Err(CUDA_ERROR_PEER_ACCESS_NOT_ENABLED)
}
