//! cudarc's unit tests. The crate as crates.io has it carries them; it is copied out of cargo's own cache and built apart
//! from this workspace.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::python::Environment;
use super::suite::{Client, Outcome, Ready, Verdict};
use super::target::Target;
use crate::step::{done, step};
use crate::{cache, process};

const VERSION: &str = "0.19.10";
const FEATURES: &str = "driver,nvrtc,cuda-12090,fallback-dynamic-loading,std";
/// Libraries that it opens by name.
const NVRTC: &str = "nvidia-cuda-nvrtc-cu12==12.9.86";
const RUNTIME: &str = "nvidia-cuda-runtime-cu12==12.9.79";
/// All its tests together.
const LIMIT: Duration = Duration::from_secs(600);

pub(crate) struct Cudarc;

impl Client for Cudarc {
    fn name(&self) -> &'static str {
        "cudarc"
    }

    fn about(&self) -> &'static str {
        "cudarc's unit tests: driver interface and NVRTC, from Rust"
    }

    fn prepare(&self) -> Result<Box<dyn Ready>> {
        let nvrtc = Environment::ensure("nvrtc-12.9", "90 MB", &[NVRTC, RUNTIME], &[])?.packages()?;
        let (dir, _) = cache::entry("cudarc", &cache::key(&[VERSION, FEATURES]), unpack)?;
        let binary = step("cudarc's tests (cargo)", || {
            let binary = build(&dir)?;
            done(binary, "built")
        })?;
        let libraries = ["cuda_nvrtc", "cuda_runtime"].map(|part| nvrtc.join("nvidia").join(part));
        let includes = libraries.iter().map(|part| part.join("include")).find(|path| path.join("cuda_fp16.h").is_file());
        let libraries = libraries.iter().map(|part| part.join("lib")).collect();
        Ok(Box::new(Built { binary, libraries, includes }))
    }
}

/// Lets cargo download the crate, and copies it to `to`.
fn unpack(to: &Path) -> Result<()> {
    let asking = tempfile::tempdir()?;
    fs::create_dir(asking.path().join("src"))?;
    fs::write(asking.path().join("src/lib.rs"), "")?;
    let manifest = format!(
        "[package]\nname = \"asks-for-cudarc\"\nversion = \"0.0.0\"\nedition = \"2021\"\n[workspace]\n[dependencies]\n\
         cudarc = {{ version = \"={VERSION}\", default-features = false, features = [\"driver\", \"cuda-12090\", \"dynamic-loading\"] }}\n"
    );
    let path = asking.path().join("Cargo.toml");
    fs::write(&path, manifest)?;
    let metadata = process::output(Command::new(env!("CARGO")).args(["metadata", "--format-version", "1", "--manifest-path"]).arg(&path))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists packages")?;
    let cudarc = packages.iter().find(|package| package["name"] == "cudarc").context("cargo found no cudarc")?;
    let manifest = cudarc["manifest_path"].as_str().context("a package has a manifest")?;
    let from = Path::new(manifest).parent().context("a manifest lies in a directory")?;
    process::run("cudarc-copy", Command::new("cp").arg("--recursive").arg(from.join(".")).arg(to.join("crate")))?;
    let manifest = to.join("crate/Cargo.toml");
    let text = fs::read_to_string(&manifest)?;
    fs::write(&manifest, format!("{text}\n[workspace]\n"))?;
    Ok(())
}

/// The test program's path.
fn build(dir: &Path) -> Result<PathBuf> {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(dir.join("crate")).args(["test", "--lib", "--no-run", "--message-format", "json"]);
    command.args(["--no-default-features", "--features", FEATURES]);
    let messages = process::output(&mut command)?;
    let path = messages.lines().rev().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    });
    path.context("cargo named no test program")
}

struct Built {
    binary: PathBuf,
    libraries: Vec<PathBuf>,
    /// Headers that some tests compile with.
    includes: Option<PathBuf>,
}

impl Ready for Built {
    fn version(&self) -> String {
        VERSION.to_owned()
    }

    fn run(&self, target: &Target, filter: &str) -> Result<Outcome> {
        Outcome::timed(|tests| {
            let mut command = Command::new(&self.binary);
            command.args(["--test-threads", "1", filter]);
            target.apply(&mut command, &self.libraries)?;
            if let Some(includes) = &self.includes {
                command.env("CUDA_INCLUDE_PATH", includes);
            }
            let (ended, log) = process::run_to_end(&format!("cudarc-{}", target.way().name()), &mut command, LIMIT)?;
            read(&String::from_utf8_lossy(&fs::read(log)?), tests);
            if tests.is_empty() {
                bail!("no test has {filter:?} in its name");
            }
            // 101 is the harness's own: some test failed.
            if !matches!(ended.and_then(|status| status.code()), Some(0 | 101)) {
                tests.insert("all".to_owned(), Verdict::Failed("the program did not come to its end".to_owned()));
            }
            Ok(())
        })
    }
}

/// Reads the harness's lines: `test NAME ... ok`. What a test prints may stand between name and end.
fn read(text: &str, tests: &mut BTreeMap<String, Verdict>) {
    let mut open: Option<String> = None;
    for line in text.lines() {
        let ends = |line: &str| match line.trim() {
            line if line.ends_with("FAILED") => Some(Verdict::Failed("failed".to_owned())),
            line if line.ends_with("ok") => Some(Verdict::Passed),
            line if line.contains("ignored") => Some(Verdict::Skipped),
            _ => None,
        };
        if let Some((name, rest)) = line.strip_prefix("test ").and_then(|line| line.split_once(" ... ")) {
            let name = name.split(" - ").next().unwrap_or(name).to_owned();
            match ends(rest) {
                Some(verdict) => drop(tests.insert(name, verdict)),
                None => open = Some(name),
            }
        } else if let Some(verdict) = open.as_ref().and_then(|_| ends(line))
            && let Some(name) = open.take()
        {
            tests.insert(name, verdict);
        }
    }
    // A test that began and never ended took the program with it.
    if let Some(name) = open {
        tests.insert(name, Verdict::Failed("the program ended in it".to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_harness_is_understood() {
        let mut tests = BTreeMap::new();
        read("running 4 tests\ntest a::b ... ok\ntest c ... printed\nmore\nFAILED\ntest d ... ignored\ntest e ... gone\n", &mut tests);
        assert_eq!(tests["a::b"], Verdict::Passed);
        assert_eq!(tests["c"], Verdict::Failed("failed".to_owned()));
        assert_eq!(tests["d"], Verdict::Skipped);
        assert!(matches!(&tests["e"], Verdict::Failed(_)) && tests.len() == 4);
    }
}
