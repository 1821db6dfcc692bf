//! NVML's types as nvml.h 13.5 lays them out, under NVML's names. Handles are
//! the guest's: an ordinal of the VM's devices, made unlike a pointer.
#![allow(non_snake_case, reason = "NVML's names")]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What NVML's functions answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
#[must_use]
pub struct nvmlReturn_t(pub u32);

impl nvmlReturn_t {
    /// `Ok` for NVML_SUCCESS.
    pub fn ok(self) -> Result<(), Self> {
        if self == NVML_SUCCESS { Ok(()) } else { Err(self) }
    }
}

macro_rules! returns {
    ($($name:ident = $value:literal, $text:literal;)*) => {
        $(
            #[doc = $text]
            pub const $name: nvmlReturn_t = nvmlReturn_t($value);
        )*

        /// What nvmlErrorString says.
        pub fn error_string(result: nvmlReturn_t) -> &'static core::ffi::CStr {
            const fn c(text: &'static str) -> &'static core::ffi::CStr {
                match core::ffi::CStr::from_bytes_with_nul(text.as_bytes()) {
                    Ok(text) => text,
                    Err(_) => c"",
                }
            }
            match result {
                $($name => const { c(concat!($text, "\0")) },)*
                _ => c"Unknown Error",
            }
        }
    };
}
returns! {
    NVML_SUCCESS = 0, "Success";
    NVML_ERROR_UNINITIALIZED = 1, "Uninitialized";
    NVML_ERROR_INVALID_ARGUMENT = 2, "Invalid Argument";
    NVML_ERROR_NOT_SUPPORTED = 3, "Not Supported";
    NVML_ERROR_NO_PERMISSION = 4, "Insufficient Permissions";
    NVML_ERROR_ALREADY_INITIALIZED = 5, "Already Initialized";
    NVML_ERROR_NOT_FOUND = 6, "Not Found";
    NVML_ERROR_INSUFFICIENT_SIZE = 7, "Insufficient Size";
    NVML_ERROR_INSUFFICIENT_POWER = 8, "Insufficient External Power";
    NVML_ERROR_DRIVER_NOT_LOADED = 9, "Driver Not Loaded";
    NVML_ERROR_TIMEOUT = 10, "Timeout";
    NVML_ERROR_IRQ_ISSUE = 11, "Interrupt Request Issue";
    NVML_ERROR_LIBRARY_NOT_FOUND = 12, "NVML Shared Library Not Found";
    NVML_ERROR_FUNCTION_NOT_FOUND = 13, "Function Not Found";
    NVML_ERROR_CORRUPTED_INFOROM = 14, "Corrupted infoROM";
    NVML_ERROR_GPU_IS_LOST = 15, "GPU is lost";
    NVML_ERROR_RESET_REQUIRED = 16, "GPU requires reset";
    NVML_ERROR_OPERATING_SYSTEM = 17, "The operating system has blocked the request.";
    NVML_ERROR_LIB_RM_VERSION_MISMATCH = 18, "Driver/library version mismatch";
    NVML_ERROR_IN_USE = 19, "In use by another client";
    NVML_ERROR_MEMORY = 20, "Insufficient Memory";
    NVML_ERROR_NO_DATA = 21, "No data";
    NVML_ERROR_VGPU_ECC_NOT_SUPPORTED = 22, "The requested vgpu operation is not available on target device, because ECC is enabled";
    NVML_ERROR_INSUFFICIENT_RESOURCES = 23, "Ran out of critical resources, other than memory";
    NVML_ERROR_FREQ_NOT_SUPPORTED = 24, "The requested frequency is not supported";
    NVML_ERROR_ARGUMENT_VERSION_MISMATCH = 25, "The provided version is invalid/unsupported";
    NVML_ERROR_DEPRECATED = 26, "The requested functionality has been deprecated";
    NVML_ERROR_NOT_READY = 27, "The system is not ready for the request";
    NVML_ERROR_GPU_NOT_FOUND = 28, "No GPUs were found";
    NVML_ERROR_INVALID_STATE = 29, "Resource not in correct state to perform requested operation";
    NVML_ERROR_RESET_TYPE_NOT_SUPPORTED = 30, "Reset not supported for given device/parameters";
    NVML_ERROR_UNKNOWN = 999, "Unknown Error";
}

/// A device, as a program holds it: a pointer's size, and none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct nvmlDevice_t(pub usize);

impl nvmlDevice_t {
    /// Keeps handles clear of NULL and of small numbers.
    const BASE: usize = 0x5056_4d4c_0000;

