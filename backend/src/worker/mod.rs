//! The worker: the process that makes one guest process's CUDA calls. Its main
//! thread listens to the backend; each ring has a thread of its own that takes
//! frames (`thread`), keeps them in the process's order (`order`) and runs
//! them (`dispatch`).

#![allow(non_snake_case, reason = "CUDA's names")]

mod arg;
mod area;
mod custom;
mod dispatch;
mod exchange;
mod handles;
mod host_memory;
mod internal;
mod layout;
mod lease;
mod libcuda;
mod memory;
mod meter;
mod nvml;
mod order;
mod output;
mod parts;
mod primary;
mod process;
mod resources;
mod swap;
mod thread;
mod turn;
mod wake;

use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use paravane_protocol::cuda_types::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::account::AccountPage;
use crate::budget::Share;
use crate::control::{
    self, ACCOUNT_FD, BUDGET_FD, CONTROL_FD, ControlError, ENV_BUDGET_SLOT, ENV_LIBCUDA, ENV_LOG_LEVEL, FromWorker, GUEST_WAKE_FD,
    LEASES_FD, TURNS_FD, ToWorker,
};
use crate::devices::DEVICES_MAX;
use crate::lease::{Gate, VmPage};
use crate::logging;
use crate::turn::Turns;
use crate::visible::ENV_DEVICES;
use lease::Leases;
use libcuda::Libcuda;
use memory::Memory;
use meter::Meter;
use output::Output;
use process::{Process, ToBackend};
use turn::ProcessTurn;

/// Why a worker cannot go on.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The environment names no library.
    #[error("{ENV_LIBCUDA} is not set")]
    NoLibrary,
    /// The library cannot be loaded.
    #[error("{0}: {1}")]
    Library(PathBuf, libloading::Error),
    /// The backend's messages cannot be read.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The process cannot be set up, or an area cannot be mapped.
    #[error("{0}: {1}")]
    System(&'static str, std::io::Error),
}

/// Entry of a process that the backend started with `worker` as argument.
pub fn main() -> ExitCode {
    let level = std::env::var(ENV_LOG_LEVEL).ok().and_then(|level| level.parse().ok());
    logging::start_in_worker(level.unwrap_or(log::LevelFilter::Info));
    let control = match control::inherited(CONTROL_FD) {
        Ok(control) => Arc::new(control),
        Err(error) => {
            log::error!("worker: no control socket: {error}");
            return ExitCode::FAILURE;
        }
    };
    match run(&control) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            log::error!("worker: {failure}");
            let result = CUDA_ERROR_SYSTEM_NOT_READY.0;
            // The backend notices the exit in any case.
            let _ = FromWorker::Failed { result }.send(control.as_fd());
            ExitCode::FAILURE
        }
    }
}

