//! What the functions of the C interface answer, kernels apart.
#![allow(clippy::undocumented_unsafe_blocks, reason = "every call follows CUDA's contract with memory that the test owns")]
#![allow(clippy::unwrap_used, reason = "a failed call is a failed test")]

mod program;

use program::*;
use paravane_cpu::api::*;
use paravane_protocol::cuda_types::*;
use std::ffi::{CStr, CString, c_void};
use std::sync::Mutex;

/// Memory figures belong to the process.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn the_device_tells_what_it_is() {
    let _gpu = Gpu::new();
    let mut name = [0u8; 64];
    unsafe { cuDeviceGetName(name.as_mut_ptr(), 64, CUdevice(0)) }.unwrap();
    assert_eq!(CStr::from_bytes_until_nul(&name).unwrap(), c"Paravane CPU device");
    let (mut count, mut total, mut major, mut minor) = (0, 0, 0, 0);
    unsafe { cuDeviceGetCount(&raw mut count) }.unwrap();
    unsafe { cuDeviceTotalMem_v2(&raw mut total, CUdevice(0)) }.unwrap();
    unsafe { cuDeviceComputeCapability(&raw mut major, &raw mut minor, CUdevice(0)) }.unwrap();
    assert_eq!((count, major, minor), (1, 8, 0));
    assert!(total >= 1 << 20);
    let mut device = CUdevice(9);
    assert_eq!(unsafe { cuDeviceGet(&raw mut device, 1) }, Err(CUDA_ERROR_INVALID_DEVICE));
    for attribute in 1..=149 {
        let mut value = -7;
        let asked = CUdevice_attribute(attribute);
        assert_eq!(unsafe { cuDeviceGetAttribute(&raw mut value, asked, CUdevice(0)) }, Ok(()), "{attribute}");
    }
    let mut value = 0;
    unsafe { cuDeviceGetAttribute(&raw mut value, CU_DEVICE_ATTRIBUTE_WARP_SIZE, CUdevice(0)) }.unwrap();
    assert_eq!(value, 32);
    let none = CUdevice_attribute(100_000);
    assert_eq!(unsafe { cuDeviceGetAttribute(&raw mut value, none, CUdevice(0)) }, Err(CUDA_ERROR_INVALID_VALUE));
}

#[test]
fn memory_is_counted_and_spent() {
    let _alone = ALONE.lock();
    let _gpu = Gpu::new();
    let info = || {
        let (mut free, mut total) = (0, 0);
        unsafe { cuMemGetInfo_v2(&raw mut free, &raw mut total) }.unwrap();
        (free, total)
    };
    let (before, total) = info();
    let mut at = CUdeviceptr(0);
    unsafe { cuMemAlloc_v2(&raw mut at, 1_000_000) }.unwrap();
    assert_eq!(info(), (before - 1_000_448, total));
    let (mut base, mut size) = (CUdeviceptr(0), 0);
    unsafe { cuMemGetAddressRange_v2(&raw mut base, &raw mut size, CUdeviceptr(at.0 + 999_999)) }.unwrap();
    assert_eq!((base, size), (at, 1_000_000));
    let mut more = CUdeviceptr(0);
    assert_eq!(unsafe { cuMemAlloc_v2(&raw mut more, total) }, Err(CUDA_ERROR_OUT_OF_MEMORY));
    assert_eq!(unsafe { cuMemAlloc_v2(&raw mut more, usize::MAX) }, Err(CUDA_ERROR_OUT_OF_MEMORY));
    unsafe { cuMemFree_v2(at) }.unwrap();
    assert_eq!(info(), (before, total));
    let mut pitch = 0;
    unsafe { cuMemAllocPitch_v2(&raw mut at, &raw mut pitch, 700, 3, 4) }.unwrap();
    assert_eq!(pitch, 1024);
    unsafe { cuMemFree_v2(at) }.unwrap();
}

#[test]
fn a_context_gives_its_memory_back() {
    let _alone = ALONE.lock();
    let free = || {
        let (mut free, mut total) = (0, 0);
        unsafe { cuMemGetInfo_v2(&raw mut free, &raw mut total) }.unwrap();
        free
    };
    let _outer = Gpu::new();
    let before = free();
    let inner = Gpu::new();
    upload(&[0u8; 100_000]);
    inner.module(".global .b8 large[1000000];");
    assert!(free() < before - 1_000_000);
    drop(inner);
    assert_eq!(free(), before);
}

