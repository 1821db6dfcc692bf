//! What paravaned answers, for people.

use paravane_backend::register::wanted::Wanted;
use serde::Deserialize;

use super::http::escaped;
use super::table::{Table, bytes, count, duration, percent};
use super::time;
use crate::control::UsageQuery;
use crate::events::Event;
use crate::ledger::{By, DeviceRow, Row};
use crate::view::{ProcessView, Snapshot, VmView};

/// An answer of /v1/usage.
#[derive(Debug, Deserialize)]
pub(super) struct Used<R> {
    usage: Vec<R>,
}

pub(super) fn query(query: &UsageQuery) -> String {
    let value = serde_json::json!(query);
    let pairs = value.as_object().into_iter().flatten().map(|(name, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), escaped);
        format!("{name}={value}")
    });
    pairs.collect::<Vec<_>>().join("&")
}

/// `-` for none.
fn or_dash(text: String) -> String {
    if text.is_empty() { "-".into() } else { text }
}

fn quota(bytes_max: Option<u64>) -> String {
    bytes_max.map_or_else(|| "-".into(), bytes)
}

pub(super) fn list(host: &Snapshot) -> String {
    let mut gpus = Table::new(&[">GPU", "NAME", "UUID", ">BUSY", ">MEMORY", ">OF", ">VMS"]);
    for gpu in &host.gpus {
        gpus.row(vec![
            gpu.index.to_string(),
            gpu.name.clone(),
            gpu.uuid.clone(),
            percent(gpu.busy),
            bytes(gpu.memory_used_bytes),
            bytes(gpu.memory_bytes),
            gpu.vms.to_string(),
        ]);
    }
    let mut vms = Table::new(&[
        "VM", ">GPU", ">SHARE", ">ENTITLED", ">WEIGHT", ">MINIMUM", ">CAP", "PRIORITY", ">MEMORY", ">QUOTA", ">PROCESSES",
        ">GPU TIME",
    ]);
    for vm in &host.vms {
        let mut devices = vm.devices.iter().map(|on| [on.index.to_string(), percent(on.share), percent(on.entitled)]);
        let [index, share, entitled] = devices.next().unwrap_or_default();
        vms.row(vec![
            vm.name.clone(),
            index,
            share,
            entitled,
            vm.set.weight.to_string(),
            percent(vm.set.minimum),
            percent(vm.set.cap),
            vm.set.priority.clone(),
            bytes(vm.memory_bytes),
            quota(vm.set.memory_quota_bytes),
            vm.processes.len().to_string(),
            duration(vm.used.get("gpu_time_ns")),
        ]);
        // A share is one of the device beside it: a VM on several has a line for each.
        devices.for_each(|cells| vms.row(std::iter::once(String::new()).chain(cells).collect()));
    }
    if host.vms.is_empty() {
        return format!("{}\nNo VM is registered.\n", gpus.text());
    }
    format!("{}\n{}", gpus.text(), vms.text())
}

pub(super) fn info(vm: &VmView) -> String {
    let mut facts = Table::new(&["", ""]);
    let mut fact = |name: &str, value: String| facts.row(vec![name.to_owned(), value]);
    fact("name", vm.name.clone());
    fact("uuid", or_dash(vm.uuid.clone()));
    fact("back end", format!("process {} of user {}, since {}", vm.pid, vm.uid, time::shown(vm.since_s)));
    for on in &vm.devices {
        fact(&format!("device {}", on.index), on.uuid.clone());
        fact("  share now", format!("{} of {} entitled", percent(on.share), percent(on.entitled)));
        fact("  gpu time", duration(on.gpu_time_ns));
        if vm.devices.len() > 1 {
            fact("  memory there", bytes(on.memory_bytes));
        }
        // Not what is set for all: others have the rest, or equal shares differ.
        if (on.minimum, on.cap) != (vm.set.minimum, vm.set.cap) {
            fact("  minimum, cap", format!("{}, {}", percent(on.minimum), percent(on.cap)));
        }
    }
    fact("weight", vm.set.weight.to_string());
    fact("minimum, cap", format!("{}, {}", percent(vm.set.minimum), percent(vm.set.cap)));
    fact("priority, mode", format!("{}, {}", vm.set.priority, vm.set.mode));
    if let Some(seconds) = vm.set.kernel_limit_s {
        fact("kernel limit", format!("{seconds} s"));
    }
    if let Some(sms) = vm.set.sms {
        fact("multiprocessors", sms.to_string());
    }
    let memory = (bytes(vm.memory_bytes), bytes(vm.memory_peak_bytes), quota(vm.set.memory_quota_bytes));
    fact("memory", format!("{}, at most {}, quota {}", memory.0, memory.1, memory.2));
    if let Some(swap) = vm.set.swap_bytes {
        fact("swap", format!("up to {} on the host", bytes(swap)));
    }
    let layers = [
        ("set by default", &vm.wanted.defaults),
        ("set by command line", &vm.wanted.command_line),
        ("set by file", &vm.wanted.file),
        ("set live", &vm.wanted.live),
    ];
    for (name, wanted) in layers.iter().filter(|(_, wanted)| **wanted != Wanted::default()) {
        fact(name, serde_json::to_string(wanted).unwrap_or_default());
    }
    for (name, value) in vm.used.iter() {
        fact(&name.trim_end_matches("_ns").replace('_', " "), amount(name, value));
    }
    let mut processes = Table::new(&[
        ">NUMBER", ">PID", "NAME", ">WORKER", ">MEMORY", ">PEAK", ">CONTEXTS", ">BUSY", ">KERNELS", ">GRAPHS", ">CALLS",
        ">TO DEVICE", ">FROM DEVICE", ">WAITED", ">THROTTLED", ">OVERRUN", ">GPU TIME",
    ]);
    for process in &vm.processes {
        let facts = vec![
            process.number.to_string(),
            process.pid.to_string(),
            process.name.clone(),
            process.worker.to_string(),
            bytes(process.memory_bytes),
            bytes(process.memory_peak_bytes),
            process.contexts.to_string(),
            format!("{}%", process.busy_percent),
        ];
        processes.row([facts, account(process).to_vec()].concat());
    }
    let processes = if vm.processes.is_empty() { "No process uses CUDA.\n".into() } else { processes.text() };
    // The facts need no head.
    let facts = facts.text();
    let facts = facts.split_once('\n').map_or("", |(_, facts)| facts);
    format!("{facts}\n{processes}")
}

