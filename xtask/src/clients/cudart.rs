//! Programs written with `<<<>>>`, compiled by nvcc and linked with cudart: the sources in tests/clients/cudart, each with
//! every runtime, linked statically and shared. A program checks its results itself and says PASS or FAIL in its last line.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};

use super::guest::{self, Luggage, Part, Said};
use super::suite::{Client, Outcome, Ready, Verdict};
use super::nvcc::{Nvcc, Runtime};
use super::target::Target;
use crate::step::{done, step};
use crate::{paths, process};

/// A program of these takes a second at most.
const LIMIT: Duration = Duration::from_secs(60);
/// And twenty times as long in an emulated guest.
const GUEST_LIMIT_S: u32 = 120;

pub(crate) struct Cudart;

impl Client for Cudart {
    fn name(&self) -> &'static str {
        "cudart"
    }

    fn about(&self) -> &'static str {
        "programs built with nvcc, with cudart 12.9, 13.0 and 13.5, static and shared"
    }

    fn prepare(&self) -> Result<Box<dyn Ready>> {
        Ok(Box::new(ready()?))
    }

    fn guest_part(&self, luggage: &mut Luggage) -> Result<Option<Part>> {
        let programs = ready()?.programs.iter().map(|program| program.for_a_guest(luggage)).collect::<Result<_>>()?;
        Ok(Some(Part { client: self.name(), site: None, programs }))
    }
}

fn ready() -> Result<Built> {
    let nvcc = Nvcc::ensure()?;
    let programs = step("the programs (nvcc)", || {
        let programs = build(&nvcc)?;
        let note = format!("{} of them", programs.len());
        done(programs, note)
    })?;
    let versions = nvcc.runtimes.iter().map(|runtime| runtime.version).collect::<Vec<_>>().join(", ");
    Ok(Built { versions, programs })
}

/// A program as built.
struct Program {
    /// `source/runtime-linkage`.
    name: String,
    runtime: &'static str,
    path: PathBuf,
    /// Where its shared cudart lies.
    libraries: Vec<PathBuf>,
}

struct Built {
    versions: String,
    programs: Vec<Program>,
}

/// Flags that a source asks for in a line of its own: `// nvcc: …`.
fn flags(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("// nvcc: ")).flat_map(str::split_whitespace).collect()
}

/// Builds every source with every runtime; a directory is one program of several sources.
fn build(nvcc: &Nvcc) -> Result<Vec<Program>> {
    let source = paths::root().join("tests/clients/cudart");
    let mut entries: Vec<PathBuf> =
        fs::read_dir(&source)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>().context("tests/clients/cudart")?;
    entries.sort();
    let header = source.join("check.h");
    let mut programs = Vec::new();
    for entry in entries.iter().filter(|entry| entry.is_dir() || entry.extension().is_some_and(|end| end == "cu")) {
        let sources = if entry.is_dir() { files(entry)? } else { vec![entry.clone()] };
        for runtime in &nvcc.runtimes {
            for linkage in ["static", "shared"] {
                programs.push(one(nvcc, runtime, linkage, entry, &sources, &header)?);
            }
        }
    }
    Ok(programs)
}

fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|end| end == "cu"));
    files.sort();
    Ok(files)
}

fn one(nvcc: &Nvcc, runtime: &Runtime, linkage: &str, entry: &Path, sources: &[PathBuf], header: &Path) -> Result<Program> {
    let stem = paths::text(Path::new(entry.file_stem().context("a source has a name")?))?.to_owned();
    let name = format!("{stem}/{}-{linkage}", runtime.version);
    let path = paths::made("clients/cudart")?.join(name.replace('/', "-"));
    let libraries = if linkage == "shared" { vec![runtime.lib.clone()] } else { Vec::new() };
    if !is_newer(&path, sources.iter().map(PathBuf::as_path).chain([header]))? {
        let mut command = nvcc.command(runtime)?;
        for source in sources {
            command.args(flags(&fs::read_to_string(source)?));
        }
        command.arg("-I").arg(header.parent().context("a header lies somewhere")?).args(sources);
        command.args(["--cudart", linkage]).arg("-o").arg(&path);
        process::run(&format!("nvcc-{}", name.replace('/', "-")), &mut command)?;
    }
    Ok(Program { name, runtime: runtime.version, path, libraries })
}

