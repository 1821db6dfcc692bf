//! Arrays, textures and surfaces: made, described, ended.

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::{must, result_of, value_of};
use zerocopy::FromZeros;

const NONE: CUarray = CUarray(0);
const NULL: CUdeviceptr = CUdeviceptr(0);
const STREAM: CUstream = CUstream(0);

fn volume(width: u64, height: u64, depth: u64, flags: u32) -> CUDA_ARRAY3D_DESCRIPTOR {
    CUDA_ARRAY3D_DESCRIPTOR {
        Width: width,
        Height: height,
        Depth: depth,
        Format: CU_AD_FORMAT_FLOAT,
        NumChannels: 2,
        Flags: flags,
        pad: 0,
    }
}

pub(crate) fn arrays(cuda: &Cuda) {
    linear(cuda);
    let descriptor = volume(20, 10, 5, CUDA_ARRAY3D_SURFACE_LDST);
    let array = value_of!(cuda.cuArray3DCreate_v2(NONE, &raw const descriptor));
    let mut told = CUDA_ARRAY3D_DESCRIPTOR::new_zeroed();
    must!(cuda.cuArray3DGetDescriptor_v2(&raw mut told, array));
    assert_eq!(told, descriptor);
    let mut flat = CUDA_ARRAY_DESCRIPTOR::new_zeroed();
    must!(cuda.cuArrayGetDescriptor_v2(&raw mut flat, array));
    assert_eq!(flat, descriptor.to_flat());
    let mut needs = CUDA_ARRAY_MEMORY_REQUIREMENTS::new_zeroed();
    let plain = result_of!(cuda.cuArrayGetMemoryRequirements(&raw mut needs, array, CUdevice(0)));
    assert_eq!(plain, CUDA_ERROR_INVALID_VALUE);
    let mut sparse = CUDA_ARRAY_SPARSE_PROPERTIES::new_zeroed();
    let dense = result_of!(cuda.cuArrayGetSparseProperties(&raw mut sparse, array));
    assert_eq!(dense, CUDA_ERROR_INVALID_VALUE);
    let mut plane = NONE;
    let whole = result_of!(cuda.cuArrayGetPlane(&raw mut plane, array, 0));
    assert_eq!(whole, CUDA_ERROR_INVALID_VALUE);
    must!(cuda.cuArrayDestroy(array));
    assert_eq!(result_of!(cuda.cuArrayDestroy(array)), CUDA_ERROR_INVALID_HANDLE);
    for bad in [volume(0, 1, 1, 0), volume(4, 0, 4, 0), volume(4, 4, 5, CUDA_ARRAY3D_CUBEMAP)] {
        let refused = result_of!(cuda.cuArray3DCreate_v2(&raw mut plane, &raw const bad));
        assert_eq!(refused, CUDA_ERROR_INVALID_VALUE, "{bad:?}");
    }
    mipmapped(cuda);
}

