//! `bench`: the figures of docs/measurements.md. The measuring programs live with what they measure; this module builds them
//! and hands its arguments on.

use std::process::ExitCode;

use anyhow::{Result, bail};

/// Measure, each figure beside its floor
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask bench\n  cargo xtask bench --json    one object a line: name, value, unit, floor"
)]
pub(crate) struct Bench {
    /// One JSON object a line instead of a table
    #[arg(long)]
    json: bool,
}

impl Bench {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let form = if self.json { "as JSON" } else { "as a table" };
        bail!("there is nothing yet to measure {form}")
    }
}
