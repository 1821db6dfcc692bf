//! Devices, from what HELLO told at cuInit.

use std::ffi::c_char;

use paravane_protocol::cuda_types::*;
use paravane_protocol::internal::MEMORY;

use crate::boundary::Answer;
use crate::connection::with_ring;
use crate::pointer;
use crate::state::devices::{device, hello};

pub(crate) fn cuDeviceGet(into: *mut CUdevice, ordinal: i32) -> Answer {
    device(CUdevice(ordinal))?;
    pointer::put(into, CUdevice(ordinal))
}

pub(crate) fn cuDeviceGetCount(count: *mut i32) -> Answer {
    let devices = hello()?.devices.len();
    pointer::put(count, i32::try_from(devices).map_err(|_| CUDA_ERROR_UNKNOWN)?)
}

pub(crate) fn cuDeviceGetName(name: *mut u8, len: i32, dev: CUdevice) -> Answer {
    pointer::put_string(name, len, &device(dev)?.name)
}

pub(crate) fn cuDeviceGetUuid(uuid: *mut CUuuid, dev: CUdevice) -> Answer {
    pointer::put(uuid, device(dev)?.uuid)
}

pub(crate) fn cuDeviceGetUuid_v2(uuid: *mut CUuuid, dev: CUdevice) -> Answer {
    cuDeviceGetUuid(uuid, dev)
}

pub(crate) fn cuDeviceTotalMem_v2(bytes: *mut usize, dev: CUdevice) -> Answer {
    let total = total_bytes(dev)?;
    pointer::put(bytes, usize::try_from(total).unwrap_or(usize::MAX))
}

/// A device's memory as the VM has it: asked each time, because its quota may
/// change. As told at cuInit where the host cannot be asked any more.
pub(crate) fn total_bytes(dev: CUdevice) -> Answer<u64> {
    let known = device(dev)?.total_bytes;
    let asked = with_ring(|ring| {
        ring.call_anywhere(
            MEMORY,
            |to| {
                to.word(dev.to_word());
                Ok(())
            },
            |from| {
                let (total, _used, _free) = (from.word(), from.word(), from.word());
                Ok::<u64, CUresult>(total)
            },
        )
    });
    Ok(asked.and_then(|total| total).unwrap_or(known))
}

pub(crate) fn cuDeviceGetAttribute(pi: *mut i32, attrib: CUdevice_attribute, dev: CUdevice) -> Answer {
    let device = device(dev)?;
    if attrib == CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM {
        // The worker cannot always map the program's pages at the same address.
        return pointer::put(pi, 0);
    }
    pointer::put(pi, device.attribute(attrib)?)
}

pub(crate) fn cuDeviceGetProperties(prop: *mut CUdevprop, dev: CUdevice) -> Answer {
    let device = device(dev)?;
    pointer::put(prop, CUdevprop::read(|attribute| device.attribute(attribute))?)
}

pub(crate) fn cuDeviceComputeCapability(major: *mut i32, minor: *mut i32, dev: CUdevice) -> Answer {
    let device = device(dev)?;
    pointer::put(major, device.attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?)?;
    pointer::put(minor, device.attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?)
}

pub(crate) fn cuDeviceGetPCIBusId(id: *mut u8, len: i32, dev: CUdevice) -> Answer {
    pointer::put_string(id, len, &device(dev)?.pci_bus_id)
}

pub(crate) fn cuDeviceGetByPCIBusId(dev: *mut CUdevice, id: *const c_char) -> Answer {
    let wanted = pointer::string(id)?.to_bytes();
    let found = (0..)
        .zip(&hello()?.devices)
        .find(|(_, device)| same_pci_bus_id(&device.pci_bus_id, wanted));
    let (ordinal, _) = found.ok_or(CUDA_ERROR_INVALID_DEVICE)?;
    pointer::put(dev, CUdevice(ordinal))
}

/// `[domain:]bus:device[.function]`, in either case of hexadecimal, the domain
/// written with four or eight digits.
fn same_pci_bus_id(known: &[u8], wanted: &[u8]) -> bool {
    fn parts(text: &[u8]) -> Option<[u32; 4]> {
        let text = std::str::from_utf8(text).ok()?;
        let (address, function) = text.split_once('.').unwrap_or((text, "0"));
        let mut fields = address.rsplit(':');
        let mut next = || fields.next().map(|field| u32::from_str_radix(field, 16).ok());
        let device = next()??;
        let bus = next()??;
        let domain = next().unwrap_or(Some(0))?;
        Some([domain, bus, device, u32::from_str_radix(function, 16).ok()?])
    }
    parts(known).is_some() && parts(known) == parts(wanted)
}

#[cfg(test)]
mod tests {
    use super::same_pci_bus_id;

    #[test]
    fn bus_ids_are_compared_by_their_numbers() {
        assert!(same_pci_bus_id(b"00000000:3B:00.0", b"0000:3b:00.0"));
        assert!(same_pci_bus_id(b"0000:3b:00.0", b"3B:00"));
        assert!(!same_pci_bus_id(b"0000:3b:00.0", b"0000:3c:00.0"));
        assert!(!same_pci_bus_id(b"0000:3b:00.0", b"nonsense"));
    }
}