    /// The handle of a device by its number.
    pub fn of(ordinal: u32) -> Self {
        Self(Self::BASE + ordinal as usize)
    }

    /// The number that the handle stands for, if it can be one.
    pub fn ordinal(self) -> Option<u32> {
        self.0.checked_sub(Self::BASE).and_then(|ordinal| u32::try_from(ordinal).ok())
    }
}

macro_rules! structs {
    ($($(#[$doc:meta])* $name:ident: $bytes:literal { $($field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        #[allow(missing_docs, reason = "nvml.h documents them")]
        pub struct $name {
            $(pub $field: $type,)*
        }
        const _: () = assert!(size_of::<$name>() == $bytes);
    )*};
}
structs! {
    /// nvmlPciInfo_t.
    nvmlPciInfo_t: 68 {
        busIdLegacy: [u8; 16],
        domain: u32,
        bus: u32,
        device: u32,
        pciDeviceId: u32,
        pciSubSystemId: u32,
        busId: [u8; 32],
    }
    /// nvmlPciInfoExt_v1_t.
    nvmlPciInfoExt_t: 64 {
        version: u32,
        domain: u32,
        bus: u32,
        device: u32,
        pciDeviceId: u32,
        pciSubSystemId: u32,
        baseClass: u32,
        subClass: u32,
        busId: [u8; 32],
    }
    /// nvmlMemory_t.
    nvmlMemory_t: 24 { total: u64, free: u64, used: u64, }
    /// nvmlMemory_v2_t.
    nvmlMemory_v2_t: 40 { version: u32, padding: u32, total: u64, reserved: u64, free: u64, used: u64, }
    /// nvmlUtilization_t, in percent.
    nvmlUtilization_t: 8 { gpu: u32, memory: u32, }
    /// nvmlProcessInfo_v1_t.
    nvmlProcessInfo_v1_t: 16 { pid: u32, padding: u32, usedGpuMemory: u64, }
    /// nvmlProcessInfo_v2_t, which is nvmlProcessInfo_t.
    nvmlProcessInfo_t: 24 {
        pid: u32,
        padding: u32,
        usedGpuMemory: u64,
        gpuInstanceId: u32,
        computeInstanceId: u32,
    }
    /// nvmlProcessUtilizationSample_t.
    nvmlProcessUtilizationSample_t: 32 {
        pid: u32,
        padding: u32,
        timeStamp: u64,
        smUtil: u32,
        memUtil: u32,
        encUtil: u32,
        decUtil: u32,
    }
    /// nvmlUUID_v1_t.
    nvmlUUID_t: 52 { version: u32, kind: u32, value: [u8; 41], padding: [u8; 3], }
    /// nvmlFieldValue_t.
    nvmlFieldValue_t: 40 {
        fieldId: u32,
        scopeId: u32,
        timestamp: i64,
        latencyUsec: i64,
        valueType: u32,
        nvmlReturn: u32,
        value: u64,
    }
    /// nvmlViolationTime_t.
    nvmlViolationTime_t: 16 { referenceTime: u64, violationTime: u64, }
    /// nvmlRowRemapperHistogramValues_t.
    nvmlRowRemapperHistogramValues_t: 20 { max: u32, high: u32, partial: u32, low: u32, none: u32, }
    /// nvmlGpuFabricInfo_t.
    nvmlGpuFabricInfo_t: 28 { clusterUuid: [u8; 16], status: u32, cliqueId: u32, state: u32, }
    /// One process of the VM that uses a device, as the host tells it.
    ProcessUse: 40 {
        pid: u32,
        busy_percent: u32,
        memory_bytes: u64,
        busy_ns: u64,
        seen_us: u64,
        has_context: u32,
        memory_percent: u32,
    }
    /// A device as the guest's libcuda learnt of it.
    KnownDevice: 1104 {
        total_bytes: u64,
        uuid: [u8; 16],
        pci_bus_id: [u8; 32],
        name: [u8; 256],
        attributes: [i32; 198],
    }
}

/// In [`ProcessUse`] where the host has no figure.
pub const UNKNOWN_BYTES: u64 = u64::MAX;

/// In [`ProcessUse`] where the host has no figure.
pub const UNKNOWN_PERCENT: u32 = u32::MAX;

/// As NVML writes a device's UUID.
pub fn uuid_text(uuid: &[u8; 16]) -> String {
    let mut text = "GPU".to_owned();
    for (at, byte) in uuid.iter().enumerate() {
        if matches!(at, 0 | 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// A struct's version field: its size, and its number above.
pub const fn struct_version(bytes: u32, number: u32) -> u32 {
    bytes | number << 24
}
