//! The same without VMs: each program is a process of this host, at the socket of its VM's back end.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::shares::{self, Load, VMS};
use super::{Demo, Ran, Stage};
use crate::host_run::{self, Libcuda};
use crate::samples::{self, Samples};
use crate::step::{done, step};
use crate::{build, process};

const STOP_LIMIT: Duration = Duration::from_secs(30);

/// A load that is a process; what it says is in the log.
struct Program {
    command: Command,
    log: PathBuf,
    child: Option<Child>,
}

impl Program {
    fn new(samples: &Samples, vm: usize, socket: PathBuf) -> Result<Self> {
        let log = process::log_path(&format!("demo-{}-{}", VMS[vm].0, samples::LOAD))?;
        let file = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let mut command = host_run::command(samples, samples::LOAD, Libcuda::Shim(&socket))?;
        command.args(shares::arguments(vm)).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        Ok(Self { command, log, child: None })
    }
}

impl Load for Program {
    fn start(&mut self) -> Result<()> {
        self.child = Some(self.command.spawn().context("cannot start the load")?);
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { bail!("the load was never started") };
        process::terminate(&mut child, STOP_LIMIT)?;
        Ok(())
    }
}

/// Runs samples and loads.
pub(super) fn run(demo: &Demo) -> Result<Ran> {
    let samples = build::all()?;
    let stage = Stage::set(demo)?;
    let sockets = stage.backends.iter().map(|backend| backend.socket());
    let (output, results) = step("samples on the host", || {
        let socket = stage.backends.first().context("a back end")?.socket();
        done(host_run::run(&samples, "demo", Libcuda::Shim(&socket))?, "")
    })?;
    let programs = sockets.enumerate().map(|(vm, socket)| Program::new(&samples, vm, socket));
    let mut programs = programs.collect::<Result<Vec<_>>>()?;
    let loads = programs.iter_mut().map(|program| program as &mut dyn Load).collect();
    let shares = shares::measure(&stage.daemon, loads, &stage.top)?;
    let mut outputs = Vec::new();
    for program in &programs {
        outputs.push(fs::read_to_string(&program.log)?);
    }
    outputs[0].insert_str(0, &output);
    Ok(Ran { outputs, results, shares, top: stage.top.clone(), usage: stage.end()? })
}
