//! What the VM uses of its devices: the host's account of the VM's processes,
//! with the pids that they have in the guest. Memory in use is what they use,
//! whatever other VMs have of the same GPU; so is the time that it works.

use paravane_protocol::internal::{MEMORY, NVML_PROCESSES};
use paravane_protocol::nvml_types::*;
use zerocopy::FromBytes;

use crate::boundary::Answer;
use crate::{pointer, shim};

/// Everything that the host tells of a device's users, and the device's number.
fn users(device: nvmlDevice_t) -> Answer<Vec<ProcessUse>> {
    let (ordinal, _) = shim::device(device)?;
    let mut all = Vec::new();
    loop {
        let before = all.len();
        let count = shim::ask(
            NVML_PROCESSES,
            |to| {
                to.word(u64::from(ordinal));
                to.word(before as u64);
                Ok(())
            },
            |from| {
                let count = from.word();
                let records = <[ProcessUse]>::ref_from_bytes(from.bytes());
                all.extend_from_slice(records.map_err(|_| NVML_ERROR_UNKNOWN)?);
                Ok(count)
            },
        )?;
        // A process may end between two questions; then fewer come.
        if all.len() as u64 >= count || all.len() == before {
            return Ok(all);
        }
    }
}

/// Memory as the VM has it: the same figure as CUDA's.
fn memory(device: nvmlDevice_t) -> Answer<nvmlMemory_t> {
    let (ordinal, _) = shim::device(device)?;
    shim::ask(
        MEMORY,
        |to| {
            to.word(u64::from(ordinal));
            Ok(())
        },
        |from| {
            let (total, used, free) = (from.word(), from.word(), from.word());
            Ok(nvmlMemory_t { total, free, used })
        },
    )
}

pub(crate) fn nvmlDeviceGetMemoryInfo(device: nvmlDevice_t, into: *mut nvmlMemory_t) -> Answer {
    pointer::check(into)?;
    pointer::put(into, memory(device)?)
}

