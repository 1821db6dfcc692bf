//! Peers: any two devices, whose memory is all one address space.

use super::{Answer, current, device, give};
use crate::context::{CONTEXTS, Context};
use crate::peers;
use paravane_protocol::cuda_types::*;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A device is no peer of itself.
pub unsafe fn cuDeviceCanAccessPeer(canAccessPeer: *mut i32, dev: CUdevice, peerDev: CUdevice) -> Answer {
    let (of, peer) = (device(dev)?, device(peerDev)?);
    give(canAccessPeer, i32::from(of != peer))
}

/// Attributes are of two different devices. Everything is one memory: no link is faster than another, and atomics and arrays are there.
pub unsafe fn cuDeviceGetP2PAttribute(
    value: *mut i32,
    attrib: CUdevice_P2PAttribute,
    srcDevice: CUdevice,
    dstDevice: CUdevice,
) -> Answer {
    let is_one = device(srcDevice)? == device(dstDevice)?;
    let told = match attrib.0 {
        2..=4 => 1,
        1 | 5 => 0,
        _ => return Err(CUDA_ERROR_INVALID_VALUE),
    };
    if is_one { Err(CUDA_ERROR_INVALID_DEVICE) } else { give(value, told) }
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
    tell(capabilities, operations, count)
}

fn tell(capabilities: *mut u32, operations: *const CUatomicOperation, count: u32) -> Answer {
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

/// What host and device do to each other's memory, two devices do.
pub unsafe fn cuDeviceGetP2PAtomicCapabilities(
    capabilities: *mut u32,
    operations: *const CUatomicOperation,
    count: u32,
    srcDevice: CUdevice,
    dstDevice: CUdevice,
) -> Answer {
    if device(srcDevice)? == device(dstDevice)? {
        return Err(CUDA_ERROR_INVALID_DEVICE);
    }
    tell(capabilities, operations, count)
}

/// The current context, and the other that a handle names.
fn pair(peerContext: CUcontext) -> Answer<[Arc<Context>; 2]> {
    let (context, peer) = (current()?, CONTEXTS.get(peerContext.0));
    let is_live = |peer: &Arc<Context>| !peer.is_dead.load(Ordering::Relaxed);
    Ok([context, peer.filter(is_live).ok_or(CUDA_ERROR_INVALID_CONTEXT)?])
}

/// Contexts of one device are no peers.
pub unsafe fn cuCtxEnablePeerAccess(peerContext: CUcontext, Flags: u32) -> Answer {
    let [context, peer] = pair(peerContext)?;
    if Flags != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    if context.device == peer.device {
        return Err(CUDA_ERROR_PEER_ACCESS_UNSUPPORTED);
    }
    if peers::enable(&context, &peer) { Ok(()) } else { Err(CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED) }
}

pub unsafe fn cuCtxDisablePeerAccess(peerContext: CUcontext) -> Answer {
    let [context, peer] = pair(peerContext)?;
    if peers::disable(&context, &peer) { Ok(()) } else { Err(CUDA_ERROR_PEER_ACCESS_NOT_ENABLED) }
}
