//! A stand-in for the host's libnvidia-ml.so.1 in tests: a few functions with
//! figures that tests know, about whatever device a worker asks for.
#![allow(unsafe_code, non_snake_case, reason = "exported C symbols under NVML's names")]

use std::ffi::{c_char, c_void};

use paravane_protocol::nvml_types::*;

const DEVICE: nvmlDevice_t = nvmlDevice_t(0x1000);

fn put<T>(device: nvmlDevice_t, into: *mut T, value: T) -> nvmlReturn_t {
    if device != DEVICE {
        return NVML_ERROR_INVALID_ARGUMENT;
    }
    // SAFETY: NVML's prototype: room for a T.
    unsafe { into.write(value) };
    NVML_SUCCESS
}

fn put_text(into: *mut c_char, length: u32, text: &[u8]) -> nvmlReturn_t {
    if text.len() > length as usize {
        return NVML_ERROR_INSUFFICIENT_SIZE;
    }
    // SAFETY: NVML's prototype: room for `length` bytes.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), into.cast(), text.len()) };
    NVML_SUCCESS
}

macro_rules! functions {
    ($(fn $name:ident($($arg:ident: $type:ty),*) $body:block)*) => {$(
        #[unsafe(no_mangle)]
        pub extern "C" fn $name($($arg: $type),*) -> nvmlReturn_t $body
    )*};
}
functions! {
    fn nvmlInit_v2() {
        NVML_SUCCESS
    }
    fn nvmlSystemGetDriverVersion(version: *mut c_char, length: u32) {
        put_text(version, length, b"999.42\0")
    }
    fn nvmlDeviceGetHandleByUUID(_uuid: *const c_char, device: *mut nvmlDevice_t) {
        put(DEVICE, device, DEVICE)
    }
    fn nvmlDeviceGetSerial(_device: nvmlDevice_t, serial: *mut c_char, length: u32) {
        put_text(serial, length, b"S-1\0")
    }
    fn nvmlDeviceGetTemperature(device: nvmlDevice_t, sensor: u32, temperature: *mut u32) {
        put(device, temperature, 41 + sensor)
    }
    fn nvmlDeviceGetTemperatureV(device: nvmlDevice_t, temperature: *mut c_void) {
        let words = temperature.cast::<u32>();
        // SAFETY: every version begins with its number.
        if unsafe { words.read() } != struct_version(12, 1) {
            return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
        }
        put(device, words.wrapping_add(2), 42)
    }
    fn nvmlDeviceGetPowerUsage(device: nvmlDevice_t, power: *mut u32) {
        put(device, power, 350_000)
    }
    fn nvmlDeviceGetTotalEnergyConsumption(device: nvmlDevice_t, energy: *mut u64) {
        put(device, energy, 1 << 40)
    }
    fn nvmlDeviceGetPciInfo_v3(device: nvmlDevice_t, pci: *mut nvmlPciInfo_t) {
        let text = [b'x'; 32];
        let info = nvmlPciInfo_t {
            busIdLegacy: [b'x'; 16],
            domain: 9,
            bus: 9,
            device: 9,
            pciDeviceId: 0x2330_10de,
            pciSubSystemId: 1,
            busId: text,
        };
        put(device, pci, info)
    }
    fn nvmlDeviceGetFieldValues(device: nvmlDevice_t, count: i32, values: *mut nvmlFieldValue_t) {
        for index in 0..usize::try_from(count).unwrap_or(0) {
            let at = values.wrapping_add(index);
            // SAFETY: NVML's prototype: `count` values.
            let mut value = unsafe { at.read() };
            value.value = u64::from(value.fieldId) * 2;
            let _ = put(device, at, value);
        }
        NVML_SUCCESS
    }
    // The worker that asks, and a process of somebody else's.
    fn nvmlDeviceGetComputeRunningProcesses_v3(
        device: nvmlDevice_t,
        count: *mut u32,
        infos: *mut nvmlProcessInfo_t
    ) {
        for (index, pid) in [1, std::process::id()].into_iter().enumerate() {
            let info = nvmlProcessInfo_t {
                pid,
                padding: 0,
                usedGpuMemory: 77_000_000,
                gpuInstanceId: u32::MAX,
                computeInstanceId: u32::MAX,
            };
            let _ = put(device, infos.wrapping_add(index), info);
        }
        put(device, count, 2)
    }
    fn nvmlDeviceGetProcessUtilization(
        device: nvmlDevice_t,
        samples: *mut nvmlProcessUtilizationSample_t,
        count: *mut u32,
        _last_seen: u64
    ) {
        let own = std::process::id();
        for (index, (pid, timeStamp, smUtil)) in [(1, 9, 90), (own, 8, 60), (own, 9, 30)].into_iter().enumerate() {
            let sample = nvmlProcessUtilizationSample_t {
                pid,
                padding: 0,
                timeStamp,
                smUtil,
                memUtil: 5,
                encUtil: 0,
                decUtil: 0,
            };
            let _ = put(device, samples.wrapping_add(index), sample);
        }
        put(device, count, 3)
    }
}
