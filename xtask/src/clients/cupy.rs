//! CuPy, whose wheel carries no tests: `tests/clients/cupy` compares its public functions with NumPy's.

use std::fs;
use std::time::Duration;

use anyhow::{Result, bail};

use super::guest::{self, Luggage, Part, Program};
use super::python::{self, Environment};
use super::suite::{self, Client, Outcome, Ready, Verdict};
use super::target::Target;
use crate::{paths, process};

/// Every function is compiled at its first use.
const LIMIT: Duration = Duration::from_secs(40 * 60);
const VERSION: &str = "14.2.0";
const PACKAGES: &[&str] =
    &["cupy-cuda13x==14.2.0", "numpy==2.4.6", "nvidia-cuda-nvrtc==13.5.37", "nvidia-cuda-runtime==13.5.37"];
/// Parts of names: what runs in a guest, where a function takes 20 times as long to compile.
const IN_A_GUEST: &[&str] = &["own.", "sort"];
const GUEST_LIMIT_S: u32 = 900;

pub(crate) struct Cupy;

impl Client for Cupy {
    fn name(&self) -> &'static str {
        "cupy"
    }

    fn about(&self) -> &'static str {
        "over 300 of CuPy's public functions, each beside NumPy's"
    }

    fn prepare(&self) -> Result<Box<dyn Ready>> {
        let environment = Environment::ensure("cupy", "450 MB", PACKAGES, &[])?;
        Ok(Box::new(Installed { environment }))
    }

    fn guest_part(&self, luggage: &mut Luggage) -> Result<Option<Part>> {
        let tests = guest::pack_tests(luggage, "cupy")?;
        let site = python::guest_disk("cupy", "450 MB", PACKAGES, &[])?;
        let program = |filter: &&str| Program {
            name: format!("cupy {filter}"),
            command: format!("CUPY_COMPILE_WITH_PTX=1 CUPY_CACHE_DIR=$HOME/cupy python3 {tests}/compare.py {filter}"),
            limit_s: GUEST_LIMIT_S,
            judge: |said| {
                let mut tests = suite::lines(said.text);
                if said.status != Some(0) || tests.is_empty() {
                    let last = said.text.lines().last().unwrap_or_default();
                    tests.insert(said.name.to_owned(), Verdict::Failed(format!("ended with {:?}: {last}", said.status)));
                }
                tests
            },
        };
        Ok(Some(Part { client: self.name(), site: Some(site), programs: IN_A_GUEST.iter().map(program).collect() }))
    }
}

struct Installed {
    environment: Environment,
}

impl Ready for Installed {
    fn version(&self) -> String {
        VERSION.to_owned()
    }

    fn run(&self, target: &Target, filter: &str) -> Result<Outcome> {
        let script = paths::root().join("tests/clients/cupy/compare.py");
        let mut command = self.environment.python();
        // What NVRTC makes is PTX, so that every device with a compiler runs it.
        command.env("CUPY_COMPILE_WITH_PTX", "1").env("CUPY_CACHE_DIR", paths::made("clients/cupy")?);
        target.apply(command.arg(script).arg(filter), &[])?;
        Outcome::timed(|tests| {
            let (status, log) = process::run_to_end(&format!("cupy-{}", target.way().name()), &mut command, LIMIT)?;
            tests.extend(suite::lines(&String::from_utf8_lossy(&fs::read(&log)?)));
            if status.is_none_or(|status| !status.success()) || tests.is_empty() {
                bail!("the comparison did not come to its end; its last lines, from {}:\n{}", log.display(), process::tail(&log));
            }
            Ok(())
        })
    }
}
