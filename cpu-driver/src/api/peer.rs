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
