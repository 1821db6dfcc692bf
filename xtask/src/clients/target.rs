//! The libcuda that a client's programs find, and what stands behind it.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::backend::Backend;
use crate::{build, samples};

/// How calls reach a libcuda.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Way {
    /// The CPU device is the program's own libcuda.
    Alone,
    /// The program's libcuda is the shim, with back end and worker behind it.
    Forwarded,
}

pub(crate) const WAYS: [Way; 2] = [Way::Alone, Way::Forwarded];

impl Way {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Way::Alone => "alone",
            Way::Forwarded => "forwarded",
        }
    }
}

/// A libcuda, ready for programs.
pub(crate) struct Target {
    way: Way,
    library_dir: PathBuf,
    backend: Option<Backend>,
    capability: &'static str,
}

/// The CPU device's variable for the compute capability that it names.
const CAPABILITY: &str = "PARAVANE_CPU_CAPABILITY";

impl Target {
    /// Starts what `way` needs; `client` names the logs. The CPU device names this compute capability.
    pub(crate) fn start(client: &str, way: Way, capability: &'static str) -> Result<Self> {
        let (library, backend) = match way {
            Way::Alone => (build::cpu_driver()?, None),
            Way::Forwarded => (build::shim()?, Some(Backend::start_with(&format!("client-{client}"), &[], &[(CAPABILITY, capability)])?)),
        };
        Ok(Target { way, library_dir: samples::library_dir(&library)?, backend, capability })
    }

    pub(crate) fn way(&self) -> Way {
        self.way
    }

    /// Makes `command` find this libcuda before any other, and behind it the libraries in `more`.
    pub(crate) fn apply<'c>(&self, command: &'c mut Command, more: &[PathBuf]) -> Result<&'c mut Command> {
        let inherited = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let inherited = env::split_paths(&inherited).filter(|dir| !dir.as_os_str().is_empty());
        let dirs = std::iter::once(self.library_dir.clone()).chain(more.iter().cloned()).chain(inherited);
        command.env("LD_LIBRARY_PATH", env::join_paths(dirs)?);
        // Says in the program's log what was refused and why.
        command.env("PARAVANE_CPU_LOG", "1").env(CAPABILITY, self.capability).env_remove("PARAVANE_SOCKET");
        if let Some(backend) = &self.backend {
            command.env("PARAVANE_SOCKET", backend.socket());
        }
        Ok(command)
    }

    /// Ends the back end as an operator does; its account is of no interest here.
    pub(crate) fn stop(self) -> Result<()> {
        self.backend.map_or(Ok(()), |backend| backend.stop().map(|_| ()))
    }
}
