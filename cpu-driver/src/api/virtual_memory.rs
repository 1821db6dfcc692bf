//! Virtual memory: physical memory, reserved addresses, and who reaches what.

use super::{Answer, device, give, initialised};
use crate::device::Device;
use crate::memory::physical::{self, GRANULARITY, Physical};
use crate::objects::PHYSICAL;
use paravane_protocol::cuda_types::*;
use std::ffi::c_void;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::sync::{Arc, PoisonError};

fn bytes(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn is_whole(n: u64) -> bool {
    n > 0 && n.is_multiple_of(GRANULARITY)
}

fn physical(handle: CUmemGenericAllocationHandle) -> Answer<Arc<Physical>> {
    PHYSICAL.with(handle.0, |physical| Arc::clone(&**physical)).ok_or(CUDA_ERROR_INVALID_VALUE)
}

/// Hands out the memory's handle once more.
fn handle_of(physical: &Arc<Physical>) -> CUmemGenericAllocationHandle {
    let mut known = physical.handle.lock().unwrap_or_else(PoisonError::into_inner);
    if known.1 == 0 {
        known.0 = PHYSICAL.insert_with(|_| Arc::clone(physical)).0;
    }
    known.1 += 1;
    CUmemGenericAllocationHandle(known.0)
}

/// Reads a structure that must be there.
fn read<T: Copy>(from: *const T) -> Answer<T> {
    if from.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller passes a pointer to the structure.
    Ok(unsafe { from.read_unaligned() })
}

/// What memory can be made of: a device's own, alone or for other processes.
fn check(prop: &CUmemAllocationProp) -> Answer<Device> {
    let of = match prop.location {
        CUmemLocation { kind: CU_MEM_LOCATION_TYPE_DEVICE, id } => device(CUdevice(id))?,
        CUmemLocation { kind: CUmemLocationType(2..=4), .. } => return Err(CUDA_ERROR_NOT_SUPPORTED),
        _ => return Err(CUDA_ERROR_INVALID_VALUE),
    };
    if prop.kind != CU_MEM_ALLOCATION_TYPE_PINNED {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let plain = matches!(prop.requestedHandleTypes.0, 0 | 1) && prop.compressionType == 0 && prop.usage == 0;
    if plain { Ok(of) } else { Err(CUDA_ERROR_NOT_SUPPORTED) }
}

pub unsafe fn cuMemGetAllocationGranularity(
    granularity: *mut usize,
    prop: *const CUmemAllocationProp,
    option: CUmemAllocationGranularity_flags,
) -> Answer {
    initialised()?;
    check(&read(prop)?)?;
    if option.0 > 1 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    give(granularity, usize::try_from(GRANULARITY).unwrap_or(0))
}

pub unsafe fn cuMemCreate(
    handle: *mut CUmemGenericAllocationHandle,
    size: usize,
    prop: *const CUmemAllocationProp,
    flags: u64,
) -> Answer {
    initialised()?;
    let prop = read(prop)?;
    let of = check(&prop)?;
    if flags != 0 || !is_whole(bytes(size)) || handle.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let made = Physical::create(of, bytes(size), prop.requestedHandleTypes.0).ok_or(CUDA_ERROR_OUT_OF_MEMORY)?;
    give(handle, handle_of(&made))
}

/// The memory goes when its last handle and its last mapping have gone.
pub unsafe fn cuMemRelease(handle: CUmemGenericAllocationHandle) -> Answer {
    let physical = physical(handle)?;
    let mut known = physical.handle.lock().unwrap_or_else(PoisonError::into_inner);
    known.1 = known.1.saturating_sub(1);
    if known.1 == 0 {
        PHYSICAL.remove(handle.0);
    }
    Ok(())
}

pub unsafe fn cuMemAddressReserve(
    ptr: *mut CUdeviceptr,
    size: usize,
    alignment: usize,
    _addr: CUdeviceptr,
    flags: u64,
) -> Answer {
    initialised()?;
    let is_aligned = alignment == 0 || alignment.is_power_of_two();
    if ptr.is_null() || flags != 0 || !is_whole(bytes(size)) || !is_aligned {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let at = physical::reserve(bytes(size), bytes(alignment)).ok_or(CUDA_ERROR_OUT_OF_MEMORY)?;
    give(ptr, CUdeviceptr(at))
}

pub unsafe fn cuMemAddressFree(ptr: CUdeviceptr, size: usize) -> Answer {
    initialised()?;
    if physical::unreserve(ptr.0, bytes(size)) { Ok(()) } else { Err(CUDA_ERROR_INVALID_VALUE) }
}

pub unsafe fn cuMemMap(
    ptr: CUdeviceptr,
    size: usize,
    offset: usize,
    handle: CUmemGenericAllocationHandle,
    flags: u64,
) -> Answer {
    initialised()?;
    let physical = physical(handle)?;
    let is_whole = is_whole(bytes(size)) && ptr.0.is_multiple_of(GRANULARITY) && bytes(offset).is_multiple_of(GRANULARITY);
    if flags != 0 || !is_whole || !physical::map(ptr.0, bytes(size), bytes(offset), &physical) {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    Ok(())
}

pub unsafe fn cuMemUnmap(ptr: CUdeviceptr, size: usize) -> Answer {
    initialised()?;
    if physical::unmap(ptr.0, bytes(size)) { Ok(()) } else { Err(CUDA_ERROR_INVALID_VALUE) }
}

/// A device reads and writes, or does neither: it cannot be held to reading.
pub unsafe fn cuMemSetAccess(ptr: CUdeviceptr, size: usize, desc: *const CUmemAccessDesc, count: usize) -> Answer {
    initialised()?;
    if count == 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    for at in 0..count {
        let asked = read(desc.wrapping_add(at))?;
        let of = match asked.location {
            CUmemLocation { kind: CU_MEM_LOCATION_TYPE_DEVICE, id } => device(CUdevice(id))?,
            CUmemLocation { kind: CUmemLocationType(2..=4), .. } => return Err(CUDA_ERROR_NOT_SUPPORTED),
            _ => return Err(CUDA_ERROR_INVALID_VALUE),
        };
        let reachable = match asked.flags {
            CU_MEM_ACCESS_FLAGS_PROT_READWRITE => true,
            CU_MEM_ACCESS_FLAGS_PROT_NONE => false,
            CU_MEM_ACCESS_FLAGS_PROT_READ => return Err(CUDA_ERROR_NOT_SUPPORTED),
            _ => return Err(CUDA_ERROR_INVALID_VALUE),
        };
        if !physical::set_access(ptr.0, bytes(size), of, reachable) {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
    }
    Ok(())
}

pub unsafe fn cuMemGetAccess(flags: *mut u64, location: *const CUmemLocation, ptr: CUdeviceptr) -> Answer {
    initialised()?;
    let location = read(location)?;
    if location.kind != CU_MEM_LOCATION_TYPE_DEVICE {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let of = device(CUdevice(location.id))?;
    let (reach, _) = physical::mapping_at(ptr.0).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    let access = if reach & of.bit() != 0 { CU_MEM_ACCESS_FLAGS_PROT_READWRITE } else { CU_MEM_ACCESS_FLAGS_PROT_NONE };
    give(flags, access.to_word())
}

pub unsafe fn cuMemGetAllocationPropertiesFromHandle(
    prop: *mut CUmemAllocationProp,
    handle: CUmemGenericAllocationHandle,
) -> Answer {
    let physical = physical(handle)?;
    give(
        prop,
        CUmemAllocationProp {
            kind: CU_MEM_ALLOCATION_TYPE_PINNED,
            requestedHandleTypes: CUmemAllocationHandleType(physical.handle_types),
            location: CUmemLocation { kind: CU_MEM_LOCATION_TYPE_DEVICE, id: physical.device.cuda().0 },
            win32HandleMetaData: 0,
            compressionType: 0,
            gpuDirectRDMACapable: 0,
            usage: 0,
            reserved: [0; 4],
        },
    )
}

pub unsafe fn cuMemRetainAllocationHandle(handle: *mut CUmemGenericAllocationHandle, addr: *mut c_void) -> Answer {
    initialised()?;
    if handle.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let (_, physical) = physical::mapping_at(bytes(addr.expose_provenance())).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    give(handle, handle_of(&physical))
}

/// A descriptor, which the program owns.
pub unsafe fn cuMemExportToShareableHandle(
    shareableHandle: *mut c_void,
    handle: CUmemGenericAllocationHandle,
    handleType: CUmemAllocationHandleType,
    flags: u64,
) -> Answer {
    let physical = physical(handle)?;
    if shareableHandle.is_null() || flags != 0 || physical.handle_types & handleType.0 == 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let file = physical.export().ok_or(CUDA_ERROR_OPERATING_SYSTEM)?;
    give(shareableHandle.cast::<i32>(), file.into_raw_fd())
}

/// The descriptor stays the program's.
pub unsafe fn cuMemImportFromShareableHandle(
    handle: *mut CUmemGenericAllocationHandle,
    osHandle: *mut c_void,
    shHandleType: CUmemAllocationHandleType,
) -> Answer {
    initialised()?;
    if shHandleType != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR || handle.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let file = duplicate(osHandle)?;
    give(handle, handle_of(&Physical::import(file).ok_or(CUDA_ERROR_INVALID_VALUE)?))
}

/// A descriptor of this library's own beside one of the program's.
pub(super) fn duplicate(of: *mut c_void) -> Answer<OwnedFd> {
    let fd = i32::try_from(of.addr()).map_err(|_| CUDA_ERROR_INVALID_VALUE)?;
    // SAFETY: duplicates a number that the program says is a descriptor.
    let own = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) };
    if own < 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: just made, and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(own) })
}
