//! Start, end, versions, and finding devices.

use std::ffi::c_char;
use std::fs;

use paravane_protocol::internal::NVML_DRIVER;
use paravane_protocol::nvml_types::*;

use super::identity::pci_of;
use crate::boundary::{self, Answer};
use crate::shim::{self, machine};
use crate::pointer;

/// Succeeds where there is no device, too.
const NVML_INIT_FLAG_NO_GPUS: u32 = 1;
const NVML_INIT_FLAG_NO_ATTACH: u32 = 2;

pub(crate) fn nvmlInit() -> Answer {
    nvmlInitWithFlags(0)
}

pub(crate) fn nvmlInit_v2() -> Answer {
    nvmlInitWithFlags(0)
}

pub(crate) fn nvmlInitWithFlags(flags: u32) -> Answer {
    if flags & !(NVML_INIT_FLAG_NO_GPUS | NVML_INIT_FLAG_NO_ATTACH) != 0 {
        return Err(NVML_ERROR_INVALID_ARGUMENT);
    }
    shim::open()?;
    if machine()?.devices.is_empty() && flags & NVML_INIT_FLAG_NO_GPUS == 0 {
        return Err(NVML_ERROR_GPU_NOT_FOUND);
    }
    boundary::initialized();
    Ok(())
}

pub(crate) fn nvmlShutdown() -> Answer {
    boundary::shut_down()
}

/// The host's driver; Paravane's own version where no NVIDIA driver is behind
/// the device.
fn driver_version() -> Answer<Vec<u8>> {
    let told = shim::ask(NVML_DRIVER, |_| Ok(()), |from| Ok(from.bytes().to_vec()))?;
    Ok(if told.is_empty() { env!("CARGO_PKG_VERSION").as_bytes().to_vec() } else { told })
}

pub(crate) fn nvmlSystemGetDriverVersion(version: *mut c_char, length: u32) -> Answer {
    pointer::put_text(version, length, &driver_version()?)
}

/// CUDA's major version before the driver's, as NVML writes its own.
pub(crate) fn nvmlSystemGetNVMLVersion(version: *mut c_char, length: u32) -> Answer {
    let mut text = format!("{}.", machine()?.cuda_version / 1000).into_bytes();
    text.extend(driver_version()?);
    pointer::put_text(version, length, &text)
}

pub(crate) fn nvmlSystemGetCudaDriverVersion(version: *mut i32) -> Answer {
    pointer::put(version, machine()?.cuda_version)
}

pub(crate) fn nvmlSystemGetCudaDriverVersion_v2(version: *mut i32) -> Answer {
    nvmlSystemGetCudaDriverVersion(version)
}

/// The program that a process of this VM runs, cut to the buffer.
pub(crate) fn nvmlSystemGetProcessName(pid: u32, name: *mut c_char, length: u32) -> Answer {
    pointer::check(name)?;
    let room = (length as usize).checked_sub(1).ok_or(NVML_ERROR_INSUFFICIENT_SIZE)?;
    let line = fs::read(format!("/proc/{pid}/cmdline")).map_err(|_| NVML_ERROR_NOT_FOUND)?;
    let program = line.split(|byte| *byte == 0).next().unwrap_or_default();
    let program = program.get(..room).unwrap_or(program);
    pointer::put_text(name, length, program)
}

pub(crate) fn nvmlDeviceGetCount(count: *mut u32) -> Answer {
    pointer::put(count, u32::try_from(machine()?.devices.len()).map_err(|_| NVML_ERROR_UNKNOWN)?)
}

pub(crate) fn nvmlDeviceGetCount_v2(count: *mut u32) -> Answer {
    nvmlDeviceGetCount(count)
}

pub(crate) fn nvmlDeviceGetHandleByIndex(index: u32, device: *mut nvmlDevice_t) -> Answer {
    let handle = nvmlDevice_t::of(index);
    shim::device(handle)?;
    pointer::put(device, handle)
}

pub(crate) fn nvmlDeviceGetHandleByIndex_v2(index: u32, device: *mut nvmlDevice_t) -> Answer {
    nvmlDeviceGetHandleByIndex(index, device)
}

/// The first device that `is` it; NVML_ERROR_NOT_FOUND for none.
fn find(device: *mut nvmlDevice_t, is: impl Fn(&KnownDevice) -> bool) -> Answer {
    let devices = &machine()?.devices;
    let found = (0..).zip(devices).find(|(_, device)| is(device));
    let (ordinal, _) = found.ok_or(NVML_ERROR_NOT_FOUND)?;
    pointer::put(device, nvmlDevice_t::of(ordinal))
}

pub(crate) fn nvmlDeviceGetHandleByUUID(uuid: *const c_char, device: *mut nvmlDevice_t) -> Answer {
    let wanted = pointer::text(uuid)?;
    find(device, |device| uuid_text(&device.uuid).eq_ignore_ascii_case(wanted))
}

pub(crate) fn nvmlDeviceGetHandleByUUIDV(uuid: *mut nvmlUUID_t, device: *mut nvmlDevice_t) -> Answer {
    const ASCII: u32 = 1;
    const BINARY: u32 = 2;
    let nvmlUUID_t { version, kind, value, .. } = pointer::get(uuid.cast_const())?;
    if version != struct_version(52, 1) {
        return Err(NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
    }
    match kind {
        ASCII => {
            let text = value.split(|byte| *byte == 0).next().unwrap_or_default();
            find(device, |device| uuid_text(&device.uuid).as_bytes().eq_ignore_ascii_case(text))
        }
        BINARY => find(device, |device| value.starts_with(&device.uuid)),
        _ => Err(NVML_ERROR_INVALID_ARGUMENT),
    }
}

pub(crate) fn nvmlDeviceGetHandleByPciBusId(id: *const c_char, device: *mut nvmlDevice_t) -> Answer {
    let wanted = pci_of(pointer::text(id)?.as_bytes()).ok_or(NVML_ERROR_INVALID_ARGUMENT)?;
    find(device, |device| pci_of(&device.pci_bus_id) == Some(wanted))
}

pub(crate) fn nvmlDeviceGetHandleByPciBusId_v2(id: *const c_char, device: *mut nvmlDevice_t) -> Answer {
    nvmlDeviceGetHandleByPciBusId(id, device)
}
