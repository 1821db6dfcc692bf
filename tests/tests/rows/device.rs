//! Initialisation, devices, errors and symbol look-up.

use std::ffi::{CStr, c_char};

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::{must, result_of, value_of};

const DEV: CUdevice = CUdevice(0);

pub(crate) fn before_init(cuda: &Cuda) {
    assert_eq!(result_of!(cuda.cuInit(1)), CUDA_ERROR_INVALID_VALUE);
    let mut count = 0;
    assert_eq!(result_of!(cuda.cuDeviceGetCount(&raw mut count)), CUDA_ERROR_NOT_INITIALIZED);
    let mut name = std::ptr::null();
    must!(cuda.cuGetErrorName(CUDA_SUCCESS, &raw mut name));
}

pub(crate) fn devices(cuda: &Cuda) {
    assert!(value_of!(cuda.cuDriverGetVersion(0)) >= 12_000);
    assert_eq!(value_of!(cuda.cuDeviceGetCount(0)), 1);
    assert_eq!(value_of!(cuda.cuDeviceGet(CUdevice(9), 0)), DEV);
    let mut dev = DEV;
    assert_eq!(result_of!(cuda.cuDeviceGet(&raw mut dev, 1)), CUDA_ERROR_INVALID_DEVICE);
    let mut name = [1_u8; 64];
    must!(cuda.cuDeviceGetName(name.as_mut_ptr(), 64, DEV));
    assert_eq!(CStr::from_bytes_until_nul(&name).unwrap(), c"Paravane CPU device");
    must!(cuda.cuDeviceGetName(name.as_mut_ptr(), 4, DEV));
    assert_eq!(&name[..4], b"Par\0");
    let first = value_of!(cuda.cuDeviceGetUuid(CUuuid { bytes: [0; 16] }, DEV));
    assert_eq!(value_of!(cuda.cuDeviceGetUuid_v2(CUuuid { bytes: [0; 16] }, DEV)), first);
    assert!(value_of!(cuda.cuDeviceTotalMem_v2(0, DEV)) > 1 << 20);
    let warp = CU_DEVICE_ATTRIBUTE_WARP_SIZE;
    assert_eq!(value_of!(cuda.cuDeviceGetAttribute(0, warp, DEV)), 32);
    let mut value = 0;
    let unknown = CUdevice_attribute(100_000);
    let answer = result_of!(cuda.cuDeviceGetAttribute(&raw mut value, unknown, DEV));
    assert_eq!(answer, CUDA_ERROR_INVALID_VALUE);
    let (mut major, mut minor) = (0, -1);
    must!(cuda.cuDeviceComputeCapability(&raw mut major, &raw mut minor, DEV));
    assert!(major >= 7 && minor >= 0);
    let mut bus = [0_u8; 32];
    must!(cuda.cuDeviceGetPCIBusId(bus.as_mut_ptr(), 32, DEV));
    let id = bus.as_ptr().cast::<c_char>();
    assert_eq!(value_of!(cuda.cuDeviceGetByPCIBusId(CUdevice(9), id)), DEV);
    assert_eq!(value_of!(cuda.cuModuleGetLoadingMode(CUmoduleLoadingMode(0))), CU_MODULE_LAZY_LOADING);
    let null = result_of!(cuda.cuDeviceGetCount(std::ptr::null_mut()));
    assert_eq!(null, CUDA_ERROR_INVALID_VALUE);
}

pub(crate) fn symbols(cuda: &Cuda) {
    let mut text = std::ptr::null();
    must!(cuda.cuGetErrorName(CUDA_ERROR_NOT_READY, &raw mut text));
    assert!(!text.is_null());
    must!(cuda.cuGetErrorString(CUDA_ERROR_NOT_READY, &raw mut text));
    assert!(!text.is_null());
    let answer = result_of!(cuda.cuGetErrorString(CUresult(4_711), &raw mut text));
    assert_eq!(answer, CUDA_ERROR_INVALID_VALUE);
    let name = c"cuMemAlloc".as_ptr();
    let mut address = std::ptr::null_mut();
    must!(cuda.cuGetProcAddress(name, &raw mut address, 11_030, 0));
    assert_eq!(address as usize, cuda.cuMemAlloc_v2 as *const () as usize);
    let mut status = CUdriverProcAddressQueryResult(9);
    let mut found = std::ptr::null_mut();
    must!(cuda.cuGetProcAddress_v2(name, &raw mut found, 12_000, 0, &raw mut status));
    assert_eq!((found, status), (address, CU_GET_PROC_ADDRESS_SUCCESS));
    let absent = c"cuNoSuchThing".as_ptr();
    must!(cuda.cuGetProcAddress_v2(absent, &raw mut found, 12_000, 0, &raw mut status));
    assert!(found.is_null());
    assert_eq!(status, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
    let unknown = CUuuid { bytes: [7; 16] };
    let mut table = std::ptr::null_mut();
    let answer = result_of!(cuda.cuGetExportTable(&raw mut table, &raw const unknown));
    assert_eq!(answer, CUDA_ERROR_INVALID_VALUE);
}

/// What is told of a device in other forms than attributes.
pub(crate) fn properties(cuda: &Cuda) {
    let properties = value_of!(cuda.cuDeviceGetProperties(CUdevprop { of_attributes: [0; 14] }, DEV));
    for (number, value) in (1..).zip(properties.of_attributes) {
        assert_eq!(value_of!(cuda.cuDeviceGetAttribute(0, CUdevice_attribute(number), DEV)), value);
    }
    let asked = [CUatomicOperation(0), CUatomicOperation(11)];
    let mut told = [9_u32; 2];
    must!(cuda.cuDeviceGetHostAtomicCapabilities(told.as_mut_ptr(), asked.as_ptr(), 2, DEV));
    const SCALAR_32: u32 = 8;
    assert!(told[0] & SCALAR_32 != 0 && told[1] == 0, "{told:?}");
    let unknown = [CUatomicOperation(99)];
    let refused = result_of!(cuda.cuDeviceGetHostAtomicCapabilities(told.as_mut_ptr(), unknown.as_ptr(), 1, DEV));
    assert_eq!(refused, CUDA_ERROR_INVALID_VALUE);
    let none = result_of!(cuda.cuDeviceGetHostAtomicCapabilities(told.as_mut_ptr(), asked.as_ptr(), 0, DEV));
    assert_eq!(none, CUDA_ERROR_INVALID_VALUE);
    let alone = result_of!(cuda.cuDeviceGetP2PAtomicCapabilities(told.as_mut_ptr(), asked.as_ptr(), 2, DEV, DEV));
    assert_eq!(alone, CUDA_ERROR_INVALID_DEVICE, "a device is no peer of itself");
}
