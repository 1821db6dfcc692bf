//! What the kernel knows of processes: who descends from whom, how long they
//! ran, what memory they hold.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};

/// A process and all its descendants.
pub(crate) fn family(root: u32) -> Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process may end between listing and reading.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // The name, in parentheses, may hold anything; state and parent follow.
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
        if let Some(parent) = parent.and_then(|parent| parent.parse::<u32>().ok()) {
            parents.push((pid, parent));
        }
    }
    let mut family = vec![root];
    let mut at = 0;
    while let Some(parent) = family.get(at).copied() {
        family.extend(parents.iter().filter(|(_, p)| *p == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    Ok(family)
}

/// Milliseconds of processor time that all threads of these processes used.
pub(crate) fn cpu_ms(pids: &[u32]) -> Result<f64> {
    let mut nanoseconds = 0;
    for pid in pids {
        let tasks = fs::read_dir(format!("/proc/{pid}/task"));
        for task in tasks.with_context(|| format!("process {pid} is gone"))? {
            let Ok(stat) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            let ran = stat.split_whitespace().next().and_then(|ran| ran.parse::<u64>().ok());
            nanoseconds += ran.context("schedstat has no number")?;
        }
    }
    Ok(nanoseconds as f64 / 1e6)
}

/// Megabytes that these processes hold, shared pages divided by their users.
pub(crate) fn memory_mb(pids: &[u32]) -> Result<f64> {
    let mut kilobytes = 0.0;
    for pid in pids {
        let path = format!("/proc/{pid}/smaps_rollup");
        let rollup = fs::read_to_string(&path).with_context(|| path.clone())?;
        let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
        let number = pss.and_then(|pss| pss.split_whitespace().next()?.parse::<f64>().ok());
        kilobytes += number.with_context(|| format!("{path} has no Pss"))?;
    }
    Ok(kilobytes * 1024.0 / 1e6)
}

/// The share of all processors' time that was used between two moments of
/// `pause`, by whomever; 0 to 1.
pub(crate) fn load(pause: Duration) -> Result<f64> {
    let before = ticks()?;
    sleep(pause);
    let after = ticks()?;
    let (busy, all) = (after.0 - before.0, after.1 - before.1);
    Ok(if all > 0.0 { busy / all } else { 0.0 })
}

/// Busy and all ticks since the machine started.
fn ticks() -> Result<(f64, f64)> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("/proc/stat is empty")?;
    let numbers: Vec<f64> = line.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal: idle and iowait are not busy.
    let all = numbers.iter().take(8).sum::<f64>();
    let idle = numbers.iter().skip(3).take(2).sum::<f64>();
    Ok((all - idle, all))
}
