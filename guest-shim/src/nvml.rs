//! What libnvidia-ml.so.1 of the same package asks of this library: the devices,
//! and the host, over the process's one connection. A program that uses NVML
//! alone has not called cuInit, so its children may still use CUDA.
#![allow(unsafe_code, reason = "exported C symbols")]

use paravane_protocol::cuda_types::*;
use paravane_protocol::nvml_types::KnownDevice;
use paravane_protocol::{PROTOCOL_HASH, internal};
use zerocopy::FromZeros;

use crate::boundary::{Answer, caught};
use crate::connection::with_ring;
use crate::local::meet_host;
use crate::{journal, pointer};

/// Connects, where there is no connection yet. `hash` is the asker's: both come
/// from one package. Tells how many devices there are and libcuda's version.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn paravane_nvml_open(hash: u64, devices: *mut u32, version: *mut i32) -> CUresult {
    caught("paravane_nvml_open", || {
        journal::open();
        if hash != PROTOCOL_HASH {
            return Err(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH);
        }
        let hello = meet_host()?;
        if !hello.in_order {
            // NVML does not know CUDA_VISIBLE_DEVICES, and of what it hides the host cannot tell this process.
            return Err(CUDA_ERROR_NOT_SUPPORTED);
        }
        pointer::put(devices, u32::try_from(hello.devices.len()).map_err(|_| CUDA_ERROR_UNKNOWN)?)?;
        pointer::put(version, hello.driver_version.min(paravane_protocol::CUDA_VERSION))
    })
}

/// Describes a device.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn paravane_nvml_device(ordinal: u32, into: *mut KnownDevice) -> CUresult {
    caught("paravane_nvml_device", || {
        let device = meet_host()?.devices.get(ordinal as usize).ok_or(CUDA_ERROR_INVALID_DEVICE)?;
        let mut known = KnownDevice::new_zeroed();
        known.total_bytes = device.total_bytes;
        known.uuid = device.uuid.bytes;
        put(&mut known.pci_bus_id, &device.pci_bus_id);
        put(&mut known.name, &device.name);
        for (known, attribute) in known.attributes.iter_mut().zip(&device.attributes) {
            *known = *attribute;
        }
        pointer::put(into, known)
    })
}

/// Text with its NUL, cut where it does not fit.
fn put(into: &mut [u8], text: &[u8]) {
    let room = into.len().saturating_sub(1);
    for (into, byte) in into.iter_mut().zip(text.iter().take(room)) {
        *into = *byte;
    }
}

/// Sends an operation of NVML's with this request; the reply's bytes, at most
/// `room`, and how many they are.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn paravane_nvml_ask(
    opcode: u16,
    request: *const u8,
    bytes: usize,
    reply: *mut u8,
    room: usize,
    replied: *mut usize,
) -> CUresult {
    caught("paravane_nvml_ask", || {
        let is_nvml = matches!(
            opcode,
            internal::NVML_READ | internal::NVML_PROCESSES | internal::NVML_DRIVER | internal::MEMORY
        );
        if !is_nvml {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        meet_host()?;
        let request = pointer::bytes(request, bytes)?;
        let reply = pointer::bytes_mut(reply, room)?;
        let taken = with_ring(|ring| {
            ring.call_anywhere(
                opcode,
                |to| {
                    to.raw(request);
                    Ok(())
                },
                |from| take(from.rest(), reply),
            )
        })??;
        pointer::put(replied, taken)
    })
}

fn take(from: &[u8], into: &mut [u8]) -> Answer<usize> {
    let into = into.get_mut(..from.len()).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    into.copy_from_slice(from);
    Ok(from.len())
}
