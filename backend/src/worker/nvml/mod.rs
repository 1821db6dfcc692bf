//! The operations of libnvidia-ml in the guest (`paravane_protocol::nvml_api`).
//! What the VM uses comes from its backend's account, where libcuda tells it,
//! else from the host's NVML by the workers' process ids; nothing of other
//! processes leaves the host. Readings of the hardware are the host's NVML's.
//! None of it needs a context on the device.

mod arg;
mod library;
mod read;

use paravane_protocol::cuda_types::*;
use paravane_protocol::limits::REPLY_BYTES_MAX;
use paravane_protocol::nvml_types::*;
use zerocopy::IntoBytes;

use super::dispatch::Command;
use super::libcuda::{Answer, cuda};
use super::process::Process;
use crate::usage::User;
pub(super) use library::Nvml;
pub(super) use read::read;

/// The host's NVML, and in it the device with an ordinal of libcuda's;
/// NVML_ERROR_NOT_SUPPORTED where there is none.
fn host_device(process: &Process, ordinal: u64) -> Result<(&Nvml, nvmlDevice_t), nvmlReturn_t> {
    let nvml = process.nvml().ok_or(NVML_ERROR_NOT_SUPPORTED)?;
    let ordinal = i32::try_from(ordinal).map_err(|_| NVML_ERROR_INVALID_ARGUMENT)?;
    let mut uuid = CUuuid { bytes: [0; 16] };
    let lib = &process.lib;
    let told = cuda!(lib.cuDeviceGetUuid_v2(&raw mut uuid, CUdevice(ordinal)))
        .or_else(|_| cuda!(lib.cuDeviceGetUuid(&raw mut uuid, CUdevice(ordinal))));
    told.map_err(|_| NVML_ERROR_INVALID_ARGUMENT)?;
    // A device that NVML does not know is none of NVIDIA's.
    let device = nvml.by_uuid(&uuid.bytes).map_err(|_| NVML_ERROR_NOT_SUPPORTED)?;
    Ok((nvml, device))
}

/// Device memory of this process, as the host's NVML tells it; `None` where it
/// does not know this process, or there is none.
pub(super) fn own_bytes(process: &Process) -> Option<u64> {
    over_devices(process, own_on)
}

/// The same on one device.
pub(super) fn own_bytes_on(process: &Process, ordinal: u64) -> Option<u64> {
    let (nvml, device) = host_device(process, ordinal).ok()?;
    own_on(nvml, device)
}

fn own_on(nvml: &Nvml, device: nvmlDevice_t) -> Option<u64> {
    let computing = nvml.computing(device).ok()?;
    let own = computing.into_iter().find(|info| info.pid == std::process::id())?;
    (own.usedGpuMemory != UNKNOWN_BYTES).then_some(own.usedGpuMemory)
}

/// Memory of all devices that anybody has.
pub(super) fn used_bytes(process: &Process) -> Option<u64> {
    over_devices(process, |nvml, device| Some(nvml.memory(device).ok()?.used))
}

/// A sum over the devices of which NVML tells; `None` where there is none.
fn over_devices(process: &Process, tell: impl Fn(&Nvml, nvmlDevice_t) -> Option<u64>) -> Option<u64> {
    let lib = &process.lib;
    let mut count = 0;
    cuda!(lib.cuDeviceGetCount(&raw mut count)).ok()?;
    let of_device = |ordinal| {
        let (nvml, device) = host_device(process, ordinal).ok()?;
        tell(nvml, device)
    };
    let known: Vec<u64> = (0..u64::try_from(count).ok()?).filter_map(of_device).collect();
    (!known.is_empty()).then(|| known.into_iter().fold(0, u64::saturating_add))
}

/// Memory of a device that nobody has, as the host's NVML tells it.
pub(super) fn free_bytes(process: &Process, ordinal: u64) -> Option<u64> {
    let (nvml, device) = host_device(process, ordinal).ok()?;
    Some(nvml.memory(device).ok()?.free)
}

/// In: nothing.
pub(super) fn driver(command: &mut Command) -> Answer {
    command.read_all()?;
    let process = command.thread.process();
    let version = host_device(&process, 0).and_then(|(nvml, _)| nvml.driver_version());
    command.to.bytes(version.unwrap_or_default().as_bytes());
    Ok(())
}

/// In: device, how many were told before.
pub(super) fn processes(command: &mut Command) -> Answer {
    const FITTING: usize = (REPLY_BYTES_MAX as usize - 64) / size_of::<ProcessUse>();
    let ordinal = command.from.word();
    let before = usize::from_word(command.from.word());
    command.read_all()?;
    let process = command.thread.process();
    process.memory.settle(&process);
    let users = process.exchange.users(process.control())?;
    let all = if process.lib.memory_bytes.is_some() {
        users.iter().map(by_account).collect()
    } else {
        by_host(&process, ordinal, &users)
    };
    let rest = all.get(before..).unwrap_or_default();
    command.to.word(all.len() as u64);
    command.to.bytes(rest.get(..FITTING).unwrap_or(rest).as_bytes());
    Ok(())
}

/// As the process's worker has written it into its account.
fn by_account(user: &User) -> ProcessUse {
    ProcessUse {
        pid: user.pid.get(),
        busy_percent: u32::try_from(user.busy_percent.get()).unwrap_or(100),
        memory_bytes: user.memory_bytes.get(),
        busy_ns: user.busy_ns.get(),
        seen_us: user.seen_us.get(),
        has_context: u32::from(user.contexts.get() > 0),
        memory_percent: 0,
    }
}

/// As the host's NVML tells of the workers; those that use no device are left
/// out, since NVML does not name them.
fn by_host(process: &Process, ordinal: u64, users: &[User]) -> Vec<ProcessUse> {
    let asked = host_device(process, ordinal)
        .and_then(|(nvml, device)| Ok((nvml.computing(device)?, nvml.samples(device))));
    let (computing, samples) = match asked {
        Ok(told) => told,
        Err(error) => {
            log::debug!("the host's NVML: {error:?}");
            return users.iter().map(unknown).collect();
        }
    };
    let named = |user: &User| {
        if !computing.iter().any(|info| info.pid == user.worker.get()) {
            return None;
        }
        let sample = samples.as_ref().ok().map(|samples| {
            let of = samples.iter().filter(|sample| sample.pid == user.worker.get());
            of.max_by_key(|sample| sample.timeStamp)
        });
        // No sample of a process that NVML samples: it has done nothing.
        let busy = |of: fn(&nvmlProcessUtilizationSample_t) -> u32| {
            sample.map_or(UNKNOWN_PERCENT, |sample| sample.map_or(0, of))
        };
        Some(ProcessUse {
            busy_percent: busy(|sample| sample.smUtil),
            memory_percent: busy(|sample| sample.memUtil),
            seen_us: sample.flatten().map_or(0, |sample| sample.timeStamp),
            has_context: 1,
            ..unknown(user)
        })
    };
    users.iter().filter_map(named).collect()
}

/// A process of which only the account is known.
fn unknown(user: &User) -> ProcessUse {
    ProcessUse {
        pid: user.pid.get(),
        busy_percent: UNKNOWN_PERCENT,
        memory_bytes: user.memory_bytes.get(),
        busy_ns: user.busy_ns.get(),
        seen_us: 0,
        has_context: 0,
        memory_percent: 0,
    }
}