#[test]
fn pinned_and_registered_memory_is_the_devices_too() {
    let gpu = Gpu::new();
    let ptx = ".visible .entry inc(.param .u64 p) { .reg .b32 %r; .reg .b64 %rd; ld.param.u64 %rd, [p];
        ld.global.u32 %r, [%rd]; add.u32 %r, %r, 1; st.global.u32 [%rd], %r; ret; }";
    let function = gpu.function(ptx, "inc");
    let mut pinned = std::ptr::null_mut();
    unsafe { cuMemHostAlloc(&raw mut pinned, 64, 2) }.unwrap();
    unsafe { pinned.cast::<u32>().write(41) };
    let mut device = CUdeviceptr(0);
    unsafe { cuMemHostGetDevicePointer_v2(&raw mut device, pinned, 0) }.unwrap();
    launch(function, 1, 1, &[device.0]);
    synchronize().unwrap();
    assert_eq!(unsafe { pinned.cast::<u32>().read_volatile() }, 42);
    unsafe { cuMemFreeHost(pinned) }.unwrap();

    let mut own = vec![10u32; 1000];
    let (at, size) = (own.as_mut_ptr().cast::<c_void>(), 4000);
    let address = at.expose_provenance() as u64;
    unsafe { cuMemHostRegister_v2(at, size, 0) }.unwrap();
    assert_eq!(unsafe { cuMemHostRegister_v2(at, 4, 0) }, Err(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED));
    launch(function, 1, 1, &[address]);
    synchronize().unwrap();
    assert_eq!(unsafe { at.cast::<u32>().read_volatile() }, 11);
    unsafe { cuMemHostUnregister(at) }.unwrap();
    assert_eq!(unsafe { cuMemHostUnregister(at) }, Err(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED));
    launch(function, 1, 1, &[address]);
    assert_eq!(synchronize(), Err(CUDA_ERROR_ILLEGAL_ADDRESS));
}

#[test]
fn the_stack_of_contexts_is_the_threads_own() {
    let outer = Gpu::new();
    let inner = Gpu::new();
    let current = || {
        let mut context = CUcontext(0);
        unsafe { cuCtxGetCurrent(&raw mut context) }.unwrap();
        context
    };
    assert_eq!(current(), inner.context);
    assert_eq!(std::thread::spawn(current).join().unwrap(), CUcontext(0));
    let mut popped = CUcontext(0);
    unsafe { cuCtxPopCurrent_v2(&raw mut popped) }.unwrap();
    assert_eq!((popped, current()), (inner.context, outer.context));
    unsafe { cuCtxSetCurrent(inner.context) }.unwrap();
    assert_eq!(current(), inner.context);
    let gone = inner.context;
    drop(inner);
    assert_eq!(unsafe { cuCtxSetCurrent(gone) }, Err(CUDA_ERROR_INVALID_CONTEXT));
    assert_eq!(current(), CUcontext(0));
    assert_eq!(synchronize(), Err(CUDA_ERROR_INVALID_CONTEXT));
    unsafe { cuCtxPushCurrent_v2(outer.context) }.unwrap();
}

#[test]
fn the_primary_context_is_counted_and_reset() {
    let _gpu = Gpu::new();
    let state = || {
        let (mut flags, mut active) = (0, 0);
        unsafe { cuDevicePrimaryCtxGetState(CUdevice(0), &raw mut flags, &raw mut active) }.unwrap();
        active
    };
    assert_eq!(state(), 0);
    let (mut one, mut two) = (CUcontext(0), CUcontext(0));
    unsafe { cuDevicePrimaryCtxRetain(&raw mut one, CUdevice(0)) }.unwrap();
    unsafe { cuDevicePrimaryCtxRetain(&raw mut two, CUdevice(0)) }.unwrap();
    assert_eq!((one, state()), (two, 1));
    unsafe { cuCtxSetCurrent(one) }.unwrap();
    let broken = Gpu { context: one };
    launch(broken.function(".visible .entry k() { trap; }", "k"), 1, 1, &[]);
    assert_eq!(synchronize(), Err(CUDA_ERROR_LAUNCH_FAILED));
    unsafe { cuDevicePrimaryCtxReset_v2(CUdevice(0)) }.unwrap();
    assert_eq!(synchronize(), Ok(()));
    std::mem::forget(broken);
    unsafe { cuDevicePrimaryCtxRelease_v2(CUdevice(0)) }.unwrap();
    unsafe { cuDevicePrimaryCtxRelease_v2(CUdevice(0)) }.unwrap();
    assert_eq!(unsafe { cuDevicePrimaryCtxRelease_v2(CUdevice(0)) }, Err(CUDA_ERROR_INVALID_CONTEXT));
    assert_eq!(state(), 0);
}

