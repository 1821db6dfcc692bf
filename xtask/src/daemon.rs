//! A running paravaned with sockets of its own and a fresh ledger, and what paravanectl says of it.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tempfile::TempDir;

use crate::{build, process};

const START_LIMIT: Duration = Duration::from_secs(10);
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// paravaned; dropping it kills it.
pub(crate) struct Daemon {
    child: Child,
    dir: TempDir,
    log: PathBuf,
    /// Its paravanectl.
    control: PathBuf,
}

/// What `paravanectl -o json list` says, as far as anybody here asks.
#[derive(Deserialize)]
pub(crate) struct Host {
    pub(crate) at_ms: u64,
    vms: Vec<Vm>,
}

#[derive(Clone, Deserialize)]
pub(crate) struct Vm {
    name: String,
    pub(crate) used: Used,
}

/// Sums since the VM's back end began.
#[derive(Clone, Copy, Deserialize)]
pub(crate) struct Used {
    pub(crate) gpu_time_ns: u64,
    pub(crate) kernels: u64,
}

impl Host {
    pub(crate) fn vm(&self, name: &str) -> Result<&Vm> {
        self.vms.iter().find(|vm| vm.name == name).with_context(|| format!("paravaned knows no VM {name}"))
    }
}

impl Daemon {
    /// Starts paravaned with its ledger in `home`, and waits until it listens.
    pub(crate) fn start(name: &str, home: &Path) -> Result<Self> {
        Self::start_program(&build::program("paravaned")?, name, home)
    }

    /// As `start`, a paravaned that lies elsewhere; paravanectl lies beside it.
    pub(crate) fn start_program(program: &Path, name: &str, home: &Path) -> Result<Self> {
        // A socket's path is short, which a source tree's need not be.
        let dir = TempDir::with_prefix("paravane-").context("cannot create a temporary directory")?;
        let ledger = home.join("ledger.db");
        for old in ["ledger.db", "ledger.db-wal", "ledger.db-shm"] {
            fs::remove_file(home.join(old)).ok();
        }
        let config = home.join("paravaned.toml");
        let text = format!(
            "[registration]\nsocket = {:?}\n[control]\nsocket = {:?}\n[ledger]\npath = {ledger:?}\nresolution_s = 1\n",
            dir.path().join("paravaned.sock"),
            dir.path().join("control.sock"),
        );
        fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
        let mut command = Command::new(program);
        let (child, log) = process::start(&format!("{name}-paravaned"), command.arg("--config").arg(&config))?;
        let control = program.with_file_name("paravanectl");
        let mut daemon = Self { child, dir, log, control };
        daemon.wait_until_it_listens()?;
        Ok(daemon)
    }

    /// Where back ends register.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("paravaned.sock")
    }

    /// What paravanectl prints when it is called so.
    pub(crate) fn said(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.control);
        process::output(command.arg("--socket").arg(self.dir.path().join("control.sock")).args(arguments))
    }

    /// The host as paravaned sees it now.
    pub(crate) fn host(&self) -> Result<Host> {
        let text = self.said(&["-o", "json", "list"])?;
        serde_json::from_str(&text).with_context(|| format!("paravanectl's answer is not understood: {text}"))
    }

    /// Ends it as an operator does; all is booked then.
    pub(crate) fn stop(mut self) -> Result<()> {
        let status = process::terminate(&mut self.child, STOP_LIMIT)?;
        if !status.success() {
            bail!("paravaned ended with {status}; {}", self.tail());
        }
        Ok(())
    }

    fn wait_until_it_listens(&mut self) -> Result<()> {
        let start = Instant::now();
        while UnixStream::connect(self.dir.path().join("control.sock")).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("paravaned ended with {status} before it listened; {}", self.tail());
            }
            if start.elapsed() > START_LIMIT {
                bail!("paravaned does not listen after {} s; {}", START_LIMIT.as_secs(), self.tail());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn tail(&self) -> String {
        format!("its last lines, from {}:\n{}", self.log.display(), process::tail(&self.log))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}
