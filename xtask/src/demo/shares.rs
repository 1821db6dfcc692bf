//! Two VMs work at the same time, and what paravaned gave and charged each: shares beside what was asked, the usage table,
//! the picture of `paravanectl top`.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::daemon::{Daemon, Host};
use crate::step::{act, done, step};
use crate::{table, terminal};

/// The VMs, the one with samples first, and their weights.
pub(crate) const VMS: [(&str, u32); 2] = [("vm1", 3), ("vm2", 1)];
/// What the load in each holds, and how long it works at most.
const HELD_MIB: [u32; VMS.len()] = [320, 192];
const LIMIT_S: u32 = 240;

/// The lighter VM works alone first: it may have all of the device as long as nobody else wants it.
const ALONE: Duration = Duration::from_secs(10);
/// From the moment when both work to the one from which on is measured.
const SETTLE: Duration = Duration::from_secs(3);
const MEASURED: Duration = Duration::from_secs(15);
/// A program that starts in an emulated guest.
const BEGIN_LIMIT: Duration = Duration::from_secs(60);
/// How far a share may be from what was asked, in percent of the device: the host may be busy with other things, and
/// where shares are measured is `cargo xtask bench sched`.
const BOUND: f64 = 10.0;
const SCREEN: (u16, u16) = (120, 36);

/// The arguments of a VM's load.
pub(crate) fn arguments(vm: usize) -> [String; 2] {
    [LIMIT_S.to_string(), HELD_MIB.get(vm).copied().unwrap_or_default().to_string()]
}

/// The load in a VM or on the host.
pub(crate) trait Load {
    fn start(&mut self) -> Result<()>;
    fn stop(&mut self) -> Result<()>;
}

/// What each VM got, and was charged for, while both worked.
pub(crate) struct Shares {
    seconds: f64,
    vms: Vec<Got>,
}

struct Got {
    name: &'static str,
    weight: u32,
    asked: f64,
    got: f64,
    gpu_time_ns: u64,
    kernels: u64,
}

/// Has the second work alone, then both, measures, and leaves the picture at `picture`.
pub(crate) fn measure(daemon: &Daemon, mut loads: Vec<&mut dyn Load>, picture: &Path) -> Result<Shares> {
    let ([(first, _), (second, _)], [first_load, second_load]) = (VMS, loads.as_mut_slice()) else {
        bail!("there are {} loads for {} VMs", loads.len(), VMS.len());
    };
    let seconds = ALONE.as_secs();
    act(&format!("{second} works alone ({seconds} s)"), || {
        second_load.start()?;
        wait_for_kernels(daemon, second)?;
        std::thread::sleep(ALONE);
        Ok(())
    })?;
    let what = format!("both work ({} s), weights {}", (SETTLE + MEASURED).as_secs(), weights());
    let shares = step(&what, || {
        first_load.start()?;
        wait_for_kernels(daemon, first)?;
        std::thread::sleep(SETTLE);
        let before = daemon.host()?;
        std::thread::sleep(MEASURED);
        let shares = Shares::between(&before, &daemon.host()?)?;
        let note = shares.note();
        done(shares, note)
    })?;
    act("the picture of paravanectl top", || {
        let (columns, lines) = SCREEN;
        let text = daemon.said(&["top", "--once", "--color", "--size", &format!("{columns}x{lines}")])?;
        terminal::to_png(&text, columns, lines, picture)
    })?;
    first_load.stop()?;
    second_load.stop()?;
    Ok(shares)
}

fn wait_for_kernels(daemon: &Daemon, name: &str) -> Result<()> {
    let start = Instant::now();
    let before = daemon.host()?.vm(name)?.used.kernels;
    while daemon.host()?.vm(name)?.used.kernels == before {
        if start.elapsed() > BEGIN_LIMIT {
            bail!("{name} has launched no kernel after {} s", BEGIN_LIMIT.as_secs());
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    Ok(())
}

fn weights() -> String {
    VMS.map(|(_, weight)| weight.to_string()).join(":")
}

impl Shares {
    pub(crate) fn between(before: &Host, after: &Host) -> Result<Self> {
        let seconds = Duration::from_millis(after.at_ms.saturating_sub(before.at_ms)).as_secs_f64();
        let mut vms = Vec::new();
        for (name, weight) in VMS {
            let (before, after) = (before.vm(name)?.used, after.vm(name)?.used);
            let gpu_time_ns = after.gpu_time_ns.saturating_sub(before.gpu_time_ns);
            let kernels = after.kernels.saturating_sub(before.kernels);
            vms.push(Got { name, weight, asked: 0.0, got: 0.0, gpu_time_ns, kernels });
        }
        let weight: u32 = vms.iter().map(|vm| vm.weight).sum();
        let gpu_time_ns: u64 = vms.iter().map(|vm| vm.gpu_time_ns).sum();
        for vm in &mut vms {
            vm.asked = 100.0 * f64::from(vm.weight) / f64::from(weight);
            vm.got = 100.0 * vm.gpu_time_ns as f64 / gpu_time_ns.max(1) as f64;
        }
        Ok(Self { seconds, vms })
    }

    /// No VM is further from what was asked than it may be.
    pub(crate) fn hold(&self) -> bool {
        self.vms.iter().all(|vm| (vm.got - vm.asked).abs() <= BOUND)
    }

    /// Each VM's share in a word.
    pub(crate) fn note(&self) -> String {
        let shares = self.vms.iter().map(|vm| format!("{} got {:.1} %", vm.name, vm.got));
        shares.collect::<Vec<_>>().join(", ")
    }

    /// A table with a row for each VM, under a line that says what it is.
    pub(crate) fn text(&self) -> String {
        let percent = |part: f64| format!("{part:.1} %");
        let busy_ns: u64 = self.vms.iter().map(|vm| vm.gpu_time_ns).sum();
        let row = |vm: &Got| {
            let gpu_time = format!("{:.2} s", vm.gpu_time_ns as f64 / 1e9);
            let (asked, got) = (percent(vm.asked), percent(vm.got));
            vec![vm.name.to_owned(), vm.weight.to_string(), asked, got, gpu_time, table::count(vm.kernels)]
        };
        let rows: Vec<_> = self.vms.iter().map(row).collect();
        format!(
            "While both worked, for {:.1} s, of which the device was busy {:.1} s:\n\n{}",
            self.seconds,
            busy_ns as f64 / 1e9,
            table::table(&["VM", "weight", "asked", "got", "GPU time", "kernels"], &rows)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(at_ms: u64, times_ns: [u64; 2]) -> Host {
        let vm = |name: &str, ns: u64| serde_json::json!({ "name": name, "used": { "gpu_time_ns": ns, "kernels": ns / 10 } });
        let vms = [vm("vm1", times_ns[0]), vm("vm2", times_ns[1])];
        serde_json::from_value(serde_json::json!({ "at_ms": at_ms, "vms": vms })).unwrap()
    }

    #[test]
    fn shares_are_of_what_was_charged_between_two_looks() {
        let before = host(1000, [500, 4000]);
        let shares = Shares::between(&before, &host(3000, [500 + 3000, 4000 + 1000])).unwrap();
        assert_eq!(
            shares.vms.iter().map(|vm| (vm.asked, vm.got)).collect::<Vec<_>>(),
            [(75.0, 75.0), (25.0, 25.0)]
        );
        assert!(shares.hold() && shares.text().contains("2.0 s"), "{}", shares.text());
        assert!(!Shares::between(&before, &host(3000, [500 + 1000, 4000 + 1000])).unwrap().hold());
        assert!(!Shares::between(&before, &before).unwrap().hold(), "nothing was done");
    }
}
