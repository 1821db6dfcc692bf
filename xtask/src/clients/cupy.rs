//! CuPy, whose wheel carries no tests: `tests/clients/cupy` compares its public functions with NumPy's.

use std::fs;
use std::time::Duration;

use anyhow::{Result, bail};

use super::python::Environment;
use super::suite::{self, Client, Outcome, Ready};
use super::target::Target;
use crate::{paths, process};

/// Every function is compiled at its first use.
const LIMIT: Duration = Duration::from_secs(40 * 60);
const VERSION: &str = "14.2.0";

pub(crate) struct Cupy;

impl Client for Cupy {
    fn name(&self) -> &'static str {
        "cupy"
    }

    fn about(&self) -> &'static str {
        "over 300 of CuPy's public functions, each beside NumPy's"
    }

    fn prepare(&self) -> Result<Box<dyn Ready>> {
        let cupy = format!("cupy-cuda13x=={VERSION}");
        let packages = [cupy.as_str(), "numpy==2.4.6", "nvidia-cuda-nvrtc==13.5.37", "nvidia-cuda-runtime==13.5.37"];
        let environment = Environment::ensure("cupy", "450 MB", &packages, &[])?;
        Ok(Box::new(Installed { environment }))
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