/// A line of 100 elements of 8 bytes, by every linear copy.
fn linear(cuda: &Cuda) {
    const BYTES: usize = 800;
    let descriptor =
        CUDA_ARRAY_DESCRIPTOR { Width: 100, Height: 0, Format: CU_AD_FORMAT_SIGNED_INT32, NumChannels: 2 };
    let array = value_of!(cuda.cuArrayCreate_v2(NONE, &raw const descriptor));
    let other = value_of!(cuda.cuArrayCreate_v2(NONE, &raw const descriptor));
    let device = value_of!(cuda.cuMemAlloc_v2(NULL, BYTES));
    let source: Vec<u8> = (0..BYTES).map(|at| (at % 251).to_le_bytes()[0]).collect();
    let mut back = vec![0_u8; BYTES];
    let (from, into) = (source.as_ptr() as Pointer, back.as_mut_ptr() as Pointer);
    must!(cuda.cuMemcpyHtoA_v2(array, 0, from, BYTES));
    must!(cuda.cuMemcpyAtoA_v2(other, 0, array, 0, BYTES));
    must!(cuda.cuMemcpyAtoD_v2(device, other, 0, BYTES));
    must!(cuda.cuMemcpyDtoA_v2(array, 400, device, 400));
    must!(cuda.cuMemcpyAtoH_v2(into, array, 0, BYTES));
    assert_eq!((&back[..400], &back[400..]), (&source[..400], &source[..400]));
    must!(cuda.cuMemcpyHtoAAsync_v2(array, 8, from, 200, STREAM));
    must!(cuda.cuMemcpyAtoHAsync_v2(into, array, 8, 200, STREAM));
    must!(cuda.cuStreamSynchronize(STREAM));
    assert_eq!(back[..200], source[..200]);
    must!(cuda.cuMemcpyHtoA_v2_ptds(array, 0, from, BYTES));
    must!(cuda.cuMemcpyAtoA_v2_ptds(other, 400, array, 0, 400));
    must!(cuda.cuMemcpyAtoD_v2_ptds(device, other, 400, 400));
    must!(cuda.cuMemcpyDtoA_v2_ptds(array, 400, device, 400));
    must!(cuda.cuMemcpyAtoH_v2_ptds(into, array, 0, BYTES));
    assert_eq!(back[400..], source[..400]);
    must!(cuda.cuMemcpyHtoAAsync_v2_ptsz(array, 0, from, 80, STREAM));
    must!(cuda.cuMemcpyAtoHAsync_v2_ptsz(into, array, 0, 80, STREAM));
    must!(cuda.cuStreamSynchronize_ptsz(STREAM));
    assert_eq!(back[..80], source[..80]);
    for (offset, bytes) in [(0, BYTES + 8), (4, 8), (BYTES, 8)] {
        let outside = result_of!(cuda.cuMemcpyHtoA_v2(array, offset, from, bytes));
        assert_eq!(outside, CUDA_ERROR_INVALID_VALUE, "{bytes} bytes at {offset}");
    }
    plane(cuda, &source);
    must!(cuda.cuMemFree_v2(device));
    must!(cuda.cuArrayDestroy(array));
    must!(cuda.cuArrayDestroy(other));
}

/// Two dimensions, by the two-dimensional copy.
fn plane(cuda: &Cuda, source: &[u8]) {
    let descriptor =
        CUDA_ARRAY_DESCRIPTOR { Width: 16, Height: 8, Format: CU_AD_FORMAT_UNSIGNED_INT16, NumChannels: 4 };
    let array = value_of!(cuda.cuArrayCreate_v2(NONE, &raw const descriptor));
    let mut back = vec![0_u8; source.len()];
    let up = CUDA_MEMCPY2D {
        srcMemoryType: CU_MEMORYTYPE_HOST,
        srcHost: source.as_ptr() as u64,
        srcPitch: 100,
        dstXInBytes: 16,
        dstY: 2,
        dstMemoryType: CU_MEMORYTYPE_ARRAY,
        dstArray: array,
        WidthInBytes: 96,
        Height: 6,
        ..CUDA_MEMCPY2D::new_zeroed()
    };
    let down = CUDA_MEMCPY2D {
        srcXInBytes: 16,
        srcY: 2,
        srcMemoryType: CU_MEMORYTYPE_ARRAY,
        srcArray: array,
        dstMemoryType: CU_MEMORYTYPE_HOST,
        dstHost: back.as_mut_ptr() as u64,
        dstPitch: 100,
        WidthInBytes: 96,
        Height: 6,
        ..CUDA_MEMCPY2D::new_zeroed()
    };
    must!(cuda.cuMemcpy2D_v2(&raw const up));
    must!(cuda.cuMemcpy2DAsync_v2(&raw const down, STREAM));
    must!(cuda.cuStreamSynchronize(STREAM));
    for (at, byte) in back.iter().enumerate() {
        let inside = at % 100 < 96 && at / 100 < 6;
        assert_eq!(*byte, if inside { source[at] } else { 0 }, "byte {at}");
    }
    must!(cuda.cuArrayDestroy(array));
}

