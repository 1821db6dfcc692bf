//! `bench`: the figures of docs/measurements.md. The program that measures is `tests/bench`; this builds it and what it
//! measures, and hands over.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::step::act;
use crate::{build, paths, process, setup};

/// Measure, each figure beside its floor
///
/// Runs CUDA calls through Paravane and straight on the same libcuda, and prints one table: goals that are missed are
/// shown and are no error. Timings want a machine that does nothing else.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask bench\n  cargo xtask bench --quick --only call\n  \
                  cargo xtask bench --json    one object a line: name, value, unit, floor"
)]
pub(crate) struct Bench {
    /// One JSON object a line instead of a table
    #[arg(long)]
    json: bool,
    /// A tenth of the rounds, and copies up to 16 MiB only
    #[arg(long)]
    quick: bool,
    /// Only this group of figures: call, copy, share, idle, start; may be given more than once
    #[arg(long, value_name = "GROUP")]
    only: Vec<String>,
    /// The libcuda that executes [default: Paravane's CPU device]
    #[arg(long, value_name = "PATH")]
    libcuda: Option<PathBuf>,
}

impl Bench {
    pub(crate) fn run(self) -> Result<ExitCode> {
        setup::to_build()?;
        act("the product (cargo build --release)", build::product)?;
        act("the benchmark", || {
            let mut cargo = build::cargo("build");
            process::run(
                "cargo-build-bench",
                cargo.args(["--release", "--quiet", "--package", "paravane-bench"]),
            )
        })?;
        let mut bench = Command::new(paths::release().join("paravane-bench"));
        for (flag, given) in [("--json", self.json), ("--quick", self.quick)] {
            if given {
                bench.arg(flag);
            }
        }
        for group in &self.only {
            bench.args(["--only", group]);
        }
        if let Some(libcuda) = &self.libcuda {
            bench.arg("--libcuda").arg(libcuda);
        }
        let status = process::tie(&mut bench)
            .status()
            .context("cannot start paravane-bench")?;
        Ok(if status.success() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}
