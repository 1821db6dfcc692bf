//! `bench`: the figures of docs/measurements.md. What measures them is tests/bench, a program of its own, so that it can be
//! carried to a machine with a GPU; this module builds it with the product and hands the arguments on.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::step::act;
use crate::{build, paths, process, setup};

const PROGRAM: &str = "paravane-bench";

/// Measure, each figure beside its floor
///
/// Prints one table: what was measured, the floor that the same run found on this machine, the same figure on libcuda
/// alone, and the goal. Takes about four minutes; other programs that run meanwhile show in the figures.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask bench\n  cargo xtask bench --json    one object a line: name, value, unit, floor\n  \
                        cargo xtask bench --quick --only call"
)]
pub(crate) struct Bench {
    /// One JSON object a line instead of a table
    #[arg(long)]
    json: bool,
    /// A tenth of the rounds, and copies up to 16 MiB only
    #[arg(long)]
    quick: bool,
    /// Only this group: call, threads, trace, copy, load, share, sched, swap, idle or start; may be given more than once
    #[arg(long, value_name = "GROUP")]
    only: Vec<String>,
    /// The libcuda that executes the calls [default: Paravane's CPU device]
    #[arg(long, value_name = "PATH")]
    libcuda: Option<PathBuf>,
}

impl Bench {
    pub(crate) fn run(self) -> Result<ExitCode> {
        setup::to_build()?;
        act("the product (cargo build --release)", build::product)?;
        act("the benchmark", || {
            let mut cargo = build::cargo("build");
            process::run("cargo-build-bench", cargo.args(["--release", "--quiet", "--package", PROGRAM]))
        })?;
        let mut bench = Command::new(paths::release().join(PROGRAM));
        bench.args(self.json.then_some("--json")).args(self.quick.then_some("--quick"));
        for group in &self.only {
            bench.args(["--only", group]);
        }
        if let Some(libcuda) = &self.libcuda {
            bench.arg("--libcuda").arg(libcuda);
        }
        let status = process::tie(&mut bench).status().context("cannot start paravane-bench")?;
        // It has said on stderr what it could not measure.
        Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