fn run(control: &Arc<OwnedFd>) -> Result<(), Failure> {
    let inherited = |fd, what| control::inherited(fd).map_err(|error| Failure::System(what, error));
    let wake = inherited(GUEST_WAKE_FD, "guest wake eventfd")?;
    let account = inherited(ACCOUNT_FD, "account page")?;
    let map_account = || AccountPage::map(&account).map_err(|error| Failure::System("account page", error));
    let turns = inherited(TURNS_FD, "page of turns")?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let turns = Turns::map(&turns, cores).map_err(|error| Failure::System("page of turns", error))?;
    let leases = leases()?;
    let memory = Memory::new(budget_share()?, map_account()?, leases.all().map(|lease| Arc::clone(&lease.holdings)));
    let path = PathBuf::from(std::env::var_os(ENV_LIBCUDA).ok_or(Failure::NoLibrary)?);
    let lib = Libcuda::load(&path).map_err(|error| Failure::Library(path, error))?;
    let output = Output::begin().map_err(|error| Failure::System("standard output", error))?;
    paravane_sandbox::enter().map_err(|error| Failure::System("sandbox", error))?;
    let process = Arc::new(Process::new(
        lib,
        map_account()?,
        memory,
        ProcessTurn::new(turns),
        leases,
        ToBackend { wake, control: Arc::clone(control) },
        output,
    ));
    let (mut meter, mut over_limit) = (None, false);
    loop {
        let due = meter.as_ref().map(|meter: &Meter| {
            let limit = process.leases.first().limit_due().unwrap_or(Duration::MAX);
            meter.due(&process).unwrap_or(Duration::MAX).min(process.memory.due()).min(limit)
        });
        let heard = hear(control, due).map_err(|error| Failure::System("control socket", error))?;
        if let Some(meter) = &mut meter {
            meter.look(&process);
            process.memory.look(&process);
        }
        if !over_limit && process.leases.all().any(|lease| lease.has_overrun(&process)) {
            over_limit = true;
            log::warn!("a kernel has run longer than the VM's limit: the process ends");
            // The back end tells the guest the reason, and ends this process.
            FromWorker::Failed { result: CUDA_ERROR_LAUNCH_TIMEOUT.0 }.send(control.as_fd())?;
        }
        if !heard {
            continue;
        }
        // A spare has no guest, and nothing to measure.
        meter.get_or_insert_with(|| Meter::new(&process));
        match ToWorker::receive(control.as_fd()) {
            Ok(message) => obey(&process, message)?,
            // The backend is gone, so is this worker's reason.
            Err(ControlError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The VM's leases of its devices.
fn leases() -> Result<Leases, Failure> {
    let uuids = std::env::var(ENV_DEVICES).unwrap_or_default();
    let uuids: Vec<String> = uuids.split(',').take(DEVICES_MAX).map(str::to_owned).collect();
    let inherited = |fd, what| control::inherited(fd).map_err(|error| Failure::System(what, error));
    let gate = |page_fd: RawFd| {
        let page = VmPage::map(inherited(page_fd, "lease page")?);
        let page = page.map_err(|error| Failure::System("lease page", error))?;
        Ok(Gate::new(page, inherited(page_fd + 1, "eventfd of the arbiter")?))
    };
    let others = (LEASES_FD..).step_by(2).take(uuids.len()).skip(1);
    Ok(Leases::new(gate(LEASES_FD)?, others.map(gate).collect::<Result<_, Failure>>()?, uuids))
}

/// This process's part of its VM's memory budget.
fn budget_share() -> Result<Share, Failure> {
    let number = std::env::var(ENV_BUDGET_SLOT).ok().and_then(|number| number.parse().ok());
    let number = number.ok_or_else(|| std::io::Error::other(format!("{ENV_BUDGET_SLOT} is no number")));
    let share = number.and_then(|number| Share::map(control::inherited(BUDGET_FD)?, number));
    share.map_err(|error| Failure::System("memory budget", error))
}

/// Waits for a message, at most so long; whether there is one.
fn hear(control: &OwnedFd, limit: Option<Duration>) -> std::io::Result<bool> {
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    let mut fds = [PollFd::new(control, PollFlags::IN)];
    match poll(&mut fds, limit.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

fn obey(process: &Arc<Process>, message: ToWorker) -> Result<(), Failure> {
    match message {
        ToWorker::SetMemory { regions, .. } => process.areas.set_memory(regions),
        ToWorker::AddArea { area, bytes, pieces } => {
            process.areas.add(area, bytes, pieces);
            if area == 0 {
                let rings = process.open_rings(0);
                rings.map_err(|error| Failure::System("the channel's pages", error))?;
                FromWorker::Ready.send(process.control())?;
            }
        }
        ToWorker::Answer(share) => process.exchange.deliver(share),
        ToWorker::RemoveArea { area } => {
            let removed = process.remove_area(area);
            removed.map_err(|error| Failure::System("taking back an area", error))?;
            FromWorker::Removed { area }.send(process.control())?;
        }
    }
    Ok(())
}
