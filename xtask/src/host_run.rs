//! The samples as plain processes on the host: the same programs and the same libcuda.so.1, which reaches the back end over
//! its vhost-user socket.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::samples::{self, Samples};
use crate::{build, paths, process};

const SAMPLE_LIMIT: Duration = Duration::from_secs(60);

/// The libcuda.so.1 that the programs find.
#[derive(Clone, Copy)]
pub(crate) enum Libcuda<'a> {
    /// The guest's, with the back end at this socket.
    Shim(&'a Path),
    /// The CPU device itself, with nothing between: what fails here is no fault of the way there.
    CpuDevice,
}

/// One of the programs, which ends with xtask; arguments and streams are the caller's to give.
pub(crate) fn command(samples: &Samples, name: &str, libcuda: Libcuda) -> Result<Command> {
    let library = match libcuda {
        Libcuda::Shim(_) => build::shim()?,
        Libcuda::CpuDevice => build::cpu_driver()?,
    };
    let mut command = Command::new(samples.dir.join(name));
    command.env("LD_LIBRARY_PATH", samples::library_dir(&library)?);
    if let Libcuda::Shim(socket) = libcuda {
        command.env("PARAVANE_SOCKET", socket);
    }
    process::tie(&mut command);
    Ok(command)
}

/// Runs every sample; answers their joint output and where results lie.
pub(crate) fn run(samples: &Samples, name: &str, libcuda: Libcuda) -> Result<(String, PathBuf)> {
    let results = paths::made("results")?.join(name);
    fs::create_dir_all(&results)?;
    let mut output = String::new();
    for sample in samples::NAMES {
        let picture = samples.dir.join(samples::PICTURE_IN);
        let mut command = command(samples, sample, libcuda)?;
        command.args(samples::arguments(sample, paths::text(&picture)?, paths::text(&results)?));
        let (mut child, log) = process::start(&format!("{name}-{sample}"), &mut command)?;
        let status = process::wait(&mut child, SAMPLE_LIMIT)?;
        if status.is_none() {
            child.kill()?;
            child.wait()?;
        }
        output.push_str(&String::from_utf8_lossy(&fs::read(&log)?));
        match status {
            Some(status) if status.success() => {}
            Some(status) => output.push_str(&format!("{sample} ended with {status}\n")),
            None => output.push_str(&format!(
                "{sample} was not done after {} s\n",
                SAMPLE_LIMIT.as_secs()
            )),
        }
    }
    Ok((output, results))
}
