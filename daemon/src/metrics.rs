//! `/metrics`: devices under the names and labels of NVIDIA's dcgm-exporter, so that its dashboards show them, and VMs
//! under `paravane_vm_*`. Every figure is from the accounts: a device works as much as its VMs make it work.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use paravane_backend::register::wanted::Percent;

use crate::counters::COLUMNS;
use crate::view::{GpuView, Snapshot, VmView};

/// What the answer is.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;
type Gauges = Family<Labels, Gauge<f64, AtomicU64>>;
type Counters = Family<Labels, Counter<f64, AtomicU64>>;

/// The text for a snapshot.
pub fn text(snapshot: &Snapshot) -> String {
    let mut registry = Registry::default();
    devices(&mut registry, snapshot);
    vms(&mut registry, snapshot);
    let mut text = String::new();
    // Writing into a string does not fail.
    let _ = encode(&mut text, &registry);
    text
}

fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauges {
    let family = Gauges::default();
    registry.register(name, help, family.clone());
    family
}

fn devices(registry: &mut Registry, snapshot: &Snapshot) {
    let utilization = gauge(registry, "DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in %)");
    let used = gauge(registry, "DCGM_FI_DEV_FB_USED", "Framebuffer memory used (in MiB)");
    let free = gauge(registry, "DCGM_FI_DEV_FB_FREE", "Framebuffer memory free (in MiB)");
    let count = gauge(registry, "paravane_gpu_vms", "VMs that are placed on the device");
    for gpu in &snapshot.gpus {
        let labels = of_device(gpu, &snapshot.host);
        utilization.get_or_create(&labels).set(f64::from(gpu.busy));
        used.get_or_create(&labels).set(mib(gpu.memory_used_bytes));
        free.get_or_create(&labels).set(mib(gpu.memory_bytes.saturating_sub(gpu.memory_used_bytes)));
        count.get_or_create(&labels).set(f64::from(gpu.vms));
    }
}

/// As dcgm-exporter labels a device.
fn of_device(gpu: &GpuView, host: &str) -> Labels {
    vec![
        ("gpu", gpu.index.to_string()),
        ("UUID", gpu.uuid.clone()),
        ("pci_bus_id", gpu.pci_bus_id.clone()),
        ("device", format!("nvidia{}", gpu.index)),
        ("modelName", gpu.name.clone()),
        ("Hostname", host.to_owned()),
    ]
}

fn vms(registry: &mut Registry, snapshot: &Snapshot) {
    let labels: Vec<Labels> = snapshot.vms.iter().map(|vm| of_vm(vm, &snapshot.host)).collect();
    let each = || snapshot.vms.iter().zip(&labels);
    let percent = |part: Percent| f64::from(part) / 100.0;
    type Figure = (&'static str, &'static str, fn(&VmView) -> Option<u64>);
    let figures: [Figure; 8] = [
        ("memory_bytes", "Device memory in use", |vm| Some(vm.memory_bytes)),
        ("memory_peak_bytes", "The most device memory in use since the VM registered", |vm| Some(vm.memory_peak_bytes)),
        ("memory_quota_bytes", "The most device memory that the VM may use", |vm| vm.set.memory_quota_bytes),
        ("swap_bytes", "Host memory that the VM's device memory may lie in", |vm| vm.set.swap_bytes),
        ("weight", "Weight by which time beyond guarantees is shared", |vm| Some(vm.set.weight.into())),
        ("waiting_threads", "Guest threads that wait for the device", |vm| Some(vm.waiting.into())),
        ("processes", "Guest processes that use CUDA", |vm| u64::try_from(vm.processes.len()).ok()),
        ("registered_seconds", "When the VM registered, since 1970", |vm| Some(vm.since_s)),
    ];
    for (name, help, figure) in figures {
        let family = gauge(registry, &format!("paravane_vm_{name}"), help);
        for (vm, labels) in each() {
            if let Some(value) = figure(vm) {
                family.get_or_create(labels).set(float(value));
            }
        }
    }
    type Part = (&'static str, &'static str, fn(&VmView) -> Percent);
    let parts: [Part; 4] = [
        ("share", "Part of the device's time in the last second", |vm| vm.share),
        ("entitled", "Part of the device's time that the VM would get, had all work", |vm| vm.entitled),
        ("minimum", "Guaranteed part of the device's time", |vm| vm.set.minimum),
        ("cap", "Part of the device's time that is never exceeded", |vm| vm.set.cap),
    ];
    for (name, help, part) in parts {
        let family = gauge(registry, &format!("paravane_vm_{name}_ratio"), help);
        for (vm, labels) in each() {
            family.get_or_create(labels).set(percent(part(vm)));
        }
    }
    for column in COLUMNS {
        let (name, scale) = match column.strip_suffix("_ns") {
            Some(stem) => (format!("paravane_vm_{stem}_seconds"), 1e-9),
            None => (format!("paravane_vm_{column}"), 1.0),
        };
        let family = Counters::default();
        registry.register(name, format!("{} since the back end began", column.replace('_', " ")), family.clone());
        for (vm, labels) in each() {
            family.get_or_create(labels).inc_by(float(vm.used.get(column)) * scale);
        }
    }
}

fn of_vm(vm: &VmView, host: &str) -> Labels {
    vec![
        ("vm", vm.name.clone()),
        ("vm_uuid", vm.uuid.clone()),
        ("UUID", vm.gpu.clone()),
        ("Hostname", host.to_owned()),
    ]
}

/// As Prometheus counts; beyond 2^53 the last digits go.
fn float(value: u64) -> f64 {
    value as f64
}

fn mib(bytes: u64) -> f64 {
    float(bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_dcgms_names_and_vms_their_own() {
        let gpu = GpuView {
            uuid: "GPU-1".into(),
            name: "Big \"GPU\"".into(),
            pci_bus_id: "0000:01:00.0".into(),
            memory_bytes: 8 << 30,
            memory_used_bytes: 3 << 30,
            busy: Percent::of_thousandths(425),
            ..GpuView::default()
        };
        let mut vm = VmView { name: "a".into(), gpu: "GPU-1".into(), ..VmView::default() };
        vm.used.set("kernels", 12);
        vm.used.set("gpu_time_ns", 1_500_000_000);
        let snapshot = Snapshot { host: "h".into(), gpus: vec![gpu], vms: vec![vm], ..Snapshot::default() };
        let text = text(&snapshot);
        let labels = "{gpu=\"0\",UUID=\"GPU-1\",pci_bus_id=\"0000:01:00.0\",device=\"nvidia0\",\
                      modelName=\"Big \\\"GPU\\\"\",Hostname=\"h\"}";
        let of_vm = "{vm=\"a\",vm_uuid=\"\",UUID=\"GPU-1\",Hostname=\"h\"}";
        for line in [
            format!("DCGM_FI_DEV_GPU_UTIL{labels} 42.5"),
            format!("DCGM_FI_DEV_FB_USED{labels} 3072.0"),
            format!("DCGM_FI_DEV_FB_FREE{labels} 5120.0"),
            format!("paravane_vm_kernels_total{of_vm} 12.0"),
            format!("paravane_vm_gpu_time_seconds_total{of_vm} 1.5"),
            format!("paravane_vm_cap_ratio{of_vm} 0.0"),
        ] {
            assert!(text.lines().any(|said| said == line), "no {line} in\n{text}");
        }
        assert!(!text.contains("memory_quota_bytes{"), "a VM without a quota has none");
        assert!(text.ends_with("# EOF\n"));
    }
}
