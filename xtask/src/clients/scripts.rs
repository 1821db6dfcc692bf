//! Clients whose checks are a Python script of ours over packages from PyPI: it prints a line for each check.

use std::fs;
use std::time::Duration;

use anyhow::{Result, bail};

use super::python::Environment;
use super::suite::{self, Client, Outcome, Ready};
use super::target::Target;
use crate::apt::{self, Package};
use crate::{paths, process};

/// A script and what it needs.
#[derive(Clone, Copy)]
pub(crate) struct Script {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// The environment that its packages are in; scripts over the same ones share it.
    pub(crate) environment_name: &'static str,
    pub(crate) capability: &'static str,
    /// Of the package that is judged.
    pub(crate) version: &'static str,
    /// As pip writes them.
    pub(crate) packages: &'static [&'static str],
    /// What their download takes, for the person who waits.
    pub(crate) size: &'static str,
    /// Below the repository.
    pub(crate) script: &'static str,
    /// Variables of its environment.
    pub(crate) environment: &'static [(&'static str, Value)],
    pub(crate) limit: Duration,
    /// Its packages compile C against Python's headers.
    pub(crate) compiles: bool,
}

const HEADERS: &[Package] = &[Package {
    name: "python3-dev",
    proof: "/usr/share/doc/python3-dev",
    purpose: "Python's headers, for what a client compiles",
}];

/// What a variable is set to.
#[derive(Clone, Copy)]
pub(crate) enum Value {
    Text(&'static str),
    /// A path below the repository.
    Ours(&'static str),
    /// A path below the folder of the Python packages.
    Packages(&'static str),
}

impl Client for Script {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn capability(&self) -> &'static str {
        self.capability
    }

    fn prepare(&self) -> Result<Box<dyn Ready>> {
        let environment = Environment::ensure(self.environment_name, self.size, self.packages, &[])?;
        if self.compiles && !environment.has_headers()? {
            apt::ensure(HEADERS)?;
        }
        Ok(Box::new(Installed { of: *self, environment }))
    }
}

struct Installed {
    of: Script,
    environment: Environment,
}

impl Ready for Installed {
    fn version(&self) -> String {
        self.of.version.to_owned()
    }

    fn run(&self, target: &Target, filter: &str) -> Result<Outcome> {
        let mut command = self.environment.python();
        command.arg(paths::root().join(self.of.script)).arg(filter);
        // Compilers' caches lie in the home directory; what they hold is the same for every libcuda.
        command.env("HOME", paths::made(&format!("clients/{}", self.of.name))?);
        for (name, value) in self.of.environment {
            match value {
                Value::Text(text) => command.env(name, text),
                Value::Ours(path) => command.env(name, paths::root().join(path)),
                Value::Packages(path) => command.env(name, self.environment.packages()?.join(path)),
            };
        }
        target.apply(&mut command, &[])?;
        Outcome::timed(|tests| {
            let log = format!("{}-{}", self.of.name, target.way().name());
            let (status, log) = process::run_to_end(&log, &mut command, self.of.limit)?;
            tests.extend(suite::lines(&String::from_utf8_lossy(&fs::read(&log)?)));
            if status.is_none_or(|status| !status.success()) || tests.is_empty() {
                bail!("{} did not come to its end; its last lines, from {}:\n{}", self.of.script, log.display(), process::tail(&log));
            }
            Ok(())
        })
    }
}
