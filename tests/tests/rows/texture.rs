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

/// Copies element (x, y) of a texture to a surface's element (y, x), doubled.
const TURN: &std::ffi::CStr = c"
.version 7.0
.target sm_70
.address_size 64
.visible .entry turn(.param .u64 texture, .param .u64 surface)
{
    .reg .b32 %r<6>;
    .reg .f32 %f<8>;
    .reg .b64 %rd<3>;
    ld.param.u64 %rd1, [texture];
    ld.param.u64 %rd2, [surface];
    mov.u32 %r1, %tid.x;
    mov.u32 %r2, %ctaid.x;
    cvt.rn.f32.u32 %f1, %r1;
    cvt.rn.f32.u32 %f2, %r2;
    add.f32 %f1, %f1, 0f3F000000;
    add.f32 %f2, %f2, 0f3F000000;
    tex.2d.v4.f32.f32 {%f3, %f4, %f5, %f6}, [%rd1, {%f1, %f2}];
    add.f32 %f7, %f3, %f3;
    mov.b32 %r3, %f7;
    shl.b32 %r4, %r2, 2;
    sust.b.2d.b32.trap [%rd2, {%r4, %r1}], {%r3};
    ret;
}
";

/// A kernel is passed a texture's and a surface's number and reaches both.
pub(crate) fn in_a_kernel(cuda: &Cuda) {
    const SIDE: usize = 8;
    let descriptor = CUDA_ARRAY3D_DESCRIPTOR {
        NumChannels: 1,
        ..volume(SIDE as u64, SIDE as u64, 0, CUDA_ARRAY3D_SURFACE_LDST)
    };
    let from = value_of!(cuda.cuArray3DCreate_v2(NONE, &raw const descriptor));
    let to = value_of!(cuda.cuArray3DCreate_v2(NONE, &raw const descriptor));
    let mut values: Vec<f32> = (0_u8..64).map(f32::from).collect();
    let rows = |array: CUarray, host: u64, up: bool| {
        let (host_kind, array_kind) = (CU_MEMORYTYPE_HOST, CU_MEMORYTYPE_ARRAY);
        CUDA_MEMCPY2D {
            srcMemoryType: if up { host_kind } else { array_kind },
            srcHost: if up { host } else { 0 },
            srcArray: if up { NONE } else { array },
            dstMemoryType: if up { array_kind } else { host_kind },
            dstHost: if up { 0 } else { host },
            dstArray: if up { array } else { NONE },
            WidthInBytes: 4 * SIDE as u64,
            Height: SIDE as u64,
            ..CUDA_MEMCPY2D::new_zeroed()
        }
    };
    let up = rows(from, values.as_ptr() as u64, true);
    must!(cuda.cuMemcpy2D_v2(&raw const up));
    let resource = |array: CUarray| {
        let mut resource = CUDA_RESOURCE_DESC::new_zeroed();
        resource.words[0] = array.0;
        resource
    };
    let (source, target) = (resource(from), resource(to));
    let how =
        CUDA_TEXTURE_DESC { addressMode: [CU_TR_ADDRESS_MODE_CLAMP; 3], ..CUDA_TEXTURE_DESC::new_zeroed() };
    let whole = std::ptr::null();
    let mut texture =
        value_of!(cuda.cuTexObjectCreate(CUtexObject(0), &raw const source, &raw const how, whole));
    let mut surface = value_of!(cuda.cuSurfObjectCreate(CUsurfObject(0), &raw const target));
    let module = value_of!(cuda.cuModuleLoadData(CUmodule(0), TURN.as_ptr() as Pointer));
    let turn = value_of!(cuda.cuModuleGetFunction(CUfunction(0), module, c"turn".as_ptr()));
    let mut params: [Pointer; 2] = [(&raw mut texture).cast(), (&raw mut surface).cast()];
    let (params, none) = (params.as_mut_ptr(), std::ptr::null_mut());
    must!(cuda.cuLaunchKernel(turn, 8, 1, 1, 8, 1, 1, 0, STREAM, params, none));
    must!(cuda.cuStreamSynchronize(STREAM));
    let down = rows(to, values.as_mut_ptr() as u64, false);
    must!(cuda.cuMemcpy2D_v2(&raw const down));
    for (at, value) in (0_u8..64).zip(values) {
        let expected = f32::from((at % 8 * 8 + at / 8) * 2);
        assert_eq!(value.to_bits(), expected.to_bits(), "element {at}");
    }
    must!(cuda.cuModuleUnload(module));
    must!(cuda.cuTexObjectDestroy(texture));
    must!(cuda.cuSurfObjectDestroy(surface));
    must!(cuda.cuArrayDestroy(from));
    must!(cuda.cuArrayDestroy(to));
}
