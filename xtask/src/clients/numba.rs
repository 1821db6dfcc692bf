//! numba-cuda's own tests, which its wheel carries, one process for each of their modules. nvJitLink is taken away, because
//! it links to machine code; without it the driver's linker is asked, which gets PTX.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::guest::{self, Luggage, Part, Program, Said};
use super::python::{self, Environment};
use super::suite::{Client, Outcome, Ready, Verdict};
use super::target::Target;
use crate::{paths, process};

const VERSION: &str = "0.30.4";
/// Packages as of the version's release, for results that mean the same next year.
const PACKAGES: &[&str] = &[
    "numba-cuda[cu12]==0.30.4",
    "numba==0.68.1",
    "numpy==2.4.6",
    "cuda-core==1.2.2",
    "cuda-bindings==12.9.6",
    "nvidia-cuda-nvcc-cu12==12.9.86",
    "pytest==9.2.0",
    "pytest-timeout==2.4.0",
    "pytest-benchmark==5.3.1",
    "cffi==2.1.1",
    "psutil==7.2.2",
    "ml_dtypes==0.6.0",
    "filecheck==1.0.6",
];
/// Where the plugin lies.
const PLUGIN: &str = "tests/clients/numba_cuda";
/// The package is found under the name that its tests know it by.
const PYTEST: &[&str] =
    &["-q", "-p", "paravane_results", "-p", "no:cacheprovider", "--import-mode=importlib", "-o", "consider_namespace_packages=true"];
/// What runs in a guest, where a kernel takes 20 times as long to compile.
const IN_A_GUEST: &[&str] = &[
    "cudadrv/test_cuda_array_slicing",
    "cudadrv/test_cuda_memory",
    "cudadrv/test_events",
    "cudadrv/test_streams",
    "cudapy/test_globals",
    "cudapy/test_localmem",
    "cudapy/test_sm",
];
const GUEST_LIMIT_S: u32 = 900;
/// A test that takes longer has failed.
const TEST_LIMIT_S: &str = "120";
/// The longest module takes two minutes on two processors.
const MODULE_LIMIT: Duration = Duration::from_secs(1200);

pub(crate) struct Numba;

impl Client for Numba {
    fn name(&self) -> &'static str {
        "numba-cuda"
    }

    fn about(&self) -> &'static str {
        "numba-cuda's own tests, all modules but the benchmarks"
    }

    fn prepare(&self) -> Result<Box<dyn Ready>> {
        let without: &[&str] = &["uninstall", "--yes", "nvidia-nvjitlink-cu12"];
        let environment = Environment::ensure("numba-cuda", "700 MB", PACKAGES, &[without])?;
        let tests = environment.packages()?.join("numba_cuda/numba/cuda/tests");
        let mut modules = Vec::new();
        for folder in fs::read_dir(&tests).with_context(|| format!("cannot read {}", tests.display()))? {
            let folder = folder?.path();
            if !folder.is_dir() || folder.ends_with("benchmarks") {
                continue;
            }
            for file in fs::read_dir(&folder)? {
                let file = file?.path();
                let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
                if stem.starts_with("test_") && file.extension().is_some_and(|end| end == "py") {
                    let folder = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                    modules.push(format!("{folder}/{stem}"));
                }
            }
        }
        modules.sort();
        Ok(Box::new(Installed { environment, modules }))
    }

    fn guest_part(&self, luggage: &mut Luggage) -> Result<Option<Part>> {
        let plugin = guest::pack_tests(luggage, "numba_cuda")?;
        let linker: &[&str] = &["nvidia/nvjitlink", "nvidia_nvjitlink_cu12-12.9.86.dist-info"];
        let site = python::guest_disk("numba-cuda", "700 MB", PACKAGES, linker)?;
        let modules: Vec<String> = IN_A_GUEST.iter().map(|module| import_name(module)).collect();
        let command = format!(
            "PYTHONPATH={plugin} PARAVANE_RESULTS=$HOME/results python3 -m pytest {} --pyargs {}; status=$?; cat $HOME/results; exit $status",
            PYTEST.join(" "),
            modules.join(" ")
        );
        let program = Program { name: "numba-cuda".to_owned(), command, limit_s: GUEST_LIMIT_S, judge };
        Ok(Some(Part { client: self.name(), site: Some(site), programs: vec![program] }))
    }
}