/// A process's account: kernels, graphs, calls, bytes to the device and from it,
/// time waited, throttled, overrun, GPU time.
pub(super) fn account(process: &ProcessView) -> [String; 9] {
    let used = |name| process.used.get(name);
    [
        count(used("kernels")),
        count(used("graph_launches")),
        count(used("calls_awaited").saturating_add(used("calls_posted"))),
        bytes(used("bytes_to_device")),
        bytes(used("bytes_from_device")),
        duration(used("waited_ns")),
        duration(used("throttled_ns")),
        duration(used("overrun_ns")),
        duration(used("gpu_time_ns")),
    ]
}

/// A counter as its name says what it counts.
pub(super) fn amount(name: &str, value: u64) -> String {
    if name.ends_with("_ns") {
        duration(value)
    } else if name.contains("bytes") {
        bytes(value)
    } else {
        count(value)
    }
}

/// Settings as a file has them, after a change of them.
pub(super) fn in_force(vm: &str, wanted: &Wanted, persistent: bool) -> String {
    let settings = serde_json::json!(wanted);
    let pairs = settings.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    let pairs: Vec<String> = pairs.map(|(name, value)| format!("{name} = {value}")).collect();
    let since = if persistent { "in the file from now on" } else { "until paravaned or the VM ends" };
    format!("{vm}: {}; {since}\n", pairs.join(", "))
}

pub(super) fn usage(used: &Used<Row>, query: &UsageQuery) -> String {
    let by = query.by;
    let mut head = vec!["VM"];
    if by == By::Process {
        head.extend([">PID", "PROCESS", "BEGAN"]);
    }
    head.extend([
        ">GPU TIME", ">KERNELS", ">GRAPHS", ">CALLS", ">TO DEVICE", ">FROM DEVICE", ">WAITED", ">THROTTLED", ">OVERRUN",
        ">MEMORY PEAK", ">GIB HOURS",
    ]);
    let mut table = Table::new(&head);
    for row in &used.usage {
        let get = |name| row.used.get(name);
        let mut cells = vec![row.vm.clone()];
        if by == By::Process {
            let process = row.process.clone().unwrap_or_default();
            let (pid, name) = match process.number {
                0 => ("-".into(), "(the VM)".into()),
                _ => (process.pid.to_string(), process.name),
            };
            cells.extend([pid, name, time::shown(process.started_s)]);
        }
        let hundredths = u128::from(row.memory_mib_s) * 100 / (1024 * 3600);
        cells.extend([
            duration(get("gpu_time_ns")),
            count(get("kernels")),
            count(get("graph_launches")),
            count(get("calls_awaited").saturating_add(get("calls_posted"))),
            bytes(get("bytes_to_device")),
            bytes(get("bytes_from_device")),
            duration(get("waited_ns")),
            duration(get("throttled_ns")),
            duration(get("overrun_ns")),
            bytes(row.memory_peak_bytes),
            format!("{}.{:02}", hundredths / 100, hundredths % 100),
        ]);
        table.row(cells);
    }
    or_nothing(used, &table, query)
}

/// GPU time by device.
pub(super) fn usage_on_devices(used: &Used<DeviceRow>, query: &UsageQuery) -> String {
    let mut table = Table::new(&["VM", "GPU", ">GPU TIME"]);
    for row in &used.usage {
        let gpu = if row.gpu.is_empty() { "(not told)" } else { &row.gpu };
        table.row(vec![row.vm.clone(), gpu.to_owned(), duration(row.gpu_time_ns)]);
    }
    or_nothing(used, &table, query)
}

fn or_nothing<R>(used: &Used<R>, table: &Table, query: &UsageQuery) -> String {
    match &query.vm {
        _ if !used.usage.is_empty() => table.text(),
        Some(vm) => format!("Nothing was used by a VM called {vm}.\n"),
        None => "Nothing was used.\n".into(),
    }
}

pub(super) fn event(event: &Event) -> String {
    let kind = serde_json::json!(event.kind);
    let vm = if event.vm.is_empty() { "-" } else { &event.vm };
    format!("{}  {:<13}  {vm:<12}  {}\n", time::shown(event.at_ms / 1000), kind.as_str().unwrap_or_default(), event.text)
}
