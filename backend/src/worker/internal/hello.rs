//! HELLO: initialises the library and tells the guest what it can answer by
//! itself from then on.
#![allow(unsafe_code, reason = "sets a variable that libcuda reads")]

use std::sync::OnceLock;

use paravane_protocol::codec::Encoder;
use paravane_protocol::cuda_types::*;
use paravane_protocol::limits::{DEVICE_ATTRIBUTE_MAX, DEVICES_MAX, REPLY_BYTES_MAX, VISIBLE_BYTES_MAX};
use paravane_protocol::visible::visible;

use crate::visible::{ENV_DEVICES, ENV_VISIBLE};
use crate::worker::dispatch::Command;
use crate::worker::libcuda::{Answer, cuda};
use crate::worker::process::Process;

/// Longest device name in a description.
const NAME_BYTES: usize = 256;
/// Bytes of one device's description at most: name, uuid, memory, bus id,
/// attributes, each with its length.
const DEVICE_BYTES_MAX: u64 = (NAME_BYTES + 128 + 4 * (DEVICE_ATTRIBUTE_MAX as usize + 1)) as u64;
const _: () = assert!(DEVICE_BYTES_MAX + 64 < REPLY_BYTES_MAX as u64);

pub(super) fn hello(command: &mut Command) -> Answer {
    let first = command.from.word();
    let has_list = command.from.word() != 0;
    let list = command.from.bytes();
    if list.len() > VISIBLE_BYTES_MAX {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let list = has_list.then(|| String::from_utf8_lossy(list).into_owned());
    command.read_all()?;
    let in_order = see(list.as_deref());
    let process = command.thread.process();
    let lib = &process.lib;
    cuda!(lib.cuInit(0))?;
    let (mut version, mut count) = (0, 0);
    cuda!(lib.cuDriverGetVersion(&raw mut version))?;
    cuda!(lib.cuDeviceGetCount(&raw mut count))?;
    let count = u64::try_from(count).unwrap_or(0).min(u64::from(DEVICES_MAX));
    let fitting = (u64::from(REPLY_BYTES_MAX) - 64) / DEVICE_BYTES_MAX;
    let present = count.saturating_sub(first).min(fitting);
    command.to.word(version.to_word());
    command.to.word(count);
    command.to.word(present);
    command.to.word(u64::from(in_order));
    for ordinal in first..first + present {
        describe(&process, i32::from_word(ordinal), &mut command.to)?;
    }
    Ok(())
}

/// Lets the library see what the program's list names of what the VM sees: the
/// first call decides, before the library looks. Whether those are the first of
/// the VM's devices in their order.
fn see(list: Option<&str>) -> bool {
    static IN_ORDER: OnceLock<bool> = OnceLock::new();
    *IN_ORDER.get_or_init(|| {
        let Some(list) = list else { return true };
        let of_vm = of_vm();
        if of_vm.is_empty() {
            log::warn!("the host's devices have no names: the program's {ENV_VISIBLE} does not count");
            return true;
        }
        let places = visible(list, &of_vm);
        let seen: Vec<&str> = places.iter().filter_map(|place| of_vm.get(*place)).map(String::as_str).collect();
        // SAFETY: the other threads wait for this one or for the guest, and
        // read no variables: nothing has been asked of the library yet.
        unsafe { std::env::set_var(ENV_VISIBLE, seen.join(",")) };
        places.into_iter().eq(0..seen.len())
    })
}

/// The UUIDs of what the VM sees: what the operator's list names, or all. A list
/// of ordinals is the back end's own, and is applied already in what it tells.
fn of_vm() -> Vec<String> {
    let devices = std::env::var(ENV_DEVICES).unwrap_or_default();
    let all: Vec<String> = devices.split(',').filter(|uuid| !uuid.is_empty()).map(str::to_owned).collect();
    let named = std::env::var(ENV_VISIBLE).ok().filter(|list| list.contains('-'));
    match named {
        Some(list) => visible(&list, &all).into_iter().filter_map(|place| all.get(place).cloned()).collect(),
        None => all,
    }
}

fn describe(process: &Process, ordinal: i32, to: &mut Encoder) -> Answer {
    let lib = &process.lib;
    let mut dev = CUdevice(0);
    cuda!(lib.cuDeviceGet(&raw mut dev, ordinal))?;
    let mut name = [0_u8; NAME_BYTES];
    cuda!(lib.cuDeviceGetName(name.as_mut_ptr(), 256, dev))?;
    let mut uuid = CUuuid { bytes: [0; 16] };
    cuda!(lib.cuDeviceGetUuid_v2(&raw mut uuid, dev))
        .or_else(|_| cuda!(lib.cuDeviceGetUuid(&raw mut uuid, dev)))?;
    let mut total = 0_usize;
    cuda!(lib.cuDeviceTotalMem_v2(&raw mut total, dev))?;
    let mut bus_id = [0_u8; 32];
    cuda!(lib.cuDeviceGetPCIBusId(bus_id.as_mut_ptr(), 32, dev))?;
    to.bytes(until_nul(&name));
    to.bytes(&uuid.bytes);
    to.word(total as u64);
    to.bytes(until_nul(&bus_id));
    let attributes: Vec<u8> =
        (0..=DEVICE_ATTRIBUTE_MAX).flat_map(|number| attribute(process, number, dev).to_le_bytes()).collect();
    to.bytes(&attributes);
    Ok(())
}

fn until_nul(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == 0).next().unwrap_or(text)
}

fn attribute(process: &Process, number: u32, dev: CUdevice) -> i32 {
    let lib = &process.lib;
    let mut value = 0;
    match cuda!(lib.cuDeviceGetAttribute(&raw mut value, CUdevice_attribute(number), dev)) {
        Ok(()) if number == CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT.0 => process.parts.seen(value),
        Ok(()) => value,
        Err(_) => i32::MIN,
    }
}