/// What a guest's run came to.
fn judge(said: &Said) -> BTreeMap<String, Verdict> {
    let mut tests = BTreeMap::new();
    read(said.text, &mut tests);
    if !matches!(said.status, Some(0 | 1)) || tests.is_empty() {
        let last = said.text.lines().last().unwrap_or_default();
        tests.insert(said.name.to_owned(), Verdict::Failed(format!("ended with {:?}: {last}", said.status)));
    }
    tests
}

/// The module `folder/module` as Python imports it.
fn import_name(module: &str) -> String {
    format!("numba.cuda.tests.{}", module.replace('/', "."))
}

struct Installed {
    environment: Environment,
    /// `folder/module`, of the package's tests.
    modules: Vec<String>,
}

impl Ready for Installed {
    fn version(&self) -> String {
        VERSION.to_owned()
    }

    fn run(&self, target: &Target, filter: &str) -> Result<Outcome> {
        Outcome::timed(|tests| {
            let (module_filter, test_filter) = filter.split_once("::").unwrap_or((filter, ""));
            for module in self.modules.iter().filter(|module| module.contains(module_filter)) {
                self.module(target, module, test_filter, tests)?;
            }
            if tests.is_empty() {
                bail!("no test has {filter:?} in its name");
            }
            Ok(())
        })
    }
}

impl Installed {
    /// Runs one module's tests; a module that does not come to its end is a failure of its own.
    fn module(&self, target: &Target, module: &str, filter: &str, tests: &mut BTreeMap<String, Verdict>) -> Result<()> {
        let aside = tempfile::tempdir()?;
        let results = aside.path().join("results");
        let log = format!("numba-{}-{}", target.way().name(), module.replace('/', "-"));
        let plugin = paths::root().join(PLUGIN);
        let mut command = self.environment.python();
        command.args(["-m", "pytest"]).args(PYTEST).args(["--timeout", TEST_LIMIT_S]);
        command.args(["-k", filter, "--pyargs"]).arg(import_name(module));
        command.env("PYTHONPATH", &plugin).env("PARAVANE_RESULTS", &results).current_dir(aside.path());
        target.apply(&mut command, &[])?;
        let (ended, _) = process::run_to_end(&log, &mut command, MODULE_LIMIT)?;
        read(&fs::read_to_string(&results).unwrap_or_default(), tests);
        // 0: all passed, 1: some failed, 5: none was there.
        let code = ended.and_then(|status| status.code());
        if !matches!(code, Some(0 | 1 | 5)) {
            let how = ended.map_or_else(|| "not done in time".to_owned(), |status| status.to_string());
            tests.insert(module.to_owned(), Verdict::Failed(how));
        }
        Ok(())
    }
}

/// Adds what the plugin wrote; a test that failed in any part has failed.
fn read(lines: &str, tests: &mut BTreeMap<String, Verdict>) {
    for line in lines.lines() {
        let mut parts = line.splitn(3, '\t');
        let (Some(outcome), Some(name), message) = (parts.next(), parts.next(), parts.next()) else { continue };
        let verdict = match outcome {
            "passed" => Verdict::Passed,
            "skipped" => Verdict::Skipped,
            _ => Verdict::Failed(message.unwrap_or_default().to_owned()),
        };
        let known = tests.entry(name.to_owned()).or_insert_with(|| verdict.clone());
        if !matches!(known, Verdict::Failed(_)) {
            *known = verdict;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_failed_in_any_part_has_failed() {
        let mut tests = BTreeMap::new();
        read("passed\ta::b\t\nfailed\ta::b\twhy\npassed\ta::b\t\nskipped\tc\nnonsense\n", &mut tests);
        assert_eq!(tests.get("a::b"), Some(&Verdict::Failed("why".to_owned())));
        assert_eq!(tests.get("c"), Some(&Verdict::Skipped));
        assert_eq!(tests.len(), 2);
        assert!(paths::root().join(PLUGIN).join("paravane_results.py").is_file());
    }
}
