//! The benchmark: one program that is both sides of it. Without a sub-command
//! it starts a backend, lets `probe` processes of its own run on the shim and
//! on libcuda alone, and prints one table. `cargo xtask bench` builds what it
//! needs and calls it; tests/gpu runs it prebuilt beside a real GPU.

mod cuda;
mod figure;
mod floor;
mod goal;
mod host;
mod probe;
mod processes;
mod run;
mod sched;
mod stats;
mod swap;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measure Paravane, each figure beside its floor from the same run
#[derive(Parser)]
#[command(
    name = "paravane-bench",
    args_conflicts_with_subcommands = true,
    after_help = "What is not named is looked for beside this program. Exits 1 when a figure could not be measured; \
                  a goal that is missed is shown, not an error."
)]
struct Arguments {
    #[command(flatten)]
    run: Run,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What is measured against what.
#[derive(clap::Args)]
struct Run {
    /// One JSON object a line: name, value, unit, floor; and alone and goal where there are such
    #[arg(long)]
    json: bool,
    /// A tenth of the rounds, and copies up to 16 MiB only
    #[arg(long)]
    quick: bool,
    /// Only the groups named: call, threads, trace, copy, load, share, sched, swap, idle, start; may be given more than once
    #[arg(long, value_name = "GROUP")]
    only: Vec<String>,
    /// paravane-backend
    #[arg(long, value_name = "PATH")]
    backend: Option<PathBuf>,
    /// The guest's libcuda
    #[arg(long, value_name = "PATH")]
    shim: Option<PathBuf>,
    /// The libcuda that executes [default: Paravane's CPU device]
    #[arg(long, value_name = "PATH")]
    libcuda: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// One measured process; the benchmark starts these itself
    #[command(hide = true)]
    Probe(probe::Probe),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.command {
        Some(Command::Probe(probe)) => probe.run().map(|()| ExitCode::SUCCESS),
        None => run::run(&arguments.run),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
