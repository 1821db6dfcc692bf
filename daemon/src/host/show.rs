//! The state as the control socket shows it.

use paravane_backend::register::wanted::Percent;

use super::{Host, State, hostname};
use crate::config::settings_of;
use crate::events;
use crate::view::{GpuView, Set, Snapshot, VmView};
use crate::vm::Vm;

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
            let there: Vec<&VmView> = vms.iter().filter(|vm| vm.gpu == device.uuid).collect();
            GpuView {
                index,
                uuid: device.uuid.clone(),
                name: device.name.clone(),
                pci_bus_id: device.pci_bus_id.clone(),
                cuda_version: device.cuda_version,
                memory_bytes: device.memory_bytes,
                memory_used_bytes: there.iter().map(|vm| vm.memory_bytes).fold(0, u64::saturating_add),
                busy: Percent::of_thousandths(there.iter().map(|vm| vm.share.thousandths()).sum()),
                vms: u32::try_from(there.len()).unwrap_or(u32::MAX),
            }
        };
        (0..).zip(&self.gpus.0).map(view).collect()
    }

    pub(super) fn view(&self, vm: &Vm) -> VmView {
        let wanted = vm.layers.all();
        let settings = settings_of(&wanted, self.equals(&vm.gpu, false).max(1)).unwrap_or_default();
        let mode = serde_json::json!(wanted.mode.unwrap_or_default());
        let priority = serde_json::json!(wanted.priority.unwrap_or_default());
        let word = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        VmView {
            name: vm.name.clone(),
            uuid: vm.uuid.clone(),
            boot: vm.boot.clone(),
            pid: vm.peer.pid,
            uid: vm.peer.uid,
            gpu: vm.gpu.clone(),
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
            entitled: Percent::of_thousandths(vm.entitled),
            share: Percent::of_thousandths(vm.figures.share),
            waiting: vm.figures.waiting,
            memory_bytes: vm.memory_bytes(),
            memory_peak_bytes: vm.memory_peak_bytes,
            used: vm.used(),
            processes: vm.process_views(),
        }
    }
}
