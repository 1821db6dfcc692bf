//! What this device has not got: objects that several devices share, tensor maps, direct access by
//! other devices. Each answers as a device without it does.

use super::{Answer, device, give};
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

pub unsafe fn cuMulticastCreate(
    _mcHandle: *mut CUmemGenericAllocationHandle,
    _prop: *const CUmulticastObjectProp,
) -> Answer {
    Err(CUDA_ERROR_NOT_SUPPORTED)
}

pub unsafe fn cuMulticastAddDevice(_mcHandle: CUmemGenericAllocationHandle, _dev: CUdevice) -> Answer {
    Err(CUDA_ERROR_NOT_SUPPORTED)
}

pub unsafe fn cuMulticastBindMem(
    _mcHandle: CUmemGenericAllocationHandle,
    _mcOffset: usize,
    _memHandle: CUmemGenericAllocationHandle,
    _memOffset: usize,
    _size: usize,
    _flags: u64,
) -> Answer {
    Err(CUDA_ERROR_NOT_SUPPORTED)
}

pub unsafe fn cuMulticastBindMem_v2(
    _mcHandle: CUmemGenericAllocationHandle,
    _dev: CUdevice,
    _mcOffset: usize,
    _memHandle: CUmemGenericAllocationHandle,
    _memOffset: usize,
    _size: usize,
    _flags: u64,
) -> Answer {
    Err(CUDA_ERROR_NOT_SUPPORTED)
}

pub unsafe fn cuMulticastBindAddr(
    _mcHandle: CUmemGenericAllocationHandle,
    _mcOffset: usize,
    _memptr: CUdeviceptr,
    _size: usize,
    _flags: u64,
) -> Answer {
    Err(CUDA_ERROR_NOT_SUPPORTED)
}

pub unsafe fn cuMulticastBindAddr_v2(
    _mcHandle: CUmemGenericAllocationHandle,
    _dev: CUdevice,
    _mcOffset: usize,
    _memptr: CUdeviceptr,
    _size: usize,
    _flags: u64,
) -> Answer {
    Err(CUDA_ERROR_NOT_SUPPORTED)
}

pub unsafe fn cuMulticastUnbind(
    _mcHandle: CUmemGenericAllocationHandle,
    _dev: CUdevice,
    _mcOffset: usize,
    _size: usize,
) -> Answer {
    Err(CUDA_ERROR_NOT_SUPPORTED)
}

pub unsafe fn cuMulticastGetGranularity(
    _granularity: *mut usize,
    _prop: *const CUmulticastObjectProp,
    _option: CUmulticastGranularity_flags,
) -> Answer {
    Err(CUDA_ERROR_NOT_SUPPORTED)
}

/// Copies by tensor map come with compute capability 9.0, which this device is below.
pub unsafe fn cuTensorMapEncodeTiled(
    _tensorMap: *mut CUtensorMap,
    _tensorDataType: CUtensorMapDataType,
    _tensorRank: u32,
    _globalAddress: DeviceAddress,
    _globalDim: *const u64,
    _globalStrides: *const u64,
    _boxDim: *const u32,
    _elementStrides: *const u32,
    _interleave: CUtensorMapInterleave,
    _swizzle: CUtensorMapSwizzle,
    _l2Promotion: CUtensorMapL2promotion,
    _oobFill: CUtensorMapFloatOOBfill,
) -> Answer {
    Err(CUDA_ERROR_NOT_SUPPORTED)
}

/// As [`cuTensorMapEncodeTiled`].
pub unsafe fn cuTensorMapEncodeIm2col(
    _tensorMap: *mut CUtensorMap,
    _tensorDataType: CUtensorMapDataType,
    _tensorRank: u32,
    _globalAddress: DeviceAddress,
    _globalDim: *const u64,
    _globalStrides: *const u64,
    _pixelBoxLowerCorner: *const i32,
    _pixelBoxUpperCorner: *const i32,
    _channelsPerPixel: u32,
    _pixelsPerColumn: u32,
    _elementStrides: *const u32,
    _interleave: CUtensorMapInterleave,
    _swizzle: CUtensorMapSwizzle,
    _l2Promotion: CUtensorMapL2promotion,
    _oobFill: CUtensorMapFloatOOBfill,
) -> Answer {
    Err(CUDA_ERROR_NOT_SUPPORTED)
}

/// As [`cuTensorMapEncodeTiled`].
pub unsafe fn cuTensorMapEncodeIm2colWide(
    _tensorMap: *mut CUtensorMap,
    _tensorDataType: CUtensorMapDataType,
    _tensorRank: u32,
    _globalAddress: DeviceAddress,
    _globalDim: *const u64,
    _globalStrides: *const u64,
    _pixelBoxLowerCornerWidth: i32,
    _pixelBoxUpperCornerWidth: i32,
    _channelsPerPixel: u32,
    _pixelsPerColumn: u32,
    _elementStrides: *const u32,
    _interleave: CUtensorMapInterleave,
    _mode: CUtensorMapIm2ColWideMode,
    _swizzle: CUtensorMapSwizzle,
    _l2Promotion: CUtensorMapL2promotion,
    _oobFill: CUtensorMapFloatOOBfill,
) -> Answer {
    Err(CUDA_ERROR_NOT_SUPPORTED)
}
