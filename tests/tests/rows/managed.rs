//! Managed memory, and virtual memory that is mapped by hand.

use std::ffi::CStr;
use std::ptr;

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::{must, result_of, value_of};
use zerocopy::FromZeros;

const NULL: CUdeviceptr = CUdeviceptr(0);
const STREAM: CUstream = CUstream(0);
static DEVICE: CUmemLocation = CUmemLocation { kind: CU_MEM_LOCATION_TYPE_DEVICE, id: 0 };
static HOST: CUmemLocation = CUmemLocation { kind: CU_MEM_LOCATION_TYPE_HOST, id: 0 };
const GLOBAL: u32 = 1;
const BYTES: usize = 100_000;

/// The program's view of managed memory.
#[allow(unsafe_code, reason = "managed memory is the program's too")]
fn host_view(memory: CUdeviceptr) -> &'static mut [u8] {
    // SAFETY: managed memory of that size, freed after the last use.
    unsafe { std::slice::from_raw_parts_mut(memory.0 as *mut u8, BYTES) }
}

pub(crate) fn managed(cuda: &Cuda) {
    let memory = value_of!(cuda.cuMemAllocManaged(NULL, BYTES, GLOBAL));
    host_view(memory).fill(3);
    let copy = value_of!(cuda.cuMemAlloc_v2(NULL, BYTES));
    must!(cuda.cuMemcpyDtoD_v2(copy, memory, BYTES));
    must!(cuda.cuMemsetD8_v2(memory, 9, BYTES / 2));
    must!(cuda.cuCtxSynchronize());
    let mut back = vec![0_u8; BYTES];
    must!(cuda.cuMemcpyDtoH_v2(back.as_mut_ptr().cast(), copy, BYTES));
    assert!(back.iter().all(|byte| *byte == 3), "the device has not read what the host wrote");
    let half = BYTES / 2;
    assert!(host_view(memory)[..half].iter().all(|byte| *byte == 9), "nor the host what the device wrote");
    assert!(host_view(memory)[half..].iter().all(|byte| *byte == 3));
    let mut is_managed = 0_u32;
    let into = (&raw mut is_managed).cast();
    must!(cuda.cuPointerGetAttribute(into, CU_POINTER_ATTRIBUTE_IS_MANAGED, memory));
    assert_eq!(is_managed, 1);
    must!(cuda.cuStreamAttachMemAsync(STREAM, memory, 0, GLOBAL));
    must!(cuda.cuStreamAttachMemAsync_ptsz(STREAM, memory, BYTES, 4));
    let nobody = result_of!(cuda.cuStreamAttachMemAsync(STREAM, memory, 0, 4));
    assert_eq!(nobody, CUDA_ERROR_INVALID_VALUE);
    let plain = result_of!(cuda.cuStreamAttachMemAsync(STREAM, copy, 0, GLOBAL));
    assert_eq!(plain, CUDA_ERROR_INVALID_VALUE);
    advice(cuda, memory);
    batches(cuda, memory);
    let mut places = [CUmemLocation { kind: CU_MEM_LOCATION_TYPE_DEVICE, id: 7 }; 3];
    must!(cuda.cuMemGetLocationInfo(memory, BYTES, BYTES / 2, 0, places.as_mut_ptr()));
    assert!(places[..2] == [HOST; 2] && places[2] != HOST, "two regions, both with the host");
    let coarse = result_of!(cuda.cuMemGetLocationInfo(memory, BYTES, BYTES + 1, 0, places.as_mut_ptr()));
    assert_eq!(coarse, CUDA_ERROR_INVALID_VALUE);
    let plain = result_of!(cuda.cuMemGetLocationInfo(copy, 10, 10, 0, places.as_mut_ptr()));
    assert_eq!(plain, CUDA_ERROR_INVALID_VALUE);
    let plain = result_of!(cuda.cuMemPrefetchAsync(copy, 10, CUdevice(0), STREAM));
    assert_eq!(plain, CUDA_ERROR_INVALID_VALUE);
    must!(cuda.cuMemFree_v2(memory));
    must!(cuda.cuMemFree_v2(copy));
    let mut none = NULL;
    for (bytes, flags) in [(0, GLOBAL), (10, 0), (10, 4)] {
        let bad = result_of!(cuda.cuMemAllocManaged(&raw mut none, bytes, flags));
        assert_eq!(bad, CUDA_ERROR_INVALID_VALUE);
    }
}

