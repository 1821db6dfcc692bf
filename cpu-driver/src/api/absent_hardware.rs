//! What this device has not got: objects that several devices share, tensor maps, direct access by
//! other devices. Each answers as a device without it does.

use super::{Answer, device, give, initialised, work_stream};
use paravane_protocol::cuda_types::*;

/// Writes by other devices reach this one's memory at once; there is nothing to flush, and attribute
/// 117 says so.
pub unsafe fn cuFlushGPUDirectRDMAWrites(
    _target: CUflushGPUDirectRDMAWritesTarget,
    _scope: CUflushGPUDirectRDMAWritesScope,
) -> Answer {
    Err(CUDA_ERROR_NOT_SUPPORTED)
}

/// Elements of a linear texture.
pub unsafe fn cuDeviceGetTexture1DLinearMaxWidth(
    maxWidthInElements: *mut usize,
    format: CUarray_format,
    numChannels: u32,
    dev: CUdevice,
) -> Answer {
    device(dev)?;
    format.element_bytes(numChannels).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    give(maxWidthInElements, 1 << 28)
}

/// Functions of what is not here.
macro_rules! not_here {
    ($($(#[$doc:meta])* $name:ident($($type:ty),*);)*) => {$(
        $(#[$doc])*
        pub unsafe fn $name($(_: $type),*) -> Answer {
            initialised()?;
            Err(CUDA_ERROR_NOT_SUPPORTED)
        }
    )*};
}

not_here! {
    cuMulticastCreate(*mut CUmemGenericAllocationHandle, *const CUmulticastObjectProp);
    cuMulticastAddDevice(CUmemGenericAllocationHandle, CUdevice);
    cuMulticastBindMem(CUmemGenericAllocationHandle, usize, CUmemGenericAllocationHandle, usize, usize, u64);
    cuMulticastBindMem_v2(
        CUmemGenericAllocationHandle, CUdevice, usize, CUmemGenericAllocationHandle, usize, usize, u64
    );
    cuMulticastBindAddr(CUmemGenericAllocationHandle, usize, CUdeviceptr, usize, u64);
    cuMulticastBindAddr_v2(CUmemGenericAllocationHandle, CUdevice, usize, CUdeviceptr, usize, u64);
    cuMulticastUnbind(CUmemGenericAllocationHandle, CUdevice, usize, usize);
    cuMulticastGetGranularity(*mut usize, *const CUmulticastObjectProp, CUmulticastGranularity_flags);
    /// Copies by tensor map come with compute capability 9.0, which this device is below.
    cuTensorMapEncodeTiled(
        *mut CUtensorMap, CUtensorMapDataType, u32, DeviceAddress, *const u64, *const u64, *const u32,
        *const u32, CUtensorMapInterleave, CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill
    );
    cuTensorMapEncodeIm2col(
        *mut CUtensorMap, CUtensorMapDataType, u32, DeviceAddress, *const u64, *const u64, *const i32,
        *const i32, u32, u32, *const u32, CUtensorMapInterleave, CUtensorMapSwizzle, CUtensorMapL2promotion,
        CUtensorMapFloatOOBfill
    );
    cuTensorMapEncodeIm2colWide(
        *mut CUtensorMap, CUtensorMapDataType, u32, DeviceAddress, *const u64, *const u64, i32, i32, u32, u32,
        *const u32, CUtensorMapInterleave, CUtensorMapIm2ColWideMode, CUtensorMapSwizzle,
        CUtensorMapL2promotion, CUtensorMapFloatOOBfill
    );
    cuTensorMapReplaceAddress(*mut CUtensorMap, DeviceAddress);
}

/// There is one class.
pub unsafe fn cuTensorMapSetAllocationClass(
    tensorMap: *mut CUtensorMap,
    allocClass: CUtensorMapAllocClass,
    outAllocClass: *mut CUtensorMapAllocClass,
) -> Answer {
    const SMALL: CUtensorMapAllocClass = CUtensorMapAllocClass(1);
    initialised()?;
    super::give_optional(outAllocClass, SMALL);
    if tensorMap.is_null() || allocClass.0 > 2 { Err(CUDA_ERROR_INVALID_VALUE) } else { Ok(()) }
}

/// Attribute 136 tells that nothing is decompressed here.
pub unsafe fn cuMemBatchDecompressAsync(
    paramsArray: *const CUmemDecompressParams,
    count: usize,
    flags: u32,
    errorIndex: *mut usize,
    stream: CUstream,
) -> Answer {
    super::give_optional(errorIndex, usize::MAX);
    work_stream(stream)?;
    if paramsArray.is_null() || count == 0 || flags != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    Err(CUDA_ERROR_NOT_SUPPORTED)
}