/// Whether `made` is there and newer than all of `from`.
fn is_newer<'a>(made: &Path, from: impl Iterator<Item = &'a Path>) -> Result<bool> {
    let Ok(made) = fs::metadata(made) else { return Ok(false) };
    let newest = from.map(|path| Ok(fs::metadata(path)?.modified()?)).collect::<Result<Vec<SystemTime>>>()?;
    let made = made.modified()?;
    Ok(newest.into_iter().all(|time| time < made))
}

impl Ready for Built {
    fn version(&self) -> String {
        self.versions.clone()
    }

    fn run(&self, target: &Target, filter: &str) -> Result<Outcome> {
        Outcome::timed(|tests| {
            for program in self.programs.iter().filter(|program| program.name.contains(filter)) {
                tests.insert(program.name.clone(), program.run(target)?);
            }
            no_empty_run(tests, filter)
        })
    }
}

fn no_empty_run(tests: &BTreeMap<String, Verdict>, filter: &str) -> Result<()> {
    if tests.is_empty() {
        bail!("no test has {filter:?} in its name");
    }
    Ok(())
}

impl Program {
    fn run(&self, target: &Target) -> Result<Verdict> {
        let log = format!("cudart-{}-{}", target.way().name(), self.name.replace('/', "-"));
        let mut command = Command::new(&self.path);
        target.apply(&mut command, &self.libraries)?;
        let (ended, log) = process::run_to_end(&log, &mut command, LIMIT)?;
        let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        Ok(verdict(&text, ended.map(|status| status.success())))
    }

    /// The same program from the guest's disk, with the shared cudart beside it.
    fn for_a_guest(&self, luggage: &mut Luggage) -> Result<guest::Program> {
        let path = luggage.file(&format!("cudart/{}", self.name.replace('/', "-")), &self.path)?;
        let mut command = path;
        for (place, library) in self.libraries.iter().enumerate() {
            let folder = luggage.file(&format!("cudart/lib-{}-{place}", self.runtime), library)?;
            command = format!("LD_LIBRARY_PATH={folder} {command}");
        }
        let judge = |said: &Said| {
            let verdict = verdict(said.text, said.status.map(|status| status == 0));
            BTreeMap::from([(said.name.to_owned(), verdict)])
        };
        Ok(guest::Program { name: self.name.clone(), command, limit_s: GUEST_LIMIT_S, judge })
    }
}

/// PASS in the last line and an exit status of 0, SKIP with a reason, or the line that says FAIL.
fn verdict(text: &str, success: Option<bool>) -> Verdict {
    let last = text.lines().last().unwrap_or_default();
    match success {
        None => Verdict::Failed(format!("not done after {} s", LIMIT.as_secs())),
        Some(true) if last.starts_with("PASS ") => Verdict::Passed,
        Some(true) if last.starts_with("SKIP ") => Verdict::Skipped,
        Some(_) => {
            let said = text.lines().find(|line| line.starts_with("FAIL "));
            Verdict::Failed(said.unwrap_or(last).to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_passes_only_by_its_last_line_and_its_status() {
        assert_eq!(verdict("x\nPASS a\n", Some(true)), Verdict::Passed);
        assert_eq!(verdict("SKIP a: no such device\n", Some(true)), Verdict::Skipped);
        let failed = |text: &str| Verdict::Failed(text.to_owned());
        assert_eq!(verdict("PASS a\n", Some(false)), failed("PASS a"));
        assert_eq!(verdict("FAIL a: element 3\nmore\n", Some(false)), failed("FAIL a: element 3"));
        assert_eq!(verdict("", Some(true)), failed(""));
        assert_eq!(verdict("PASS a\n", None), failed("not done after 60 s"));
    }

    #[test]
    fn a_source_names_its_flags() {
        assert_eq!(flags("//! text\n// nvcc: -rdc=true -w\nint x; // nvcc: no\n"), ["-rdc=true", "-w"]);
    }
}