const TWO_KERNELS: &str = ".version 8.0\n.target sm_80\n.address_size 64
.visible .global .align 4 .u32 count = 5;
.visible .entry one(.param .u64 a, .param .u32 b, .param .align 8 .b8 c[24], .param .u8 d)
{ .reg .b32 %r<9>; .shared .b8 s[100]; .local .b8 l[40]; mov.u32 %r1, s; ret; }
.visible .entry two() { ret; }";

#[test]
fn libraries_give_each_context_its_module() {
    let gpu = Gpu::new();
    let text = CString::new(TWO_KERNELS).unwrap();
    let mut library = CUlibrary(0);
    let (none, nothing) = (std::ptr::null_mut(), std::ptr::null_mut());
    let code = text.as_ptr().cast_mut().cast();
    unsafe { cuLibraryLoadData(&raw mut library, code, none, nothing, 0, std::ptr::null_mut(), nothing, 0) }.unwrap();
    let (mut count, mut kernel, mut function) = (0, CUkernel(0), CUfunction(0));
    unsafe { cuLibraryGetKernelCount(&raw mut count, library) }.unwrap();
    assert_eq!(count, 2);
    unsafe { cuLibraryGetKernel(&raw mut kernel, library, c"two".as_ptr()) }.unwrap();
    assert_eq!(unsafe { cuLibraryGetKernel(&raw mut kernel, library, c"three".as_ptr()) }, Err(CUDA_ERROR_NOT_FOUND));
    unsafe { cuKernelGetFunction(&raw mut function, kernel) }.unwrap();
    launch(function, 1, 1, &[]);
    launch(CUfunction(kernel.0), 1, 1, &[]);
    let global = || {
        let (mut at, mut size) = (CUdeviceptr(0), 0);
        unsafe { cuLibraryGetGlobal(&raw mut at, &raw mut size, library, c"count".as_ptr()) }.unwrap();
        assert_eq!((download::<u32>(at, 1), size), (vec![5], 4));
        at
    };
    let here = global();
    let other = Gpu::new();
    assert_ne!(global(), here);
    drop(other);
    unsafe { cuCtxSetCurrent(gpu.context) }.unwrap();
    assert_eq!(global(), here);
    unsafe { cuLibraryUnload(library) }.unwrap();
    assert_eq!(unsafe { cuLibraryUnload(library) }, Err(CUDA_ERROR_INVALID_HANDLE));
}

#[test]
fn functions_tell_their_parameters_and_needs() {
    let gpu = Gpu::new();
    let module = gpu.module(&TWO_KERNELS[TWO_KERNELS.find(".visible").unwrap()..]);
    let one = function_of(module, "one");
    let parameter = |n| {
        let (mut offset, mut size) = (0, 0);
        unsafe { cuFuncGetParamInfo(one, n, &raw mut offset, &raw mut size) }.map(|()| (offset, size))
    };
    assert_eq!([0, 1, 2, 3].map(|n| parameter(n).unwrap()), [(0, 8), (8, 4), (16, 24), (40, 1)]);
    assert_eq!(parameter(4), Err(CUDA_ERROR_INVALID_VALUE));
    let attribute = |n| {
        let mut value = -1;
        unsafe { cuFuncGetAttribute(&raw mut value, CUfunction_attribute(n), one) }.unwrap();
        value
    };
    assert_eq!((attribute(0), attribute(1), attribute(3), attribute(5), attribute(6)), (1024, 100, 40, 80, 80));
    unsafe { cuFuncSetAttribute(one, CUfunction_attribute(8), 100_000) }.unwrap();
    assert_eq!(attribute(8), 100_000);
    let too_much = unsafe { cuFuncSetAttribute(one, CUfunction_attribute(8), 1 << 20) };
    assert_eq!(too_much, Err(CUDA_ERROR_INVALID_VALUE));
    let mut blocks = 0;
    unsafe { cuOccupancyMaxActiveBlocksPerMultiprocessor(&raw mut blocks, one, 256, 0) }.unwrap();
    assert_eq!(blocks, 8);
    let (mut grid, mut block) = (0, 0);
    unsafe { cuOccupancyMaxPotentialBlockSize(&raw mut grid, &raw mut block, one, None, 0, 0) }.unwrap();
    assert_eq!(block, 1024);
    let mut function = CUfunction(0);
    let missing = unsafe { cuModuleGetFunction(&raw mut function, module, c"none".as_ptr()) };
    assert_eq!(missing, Err(CUDA_ERROR_NOT_FOUND));
}

