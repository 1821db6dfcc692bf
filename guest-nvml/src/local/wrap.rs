//! The device on its bus: the place is libcuda's, the vendor's numbers come from
//! the host's NVML where there is one.

use paravane_protocol::nvml_types::*;
use zerocopy::FromZeros;

use super::identity::pci_of;
use crate::boundary::Answer;
use crate::remote::table;
use crate::{pointer, shim};

/// Where the device is: domain, bus, device, and in words.
fn place(device: nvmlDevice_t) -> Answer<([u32; 3], String)> {
    let (_, device) = shim::device(device)?;
    let [domain, bus, number] = pci_of(&device.pci_bus_id).ok_or(NVML_ERROR_NOT_SUPPORTED)?;
    Ok(([domain, bus, number], format!("{domain:08X}:{bus:02X}:{number:02X}.0")))
}

/// Text into a field; what is left of the field stays 0.
fn fill(field: &mut [u8], text: &str) {
    for (field, byte) in field.iter_mut().zip(text.bytes()) {
        *field = byte;
    }
}

/// What was read of the hardware, or nothing where the host has no NVML.
fn or_nothing(read: Answer) -> Answer {
    match read {
        Err(NVML_ERROR_NOT_SUPPORTED) => Ok(()),
        other => other,
    }
}

pub(crate) fn nvmlDeviceGetPciInfo_v3(device: nvmlDevice_t, pci: *mut nvmlPciInfo_t) -> Answer {
    pointer::check(pci)?;
    let ([domain, bus, number], text) = place(device)?;
    let mut info = nvmlPciInfo_t::new_zeroed();
    or_nothing(table::nvmlDeviceGetPciInfo_v3(device, &raw mut info))?;
    let (pciDeviceId, pciSubSystemId) = (info.pciDeviceId, info.pciSubSystemId);
    info = nvmlPciInfo_t { domain, bus, device: number, pciDeviceId, pciSubSystemId, ..FromZeros::new_zeroed() };
    fill(&mut info.busId, &text);
    fill(&mut info.busIdLegacy, &format!("{domain:04X}:{bus:02X}:{number:02X}.0"));
    pointer::put(pci, info)
}

pub(crate) fn nvmlDeviceGetPciInfoExt(device: nvmlDevice_t, pci: *mut nvmlPciInfoExt_t) -> Answer {
    let mut info = pointer::get(pci.cast_const())?;
    if info.version != struct_version(64, 1) {
        return Err(NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
    }
    let ([domain, bus, number], text) = place(device)?;
    info = nvmlPciInfoExt_t { version: info.version, ..FromZeros::new_zeroed() };
    or_nothing(table::nvmlDeviceGetPciInfoExt(device, &raw mut info))?;
    (info.domain, info.bus, info.device) = (domain, bus, number);
    info.busId = FromZeros::new_zeroed();
    fill(&mut info.busId, &text);
    pointer::put(pci, info)
}
