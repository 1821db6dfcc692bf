//! What names each device, and what CUDA_VISIBLE_DEVICES makes of it.

use std::ffi::CStr;

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::{must, result_of, value_of};

/// Tells the process what it is to see: the last bytes of the UUIDs, as letters.
pub(crate) const SEEN: &str = "PARAVANE_DEVICES_SEEN";
/// The variable and what follows of it: the devices are `v` and `w`.
pub(crate) const LISTS: &[(&str, &str)] = &[
    ("0,1", "vw"),
    ("1,0", "wv"),
    ("1", "w"),
    ("0,7,1", "v"),
    ("GPU-70617261-7661-6e65-2d63-70752d646577", "w"),
    // Both begin like this.
    ("GPU-7", ""),
    ("", ""),
    ("-1", ""),
    ("1,1", ""),
];

fn pci_bus_id(cuda: &Cuda, device: CUdevice) -> String {
    let mut text = [0_u8; 32];
    must!(cuda.cuDeviceGetPCIBusId(text.as_mut_ptr(), 32, device));
    CStr::from_bytes_until_nul(&text).unwrap().to_str().unwrap().to_owned()
}

fn uuid(cuda: &Cuda, device: CUdevice) -> [u8; 16] {
    value_of!(cuda.cuDeviceGetUuid_v2(CUuuid { bytes: [0; 16] }, device)).bytes
}

/// Two devices that differ in what names them, and in nothing else.
pub(crate) fn two(cuda: &Cuda) {
    assert_eq!(value_of!(cuda.cuDeviceGetCount(0)), 2);
    let mut device = CUdevice(9);
    let none = result_of!(cuda.cuDeviceGet(&raw mut device, 2));
    assert_eq!(none, CUDA_ERROR_INVALID_DEVICE);
    let devices = [0, 1].map(|ordinal| value_of!(cuda.cuDeviceGet(CUdevice(9), ordinal)));
    assert_eq!(devices, [CUdevice(0), CUdevice(1)]);
    assert_eq!(devices.map(|device| uuid(cuda, device)), [*b"paravane-cpu-dev", *b"paravane-cpu-dew"]);
    let places = devices.map(|device| pci_bus_id(cuda, device));
    assert_eq!(places, ["0000:00:00.0", "0000:01:00.0"]);
    for (device, place) in devices.into_iter().zip(places) {
        let address = std::ffi::CString::new(place).unwrap();
        assert_eq!(value_of!(cuda.cuDeviceGetByPCIBusId(CUdevice(9), address.as_ptr())), device);
        let bus = value_of!(cuda.cuDeviceGetAttribute(9, CUdevice_attribute(33), device));
        assert_eq!(bus, device.0);
        assert_eq!(value_of!(cuda.cuDeviceTotalMem_v2(0, device)), crate::MEMORY);
    }
    let nowhere = result_of!(cuda.cuDeviceGetByPCIBusId(&raw mut device, c"0000:02:00.0".as_ptr()));
    assert_eq!(nowhere, CUDA_ERROR_INVALID_DEVICE);
}

/// Checks what this process sees.
pub(crate) fn seen(cuda: &Cuda) {
    let expected = std::env::var(SEEN).unwrap();
    let answer = result_of!(cuda.cuInit(0));
    if expected.is_empty() {
        assert_eq!(answer, CUDA_ERROR_NO_DEVICE);
        return;
    }
    assert_eq!(answer, CUDA_SUCCESS);
    let count = value_of!(cuda.cuDeviceGetCount(0));
    let uuids: Vec<[u8; 16]> = (0..count).map(|ordinal| uuid(cuda, CUdevice(ordinal))).collect();
    let letters: String = uuids.iter().map(|uuid| char::from(uuid[15])).collect();
    assert_eq!(letters, expected);
}
