//! A running paravane-backend: started with its socket in a directory of its own, ended with SIGTERM, asked for its account.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::usage::Usage;
use crate::{build, process};

const START_LIMIT: Duration = Duration::from_secs(10);
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// A back end; dropping it kills it.
pub(crate) struct Backend {
    child: Child,
    dir: TempDir,
    log: PathBuf,
}

impl Backend {
    /// Starts paravane-backend and waits until its socket is there. `name` is the VM's, and its log's.
    pub(crate) fn start(name: &str, arguments: &[&str]) -> Result<Self> {
        Self::start_with(name, arguments, &[])
    }

    /// As `start`, with variables for its workers' libcuda.
    pub(crate) fn start_with(name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Self> {
        Self::start_program(&build::backend()?, name, arguments, environment)
    }

    /// As `start_with`, a paravane-backend that lies elsewhere.
    pub(crate) fn start_program(
        program: &Path,
        name: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        let dir =
            TempDir::with_prefix("paravane-").context("cannot create a temporary directory")?;
        let mut command = Command::new(program);
        command
            .arg("--socket-path")
            .arg(dir.path().join("backend.sock"))
            .arg("--usage-json")
            .arg(dir.path().join("usage.json"))
            .args(["--name", name])
            .args(arguments)
            .envs(environment.iter().copied());
        let (child, log) = process::start(&format!("{name}-backend"), &mut command)?;
        let mut backend = Backend { child, dir, log };
        backend.wait_for_socket()?;
        Ok(backend)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("backend.sock")
    }

    /// Its process, which leads a group.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends the back end as an operator does, and reads what it accounted for. Anything but a clean end is an error.
    pub(crate) fn stop(mut self) -> Result<Usage> {
        if let Some(status) = self.child.try_wait()? {
            bail!(
                "paravane-backend ended by itself with {status}; {}",
                self.tail()
            );
        }
        let status = process::terminate(&mut self.child, STOP_LIMIT)
            .with_context(|| format!("paravane-backend does not stop; {}", self.tail()))?;
        if !status.success() {
            bail!(
                "paravane-backend ended with {status} after SIGTERM; {}",
                self.tail()
            );
        }
        Usage::read(&self.dir.path().join("usage.json"))
    }

    fn wait_for_socket(&mut self) -> Result<()> {
        let start = Instant::now();
        while !self.socket().exists() {
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "paravane-backend ended with {status} before it listened; {}",
                    self.tail()
                );
            }
            if start.elapsed() > START_LIMIT {
                bail!(
                    "paravane-backend made no socket within {} s; {}",
                    START_LIMIT.as_secs(),
                    self.tail()
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn tail(&self) -> String {
        format!(
            "its last lines, from {}:\n{}",
            self.log.display(),
            process::tail(&self.log)
        )
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}
