//! Host memory that the device can reach.

use paravane_protocol::cuda_types::*;

use crate::boundary::Answer;
use crate::state::{current, host_memory};
use crate::pointer;

const PORTABLE_MAPPED_COMBINED: u32 = 0x7;
const REGISTER_KNOWN: u32 = 0xf;

pub(crate) fn cuMemAllocHost_v2(pp: *mut Pointer, bytes: usize) -> Answer {
    cuMemHostAlloc(pp, bytes, 0)
}

pub(crate) fn cuMemHostAlloc(pp: *mut Pointer, bytes: usize, flags: u32) -> Answer {
    if pp.is_null() || flags & !PORTABLE_MAPPED_COMBINED != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    current::context()?;
    pointer::put(pp, host_memory::allocate(bytes, flags)? as Pointer)
}

pub(crate) fn cuMemFreeHost(p: Pointer) -> Answer {
    current::context()?;
    host_memory::free(p as usize)
}

pub(crate) fn cuMemHostGetDevicePointer_v2(into: *mut CUdeviceptr, p: Pointer, flags: u32) -> Answer {
    if flags != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let device = host_memory::device_address(p as usize).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    pointer::put(into, CUdeviceptr(device))
}

pub(crate) fn cuMemHostGetFlags(into: *mut u32, p: Pointer) -> Answer {
    pointer::put(into, host_memory::flags(p as usize).ok_or(CUDA_ERROR_INVALID_VALUE)?)
}

/// CU_MEMHOSTREGISTER_IOMEMORY is CUDA_ERROR_NOT_SUPPORTED: a guest's device
/// memory is not the host's to map.
pub(crate) fn cuMemHostRegister_v2(p: Pointer, bytes: usize, flags: u32) -> Answer {
    const IO_MEMORY: u32 = 4;
    if flags & !REGISTER_KNOWN != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    if flags & IO_MEMORY != 0 {
        return Err(CUDA_ERROR_NOT_SUPPORTED);
    }
    current::context()?;
    host_memory::register(p as usize, bytes, flags)
}

pub(crate) fn cuMemHostUnregister(p: Pointer) -> Answer {
    current::context()?;
    host_memory::unregister(p as usize)
}
