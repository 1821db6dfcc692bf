//! Areas that become host memory or staging.

use std::sync::PoisonError;

use paravane_protocol::cuda_types::*;
use paravane_protocol::internal::{HOST_ADD_UNASKED, HOST_ADD_VARIABLE};
use paravane_protocol::limits::{STAGING_SLOT_BYTES, STAGING_SLOTS};

use super::take_area;
use crate::worker::dispatch::Command;
use crate::worker::host_memory::HostMemory;
use crate::worker::libcuda::{Answer, Libcuda, beside_captures, cuda};
use crate::worker::process::Process;

/// Portable and mapped: the guest's other contexts and its kernels may use the
/// memory whatever it asked for.
const REGISTER_PORTABLE_MAPPED: u32 = 3;

fn mapping_failed(area: u16, error: &std::io::Error) -> CUresult {
    log::warn!("area {area}: {error}");
    CUDA_ERROR_OUT_OF_MEMORY
}

/// Makes a call that the program has not asked for in a mode that captures do
/// not mind.
fn unasked(lib: &Libcuda, flags: u64, call: impl FnOnce() -> Answer) -> Answer {
    if flags & HOST_ADD_UNASKED != 0 { beside_captures(lib, call) } else { call() }
}

/// In: area, address in the guest, bytes, flags. Reply: device address.
pub(super) fn add(command: &mut Command) -> Answer {
    let area = take_area(command);
    let wanted = command.from.word();
    let bytes = command.from.word();
    let flags = command.from.word();
    command.read_all()?;
    let area = area?;
    let process = command.thread.process();
    let wanted = usize::try_from(wanted).ok().filter(|address| address.is_multiple_of(4096));
    let (memory, device) = if flags & HOST_ADD_VARIABLE != 0 {
        HostMemory::lend(&process, area, wanted.ok_or(CUDA_ERROR_INVALID_VALUE)?, bytes)?
    } else {
        register(&process, area, wanted, bytes, flags)?
    };
    let mut host_memory = process.host_memory.lock().unwrap_or_else(PoisonError::into_inner);
    host_memory.insert(area, memory);
    command.to.word(device.0);
    Ok(())
}

fn register(process: &Process, area: u16, wanted: Option<usize>, bytes: u64, flags: u64) -> Answer<(HostMemory, CUdeviceptr)> {
    let mapping = process.areas.map(area, wanted).map_err(|error| mapping_failed(area, &error))?;
    let base = mapping.address(0, bytes).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    let len = usize::try_from(bytes).map_err(|_| CUDA_ERROR_INVALID_VALUE)?;
    let lib = &process.lib;
    let mut device = CUdeviceptr(0);
    unasked(lib, flags, || cuda!(lib.cuMemHostRegister_v2(base.cast(), len, REGISTER_PORTABLE_MAPPED)))?;
    if let Err(error) = cuda!(lib.cuMemHostGetDevicePointer_v2(&raw mut device, base.cast(), 0)) {
        // The pages go with the mapping: libcuda must not know them any more.
        unasked(lib, flags, || cuda!(lib.cuMemHostUnregister(base.cast())))?;
        return Err(error);
    }
    Ok((HostMemory::registered(mapping, base as u64), device))
}

/// In: area.
pub(super) fn remove(command: &mut Command) -> Answer {
    let area = take_area(command);
    let flags = command.from.word();
    command.read_all()?;
    let area = area?;
    let process = command.thread.process();
    let mut host_memory = process.host_memory.lock().unwrap_or_else(PoisonError::into_inner);
    let memory = host_memory.remove(&area).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    drop(host_memory);
    unasked(&process.lib, flags, || memory.end(&process, area))
}

/// In: address. Reply: 1 for a managed variable that can be lent, else 0.
pub(super) fn variable(command: &mut Command) -> Answer {
    let asked = CUdeviceptr(command.from.word());
    command.read_all()?;
    let process = command.thread.process();
    let lib = &process.lib;
    let mut is_managed = 0_u32;
    let into = (&raw mut is_managed).cast();
    let told = cuda!(lib.cuPointerGetAttribute(into, CU_POINTER_ATTRIBUTE_IS_MANAGED, asked));
    let is_managed = told.is_ok() && is_managed != 0;
    if is_managed && lib.lend_variable.is_none() {
        log::warn!("a managed variable: this libcuda's lie where the guest does not reach");
        return Err(CUDA_ERROR_NOT_SUPPORTED);
    }
    command.to.word(is_managed.into());
    Ok(())
}

/// In: area.
pub(super) fn add_staging(command: &mut Command) -> Answer {
    let area = take_area(command);
    command.read_all()?;
    let area = area?;
    let process = command.thread.process();
    let mapping = process.areas.map(area, None).map_err(|error| mapping_failed(area, &error))?;
    let bytes = u64::from(STAGING_SLOT_BYTES) * u64::from(STAGING_SLOTS);
    mapping.address(0, bytes).map(|_| ()).ok_or(CUDA_ERROR_INVALID_VALUE)
}
