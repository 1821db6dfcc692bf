//! libcuda.so.1 of the same package, whose connection this library uses: from
//! the directory that this library lies in, else as the dynamic linker finds
//! it. Loaded by nvmlInit and kept.
#![allow(unsafe_code, reason = "foreign functions")]

use std::ffi::{CStr, CString, OsStr, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::OnceLock;

use paravane_protocol::PROTOCOL_HASH;
use paravane_protocol::codec::{Decoder, Encoder};
use paravane_protocol::cuda_types::*;
use paravane_protocol::limits::{FRAME_BYTES_MAX, REPLY_BYTES_MAX};
use paravane_protocol::nvml_types::*;
use zerocopy::FromZeros;

use crate::boundary::Answer;

type Open = unsafe extern "C" fn(u64, *mut u32, *mut i32) -> CUresult;
type Device = unsafe extern "C" fn(u32, *mut KnownDevice) -> CUresult;
type Ask = unsafe extern "C" fn(u16, *const u8, usize, *mut u8, usize, *mut usize) -> CUresult;

struct Shim {
    open: Open,
    device: Device,
    ask: Ask,
}

/// What nvmlInit has learnt.
pub(crate) struct Machine {
    shim: Shim,
    pub(crate) devices: Vec<KnownDevice>,
    /// CUDA's version, as libcuda tells it.
    pub(crate) cuda_version: i32,
}

static MACHINE: OnceLock<Machine> = OnceLock::new();

/// The directory of this library.
fn own_directory() -> Option<&'static Path> {
    let mut info = libc::Dl_info {
        dli_fname: ptr::null(),
        dli_fbase: ptr::null_mut(),
        dli_sname: ptr::null(),
        dli_saddr: ptr::null_mut(),
    };
    let here = own_directory as *const c_void;
    // SAFETY: an address in this library, and room for the answer.
    if unsafe { libc::dladdr(here, &raw mut info) } == 0 || info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: the linker's own string, kept as long as this library is loaded.
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    Path::new(OsStr::from_bytes(name.to_bytes())).parent()
}

fn load(path: &CStr) -> Option<Shim> {
    // SAFETY: a NUL-terminated path; a libcuda may be loaded at any time.
    let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if library.is_null() {
        return None;
    }
    let symbol = |name: &CStr| {
        // SAFETY: an open library and a NUL-terminated name.
        let found = unsafe { libc::dlsym(library, name.as_ptr()) };
        (!found.is_null()).then_some(found)
    };
    let open = symbol(c"paravane_nvml_open")?;
    let device = symbol(c"paravane_nvml_device")?;
    let ask = symbol(c"paravane_nvml_ask")?;
    // SAFETY: only Paravane's shim exports this name, with this prototype.
    let open = unsafe { std::mem::transmute::<*mut c_void, Open>(open) };
    // SAFETY: as above.
    let device = unsafe { std::mem::transmute::<*mut c_void, Device>(device) };
    // SAFETY: as above.
    let ask = unsafe { std::mem::transmute::<*mut c_void, Ask>(ask) };
    Some(Shim { open, device, ask })
}

fn find() -> Option<Shim> {
    const NAME: &CStr = c"libcuda.so.1";
    let beside = own_directory().map(|directory| directory.join(OsStr::from_bytes(NAME.to_bytes())));
    let beside = beside.and_then(|path| CString::new(path.as_os_str().as_bytes()).ok());
    beside.and_then(|path| load(&path)).or_else(|| load(NAME))
}

/// What NVML says where CUDA has failed to reach the device.
fn in_nvml(error: CUresult) -> nvmlReturn_t {
    match error {
        CUDA_SUCCESS => NVML_SUCCESS,
        CUDA_ERROR_NO_DEVICE => NVML_ERROR_DRIVER_NOT_LOADED,
        CUDA_ERROR_SYSTEM_DRIVER_MISMATCH => NVML_ERROR_LIB_RM_VERSION_MISMATCH,
        CUDA_ERROR_INVALID_DEVICE => NVML_ERROR_INVALID_ARGUMENT,
        CUDA_ERROR_NOT_SUPPORTED => NVML_ERROR_NOT_SUPPORTED,
        CUDA_ERROR_DEVICE_UNAVAILABLE => NVML_ERROR_GPU_IS_LOST,
        _ => NVML_ERROR_UNKNOWN,
    }
}

/// Connects, the first time, and learns the devices.
pub(crate) fn open() -> Answer {
    if MACHINE.get().is_some() {
        return Ok(());
    }
    let shim = find().ok_or(NVML_ERROR_DRIVER_NOT_LOADED)?;
    let (mut count, mut cuda_version) = (0, 0);
    // SAFETY: room for both results.
    let opened = unsafe { (shim.open)(PROTOCOL_HASH, &raw mut count, &raw mut cuda_version) };
    in_nvml(opened).ok()?;
    let mut devices = Vec::new();
    for ordinal in 0..count {
        let mut device = KnownDevice::new_zeroed();
        // SAFETY: room for the description.
        let described = unsafe { (shim.device)(ordinal, &raw mut device) };
        in_nvml(described).ok()?;
        devices.push(device);
    }
    // Another thread may have been first; both have found the same.
    let _ = MACHINE.set(Machine { shim, devices, cuda_version });
    Ok(())
}

/// What nvmlInit has learnt.
pub(crate) fn machine() -> Answer<&'static Machine> {
    MACHINE.get().ok_or(NVML_ERROR_UNINITIALIZED)
}

/// A device with its number.
pub(crate) fn device(handle: nvmlDevice_t) -> Answer<(u32, &'static KnownDevice)> {
    let ordinal = handle.ordinal().ok_or(NVML_ERROR_INVALID_ARGUMENT)?;
    let device = machine()?.devices.get(ordinal as usize);
    device.map(|device| (ordinal, device)).ok_or(NVML_ERROR_INVALID_ARGUMENT)
}

/// Sends an operation and reads its reply.
pub(crate) fn ask<T>(
    opcode: u16,
    encode: impl FnOnce(&mut Encoder) -> Answer,
    decode: impl FnOnce(&mut Decoder) -> Answer<T>,
) -> Answer<T> {
    let mut request = vec![0; FRAME_BYTES_MAX as usize / 2];
    let mut encoder = Encoder::new(&mut request);
    encode(&mut encoder)?;
    let bytes = encoder.finish().ok_or(NVML_ERROR_INSUFFICIENT_SIZE)?;
    let mut reply = vec![0; REPLY_BYTES_MAX as usize];
    let (from, room, mut replied) = (reply.as_mut_ptr(), reply.len(), 0);
    let ask = machine()?.shim.ask;
    // SAFETY: `bytes` of the request and all of the reply's room are there.
    let answer = unsafe { ask(opcode, request.as_ptr(), bytes, from, room, &raw mut replied) };
    in_nvml(answer).ok()?;
    let mut decoder = Decoder::new(reply.get(..replied).ok_or(NVML_ERROR_UNKNOWN)?);
    let value = decode(&mut decoder)?;
    if decoder.finish() { Ok(value) } else { Err(NVML_ERROR_UNKNOWN) }
}