pub(crate) fn nvmlDeviceGetMemoryInfo_v2(device: nvmlDevice_t, into: *mut nvmlMemory_v2_t) -> Answer {
    let version = pointer::get(into.cast_const())?.version;
    if version != struct_version(40, 2) {
        return Err(NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
    }
    let nvmlMemory_t { total, free, used } = memory(device)?;
    pointer::put(into, nvmlMemory_v2_t { version, padding: 0, total, reserved: 0, free, used })
}

/// Percent of the last sample period in which the device worked for the VM.
/// How long memory was busy is known of NVIDIA's devices only; 0 elsewhere.
pub(crate) fn nvmlDeviceGetUtilizationRates(
    device: nvmlDevice_t,
    into: *mut nvmlUtilization_t,
) -> Answer {
    pointer::check(into)?;
    let users = users(device)?;
    if users.iter().any(|user| user.busy_percent == UNKNOWN_PERCENT) {
        return Err(NVML_ERROR_NOT_SUPPORTED);
    }
    let sum = |of: fn(&ProcessUse) -> u32| {
        users.iter().fold(0, |sum: u32, user| sum.saturating_add(of(user))).min(100)
    };
    let gpu = sum(|user| user.busy_percent);
    pointer::put(into, nvmlUtilization_t { gpu, memory: sum(|user| user.memory_percent) })
}

/// Writes a list as NVML does: `count` says how long the array is and then how
/// long the list; NVML_ERROR_INSUFFICIENT_SIZE where it does not fit.
fn give<T: Copy>(list: &[T], count: *mut u32, into: *mut T) -> Answer {
    let room = pointer::get(count.cast_const())?;
    pointer::put(count, u32::try_from(list.len()).map_err(|_| NVML_ERROR_UNKNOWN)?)?;
    if list.is_empty() {
        return Ok(());
    }
    if list.len() > room as usize || into.is_null() {
        return Err(NVML_ERROR_INSUFFICIENT_SIZE);
    }
    (0..).zip(list).try_for_each(|(index, entry)| pointer::put_element(into, index, *entry))
}

/// The processes with a context on the device.
fn computing<T: Copy>(
    device: nvmlDevice_t,
    count: *mut u32,
    into: *mut T,
    entry: fn(&ProcessUse) -> T,
) -> Answer {
    pointer::check(count)?;
    let users = users(device)?;
    let list: Vec<T> = users.iter().filter(|user| user.has_context != 0).map(entry).collect();
    give(&list, count, into)
}

fn entry(user: &ProcessUse) -> nvmlProcessInfo_t {
    const NO_INSTANCE: u32 = u32::MAX;
    nvmlProcessInfo_t {
        pid: user.pid,
        padding: 0,
        usedGpuMemory: user.memory_bytes,
        gpuInstanceId: NO_INSTANCE,
        computeInstanceId: NO_INSTANCE,
    }
}

pub(crate) fn nvmlDeviceGetComputeRunningProcesses(
    device: nvmlDevice_t,
    count: *mut u32,
    into: *mut nvmlProcessInfo_v1_t,
) -> Answer {
    computing(device, count, into, |user| nvmlProcessInfo_v1_t {
        pid: user.pid,
        padding: 0,
        usedGpuMemory: user.memory_bytes,
    })
}

pub(crate) fn nvmlDeviceGetComputeRunningProcesses_v2(
    device: nvmlDevice_t,
    count: *mut u32,
    into: *mut nvmlProcessInfo_t,
) -> Answer {
    computing(device, count, into, entry)
}

pub(crate) fn nvmlDeviceGetComputeRunningProcesses_v3(
    device: nvmlDevice_t,
    count: *mut u32,
    into: *mut nvmlProcessInfo_t,
) -> Answer {
    computing(device, count, into, entry)
}

macro_rules! nobody {
    ($($name:ident: $entry:ty;)*) => {$(
        /// The VM has no such processes: only CUDA reaches the device, and without MPS.
        pub(crate) fn $name(device: nvmlDevice_t, count: *mut u32, into: *mut $entry) -> Answer {
            shim::device(device)?;
            give(&[], count, into)
        }
    )*};
}
nobody! {
    nvmlDeviceGetGraphicsRunningProcesses: nvmlProcessInfo_v1_t;
    nvmlDeviceGetGraphicsRunningProcesses_v2: nvmlProcessInfo_t;
    nvmlDeviceGetGraphicsRunningProcesses_v3: nvmlProcessInfo_t;
    nvmlDeviceGetMPSComputeRunningProcesses: nvmlProcessInfo_v1_t;
    nvmlDeviceGetMPSComputeRunningProcesses_v2: nvmlProcessInfo_t;
    nvmlDeviceGetMPSComputeRunningProcesses_v3: nvmlProcessInfo_t;
}

/// One sample for each process that was seen since `last_seen`, in microseconds
/// of the host's clock; NVML_ERROR_NOT_FOUND for none.
pub(crate) fn nvmlDeviceGetProcessUtilization(
    device: nvmlDevice_t,
    into: *mut nvmlProcessUtilizationSample_t,
    count: *mut u32,
    last_seen: u64,
) -> Answer {
    pointer::check(count)?;
    let users = users(device)?;
    let fresh = users.iter().filter(|user| user.has_context != 0 && user.seen_us > last_seen);
    let fresh = fresh.filter(|user| user.busy_percent != UNKNOWN_PERCENT);
    let samples: Vec<_> = fresh
        .map(|user| nvmlProcessUtilizationSample_t {
            pid: user.pid,
            padding: 0,
            timeStamp: user.seen_us,
            smUtil: user.busy_percent,
            memUtil: user.memory_percent,
            encUtil: 0,
            decUtil: 0,
        })
        .collect();
    if samples.is_empty() {
        pointer::put(count, 0)?;
        return Err(NVML_ERROR_NOT_FOUND);
    }
    give(&samples, count, into)
}