fn figure(cuda: &Cuda, which: CUmem_range_attribute, memory: CUdeviceptr, bytes: usize) -> i32 {
    let mut value = -9;
    let into = (&raw mut value).cast();
    must!(cuda.cuMemRangeGetAttribute(into, 4, which, memory, bytes));
    value
}

fn advice(cuda: &Cuda, memory: CUdeviceptr) {
    must!(cuda.cuMemAdvise(memory, 4096, CU_MEM_ADVISE_SET_READ_MOSTLY, CUdevice(0)));
    assert_eq!(figure(cuda, CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY, memory, 4096), 1);
    assert_eq!(figure(cuda, CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY, memory, BYTES), 0);
    must!(cuda.cuMemAdvise_v2(memory, BYTES, CU_MEM_ADVISE_SET_PREFERRED_LOCATION, HOST));
    assert_eq!(figure(cuda, CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION, memory, BYTES), -1);
    must!(cuda.cuMemPrefetchAsync(memory, BYTES, CUdevice(0), STREAM));
    let last = CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION;
    assert_eq!(figure(cuda, last, memory, BYTES), 0);
    must!(cuda.cuMemPrefetchAsync_v2(memory, BYTES, HOST, 0, STREAM));
    assert_eq!(figure(cuda, last, memory, BYTES), -1);
    must!(cuda.cuMemPrefetchAsync_ptsz(memory, BYTES, CUdevice(0), STREAM));
    must!(cuda.cuMemPrefetchAsync_v2_ptsz(memory, BYTES, DEVICE, 0, STREAM));
    let nowhere = result_of!(cuda.cuMemPrefetchAsync(memory, BYTES, CUdevice(7), STREAM));
    assert_eq!(nowhere, CUDA_ERROR_INVALID_DEVICE);
    let beyond = result_of!(cuda.cuMemAdvise(memory, BYTES * 2, CU_MEM_ADVISE_SET_READ_MOSTLY, CUdevice(0)));
    assert_eq!(beyond, CUDA_ERROR_INVALID_VALUE);
    let (mut first, mut second) = (-9, -9);
    let mut data: [Pointer; 2] = [(&raw mut first).cast(), (&raw mut second).cast()];
    let mut sizes = [4, 4];
    let mut which = [last, CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION];
    let (data, sizes) = (data.as_mut_ptr(), sizes.as_mut_ptr());
    must!(cuda.cuMemRangeGetAttributes(data, sizes, which.as_mut_ptr(), 2, memory, BYTES));
    assert_eq!((first, second), (0, -1));
}

fn batches(cuda: &Cuda, memory: CUdeviceptr) {
    let mut ranges = [memory, CUdeviceptr(memory.0 + 8192)];
    let mut sizes = [4096, 4096];
    let mut locations = [DEVICE, HOST];
    let mut starts = [0, 1];
    let (ranges, sizes) = (ranges.as_mut_ptr(), sizes.as_mut_ptr());
    let (at, idx) = (locations.as_mut_ptr(), starts.as_mut_ptr());
    must!(cuda.cuMemPrefetchBatchAsync(ranges, sizes, 2, at, idx, 2, 0, STREAM));
    let last = CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION;
    assert_eq!(figure(cuda, last, memory, 4096), 0);
    assert_eq!(figure(cuda, last, CUdeviceptr(memory.0 + 8192), 4096), -1);
    must!(cuda.cuMemPrefetchBatchAsync_ptsz(ranges, sizes, 2, at, idx, 1, 0, STREAM));
    assert_eq!(figure(cuda, last, CUdeviceptr(memory.0 + 8192), 4096), 0);
    must!(cuda.cuMemDiscardAndPrefetchBatchAsync(ranges, sizes, 2, at, idx, 2, 0, STREAM));
    must!(cuda.cuMemDiscardAndPrefetchBatchAsync_ptsz(ranges, sizes, 2, at, idx, 2, 0, STREAM));
    must!(cuda.cuMemDiscardBatchAsync(ranges, sizes, 2, 0, STREAM));
    must!(cuda.cuMemDiscardBatchAsync_ptsz(ranges, sizes, 2, 0, STREAM));
    let flagged = result_of!(cuda.cuMemDiscardBatchAsync(ranges, sizes, 2, 1, STREAM));
    assert_eq!(flagged, CUDA_ERROR_INVALID_VALUE);
}

const NO_HANDLE: CUmemGenericAllocationHandle = CUmemGenericAllocationHandle(0);

