//! A slice of piglit, as Debian packages it: shader tests, the same list in a guest by virgl and here by the host's own driver,
//! each judged by the test itself. They differ where virgl or what lies behind it is wrong.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::root::Root;
use crate::guest_root::SUITE;
use crate::{apt, cache, guest_disk, paths, process, table};

const PACKAGE: &str = "piglit";
/// Where the package has everything.
const FOLDER: &str = "usr/lib/x86_64-linux-gnu/piglit";
/// What is taken of its 2 GB.
const WANTED: &[&str] = &["lib/", "bin/shader_runner", "tests/spec/glsl-1.10/", "tests/spec/glsl-1.20/", "tests/spec/glsl-1.30/"];
/// Which tests are run, below its tests/spec.
const RUN: &[&str] = &["glsl-1.10/execution", "glsl-1.20/execution", "glsl-1.30/execution"];
const LIST: &str = "list";
/// The disk's serial, and where the guest has it.
const DISK: &str = "piglit";
const MOUNTED: &str = "/run/piglit";
/// In the guest's output, around the results.
const BEGIN: &str = "#piglit";
const END: &str = "#end of piglit";
/// Here, where nothing is emulated.
const LIMIT: Duration = Duration::from_secs(900);

/// How each test ended, by its name.
type Results = BTreeMap<String, String>;

/// The slice: unpacked, and as a guest's disk.
pub(super) struct Slice {
    folder: PathBuf,
    disk: PathBuf,
}

/// The slice from the cache, or fetched.
pub(super) fn ensure() -> Result<(Slice, String)> {
    let script = fs::read_to_string(script())?;
    let key = cache::key(&[&[SUITE, PACKAGE, &script], WANTED, RUN].concat());
    let (entry, cached) = cache::entry("piglit", &key, make)?;
    let slice = Slice { folder: entry.join("tree").join(FOLDER), disk: entry.join("piglit.ext4") };
    let count = fs::read_to_string(slice.folder.join(LIST))?.lines().count();
    Ok((slice, format!("{count} tests, {}", if cached { "from the cache" } else { "fetched" })))
}

fn script() -> PathBuf {
    paths::root().join("tests/gl/piglit.sh")
}

fn make(aside: &Path) -> Result<()> {
    let package = apt::download(SUITE, PACKAGE, aside)?;
    let mut unpack = Command::new("dpkg-deb");
    let mut unpack = unpack.arg("--fsys-tarfile").arg(&package).stdout(Stdio::piped()).spawn().context("cannot start dpkg-deb")?;
    let mut archive = tar::Archive::new(unpack.stdout.take().context("its output")?);
    let tree = aside.join("tree");
    fs::create_dir(&tree)?;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let name = path.strip_prefix("./").unwrap_or(&path).strip_prefix(FOLDER).ok();
        if name.is_some_and(|name| WANTED.iter().any(|wanted| name.to_string_lossy().starts_with(wanted))) {
            entry.unpack_in(&tree)?;
        }
    }
    if !unpack.wait()?.success() {
        bail!("dpkg-deb cannot unpack {}", package.display());
    }
    fs::remove_file(&package)?;
    let folder = tree.join(FOLDER);
    let mut tests = Vec::new();
    for run in RUN {
        find(&folder.join("tests/spec"), run, &mut tests)?;
    }
    tests.sort();
    fs::write(folder.join(LIST), tests.join("\n") + "\n")?;
    fs::copy(script(), folder.join("run"))?;
    guest_disk::of_files(&folder, &aside.join("piglit.ext4"))
}

/// Names of the shader tests below a folder of `spec`, folders within included.
fn find(spec: &Path, folder: &str, tests: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(spec.join(folder)).with_context(|| format!("piglit has no {folder}"))? {
        let entry = entry?;
        let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            find(spec, &name, tests)?;
        } else if let Some(test) = name.strip_suffix(".shader_test") {
            tests.push(test.to_owned());
        }
    }
    Ok(())
}

impl Slice {
    /// For the guest.
    pub(super) fn disk(&self) -> (String, PathBuf) {
        (DISK.to_owned(), self.disk.clone())
    }

