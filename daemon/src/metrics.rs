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
use crate::view::{DeviceView, GpuView, Snapshot, VmView};

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
    type Figure = (&'static str, &'static str, fn(&VmView) -> Option<f64>);
    let figures: [Figure; 9] = [
        ("memory_bytes", "Device memory in use", |vm| Some(float(vm.memory_bytes))),
        ("memory_peak_bytes", "The most device memory in use since the VM registered", |vm| {
            Some(float(vm.memory_peak_bytes))
        }),
        ("memory_quota_bytes", "The most device memory that the VM may use", |vm| {
            vm.set.memory_quota_bytes.map(float)
        }),
        ("swap_bytes", "Host memory that the VM's device memory may lie in", |vm| vm.set.swap_bytes.map(float)),
        ("weight", "Weight by which time beyond guarantees is shared", |vm| Some(vm.set.weight.into())),
        ("processes", "Guest processes that use CUDA", |vm| Some(vm.processes.len() as f64)),
        ("registered_seconds", "When the VM registered, since 1970", |vm| Some(float(vm.since_s))),
        ("minimum_ratio", "Part of each of its devices' time that is to be guaranteed", |vm| Some(ratio(vm.set.minimum))),
        ("cap_ratio", "Part of each of its devices' time that is never exceeded", |vm| Some(ratio(vm.set.cap))),
    ];
    for (name, help, figure) in figures {
        let family = gauge(registry, &format!("paravane_vm_{name}"), help);
        for (vm, labels) in each() {
            if let Some(value) = figure(vm) {
                family.get_or_create(labels).set(value);
            }
        }
    }
    on_devices(registry, snapshot);
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

/// A series for each device of a VM.
fn on_devices(registry: &mut Registry, snapshot: &Snapshot) {
    type Figure = (&'static str, &'static str, fn(&DeviceView) -> f64);
    let figures: [Figure; 4] = [
        ("share_ratio", "Part of the device's time in the last second", |on| ratio(on.share)),
        ("entitled_ratio", "Part of the device's time that the VM would get, had all work", |on| ratio(on.entitled)),
        ("waiting_threads", "Guest threads that wait for the device", |on| on.waiting.into()),
        ("device_memory_bytes", "Device memory in use on the device", |on| float(on.memory_bytes)),
    ];
    let each = || snapshot.vms.iter().flat_map(|vm| vm.devices.iter().map(move |on| (vm, on)));
    for (name, help, figure) in figures {
        let family = gauge(registry, &format!("paravane_vm_{name}"), help);
        for (vm, on) in each() {
            family.get_or_create(&of_vm_on(vm, on, &snapshot.host)).set(figure(on));
        }
    }
    let family = Counters::default();
    registry.register("paravane_vm_device_gpu_time_seconds", "gpu time of the device since the back end began", family.clone());
    for (vm, on) in each() {
        family.get_or_create(&of_vm_on(vm, on, &snapshot.host)).inc_by(float(on.gpu_time_ns) * 1e-9);
    }
}

fn of_vm(vm: &VmView, host: &str) -> Labels {
    vec![
        ("vm", vm.name.clone()),
        ("vm_uuid", vm.uuid.clone()),
        ("Hostname", host.to_owned()),
    ]
}

fn of_vm_on(vm: &VmView, on: &DeviceView, host: &str) -> Labels {
    let mut labels = of_vm(vm, host);
    labels.extend([("gpu", on.index.to_string()), ("UUID", on.uuid.clone())]);
    labels
}

fn ratio(part: Percent) -> f64 {
    f64::from(part) / 100.0
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
        let on = |uuid: &str, index, share| DeviceView {
            uuid: uuid.into(),
            index,
            share: Percent::of_thousandths(share),
            gpu_time_ns: 750_000_000,
            ..DeviceView::default()
        };
        let devices = vec![on("GPU-1", 0, 300), on("GPU-2", 1, 125)];
        let mut vm = VmView { name: "a".into(), devices, ..VmView::default() };
        vm.used.set("kernels", 12);
        vm.used.set("gpu_time_ns", 1_500_000_000);
        let snapshot = Snapshot { host: "h".into(), gpus: vec![gpu], vms: vec![vm], ..Snapshot::default() };
        let text = text(&snapshot);
        let labels = "{gpu=\"0\",UUID=\"GPU-1\",pci_bus_id=\"0000:01:00.0\",device=\"nvidia0\",\
                      modelName=\"Big \\\"GPU\\\"\",Hostname=\"h\"}";
        let of_vm = "{vm=\"a\",vm_uuid=\"\",Hostname=\"h\"}";
        let on = |gpu, uuid| format!("{{vm=\"a\",vm_uuid=\"\",Hostname=\"h\",gpu=\"{gpu}\",UUID=\"{uuid}\"}}");
        for line in [
            format!("DCGM_FI_DEV_GPU_UTIL{labels} 42.5"),
            format!("DCGM_FI_DEV_FB_USED{labels} 3072.0"),
            format!("DCGM_FI_DEV_FB_FREE{labels} 5120.0"),
            format!("paravane_vm_kernels_total{of_vm} 12.0"),
            format!("paravane_vm_gpu_time_seconds_total{of_vm} 1.5"),
            format!("paravane_vm_cap_ratio{of_vm} 0.0"),
            format!("paravane_vm_share_ratio{} 0.3", on(0, "GPU-1")),
            format!("paravane_vm_share_ratio{} 0.125", on(1, "GPU-2")),
            format!("paravane_vm_device_gpu_time_seconds_total{} 0.75", on(1, "GPU-2")),
        ] {
            assert!(text.lines().any(|said| said == line), "no {line} in\n{text}");
        }
        assert!(!text.contains("memory_quota_bytes{"), "a VM without a quota has none");
        assert!(text.ends_with("# EOF\n"));
    }
}