/// Two pieces of memory at neighbouring addresses, one of them a second time
/// elsewhere.
pub(crate) fn mapped(cuda: &Cuda) {
    let prop = CUmemAllocationProp {
        kind: CU_MEM_ALLOCATION_TYPE_PINNED,
        location: DEVICE,
        ..CUmemAllocationProp::new_zeroed()
    };
    let prop = &raw const prop;
    let whole = value_of!(cuda.cuMemGetAllocationGranularity(0, prop, CUmemAllocationGranularity_flags(0)));
    assert!(whole > 0 && whole.is_power_of_two());
    let first = value_of!(cuda.cuMemCreate(NO_HANDLE, whole, prop, 0));
    let second = value_of!(cuda.cuMemCreate(NO_HANDLE, whole, prop, 0));
    let at = value_of!(cuda.cuMemAddressReserve(NULL, 3 * whole, 0, NULL, 0));
    let off = |pieces: usize| CUdeviceptr(at.0 + (pieces * whole) as u64);
    must!(cuda.cuMemMap(at, whole, 0, first, 0));
    must!(cuda.cuMemMap(off(1), whole, 0, second, 0));
    must!(cuda.cuMemMap(off(2), whole, 0, first, 0));
    let again = result_of!(cuda.cuMemMap(off(1), whole, 0, first, 0));
    assert_eq!(again, CUDA_ERROR_INVALID_VALUE);
    let closed = result_of!(cuda.cuMemsetD8_v2(at, 1, whole));
    assert_ne!(closed, CUDA_SUCCESS, "nobody may reach it yet");
    let access = CUmemAccessDesc { location: DEVICE, flags: CU_MEM_ACCESS_FLAGS_PROT_READWRITE };
    must!(cuda.cuMemSetAccess(at, 3 * whole, &raw const access, 1));
    let mut flags = 0;
    must!(cuda.cuMemGetAccess(&raw mut flags, &raw const DEVICE, off(1)));
    assert_eq!(flags, 3);
    // Across the border of both pieces; what is written at one address is read at the other.
    must!(cuda.cuMemsetD8_v2(at, 7, 2 * whole));
    let mut back = vec![0_u8; whole];
    must!(cuda.cuMemcpyDtoH_v2(back.as_mut_ptr().cast(), off(2), whole));
    assert!(back.iter().all(|byte| *byte == 7));
    let (mut base, mut bytes) = (NULL, 0);
    must!(cuda.cuMemGetAddressRange_v2(&raw mut base, &raw mut bytes, CUdeviceptr(off(1).0 + 5)));
    assert_eq!((base, bytes), (off(1), whole));
    let mut told = CUmemAllocationProp::new_zeroed();
    must!(cuda.cuMemGetAllocationPropertiesFromHandle(&raw mut told, second));
    assert_eq!((told.kind, told.location), (CU_MEM_ALLOCATION_TYPE_PINNED, DEVICE));
    let retained = value_of!(cuda.cuMemRetainAllocationHandle(NO_HANDLE, off(2).0 as Pointer));
    must!(cuda.cuMemRelease(retained));
    must!(cuda.cuMemRelease(first));
    must!(cuda.cuMemRelease(second));
    must!(cuda.cuMemcpyDtoH_v2(back.as_mut_ptr().cast(), at, whole));
    let early = result_of!(cuda.cuMemAddressFree(at, 3 * whole));
    assert_eq!(early, CUDA_ERROR_INVALID_VALUE);
    must!(cuda.cuMemUnmap(at, whole));
    let gone = result_of!(cuda.cuMemcpyDtoH_v2(back.as_mut_ptr().cast(), at, whole));
    assert_eq!(gone, CUDA_ERROR_INVALID_VALUE);
    must!(cuda.cuMemUnmap(off(1), 2 * whole));
    must!(cuda.cuMemAddressFree(at, 3 * whole));
    let mut none = NO_HANDLE;
    let odd = result_of!(cuda.cuMemCreate(&raw mut none, whole + 1, prop, 0));
    assert_eq!(odd, CUDA_ERROR_INVALID_VALUE);
    let absurd = result_of!(cuda.cuMemCreate(&raw mut none, 1 << 50, prop, 0));
    assert_eq!(absurd, CUDA_ERROR_OUT_OF_MEMORY);
}

