//! Devices: names, memory, attributes. They differ in UUID and PCI address alone.

use super::{Answer, device, give, give_string, initialised, string};
use crate::device::Device;
use crate::memory::arena;
use paravane_lookup::Identity;
use paravane_protocol::cuda_types::*;
use std::ffi::c_char;
use std::sync::LazyLock;

pub const DEVICE_NAME: &str = "Paravane CPU device";
/// Figures that occupancy and launch checks use too.
pub const THREADS_PER_BLOCK_MAX: u32 = 1024;
pub const SHARED_PER_BLOCK: u32 = 48 << 10;
pub const SHARED_PER_BLOCK_OPTIN: u32 = 163 << 10;
pub const SHARED_PER_MULTIPROCESSOR: u32 = 164 << 10;
pub const THREADS_PER_MULTIPROCESSOR: u32 = 2048;
pub const BLOCKS_PER_MULTIPROCESSOR: u32 = 32;

/// `PARAVANE_CPU_CAPABILITY`, "major.minor", else 8.0. PTX of every architecture runs whatever this is; libraries choose by it
/// what they offer, and offer a device that is newer than they are PTX alone.
pub fn compute_capability() -> (i32, i32) {
    static CAPABILITY: LazyLock<(i32, i32)> = LazyLock::new(|| {
        let asked = std::env::var("PARAVANE_CPU_CAPABILITY").ok();
        let parts = asked.as_deref().and_then(|text| text.split_once('.'));
        let read = |(major, minor): (&str, &str)| Some((major.parse().ok()?, minor.parse().ok()?));
        parts.and_then(read).filter(|(major, minor)| (1..100).contains(major) && (0..10).contains(minor)).unwrap_or((8, 0))
    });
    *CAPABILITY
}

/// Processors stand for multiprocessors.
pub fn multiprocessors() -> i32 {
    static COUNT: LazyLock<i32> = LazyLock::new(|| {
        std::thread::available_parallelism().ok().and_then(|n| i32::try_from(n.get()).ok()).unwrap_or(1)
    });
    *COUNT
}

/// Attributes of a device by cuda.h's numbers; textures and surfaces are not there, so theirs
/// are 0, which is what numbers in the known range answer that are not listed.
fn attribute(number: u32, device: Device) -> Option<i32> {
    const KNOWN_MAX: u32 = 160;
    Some(match number {
        0 | KNOWN_MAX.. => return None,
        1..=3 => 1024,
        4 => 64,
        5 => i32::MAX,
        6 | 7 => 65_535,
        8 => SHARED_PER_BLOCK.cast_signed(),
        9 => 64 << 10,
        10 => 32,
        11 => i32::MAX,
        12 | 82 => 64 << 10,
        // Clock in kHz, a nominal one.
        13 | 36 => 1_000_000,
        14 | 30 => 512,
        15 | 19 | 31 | 41 | 78..=80 | 90..=95 | 83 | 89 | 99 | 102 | 103 | 115 | 119 | 122 | 123 => 1,
        16 => multiprocessors(),
        33 => device.pci()[1],
        34 => device.pci()[2],
        37 => 64,
        38 => 1 << 20,
        39 => THREADS_PER_MULTIPROCESSOR.cast_signed(),
        40 => 1,
        51 => 32,
        75 => compute_capability().0,
        76 => compute_capability().1,
        81 => SHARED_PER_MULTIPROCESSOR.cast_signed(),
        // Atomics between host and device are the host's own.
        86 => 1,
        87 => 2,
        97 => SHARED_PER_BLOCK_OPTIN.cast_signed(),
        106 => BLOCKS_PER_MULTIPROCESSOR.cast_signed(),
        111 => 1024,
        134 => -1,
        _ => 0,
    })
}

/// What names a device in cudart's handshake.
pub(super) fn identity(of: Device) -> Identity {
    Identity { uuid: of.uuid(), pci: of.pci() }
}

pub unsafe fn cuDeviceGet(device: *mut CUdevice, ordinal: i32) -> Answer {
    initialised()?;
    give(device, Device::new(ordinal).ok_or(CUDA_ERROR_INVALID_DEVICE)?.cuda())
}

pub unsafe fn cuDeviceGetCount(count: *mut i32) -> Answer {
    initialised()?;
    give(count, i32::try_from(Device::count()).unwrap_or(0))
}

pub unsafe fn cuDeviceGetName(name: *mut u8, len: i32, dev: CUdevice) -> Answer {
    device(dev)?;
    give_string(name.cast(), len, DEVICE_NAME)
}

pub unsafe fn cuDeviceGetUuid(uuid: *mut CUuuid, dev: CUdevice) -> Answer {
    give(uuid, device(dev)?.uuid())
}

pub unsafe fn cuDeviceGetUuid_v2(uuid: *mut CUuuid, dev: CUdevice) -> Answer {
    give(uuid, device(dev)?.uuid())
}

pub unsafe fn cuDeviceTotalMem_v2(bytes: *mut usize, dev: CUdevice) -> Answer {
    device(dev)?;
    give(bytes, usize::try_from(arena().device_size()).unwrap_or(usize::MAX))
}

pub unsafe fn cuDeviceGetAttribute(pi: *mut i32, attrib: CUdevice_attribute, dev: CUdevice) -> Answer {
    give(pi, attribute(attrib.0, device(dev)?).ok_or(CUDA_ERROR_INVALID_VALUE)?)
}

pub unsafe fn cuDeviceGetProperties(prop: *mut CUdevprop, dev: CUdevice) -> Answer {
    let of = device(dev)?;
    give(prop, CUdevprop::read(|number| attribute(number.0, of).ok_or(CUDA_ERROR_INVALID_VALUE))?)
}

pub unsafe fn cuDeviceComputeCapability(major: *mut i32, minor: *mut i32, dev: CUdevice) -> Answer {
    device(dev)?;
    give(major, compute_capability().0)?;
    give(minor, compute_capability().1)
}

pub unsafe fn cuDeviceGetPCIBusId(pciBusId: *mut u8, len: i32, dev: CUdevice) -> Answer {
    let [domain, bus, number] = device(dev)?.pci();
    give_string(pciBusId.cast(), len, &format!("{domain:04x}:{bus:02x}:{number:02x}.0"))
}

pub unsafe fn cuDeviceGetByPCIBusId(dev: *mut CUdevice, pciBusId: *const c_char) -> Answer {
    initialised()?;
    // SAFETY: the caller passes a C string.
    let found = Device::at_pci(unsafe { string(pciBusId) }?);
    give(dev, found.ok_or(CUDA_ERROR_INVALID_DEVICE)?.cuda())
}
