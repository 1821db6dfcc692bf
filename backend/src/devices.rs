//! What devices a libcuda has, as the probe (`libcuda.rs`) finds and says them:
//! one line of JSON each, for paravaned, which loads no driver either.
#![allow(unsafe_code)] // Asks the library.

use std::ffi::{c_char, c_int};
use std::path::Path;

use libloading::Library;
use paravane_protocol::cuda_types::*;
use paravane_protocol::visible::uuid_text;
use serde::{Deserialize, Serialize};

/// Devices that a VM can have leases of, and that are told of. Boards have 8, and
/// the machine with the most of one kind so far 16.
pub const DEVICES_MAX: usize = 16;

/// One device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// `GPU-` and the UUID, as NVIDIA's tools write it.
    pub uuid: String,
    /// The name of the model.
    pub name: String,
    /// domain:bus:device.function.
    pub pci_bus_id: String,
    /// Its memory.
    pub memory_bytes: u64,
    /// The library's CUDA version times a thousand: 12080 is 12.8.
    pub cuda_version: u32,
    /// Its multiprocessors, where the library can give some of them to a context.
    #[serde(default)]
    pub multiprocessors: Option<Multiprocessors>,
}

/// Multiprocessors, and how they can be divided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Multiprocessors {
    /// All of them.
    pub count: u32,
    /// The fewest that a context can have.
    pub least: u32,
    /// What a context's count is a multiple of, unless it is all.
    pub step: u32,
}

impl Multiprocessors {
    /// As the programming guide has it for a compute capability's major number
    /// (CUDA driver API, cuDevSmResourceSplitByCount).
    fn of(count: u32, major: u32) -> Self {
        let (least, step) = match major {
            ..=6 => (1, 1),
            7 => (2, 2),
            8 => (4, 2),
            _ => (8, 8),
        };
        Self { count, least: least.min(count), step: step.min(count).max(1) }
    }

    /// Whether a context can have so many.
    pub fn has(self, sms: u32) -> bool {
        sms == self.count || (sms >= self.least && sms < self.count && sms.is_multiple_of(self.step))
    }
}

type Get = unsafe extern "C" fn(*mut c_int, c_int) -> u32;
type Text = unsafe extern "C" fn(*mut c_char, c_int, c_int) -> u32;
type Uuid = unsafe extern "C" fn(*mut [u8; 16], c_int) -> u32;
type Bytes = unsafe extern "C" fn(*mut usize, c_int) -> u32;
type Attribute = unsafe extern "C" fn(*mut c_int, c_int, c_int) -> u32;
type Version = unsafe extern "C" fn(*mut c_int) -> u32;

/// The devices of a library that has been initialised. What it does not tell is
/// left empty.
pub fn list(library: &Library, count: u32) -> Vec<Device> {
    let count = c_int::try_from(count).unwrap_or(0).min(c_int::try_from(DEVICES_MAX).unwrap_or(0));
    (0..count).filter_map(|ordinal| one(library, ordinal)).collect()
}

fn one(library: &Library, ordinal: c_int) -> Option<Device> {
    // SAFETY: the signature is cuda.h's.
    let get = unsafe { library.get::<Get>(b"cuDeviceGet") }.ok()?;
    let mut device: c_int = 0;
    // SAFETY: `device` is writable during the call.
    if unsafe { get(&raw mut device, ordinal) } != 0 {
        return None;
    }
    Some(Device {
        uuid: uuid(library, device).unwrap_or_default(),
        name: text(library, b"cuDeviceGetName", device).unwrap_or_default(),
        pci_bus_id: text(library, b"cuDeviceGetPCIBusId", device).unwrap_or_default(),
        memory_bytes: memory_bytes(library, device).unwrap_or(0),
        cuda_version: version(library).unwrap_or(0),
        multiprocessors: multiprocessors(library, device),
    })
}

/// Which of the devices a DRM render node belongs to, by UUID.
pub fn of_node(devices: &[Device], node: &Path) -> Option<String> {
    let name = node.canonicalize().ok()?;
    let card = Path::new("/sys/class/drm").join(name.file_name()?).join("device").canonicalize().ok()?;
    of_address(devices, card.file_name()?.to_str()?)
}

