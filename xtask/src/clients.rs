//! `clients`: unmodified CUDA programs and libraries, each judged by tests of its own, first on the CPU device alone, then
//! through shim, back end and worker. `suite` says what a client is; each one is a file here.

pub(crate) mod causes;
mod cuda_core;
mod cudarc;
mod cudart;
mod cupy;
pub(crate) mod guest;
mod numba;
mod nvcc;
mod nvml;
mod python;
mod report;
mod scripts;
pub(crate) mod suite;
mod target;
mod tinygrad;
mod torch;

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::step::{act, done, step};
use crate::{build, setup};
use causes::Causes;
use report::{Report, Row};
use suite::Client;
use target::Target;

/// Run real CUDA programs, alone and forwarded
///
/// Installs each client from PyPI or crates.io into $XDG_CACHE_HOME/paravane or ~/.cache/paravane, the first time, and runs
/// its tests twice: on the CPU device alone, and through shim, back end and worker. Prints a table. It fails where a test
/// fails whose cause docs/clients.md does not give, and where the two runs differ without a cause there.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask clients\n  cargo xtask clients --list\n  cargo xtask clients --only cudart --tests streams\n  \
                        cargo xtask clients --json    one object a line: client, version, way, passed, failed, skipped, seconds"
)]
pub(crate) struct Clients {
    /// Only this client; may be given more than once
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Only tests with this in their name
    #[arg(long, value_name = "TEXT", default_value = "")]
    tests: String,
    /// Only one of the two ways: alone or forwarded
    #[arg(long, value_name = "WAY")]
    way: Option<target::Way>,
    /// One JSON object a line instead of a table
    #[arg(long)]
    json: bool,
    /// Say which clients there are, and end
    #[arg(long)]
    list: bool,
}

/// Every client, in the order in which they run.
pub(crate) fn all() -> Vec<Box<dyn Client>> {
    vec![
        Box::new(nvml::Nvml),
        Box::new(cudart::Cudart),
        Box::new(cudarc::Cudarc),
        Box::new(numba::Numba),
        Box::new(cupy::Cupy),
        Box::new(cupy::PRODUCTS),
        Box::new(cuda_core::CUDA_CORE),
        Box::new(tinygrad::TINYGRAD),
        Box::new(torch::TORCH),
    ]
}

impl Clients {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let clients = all();
        if self.list {
            clients.iter().for_each(|client| println!("{:<12} {}", client.name(), client.about()));
            return Ok(ExitCode::SUCCESS);
        }
        if let Some(unknown) = self.only.iter().find(|name| clients.iter().all(|client| client.name() != *name)) {
            let known: Vec<_> = clients.iter().map(|client| client.name()).collect();
            bail!("there is no client {unknown}; there are {}", known.join(", "));
        }
        setup::to_build()?;
        act("the product (cargo build --release)", build::product)?;
        let mut report = Report::default();
        for client in clients.iter().filter(|client| self.only.is_empty() || self.only.iter().any(|name| name == client.name())) {
            report.add(self.one(client.as_ref()));
        }
        report.end(&Causes::read()?, self.json)
    }

    fn one(&self, client: &dyn Client) -> Row {
        eprintln!("{}: {}", client.name(), client.about());
        let mut row = Row::new(client.name());
        let ready = match client.prepare() {
            Ok(ready) => ready,
            Err(error) => {
                eprintln!("{:#}", error.context(format!("{} cannot be prepared", client.name())));
                return row;
            }
        };
        row.version = ready.version();
        for way in client.ways().iter().copied().filter(|way| self.way.is_none_or(|only| only == *way)) {
            let outcome = step(&format!("{}, {}", client.name(), way.name()), || {
                let target = Target::start(client.name(), way, client.capability())?;
                let outcome = ready.run(&target, &self.tests)?;
                target.stop()?;
                let note = outcome.note();
                done(outcome, note)
            });
            match outcome {
                Ok(outcome) => row.ways.push((way, outcome)),
                Err(error) => row.errors.push(format!("{}: {error:#}", way.name())),
            }
        }
        row
    }
}
