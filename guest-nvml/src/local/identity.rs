//! What a device is: the figures that libcuda tells of it, under NVML's names.

use std::ffi::c_char;

use paravane_protocol::cuda_types::*;
use paravane_protocol::nvml_types::*;

use super::wrap;
use crate::boundary::Answer;
use crate::{pointer, shim};

/// Text up to its NUL.
fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Domain, bus and device of `[domain:]bus:device[.function]`, hexadecimal.
pub(super) fn pci_of(id: &[u8]) -> Option<[u32; 3]> {
    let id = std::str::from_utf8(text(id)).ok()?;
    let (address, _) = id.split_once('.').unwrap_or((id, ""));
    let mut fields = address.rsplit(':').map(|field| u32::from_str_radix(field, 16).ok());
    let (device, bus) = (fields.next()??, fields.next()??);
    Some([fields.next().unwrap_or(Some(0))?, bus, device])
}

/// What libcuda says of an attribute; NVML_ERROR_NOT_SUPPORTED where it has none.
fn attribute(device: &KnownDevice, attribute: CUdevice_attribute) -> Answer<i32> {
    let value = device.attributes.get(attribute.0 as usize).copied();
    value.filter(|value| *value != i32::MIN).ok_or(NVML_ERROR_NOT_SUPPORTED)
}

pub(crate) fn nvmlDeviceGetName(device: nvmlDevice_t, name: *mut c_char, length: u32) -> Answer {
    pointer::put_text(name, length, text(&shim::device(device)?.1.name))
}

pub(crate) fn nvmlDeviceGetUUID(device: nvmlDevice_t, uuid: *mut c_char, length: u32) -> Answer {
    pointer::put_text(uuid, length, uuid_text(&shim::device(device)?.1.uuid).as_bytes())
}

pub(crate) fn nvmlDeviceGetIndex(device: nvmlDevice_t, index: *mut u32) -> Answer {
    pointer::put(index, shim::device(device)?.0)
}

/// The number that a device file would have.
pub(crate) fn nvmlDeviceGetMinorNumber(device: nvmlDevice_t, minor: *mut u32) -> Answer {
    nvmlDeviceGetIndex(device, minor)
}

pub(crate) fn nvmlDeviceGetPciInfo(device: nvmlDevice_t, pci: *mut nvmlPciInfo_t) -> Answer {
    wrap::nvmlDeviceGetPciInfo_v3(device, pci)
}

pub(crate) fn nvmlDeviceGetPciInfo_v2(device: nvmlDevice_t, pci: *mut nvmlPciInfo_t) -> Answer {
    wrap::nvmlDeviceGetPciInfo_v3(device, pci)
}

fn capability(device: nvmlDevice_t) -> Answer<(i32, i32)> {
    let (_, device) = shim::device(device)?;
    let major = attribute(device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    Ok((major, attribute(device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?))
}

pub(crate) fn nvmlDeviceGetCudaComputeCapability(
    device: nvmlDevice_t,
    major: *mut i32,
    minor: *mut i32,
) -> Answer {
    let capability = capability(device)?;
    pointer::check(minor)?;
    pointer::put(major, capability.0)?;
    pointer::put(minor, capability.1)
}

/// NVML_DEVICE_ARCH_… by compute capability.
pub(crate) fn nvmlDeviceGetArchitecture(device: nvmlDevice_t, arch: *mut u32) -> Answer {
    const UNKNOWN: u32 = 0xffff_ffff;
    let arch_of = match capability(device)? {
        (3, _) => 2,
        (5, _) => 3,
        (6, _) => 4,
        (7, 5) => 6,
        (7, _) => 5,
        (8, 9) => 8,
        (8, _) => 7,
        (9, _) => 9,
        (10 | 12, _) => 10,
        _ => UNKNOWN,
    };
    pointer::put(arch, arch_of)
}

/// NVML's numbers of compute modes are CUDA's.
pub(crate) fn nvmlDeviceGetComputeMode(device: nvmlDevice_t, mode: *mut u32) -> Answer {
    const COMPUTE_MODE: CUdevice_attribute = CUdevice_attribute(20);
    let value = attribute(shim::device(device)?.1, COMPUTE_MODE)?;
    pointer::put(mode, value.unsigned_abs())
}

/// Devices of a VM are whole.
pub(crate) fn nvmlDeviceIsMigDeviceHandle(device: nvmlDevice_t, is: *mut u32) -> Answer {
    shim::device(device)?;
    pointer::put(is, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bus_ids_are_read_in_every_form() {
        assert_eq!(pci_of(b"0000:3B:00.0"), Some([0, 0x3b, 0]));
        assert_eq!(pci_of(b"00000001:3b:1f.0\0\0"), Some([1, 0x3b, 0x1f]));
        assert_eq!(pci_of(b"3b:00"), Some([0, 0x3b, 0]));
        assert_eq!(pci_of(b"nonsense"), None);
    }
}
