//! What the control socket shows, and paravanectl reads: the host at one moment.

use std::collections::BTreeMap;

use paravane_backend::register::wanted::{Percent, Wanted};
use serde::{Deserialize, Serialize};

use crate::counters::Counters;

/// The host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The host's name.
    pub host: String,
    /// paravaned's.
    pub version: String,
    /// Devices, in the order in which they were first told of.
    pub gpus: Vec<GpuView>,
    /// VMs that are registered, by name.
    pub vms: Vec<VmView>,
    /// The last minutes, one figure a second, by VM's name or device's UUID.
    #[serde(default)]
    pub history: BTreeMap<String, Vec<Point>>,
}

/// One second of a VM or a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// Thousandths of the device's time.
    pub share: u32,
    /// Device memory in use, in MiB.
    pub memory_mib: u64,
}

/// A device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GpuView {
    /// Counts devices from 0.
    pub index: u32,
    /// As nvidia-smi writes it.
    pub uuid: String,
    /// The model.
    pub name: String,
    /// Where it is.
    pub pci_bus_id: String,
    /// The library's CUDA version times a thousand.
    pub cuda_version: u32,
    /// Its memory.
    pub memory_bytes: u64,
    /// What VMs use of it.
    pub memory_used_bytes: u64,
    /// Part of the last second in which it worked for VMs.
    pub busy: Percent,
    /// VMs that are placed on it.
    pub vms: u32,
}

/// A VM.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VmView {
    /// Its name.
    pub name: String,
    /// Its UUID, or empty.
    pub uuid: String,
    /// The run of its back end.
    pub boot: String,
    /// The back end's process and user on the host.
    pub pid: i32,
    /// As above.
    pub uid: u32,
    /// The devices it is placed on, in the order in which it sees them.
    pub devices: Vec<DeviceView>,
    /// When it registered, in seconds since 1970.
    pub since_s: u64,
    /// Settings in force.
    pub set: Set,
    /// Where they come from.
    pub wanted: Layers,
    /// What it would get of all its devices together, had all VMs work.
    pub entitled: Percent,
    /// What it got of them in the last second.
    pub share: Percent,
    /// Its threads that wait for a device now.
    pub waiting: u32,
    /// Device memory in use, on all its devices.
    pub memory_bytes: u64,
    /// The most there was in use since it registered.
    pub memory_peak_bytes: u64,
    /// Sums since its back end began, as far as they have been told.
    pub used: Counters,
    /// Its processes that run.
    pub processes: Vec<ProcessView>,
}

/// What a VM has of one of its devices.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeviceView {
    /// The device.
    pub uuid: String,
    /// Its number on the host, as [`GpuView`] has it.
    pub index: u32,
    /// What the VM would get of it now, had all VMs work.
    pub entitled: Percent,
    /// What it got in the last second.
    pub share: Percent,
    /// The guarantee in force here: none, where others have the rest.
    pub minimum: Percent,
    /// The cap in force here.
    pub cap: Percent,
    /// Threads that wait for it now.
    pub waiting: u32,
    /// Device memory in use there.
    pub memory_bytes: u64,
    /// How long it has worked for the VM since its back end began, in nanoseconds.
    pub gpu_time_ns: u64,
    /// Time that threads have waited for other VMs since this one registered, in nanoseconds.
    pub waited_ns: u64,
    /// Likewise for the VM's own cap.
    pub throttled_ns: u64,
    /// Time that commands took beyond their leases, likewise.
    pub overrun_ns: u64,
}

/// What is in force for a VM.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Set {
    /// Shares what guarantees leave.
    pub weight: u32,
    /// Guaranteed.
    pub minimum: Percent,
    /// Never exceeded.
    pub cap: Percent,
    /// interactive, normal or batch.
    pub priority: String,
    /// best-effort and the like.
    pub mode: String,
    /// The most device memory.
    pub memory_quota_bytes: Option<u64>,
    /// Host memory that its device memory may lie in.
    #[serde(default)]
    pub swap_bytes: Option<u64>,
    /// How long a kernel may run, in seconds.
    pub kernel_limit_s: Option<f64>,
    /// How many multiprocessors kernels may use.
    pub sms: Option<u32>,
}

/// Settings by where they come from; a later one counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layers {
    /// `[defaults]` of the file.
    pub defaults: Wanted,
    /// The back end's command line.
    pub command_line: Wanted,
    /// The VM's table in the file.
    pub file: Wanted,
    /// Set until paravaned or the VM ends.
    pub live: Wanted,
}

impl Layers {
    /// What counts.
    pub fn all(&self) -> Wanted {
        self.defaults.under(&self.command_line).under(&self.file).under(&self.live)
    }

    /// The device cannot divide its multiprocessors so.
    pub fn forget_sms(&mut self) {
        for layer in [&mut self.defaults, &mut self.command_line, &mut self.file, &mut self.live] {
            layer.sms = None;
        }
    }
}

/// A guest process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessView {
    /// Counts the back end's processes.
    pub number: u64,
    /// Its id in the guest.
    pub pid: u32,
    /// Its name in the guest.
    pub name: String,
    /// Its worker's id on the host.
    pub worker: u32,
    /// Device memory in use.
    pub memory_bytes: u64,
    /// The most that it ever held.
    #[serde(default)]
    pub memory_peak_bytes: u64,
    /// CUDA contexts.
    pub contexts: u64,
    /// How much of its last sample period the device worked for it.
    pub busy_percent: u64,
    /// Sums since it began.
    pub used: Counters,
}
