//! What the library itself says, and what the guest is told: one figure for
//! cuMemGetInfo, cuDeviceTotalMem and NVML.

use paravane_protocol::cuda_types::*;

use crate::worker::dispatch::Command;
use crate::worker::libcuda::{self, Answer, cuda};
use crate::worker::nvml;
use crate::worker::process::Process;

/// Device memory of this process, from cpu-driver or from the host's NVML; `None`
/// where neither tells.
pub(super) fn own_bytes(process: &Process) -> Option<u64> {
    process.lib.memory_bytes.map(libcuda::figure).or_else(|| nvml::own_bytes(process))
}

/// The same on one device.
pub(super) fn own_bytes_on(process: &Process, device: CUdevice) -> Option<u64> {
    let told = libcuda::memory_on(&process.lib, device);
    told.or_else(|| nvml::own_bytes_on(process, u64::try_from(device.0).ok()?))
}

/// Memory that is in use by anybody: of all devices, as the host's NVML tells it,
/// else of the current one, which takes a context.
pub(super) fn device_used(process: &Process) -> Option<u64> {
    nvml::used_bytes(process).or_else(|| current_used(process))
}

fn current_used(process: &Process) -> Option<u64> {
    let lib = &process.lib;
    let (mut free, mut total) = (0, 0);
    cuda!(lib.cuMemGetInfo_v2(&raw mut free, &raw mut total)).ok()?;
    Some(total.saturating_sub(free) as u64)
}

/// A device's total and used bytes as the VM has them. One device's are the budget's; of several
/// the rest is the lesser of what the quota, which is of all, and what that device leaves.
fn of_vm(process: &Process, number: usize, device_bytes: u64) -> (u64, u64) {
    let vm = process.memory.vm();
    if process.leases.count() == 1 {
        return vm.of_device(device_bytes);
    }
    let there = process.leases.at(number).gate.page().held().claim;
    let left = device_bytes.saturating_sub(there).min(vm.limit.saturating_sub(vm.used));
    let total = device_bytes.min(vm.limit);
    (total, total.saturating_sub(left))
}

/// In: nothing. Reply: free, total.
pub(in crate::worker) fn figures(command: &mut Command) -> Answer {
    command.read_all()?;
    let process = command.thread.process();
    let lib = &process.lib;
    let (mut free, mut total) = (0, 0);
    cuda!(lib.cuMemGetInfo_v2(&raw mut free, &raw mut total))?;
    process.memory.settle_cheaply(&process);
    let (total, used) = of_vm(&process, process.leases.here(lib), total as u64);
    // On a GPU others may have what the VM has not; where memory moves, they make room.
    let free = if process.swap().is_some() { u64::MAX } else { free as u64 };
    command.to.word(free.min(total - used));
    command.to.word(total);
    Ok(())
}

/// In: device. Reply: total, used, free.
pub(in crate::worker) fn memory_of_device(command: &mut Command) -> Answer {
    let ordinal = command.from.word();
    command.read_all()?;
    let process = command.thread.process();
    let lib = &process.lib;
    let mut bytes = 0;
    let device = CUdevice::from_word(ordinal);
    cuda!(lib.cuDeviceTotalMem_v2(&raw mut bytes, device))?;
    process.memory.settle(&process);
    let number = if process.leases.count() > 1 { process.leases.of_device(lib, device) } else { 0 };
    let (total, used) = of_vm(&process, number, bytes as u64);
    let told = if process.swap().is_some() { None } else { nvml::free_bytes(&process, ordinal) };
    let free = told.unwrap_or(u64::MAX);
    command.to.word(total);
    command.to.word(used);
    command.to.word(free.min(total - used));
    Ok(())
}