/// What this device has not got is an error, and never a false success.
pub(crate) fn absent_hardware(cuda: &Cuda) {
    let prop = CUmulticastObjectProp { numDevices: 1, size: 2 << 20, ..CUmulticastObjectProp::new_zeroed() };
    let prop = &raw const prop;
    let (mut handle, mut bytes) = (NO_HANDLE, 0);
    let none = NO_HANDLE;
    let device = CUdevice(0);
    let all = [
        result_of!(cuda.cuFlushGPUDirectRDMAWrites(
            CUflushGPUDirectRDMAWritesTarget(0),
            CUflushGPUDirectRDMAWritesScope(100)
        )),
        result_of!(cuda.cuMulticastCreate(&raw mut handle, prop)),
        result_of!(cuda.cuMulticastAddDevice(none, device)),
        result_of!(cuda.cuMulticastBindMem(none, 0, none, 0, 0, 0)),
        result_of!(cuda.cuMulticastBindMem_v2(none, device, 0, none, 0, 0, 0)),
        result_of!(cuda.cuMulticastBindAddr(none, 0, NULL, 0, 0)),
        result_of!(cuda.cuMulticastBindAddr_v2(none, device, 0, NULL, 0, 0)),
        result_of!(cuda.cuMulticastUnbind(none, device, 0, 0)),
        result_of!(cuda.cuMulticastGetGranularity(&raw mut bytes, prop, CUmulticastGranularity_flags(0))),
    ];
    for result in all {
        assert!(matches!(result, CUDA_ERROR_NOT_SUPPORTED | CUDA_ERROR_INVALID_HANDLE), "{result}");
    }
    let format = CU_AD_FORMAT_FLOAT;
    assert!(value_of!(cuda.cuDeviceGetTexture1DLinearMaxWidth(0, format, 1, device)) > 0);
    tensor_maps(cuda);
    decompression(cuda);
}

/// What is not to be decompressed, and what no engine decompresses.
fn decompression(cuda: &Cuda) {
    const ALGORITHMS: CUdevice_attribute = CUdevice_attribute(136);
    let mut algorithms = 0;
    must!(cuda.cuDeviceGetAttribute(&raw mut algorithms, ALGORITHMS, CUdevice(0)));
    let piece = CUmemDecompressParams { srcNumBytes: 16, algo: 1, ..CUmemDecompressParams::new_zeroed() };
    let (pieces, stream) = (&raw const piece, CUstream(0));
    let mut index = 0;
    let bad = result_of!(cuda.cuMemBatchDecompressAsync(pieces, 1, 7, &raw mut index, stream));
    assert_eq!((bad, index), (CUDA_ERROR_INVALID_VALUE, usize::MAX), "flags");
    let none = result_of!(cuda.cuMemBatchDecompressAsync_ptsz(pieces, 0, 0, std::ptr::null_mut(), stream));
    assert_eq!(none, CUDA_ERROR_INVALID_VALUE);
    let real = result_of!(cuda.cuMemBatchDecompressAsync(pieces, 1, 0, &raw mut index, stream));
    assert!(algorithms != 0 || real == CUDA_ERROR_NOT_SUPPORTED, "{real}");
}

fn tensor_maps(cuda: &Cuda) {
    let mut map = CUtensorMap { opaque: [0; 16] };
    let (dims, strides, boxes, steps, corner) = ([64_u64; 3], [256_u64; 2], [8_u32; 3], [1_u32; 3], [0_i32; 1]);
    let (dims, strides, boxes, steps) = (dims.as_ptr(), strides.as_ptr(), boxes.as_ptr(), steps.as_ptr());
    let (kind, at, corner) = (CUtensorMapDataType(7), DeviceAddress(1 << 40), corner.as_ptr());
    let (interleave, swizzle) = (CUtensorMapInterleave(0), CUtensorMapSwizzle(0));
    let (promotion, fill) = (CUtensorMapL2promotion(0), CUtensorMapFloatOOBfill(0));
    let into = &raw mut map;
    let mut class = CUtensorMapAllocClass(9);
    must!(cuda.cuTensorMapSetAllocationClass(into, CUtensorMapAllocClass(1), &raw mut class));
    assert_eq!(class, CUtensorMapAllocClass(1));
    let unknown = result_of!(cuda.cuTensorMapSetAllocationClass(into, CUtensorMapAllocClass(3), &raw mut class));
    assert_eq!(unknown, CUDA_ERROR_INVALID_VALUE);
    let all = [
        result_of!(cuda.cuTensorMapReplaceAddress(into, at)),
        result_of!(cuda.cuTensorMapEncodeTiled(
            into, kind, 3, at, dims, strides, boxes, steps, interleave, swizzle, promotion, fill
        )),
        result_of!(cuda.cuTensorMapEncodeIm2col(
            into, kind, 3, at, dims, strides, corner, corner, 8, 8, steps, interleave, swizzle, promotion, fill
        )),
        result_of!(cuda.cuTensorMapEncodeIm2colWide(
            into, kind, 3, at, dims, strides, 0, 0, 8, 8, steps, interleave, CUtensorMapIm2ColWideMode(0), swizzle,
            promotion, fill
        )),
    ];
    assert_eq!(all, [CUDA_ERROR_NOT_SUPPORTED; 4]);
}

