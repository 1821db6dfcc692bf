//! The state as the control socket shows it.

use paravane_backend::register::wanted::Percent;

use super::{Host, State, hostname};
use crate::config::settings_of;
use crate::events;
use crate::view::{DeviceView, GpuView, Set, Snapshot, VmView};
use crate::vm::{OnDevice, Vm, mean};

impl Host {
    /// The host now; with the last minutes if they are wanted.
    pub fn snapshot(&self, with_history: bool) -> Snapshot {
        let state = self.state();
        let mut vms: Vec<VmView> = state.vms.values().map(|vm| state.view(vm)).collect();
        vms.sort_by(|a, b| a.name.cmp(&b.name));
        let host = state.config.metrics.hostname.clone().unwrap_or_else(hostname);
        Snapshot {
            at_ms: events::millis(events::now()),
            host,
            version: env!("CARGO_PKG_VERSION").into(),
            gpus: state.gpu_views(&vms),
            vms,
            history: if with_history { state.history.all() } else { Default::default() },
        }
    }
}

impl State {
    fn gpu_views(&self, vms: &[VmView]) -> Vec<GpuView> {
        let view = |(index, gpu): (u32, &crate::gpus::Gpu)| {
            let device = &gpu.device;
            let of_vms = vms.iter().flat_map(|vm| &vm.devices);
            let there: Vec<&DeviceView> = of_vms.filter(|on| on.uuid == device.uuid).collect();
            GpuView {
                index,
                uuid: device.uuid.clone(),
                name: device.name.clone(),
                pci_bus_id: device.pci_bus_id.clone(),
                cuda_version: device.cuda_version,
                memory_bytes: device.memory_bytes,
                memory_used_bytes: there.iter().map(|on| on.memory_bytes).fold(0, u64::saturating_add),
                busy: Percent::of_thousandths(there.iter().map(|on| on.share.thousandths()).sum()),
                vms: u32::try_from(there.len()).unwrap_or(u32::MAX),
            }
        };
        (0..).zip(&self.gpus.0).map(view).collect()
    }

    fn view_on(&self, vm: &Vm, on: &OnDevice) -> DeviceView {
        let settings = settings_of(&vm.layers.all(), self.equals(&on.uuid, false).max(1)).unwrap_or_default();
        DeviceView {
            uuid: on.uuid.clone(),
            index: self.gpus.index(&on.uuid).unwrap_or_default(),
            entitled: Percent::of_thousandths(on.entitled),
            share: Percent::of_thousandths(on.figures.share),
            minimum: Percent::of_thousandths(if on.guaranteed { settings.minimum() } else { 0 }),
            cap: Percent::of_thousandths(settings.cap()),
            waiting: on.figures.waiting,
            memory_bytes: vm.memory_on(on),
            gpu_time_ns: vm.gpu_time_on(&on.uuid),
            waited_ns: on.figures.waited_ns,
            throttled_ns: on.figures.throttled_ns,
            overrun_ns: on.figures.overrun_ns,
        }
    }

    pub(super) fn view(&self, vm: &Vm) -> VmView {
        let wanted = vm.layers.all();
        let devices: Vec<DeviceView> = vm.devices.iter().map(|on| self.view_on(vm, on)).collect();
        let first = vm.devices.first().map_or(1, |on| self.equals(&on.uuid, false));
        let settings = settings_of(&wanted, first.max(1)).unwrap_or_default();
        let mode = serde_json::json!(wanted.mode.unwrap_or_default());
        let priority = serde_json::json!(wanted.priority.unwrap_or_default());
        let word = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        VmView {
            name: vm.name.clone(),
            uuid: vm.uuid.clone(),
            boot: vm.boot.clone(),
            pid: vm.peer.pid,
            uid: vm.peer.uid,
            since_s: vm.since_s,
            set: Set {
                weight: settings.weight(),
                minimum: Percent::of_thousandths(settings.minimum()),
                cap: Percent::of_thousandths(settings.cap()),
                priority: word(priority),
                mode: word(mode),
                memory_quota_bytes: wanted.memory_quota.map(|bytes| bytes.0),
                swap_bytes: wanted.swap.map(|bytes| bytes.0),
                kernel_limit_s: wanted.kernel_limit.map(f64::from),
                sms: wanted.sms,
            },
            wanted: vm.layers.clone(),
            entitled: Percent::of_thousandths(mean(vm.devices.iter().map(|on| on.entitled))),
            share: Percent::of_thousandths(vm.share()),
            waiting: devices.iter().map(|on| on.waiting).fold(0, u32::saturating_add),
            devices,
            memory_bytes: vm.memory_bytes(),
            memory_peak_bytes: vm.memory_peak_bytes,
            used: vm.used(),
            processes: vm.process_views(),
        }
    }
}
