//! What the library is asked: addresses, memory behind them, copies out and in.

use paravane_protocol::cuda_types::*;
use zerocopy::FromZeros;

use super::host::HostCopy;
use super::pieces::{Home, Piece, Place};
use crate::worker::libcuda::{Answer, Libcuda, cuda};

fn location(device: i32) -> CUmemLocation {
    CUmemLocation { kind: CU_MEM_LOCATION_TYPE_DEVICE, id: device }
}

fn properties(device: i32) -> CUmemAllocationProp {
    let kind = CU_MEM_ALLOCATION_TYPE_PINNED;
    CUmemAllocationProp { kind, location: location(device), ..CUmemAllocationProp::new_zeroed() }
}

fn size(bytes: u64) -> Answer<usize> {
    usize::try_from(bytes).map_err(|_| CUDA_ERROR_OUT_OF_MEMORY)
}

/// In what a device's memory is mapped.
pub(super) fn granularity(lib: &Libcuda, device: i32) -> Answer<u64> {
    const MINIMUM: CUmemAllocationGranularity_flags = CUmemAllocationGranularity_flags(0);
    let (mut granularity, of) = (0_usize, properties(device));
    cuda!(lib.cuMemGetAllocationGranularity(&raw mut granularity, &raw const of, MINIMUM))?;
    u64::try_from(granularity).ok().filter(|bytes| *bytes > 0).ok_or(CUDA_ERROR_NOT_SUPPORTED)
}

/// Addresses for a piece.
pub(super) fn reserve(lib: &Libcuda, bytes: u64) -> Answer<u64> {
    let mut at = CUdeviceptr(0);
    cuda!(lib.cuMemAddressReserve(&raw mut at, size(bytes)?, 0, CUdeviceptr(0), 0))?;
    Ok(at.0)
}

/// Gives addresses back, behind which there is no memory any more.
pub(super) fn unreserve(lib: &Libcuda, start: u64, bytes: u64) {
    let freed = size(bytes).and_then(|bytes| cuda!(lib.cuMemAddressFree(CUdeviceptr(start), bytes)));
    if let Err(error) = freed {
        log::warn!("swap: addresses are not given back: {error}");
    }
}

/// Puts memory behind a piece's addresses.
pub(super) fn map(lib: &Libcuda, start: u64, bytes: u64, device: i32) -> Answer {
    let (bytes, of) = (size(bytes)?, properties(device));
    let mut memory = CUmemGenericAllocationHandle(0);
    cuda!(lib.cuMemCreate(&raw mut memory, bytes, &raw const of, 0))?;
    let mapped = cuda!(lib.cuMemMap(CUdeviceptr(start), bytes, 0, memory, 0));
    // The mapping keeps it from here on, or nothing does.
    let released = cuda!(lib.cuMemRelease(memory));
    mapped.and(released)?;
    let access = CUmemAccessDesc { location: location(device), flags: CU_MEM_ACCESS_FLAGS_PROT_READWRITE };
    let reached = cuda!(lib.cuMemSetAccess(CUdeviceptr(start), bytes, &raw const access, 1));
    if reached.is_err() {
        let _ = cuda!(lib.cuMemUnmap(CUdeviceptr(start), bytes));
    }
    reached
}

/// Takes the memory behind a piece's addresses away.
pub(super) fn unmap(lib: &Libcuda, start: u64, bytes: u64) -> Answer {
    let bytes = size(bytes)?;
    cuda!(lib.cuMemUnmap(CUdeviceptr(start), bytes))
}

/// A piece's bytes go to the host, and the memory back to the library. On an error it is where it was.
pub(super) fn move_out(lib: &Libcuda, start: u64, piece: &mut Piece) -> Answer {
    let bytes = size(piece.bytes)?;
    let copy = HostCopy::new(bytes).map_err(|error| {
        log::debug!("swap: {bytes} bytes of host memory: {error}");
        CUDA_ERROR_OUT_OF_MEMORY
    })?;
    enter(lib, piece.home)?;
    cuda!(lib.cuMemcpyDtoH_v2(copy.address(), CUdeviceptr(start), bytes))?;
    unmap(lib, start, piece.bytes)?;
    piece.place = Place::Host(copy);
    Ok(())
}

/// Memory comes behind a piece's addresses, with its bytes, which stay on the host too.
pub(super) fn move_in(lib: &Libcuda, start: u64, piece: &mut Piece) -> Answer {
    map(lib, start, piece.bytes, piece.home.device)?;
    match std::mem::replace(&mut piece.place, Place::Device) {
        Place::Host(copy) => {
            let copied = enter(lib, piece.home).and_then(|()| {
                cuda!(lib.cuMemcpyHtoD_v2(CUdeviceptr(start), copy.address(), size(piece.bytes)?))
            });
            if copied.is_err() {
                unmap(lib, start, piece.bytes)?;
                piece.place = Place::Host(copy);
                return copied;
            }
            piece.place = Place::Both(copy);
        }
        Place::Fresh | Place::Refused | Place::Device | Place::Both(_) => {}
    }
    Ok(())
}

/// Back to the host's copy, which is still right.
pub(super) fn move_back(lib: &Libcuda, start: u64, piece: &mut Piece) -> Answer {
    if let Place::Both(_) = piece.place {
        unmap(lib, start, piece.bytes)?;
        if let Place::Both(copy) = std::mem::replace(&mut piece.place, Place::Fresh) {
            piece.place = Place::Host(copy);
        }
    }
    Ok(())
}

fn enter(lib: &Libcuda, home: Home) -> Answer {
    cuda!(lib.cuCtxSetCurrent(home.native))
}

/// Waits until the device is done with what was issued in a context.
pub(super) fn synchronise(lib: &Libcuda, context: CUcontext) -> Answer {
    cuda!(lib.cuCtxSetCurrent(context))?;
    cuda!(lib.cuCtxSynchronize())
}
