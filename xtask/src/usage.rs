//! What one VM used, as paravane-backend writes it at its end.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::table;

/// The account of one VM over the life of its back end.
#[derive(Deserialize, Debug)]
pub(crate) struct Usage {
    vm: String,
    totals: Counters,
    processes: Vec<Process>,
}

/// One process in the guest.
#[derive(Deserialize, Debug)]
struct Process {
    name: String,
    #[serde(flatten)]
    counters: Counters,
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
            ("calls", totals.calls()),
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

    /// A table with a row for each process, and the VM's sum.
    pub(crate) fn table(&self) -> String {
        let mut rows: Vec<_> = self
            .processes
            .iter()
            .map(|process| process.counters.row(&process.name))
            .collect();
        rows.push(self.totals.row(&format!("VM {}", self.vm)));
        table::table(
            &[
                "process",
                "calls",
                "bytes to GPU",
                "bytes from GPU",
                "kernels",
                "GPU time",
            ],
            &rows,
        )
    }
}

impl Counters {
    fn calls(&self) -> u64 {
        self.calls_awaited + self.calls_posted
    }

    fn row(&self, name: &str) -> Vec<String> {
        let gpu_time_us = self.gpu_time_ns / 1_000;
        vec![
            name.to_owned(),
            table::count(self.calls()),
            table::count(self.bytes_to_device),
            table::count(self.bytes_from_device),
            table::count(self.kernels),
            format!("{}.{:03} ms", gpu_time_us / 1_000, gpu_time_us % 1_000),
        ]
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
    fn each_process_and_the_sum_have_a_row() {
        let process = format!(r#"{{{COUNTERS},"gpu_time_ns":1002003,"name":"matmul","pid":9}}"#);
        let totals = format!(r#"{{{COUNTERS},"gpu_time_ns":5}}"#);
        let usage = read(&format!(
            r#"{{"vm":"a","processes":[{process}],"totals":{totals}}}"#
        ))
        .unwrap();
        let table = usage.table();
        let rows: Vec<Vec<&str>> = table
            .lines()
            .skip(2)
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(rows[0], ["matmul", "10", "1", "2", "4", "1.002", "ms"]);
        assert_eq!(rows[1][..3], ["VM", "a", "10"]);
    }

    #[test]
    fn a_figure_that_stayed_zero_is_named() {
        let totals = format!(r#"{{{COUNTERS},"gpu_time_ns":0}}"#);
        let usage = read(&format!(r#"{{"vm":"a","processes":[],"totals":{totals}}}"#)).unwrap();
        assert_eq!(usage.zeros(), ["GPU time"]);
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