fn mipmapped(cuda: &Cuda) {
    let descriptor = volume(20, 10, 0, 0);
    let none = CUmipmappedArray(0);
    let array = value_of!(cuda.cuMipmappedArrayCreate(none, &raw const descriptor, 3));
    let level = value_of!(cuda.cuMipmappedArrayGetLevel(NONE, array, 2));
    assert_eq!(value_of!(cuda.cuMipmappedArrayGetLevel(NONE, array, 2)), level);
    let mut told = CUDA_ARRAY3D_DESCRIPTOR::new_zeroed();
    must!(cuda.cuArray3DGetDescriptor_v2(&raw mut told, level));
    assert_eq!((told.Width, told.Height), (5, 2));
    let mut beyond = NONE;
    let missing = result_of!(cuda.cuMipmappedArrayGetLevel(&raw mut beyond, array, 3));
    assert_eq!(missing, CUDA_ERROR_INVALID_VALUE);
    assert_eq!(result_of!(cuda.cuArrayDestroy(level)), CUDA_ERROR_INVALID_HANDLE);
    let mut needs = CUDA_ARRAY_MEMORY_REQUIREMENTS::new_zeroed();
    let plain = result_of!(cuda.cuMipmappedArrayGetMemoryRequirements(&raw mut needs, array, CUdevice(0)));
    assert_eq!(plain, CUDA_ERROR_INVALID_VALUE);
    let mut sparse = CUDA_ARRAY_SPARSE_PROPERTIES::new_zeroed();
    let dense = result_of!(cuda.cuMipmappedArrayGetSparseProperties(&raw mut sparse, array));
    assert_eq!(dense, CUDA_ERROR_INVALID_VALUE);
    must!(cuda.cuMipmappedArrayDestroy(array));
    assert_eq!(result_of!(cuda.cuArray3DGetDescriptor_v2(&raw mut told, level)), CUDA_ERROR_INVALID_HANDLE);
    assert_eq!(result_of!(cuda.cuMipmappedArrayDestroy(array)), CUDA_ERROR_INVALID_HANDLE);
}

pub(crate) fn objects(cuda: &Cuda) {
    let descriptor = volume(20, 10, 0, CUDA_ARRAY3D_SURFACE_LDST);
    let array = value_of!(cuda.cuArray3DCreate_v2(NONE, &raw const descriptor));
    let mut resource =
        CUDA_RESOURCE_DESC { resType: CU_RESOURCE_TYPE_ARRAY, ..CUDA_RESOURCE_DESC::new_zeroed() };
    resource.words[0] = array.0;
    let how = CUDA_TEXTURE_DESC {
        addressMode: [CU_TR_ADDRESS_MODE_CLAMP; 3],
        filterMode: CU_TR_FILTER_MODE_LINEAR,
        borderColor: [0.5; 4],
        ..CUDA_TEXTURE_DESC::new_zeroed()
    };
    let view = CUDA_RESOURCE_VIEW_DESC {
        format: CUresourceViewFormat(0x17),
        width: 20,
        height: 10,
        ..CUDA_RESOURCE_VIEW_DESC::new_zeroed()
    };
    let none = CUtexObject(0);
    let (of, how_at, view_at) = (&raw const resource, &raw const how, &raw const view);
    let texture = value_of!(cuda.cuTexObjectCreate(none, of, how_at, view_at));
    let mut told = CUDA_RESOURCE_DESC::new_zeroed();
    must!(cuda.cuTexObjectGetResourceDesc(&raw mut told, texture));
    assert_eq!(told, resource);
    let mut told_how = CUDA_TEXTURE_DESC::new_zeroed();
    must!(cuda.cuTexObjectGetTextureDesc(&raw mut told_how, texture));
    assert_eq!(told_how, how);
    let mut told_view = CUDA_RESOURCE_VIEW_DESC::new_zeroed();
    must!(cuda.cuTexObjectGetResourceViewDesc(&raw mut told_view, texture));
    assert_eq!(told_view, view);
    must!(cuda.cuTexObjectDestroy(texture));
    assert_eq!(result_of!(cuda.cuTexObjectDestroy(texture)), CUDA_ERROR_INVALID_VALUE);
    let surface = value_of!(cuda.cuSurfObjectCreate(CUsurfObject(0), of));
    must!(cuda.cuSurfObjectGetResourceDesc(&raw mut told, surface));
    assert_eq!(told, resource);
    must!(cuda.cuSurfObjectDestroy(surface));
    assert_eq!(result_of!(cuda.cuSurfObjectDestroy(surface)), CUDA_ERROR_INVALID_VALUE);
    let gone = CUDA_RESOURCE_DESC { words: [array.0 + 1; 16], ..resource };
    let mut into = none;
    let refused =
        result_of!(cuda.cuTexObjectCreate(&raw mut into, &raw const gone, how_at, std::ptr::null()));
    assert_eq!(refused, CUDA_ERROR_INVALID_HANDLE);
    must!(cuda.cuArrayDestroy(array));
}