/// `count` counts launches of `tick`; `plain` is no managed variable.
const VARIABLES: &CStr = c"
.version 7.0
.target sm_70
.address_size 64
.visible .global .attribute(.managed) .align 4 .u32 count = 40;
.visible .global .attribute(.managed) .align 8 .b8 room[5000];
.visible .global .align 4 .u32 plain = 1;
.visible .entry tick()
{
    .reg .b32 %r<2>;
    ld.global.u32 %r1, [count];
    add.u32 %r1, %r1, 1;
    st.global.u32 [count], %r1;
    st.global.u32 [room+4096], %r1;
    ret;
}
";

/// The program's view of a managed word.
#[allow(unsafe_code, reason = "managed memory is the program's too")]
fn word(at: CUdeviceptr) -> &'static mut u32 {
    // SAFETY: a managed variable of a module that is unloaded after the last use.
    unsafe { &mut *(at.0 as *mut u32) }
}

fn tick(cuda: &Cuda, function: CUfunction) {
    let none = ptr::null_mut();
    must!(cuda.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, STREAM, none, none));
    must!(cuda.cuCtxSynchronize());
}

pub(crate) fn variables(cuda: &Cuda) {
    let image = VARIABLES.as_ptr() as Pointer;
    for _ in 0..3 {
        let module = value_of!(cuda.cuModuleLoadData(CUmodule(0), image));
        let function = value_of!(cuda.cuModuleGetFunction(CUfunction(0), module, c"tick".as_ptr()));
        tick(cuda, function);
        let (mut count, mut room, mut bytes) = (NULL, NULL, 0);
        must!(cuda.cuModuleGetGlobal_v2(&raw mut count, &raw mut bytes, module, c"count".as_ptr()));
        assert_eq!((*word(count), bytes), (41, 4), "what a kernel wrote before the program asked");
        must!(cuda.cuModuleGetGlobal_v2(&raw mut room, &raw mut bytes, module, c"room".as_ptr()));
        *word(count) = 90;
        tick(cuda, function);
        assert_eq!((*word(count), *word(CUdeviceptr(room.0 + 4096)), bytes), (91, 91, 5000));
        must!(cuda.cuMemsetD32_v2(count, 6, 1));
        assert_eq!(*word(count), 6);
        let freed = result_of!(cuda.cuMemFree_v2(count));
        assert_eq!(freed, CUDA_ERROR_INVALID_VALUE, "a variable is no allocation");
        must!(cuda.cuModuleUnload(module));
    }
    library_variables(cuda);
}

fn library_variables(cuda: &Cuda) {
    let (image, none) = (VARIABLES.as_ptr() as Pointer, ptr::null_mut());
    let no_values = ptr::null_mut();
    let library =
        value_of!(cuda.cuLibraryLoadData(CUlibrary(0), image, none, no_values, 0, ptr::null_mut(), no_values, 0));
    let (mut count, mut again, mut bytes) = (NULL, NULL, 0);
    must!(cuda.cuLibraryGetManaged(&raw mut count, &raw mut bytes, library, c"count".as_ptr()));
    must!(cuda.cuLibraryGetManaged(&raw mut again, ptr::null_mut(), library, c"count".as_ptr()));
    assert_eq!((*word(count), bytes, again), (40, 4, count));
    let kernel = value_of!(cuda.cuLibraryGetKernel(CUkernel(0), library, c"tick".as_ptr()));
    tick(cuda, value_of!(cuda.cuKernelGetFunction(CUfunction(0), kernel)));
    assert_eq!(*word(count), 41);
    let mut is_managed = 0_u32;
    let into = (&raw mut is_managed).cast();
    must!(cuda.cuPointerGetAttribute(into, CU_POINTER_ATTRIBUTE_IS_MANAGED, count));
    assert_eq!(is_managed, 1);
    must!(cuda.cuMemPrefetchAsync(count, 4, CUdevice(0), STREAM));
    must!(cuda.cuStreamAttachMemAsync(STREAM, count, 0, GLOBAL));
    for name in [c"plain", c"absent"] {
        let refused = result_of!(cuda.cuLibraryGetManaged(&raw mut again, &raw mut bytes, library, name.as_ptr()));
        assert_eq!(refused, CUDA_ERROR_NOT_FOUND);
    }
    must!(cuda.cuLibraryUnload(library));
}