#[test]
fn procedures_are_found_by_base_name_and_version() {
    let ask = |name: &CStr, version, flags| {
        let (mut at, mut status) = (std::ptr::null_mut(), CUdriverProcAddressQueryResult(9));
        unsafe { cuGetProcAddress_v2(name.as_ptr(), &raw mut at, version, flags, &raw mut status) }.unwrap();
        (at.addr(), status)
    };
    let exported = |name| table().find(|row| row.0 == name).unwrap().1.addr();
    assert_eq!(ask(c"cuMemAlloc", 12_000, 0), (exported("cuMemAlloc_v2"), CU_GET_PROC_ADDRESS_SUCCESS));
    assert_eq!(ask(c"cuCtxCreate", 13_000, 0).0, exported("cuCtxCreate_v4"));
    assert_eq!(ask(c"cuCtxCreate", 11_000, 0).0, exported("cuCtxCreate_v2"));
    assert_eq!(ask(c"cuMemGetInfo", 3_020, 0).0, exported("cuMemGetInfo_v2"));
    assert_eq!(ask(c"cuCtxCreate", 11_040, 0).0, exported("cuCtxCreate_v3"));
    assert_eq!(ask(c"cuLaunchKernel", 12_000, 2).0, exported("cuLaunchKernel_ptsz"));
    assert_eq!(ask(c"cuMemcpyHtoD", 12_000, 2).0, exported("cuMemcpyHtoD_v2_ptds"));
    assert_eq!(ask(c"cuMemAlloc_v2", 12_000, 0), (0, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND));
    assert_eq!(ask(c"", 0, 0), (0, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND));
    // A symbol of which no version is implemented, as long as there is one.
    let has_version = |name: &str| table().any(|row| row.2 && row.0.starts_with(name));
    for (name, ..) in table().filter(|row| !row.2 && !row.0.contains('_') && !has_version(row.0)) {
        let name = std::ffi::CString::new(name).unwrap();
        assert_eq!(ask(&name, 13_050, 0), (0, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND), "never a stub: {name:?}");
    }
    assert!(table().count() > 600);
}

#[test]
fn two_dimensional_copies_move_rectangles() {
    let _gpu = Gpu::new();
    let host: Vec<u8> = (0..64).collect();
    let device = upload(&[0u8; 512]);
    let mut copy = CUDA_MEMCPY2D {
        srcXInBytes: 2,
        srcY: 1,
        srcMemoryType: CU_MEMORYTYPE_HOST,
        pad0: 0,
        srcHost: host.as_ptr().expose_provenance() as u64,
        srcDevice: CUdeviceptr(0),
        srcArray: CUarray(0),
        srcPitch: 8,
        dstXInBytes: 1,
        dstY: 2,
        dstMemoryType: CU_MEMORYTYPE_DEVICE,
        pad1: 0,
        dstHost: 0,
        dstDevice: device,
        dstArray: CUarray(0),
        dstPitch: 16,
        WidthInBytes: 3,
        Height: 2,
    };
    unsafe { cuMemcpy2D_v2(&raw const copy) }.unwrap();
    let result: Vec<u8> = download(device, 64);
    let written: Vec<(usize, u8)> = result.into_iter().enumerate().filter(|(_, value)| *value != 0).collect();
    assert_eq!(written, [(33, 10), (34, 11), (35, 12), (49, 18), (50, 19), (51, 20)]);
    copy.dstY = 1 << 40;
    assert_eq!(unsafe { cuMemcpy2D_v2(&raw const copy) }, Err(CUDA_ERROR_INVALID_VALUE));
    copy.srcMemoryType = CU_MEMORYTYPE_ARRAY;
    assert_eq!(unsafe { cuMemcpy2D_v2(&raw const copy) }, Err(CUDA_ERROR_INVALID_HANDLE));
}

#[test]
fn nothing_works_on_handles_that_name_nothing() {
    let _gpu = Gpu::new();
    for number in [3u64, 77, u64::MAX, 6 << 40, 7 << 40 | 1 << 24 | 5_000] {
        assert_eq!(unsafe { cuStreamSynchronize(CUstream(number)) }, Err(CUDA_ERROR_INVALID_HANDLE));
        assert_eq!(unsafe { cuEventQuery(CUevent(number)) }, Err(CUDA_ERROR_INVALID_HANDLE));
        assert_eq!(unsafe { cuModuleUnload(CUmodule(number)) }, Err(CUDA_ERROR_INVALID_HANDLE));
        assert_eq!(unsafe { cuCtxSetCurrent(CUcontext(number)) }, Err(CUDA_ERROR_INVALID_CONTEXT));
    }
}