fn of_address(devices: &[Device], address: &str) -> Option<String> {
    let is_there = |device: &&Device| device.pci_bus_id.eq_ignore_ascii_case(address);
    devices.iter().find(is_there).map(|device| device.uuid.clone())
}

fn text(library: &Library, symbol: &[u8], device: c_int) -> Option<String> {
    const BYTES: usize = 256;
    // SAFETY: both symbols that are asked for have this signature in cuda.h.
    let ask = unsafe { library.get::<Text>(symbol) }.ok()?;
    let mut bytes = [0_u8; BYTES];
    // SAFETY: `bytes` is writable, one byte longer than is said.
    let result = unsafe { ask(bytes.as_mut_ptr().cast(), c_int::try_from(BYTES - 1).unwrap_or(0), device) };
    let text = std::ffi::CStr::from_bytes_until_nul(&bytes).ok()?;
    (result == 0).then(|| text.to_string_lossy().into_owned())
}

fn uuid(library: &Library, device: c_int) -> Option<String> {
    // SAFETY: the signature is cuda.h's.
    let ask = unsafe { library.get::<Uuid>(b"cuDeviceGetUuid_v2") };
    // SAFETY: the signature is cuda.h's.
    let ask = ask.or_else(|_| unsafe { library.get::<Uuid>(b"cuDeviceGetUuid") }).ok()?;
    let mut bytes = [0; 16];
    // SAFETY: `bytes` is writable and as long as a CUuuid.
    let result = unsafe { ask(&raw mut bytes, device) };
    (result == 0).then(|| uuid_text(bytes))
}

fn memory_bytes(library: &Library, device: c_int) -> Option<u64> {
    // SAFETY: the signature is cuda.h's.
    let ask = unsafe { library.get::<Bytes>(b"cuDeviceTotalMem_v2") }.ok()?;
    let mut bytes = 0;
    // SAFETY: `bytes` is writable during the call.
    let result = unsafe { ask(&raw mut bytes, device) };
    (result == 0).then_some(bytes as u64)
}

/// Where the library has green contexts, what it takes to make one.
fn multiprocessors(library: &Library, device: c_int) -> Option<Multiprocessors> {
    const NEEDED: [&[u8]; 5] = [
        b"cuDeviceGetDevResource",
        b"cuDevSmResourceSplitByCount",
        b"cuDevResourceGenerateDesc",
        b"cuGreenCtxCreate",
        b"cuCtxFromGreenCtx",
    ];
    // SAFETY: only whether the symbols exist is looked at.
    if !NEEDED.iter().all(|symbol| unsafe { library.get::<*const u8>(*symbol) }.is_ok()) {
        return None;
    }
    let count = attribute(library, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, device)?;
    let major = attribute(library, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device)?;
    Some(Multiprocessors::of(count, major))
}

fn attribute(library: &Library, attribute: CUdevice_attribute, device: c_int) -> Option<u32> {
    // SAFETY: the signature is cuda.h's.
    let ask = unsafe { library.get::<Attribute>(b"cuDeviceGetAttribute") }.ok()?;
    let mut value = 0;
    // SAFETY: `value` is writable during the call.
    let result = unsafe { ask(&raw mut value, c_int::try_from(attribute.0).ok()?, device) };
    u32::try_from(value).ok().filter(|_| result == 0)
}

fn version(library: &Library) -> Option<u32> {
    // SAFETY: the signature is cuda.h's.
    let ask = unsafe { library.get::<Version>(b"cuDriverGetVersion") }.ok()?;
    let mut version = 0;
    // SAFETY: `version` is writable during the call.
    let result = unsafe { ask(&raw mut version) };
    u32::try_from(version).ok().filter(|_| result == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_render_node_is_its_devices_by_the_bus() {
        let device = |pci: &str| Device { uuid: format!("GPU-{pci}"), pci_bus_id: pci.into(), ..Device::default() };
        let devices = [device("0000:01:00.0"), device("0000:A1:00.0")];
        assert_eq!(of_address(&devices, "0000:a1:00.0"), Some(devices[1].uuid.clone()));
        assert_eq!(of_address(&devices, "0000:02:00.0"), None);
        assert_eq!(of_node(&devices, Path::new("/dev/null")), None);
    }
}
