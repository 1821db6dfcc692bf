//! What one VM used, as paravane-backend writes it at its end.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::table;

/// The account of one VM over the life of its back end.
#[derive(Deserialize, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// CUDA calls whose reply the guest awaited.
    calls_awaited: u64,
    /// CUDA calls without a reply.
    calls_posted: u64,
    pub(crate) bytes_to_device: u64,
    pub(crate) bytes_from_device: u64,
    /// Kernels launched.
    pub(crate) kernels: u64,
    /// Time that kernels ran, by the device's events.
    pub(crate) gpu_time_ns: u64,
}

impl Usage {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)
            .context("paravane-backend left no account of what was used")?;
        let line = text.lines().last().unwrap_or_default();
        serde_json::from_str(line)
            .with_context(|| format!("paravane-backend's account is not readable: {line}"))
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls_awaited + self.calls_posted
    }

    /// A table with one row.
    pub(crate) fn table(&self, name: &str) -> String {
        let row = vec![
            name.to_owned(),
            table::count(self.calls()),
            table::count(self.bytes_to_device),
            table::count(self.bytes_from_device),
            table::count(self.kernels),
            format!(
                "{}.{:03} ms",
                self.gpu_time_ns / 1_000_000,
                self.gpu_time_ns / 1_000 % 1_000
            ),
        ];
        table::table(
            &[
                "VM",
                "calls",
                "bytes to GPU",
                "bytes from GPU",
                "kernels",
                "GPU time",
            ],
            &[row],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_counts_and_a_missing_figure_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("usage.json");
        let whole = r#"{"calls_awaited":7,"calls_posted":3,"bytes_to_device":1,"bytes_from_device":2,"kernels":3,"gpu_time_ns":4,"later":5}"#;
        fs::write(&path, format!("{{}}\n{whole}\n")).unwrap();
        assert_eq!(Usage::read(&path).unwrap().calls(), 10);
        fs::write(&path, r#"{"calls_awaited":7}"#).unwrap();
        assert!(Usage::read(&path).is_err());
    }
}
