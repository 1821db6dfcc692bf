//! What one VM used, as paravane-backend writes it at its end.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;

/// The account of one VM over the life of its back end.
#[derive(Deserialize, Debug)]
pub(crate) struct Usage {
    totals: Counters,
    processes: Vec<Process>,
}

/// One process in the guest.
#[derive(Deserialize, Debug)]
struct Process {
    name: String,
    gpu_time_ns: u64,
}

#[derive(Deserialize, Debug)]
struct Counters {
    /// CUDA calls whose reply the guest awaited.
    calls_awaited: u64,
    /// CUDA calls without a reply.
    calls_posted: u64,
    bytes_to_device: u64,
    bytes_from_device: u64,
    /// Kernels launched.
    kernels: u64,
    /// Time that kernels ran, by the device's events.
    gpu_time_ns: u64,
}

impl Usage {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)
            .context("paravane-backend left no account of what was used")?;
        serde_json::from_str(&text)
            .with_context(|| format!("paravane-backend's account is not readable: {text}"))
    }

    /// The figures that are still zero; after the samples none is.
    pub(crate) fn zeros(&self) -> Vec<&'static str> {
        let totals = &self.totals;
        let figures = [
            ("calls", totals.calls_awaited + totals.calls_posted),
            ("bytes to the GPU", totals.bytes_to_device),
            ("bytes from the GPU", totals.bytes_from_device),
            ("kernels", totals.kernels),
            ("GPU time", totals.gpu_time_ns),
        ];
        figures
            .into_iter()
            .filter(|(_, figure)| *figure == 0)
            .map(|(name, _)| name)
            .collect()
    }

    /// GPU time of the processes of this name.
    pub(crate) fn gpu_time(&self, name: &str) -> Duration {
        let of_name = self.processes.iter().filter(|process| process.name == name);
        Duration::from_nanos(of_name.map(|process| process.gpu_time_ns).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTERS: &str = r#""calls_awaited":7,"calls_posted":3,"bytes_to_device":1,"bytes_from_device":2,"kernels":4"#;

    fn read(text: &str) -> Result<Usage> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("usage.json");
        fs::write(&path, text).unwrap();
        Usage::read(&path)
    }

    #[test]
    fn a_figure_that_stayed_zero_is_named() {
        let totals = format!(r#"{{{COUNTERS},"gpu_time_ns":0}}"#);
        let usage = read(&format!(r#"{{"vm":"a","processes":[],"totals":{totals}}}"#)).unwrap();
        assert_eq!(usage.zeros(), ["GPU time"]);
    }

    #[test]
    fn processes_of_one_name_are_charged_together() {
        let process = |name: &str, ns: u32| format!(r#"{{{COUNTERS},"gpu_time_ns":{ns},"name":"{name}","pid":9}}"#);
        let (processes, totals) = ([process("a", 2), process("b", 3), process("a", 5)].join(","), format!(r#"{{{COUNTERS},"gpu_time_ns":10}}"#));
        let usage = read(&format!(r#"{{"vm":"v","processes":[{processes}],"totals":{totals}}}"#)).unwrap();
        assert_eq!(["a", "b", "c"].map(|name| usage.gpu_time(name).as_nanos()), [7, 3, 0]);
    }

    #[test]
    fn a_missing_figure_is_an_error() {
        assert!(
            read(&format!(
                r#"{{"vm":"a","processes":[],"totals":{{{COUNTERS}}}}}"#
            ))
            .is_err()
        );
    }
}
