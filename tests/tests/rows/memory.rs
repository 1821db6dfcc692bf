//! Device memory and host memory that the device can reach.

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::{must, result_of, value_of};

const NULL: CUdeviceptr = CUdeviceptr(0);

pub(crate) fn device_memory(cuda: &Cuda) {
    let (mut free, mut total) = (0, 0);
    must!(cuda.cuMemGetInfo_v2(&raw mut free, &raw mut total));
    assert!(free <= total && total > 0);
    let memory = value_of!(cuda.cuMemAlloc_v2(NULL, 1 << 20));
    assert_ne!(memory, NULL);
    let mut less = 0;
    must!(cuda.cuMemGetInfo_v2(&raw mut less, &raw mut total));
    assert!(less < free);
    let (mut base, mut bytes) = (NULL, 0);
    let inside = CUdeviceptr(memory.0 + 1000);
    must!(cuda.cuMemGetAddressRange_v2(&raw mut base, &raw mut bytes, inside));
    assert_eq!((base, bytes), (memory, 1 << 20));
    must!(cuda.cuMemFree_v2(memory));
    must!(cuda.cuMemFree_v2(NULL));
    assert_eq!(result_of!(cuda.cuMemFree_v2(memory)), CUDA_ERROR_INVALID_VALUE);
    let mut none = NULL;
    assert_eq!(result_of!(cuda.cuMemAlloc_v2(&raw mut none, 0)), CUDA_ERROR_INVALID_VALUE);
    let absurd = result_of!(cuda.cuMemAlloc_v2(&raw mut none, 1 << 50));
    assert_eq!(absurd, CUDA_ERROR_OUT_OF_MEMORY);
    let mut pitch = 0;
    let mut plane = NULL;
    must!(cuda.cuMemAllocPitch_v2(&raw mut plane, &raw mut pitch, 1000, 10, 4));
    assert!(pitch >= 1000 && pitch.is_multiple_of(16));
    must!(cuda.cuMemFree_v2(plane));
}

pub(crate) fn host_memory(cuda: &Cuda) {
    let short = value_of!(cuda.cuMemAllocHost_v2(std::ptr::null_mut(), 100));
    must!(cuda.cuMemFreeHost(short));
    const DEVICE_MAP: u32 = 2;
    let host = value_of!(cuda.cuMemHostAlloc(std::ptr::null_mut(), 1 << 20, DEVICE_MAP));
    assert_eq!(value_of!(cuda.cuMemHostGetFlags(0, host)) & DEVICE_MAP, DEVICE_MAP);
    let seen = value_of!(cuda.cuMemHostGetDevicePointer_v2(NULL, host, 0));
    let (mut base, mut held) = (NULL, 0);
    must!(cuda.cuMemGetAddressRange_v2(&raw mut base, &raw mut held, CUdeviceptr(seen.0 + 9)));
    assert_eq!(base, seen, "the device's view of host memory has a range");
    // What the program writes, the device copies.
    // SAFETY: a megabyte that cuMemHostAlloc has just given.
    #[allow(unsafe_code, reason = "the program's own memory")]
    unsafe {
        host.cast::<u8>().write_bytes(0x5a, 1 << 20);
    }
    let device = value_of!(cuda.cuMemAlloc_v2(NULL, 1 << 20));
    must!(cuda.cuMemcpyDtoD_v2(device, seen, 1 << 20));
    let mut back = vec![0_u8; 1 << 20];
    must!(cuda.cuMemcpyDtoH_v2(back.as_mut_ptr().cast(), device, 1 << 20));
    assert!(back.iter().all(|byte| *byte == 0x5a));
    must!(cuda.cuMemFreeHost(host));
    assert_eq!(result_of!(cuda.cuMemFreeHost(host)), CUDA_ERROR_INVALID_VALUE);
    registered(cuda, device);
    must!(cuda.cuMemFree_v2(device));
}

/// The program's own pages, not aligned to pages.
fn registered(cuda: &Cuda, device: CUdeviceptr) {
    let mut memory = vec![7_u8; 3 << 16];
    let own = memory[5_000..5_000 + 100_000].as_mut_ptr();
    must!(cuda.cuMemHostRegister_v2(own.cast(), 100_000, 0));
    let again = result_of!(cuda.cuMemHostRegister_v2(own.cast(), 100_000, 0));
    assert_eq!(again, CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
    must!(cuda.cuMemsetD8_v2(device, 9, 100_000));
    must!(cuda.cuMemcpyDtoHAsync_v2(own.cast(), device, 100_000, CUstream(0)));
    must!(cuda.cuStreamSynchronize(CUstream(0)));
    must!(cuda.cuMemHostUnregister(own.cast()));
    assert!(memory[5_000..105_000].iter().all(|byte| *byte == 9));
    assert!(memory[..5_000].iter().chain(&memory[105_000..]).all(|byte| *byte == 7));
    let gone = result_of!(cuda.cuMemHostUnregister(own.cast()));
    assert_eq!(gone, CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
}