    /// What the guest runs.
    pub(super) fn job() -> String {
        format!(
            "for block in /sys/block/vd*; do\n  [ \"$(cat \"$block/serial\")\" = {DISK} ] && mkdir {MOUNTED} && \
             mount -t ext4 -o ro \"/dev/${{block##*/}}\" {MOUNTED}\ndone\n\
             echo '{BEGIN}'; sh {MOUNTED}/run {MOUNTED} {MOUNTED}/{LIST}; echo '{END}'\n"
        )
    }

    /// The same on this host.
    pub(super) fn here(&self, root: &Root) -> Result<Results> {
        let mut run = Command::new("sh");
        run.arg(script()).arg(&self.folder).arg(self.folder.join(LIST));
        run.arg(root.wrapper()?);
        let (status, log) = process::run_to_end("piglit-here", &mut run, LIMIT)?;
        if !status.is_some_and(|status| status.success()) {
            bail!("piglit did not end well here: {}", log.display());
        }
        Ok(read(&fs::read_to_string(log)?))
    }
}

/// What a guest's output says.
pub(super) fn in_guest(output: &str) -> Result<Results> {
    let (_, said) = output.split_once(BEGIN).context("piglit did not begin in the guest")?;
    let (said, _) = said.split_once(END).context("piglit did not end in the guest")?;
    Ok(read(said))
}

fn read(said: &str) -> Results {
    let line = |line: &str| {
        let (name, result) = line.trim().split_once(' ')?;
        let known = RUN.iter().any(|run| name.starts_with(run)) && !result.contains(' ');
        known.then(|| (name.to_owned(), result.to_owned()))
    };
    said.lines().filter_map(line).collect()
}

/// How many passed on either side, and where the differences are listed. `by` is the guest's driver. No test that passes on the host may
/// fail by it without being listed there; that some do is no failure of this run, for the list says which.
pub(super) fn compare(guest: &Results, here: &Results, by: &str) -> Result<String> {
    if guest.len() < here.len() {
        bail!("{} tests ran in the guest, {} here", guest.len(), here.len());
    }
    let passed = |results: &Results| results.values().filter(|result| *result == "pass").count();
    let different: Vec<_> = here.iter().filter(|(name, result)| guest.get(*name) != Some(*result)).collect();
    let list = paths::made("gl")?.join(format!("piglit-differences-{by}.txt"));
    let line = |(name, result): &(&String, &String)| {
        format!("{name}: {} by {by}, {result} here\n", guest.get(*name).map_or("nothing", |result| result))
    };
    fs::write(&list, different.iter().map(line).collect::<String>())?;
    let all = paths::made("gl")?.join(format!("piglit-results-{by}.txt"));
    serde_json::to_writer_pretty(File::create(all)?, guest)?;
    let rows = RUN.iter().map(|run| {
        let of = |results: &Results| -> Results {
            let mine = results.iter().filter(|(name, _)| name.starts_with(run));
            mine.map(|(name, result)| (name.clone(), result.clone())).collect()
        };
        let (guest, here) = (of(guest), of(here));
        vec![(*run).to_owned(), guest.len().to_string(), passed(&guest).to_string(), passed(&here).to_string()]
    });
    let rows: Vec<_> = rows.collect();
    println!("\n{}", table::table(&["piglit", "tests", &format!("pass by {by}"), "pass here"], &rows));
    Ok(format!(
        "{} of {} pass by {by}, {} by the host's own driver; {} differ: {}",
        passed(guest),
        guest.len(),
        passed(here),
        different.len(),
        list.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_from_among_what_else_is_said() {
        let output = "x\n#piglit\nsh something\nglsl-1.10/execution/a pass\nglsl-1.20/execution/b/c crash\n#end of piglit\n";
        let results = in_guest(output).unwrap();
        assert_eq!(results.len(), 2);
        assert_eq!(results["glsl-1.20/execution/b/c"], "crash");
        assert!(in_guest("#piglit\nglsl-1.10/execution/a pass\n").is_err());
    }
}
