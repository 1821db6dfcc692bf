//! Clients in a guest: what each brings along on disks, the job that runs it there as an ordinary user behind the installed
//! package, and what its output says.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::suite::Verdict;
use crate::guest_root::USER;
use crate::{guest_disk, guest_job, paths};

/// Where the guest has what `Luggage::file` packed.
pub(crate) const FILES: &str = "/run/clients";
/// Where Debian's Python finds packages that are not Debian's.
const SITE: &str = "/usr/local/lib/python3.13/dist-packages";
/// Around each program's output.
const BEGIN: &str = "#begin ";
const END: &str = "#end ";
/// What timeout(1) ends with when it had to end the program.
const TIMED_OUT: i32 = 124;

/// What one client runs in the guest.
pub(crate) struct Part {
    pub(crate) client: &'static str,
    /// A disk of Python packages, mounted while the programs run.
    pub(crate) site: Option<PathBuf>,
    pub(crate) programs: Vec<Program>,
}

/// A command line for the guest's shell, and how to judge what it says.
pub(crate) struct Program {
    pub(crate) name: String,
    pub(crate) command: String,
    pub(crate) limit_s: u32,
    pub(crate) judge: fn(&Said) -> BTreeMap<String, Verdict>,
}

/// What a program said.
pub(crate) struct Said<'a> {
    pub(crate) name: &'a str,
    pub(crate) text: &'a str,
    /// Its exit status; `None` if it was not done in time.
    pub(crate) status: Option<i32>,
}

/// Files for all clients, below one directory.
pub(crate) struct Luggage(TempDir);

impl Luggage {
    pub(crate) fn new() -> Result<Self> {
        let dir = TempDir::with_prefix("paravane-clients-").context("cannot create a temporary directory")?;
        Ok(Luggage(dir))
    }

    /// Packs a file or everything below a directory as `name`, which may have folders; answers its path in the guest.
    pub(crate) fn file(&mut self, name: &str, from: &Path) -> Result<String> {
        let to = self.0.path().join(name);
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        copy(from, &to)?;
        Ok(format!("{FILES}/{name}"))
    }

    /// The disk, below the luggage's own directory.
    pub(crate) fn disk(&self) -> Result<PathBuf> {
        let image = self.0.path().with_extension("ext4");
        guest_disk::of_files(self.0.path(), &image)?;
        Ok(image)
    }
}

impl Drop for Luggage {
    fn drop(&mut self) {
        // The image lies beside the directory, which removes itself.
        fs::remove_file(self.0.path().with_extension("ext4")).ok();
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        fs::copy(from, to).with_context(|| format!("cannot pack {}", from.display()))?;
        return Ok(());
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot pack {}", from.display()))? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

/// The disks of a boot, by serial.
pub(crate) fn disks(parts: &[Part], luggage: &Luggage) -> Result<Vec<(String, PathBuf)>> {
    let sites = parts.iter().filter_map(|part| Some((part.client.to_owned(), part.site.clone()?)));
    Ok(sites.chain([("clients".to_owned(), luggage.disk()?)]).collect())
}

/// The job: installs the package, then runs everything, each program in an empty directory of its own.
pub(crate) fn script(parts: &[Part]) -> Result<String> {
    let mut script = guest_job::install();
    script.push_str(
        "attach() {\n  for block in /sys/block/vd*; do\n    [ \"$(cat \"$block/serial\")\" = \"$1\" ] && \
         mkdir -p \"$2\" && mount -t ext4 -o ro \"/dev/${block##*/}\" \"$2\"\n  done\n}\n",
    );
    writeln!(script, "attach clients {FILES}")?;
    script.push_str("export PYTHONDONTWRITEBYTECODE=1 PYTHONNOUSERSITE=1\n");
    for part in parts {
        if part.site.is_some() {
            writeln!(script, "attach {} {SITE}", part.client)?;
        }
        for program in &part.programs {
            let Program { name, command, limit_s, .. } = program;
            writeln!(script, "work=$(mktemp -d) && chown {USER} $work && cd $work && echo '{BEGIN}{name}'")?;
            writeln!(
                script,
                "HOME=$work timeout {limit_s} setpriv --reuid {USER} --regid {USER} --init-groups sh -c '{}' 2>&1\n\
                 printf '\\n{END}%s\\n' $?\ncd / && rm -rf $work",
                command.replace('\'', "'\\''")
            )?;
        }
        if part.site.is_some() {
            writeln!(script, "umount {SITE}")?;
        }
    }
    script.push_str("exit 0\n");
    Ok(script)
}

/// Every client's tests by the job's output; a program whose end is missing has failed.
pub(crate) fn verdicts(parts: &[Part], output: &str) -> Vec<(&'static str, BTreeMap<String, Verdict>)> {
    let said = all_said(output);
    let of = |part: &Part| {
        let mut tests = BTreeMap::new();
        for program in &part.programs {
            match said.get(program.name.as_str()) {
                Some((text, status)) => {
                    let status = Some(*status).filter(|status| *status != TIMED_OUT);
                    tests.extend((program.judge)(&Said { name: &program.name, text: text.trim_end(), status }));
                }
                None => {
                    tests.insert(program.name.clone(), Verdict::Failed("did not run to its end".to_owned()));
                }
            }
        }
        (part.client, tests)
    };
    parts.iter().map(of).collect()
}

/// Text and exit status by the program's name.
fn all_said(output: &str) -> BTreeMap<&str, (String, i32)> {
    let mut said = BTreeMap::new();
    let mut open: Option<(&str, String)> = None;
    for line in output.lines() {
        if let Some(name) = line.strip_prefix(BEGIN) {
            open = Some((name, String::new()));
        } else if let Some(status) = line.strip_prefix(END).and_then(|rest| rest.trim().parse().ok()) {
            if let Some((name, text)) = open.take() {
                said.insert(name, (text, status));
            }
        } else if let Some((_, text)) = &mut open {
            text.push_str(line);
            text.push('\n');
        }
    }
    said
}

/// A folder of tests/clients for the guest.
pub(crate) fn pack_tests(luggage: &mut Luggage, name: &str) -> Result<String> {
    luggage.file(name, &paths::root().join("tests/clients").join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(names: &[&str]) -> Part {
        let judge = |said: &Said| {
            let verdict = if said.status == Some(0) { Verdict::Passed } else { Verdict::Failed(said.text.to_owned()) };
            BTreeMap::from([(said.name.to_owned(), verdict)])
        };
        let program = |name: &&str| Program { name: (*name).to_owned(), command: "x 'y'".to_owned(), limit_s: 5, judge };
        Part { client: "one", site: None, programs: names.iter().map(program).collect() }
    }

    #[test]
    fn a_program_is_judged_by_what_lies_between_its_lines() {
        let output = "noise\n#begin a\nhello\n#end 0\n#begin b\nwhy\n\n#end 3\n#begin c\n\n#end 124\n#begin d\ncut off";
        let all = verdicts(&[part(&["a", "b", "c", "d", "e"])], output);
        let failed = |why: &str| Verdict::Failed(why.to_owned());
        let none = || failed("did not run to its end");
        let expected = [("a", Verdict::Passed), ("b", failed("why")), ("c", failed("")), ("d", none()), ("e", none())];
        assert_eq!(all, [("one", expected.map(|(name, verdict)| (name.to_owned(), verdict)).into())]);
    }

    #[test]
    fn a_command_keeps_its_quotes_in_the_job() {
        let script = script(&[part(&["a"])]).unwrap();
        assert!(script.contains(r"sh -c 'x '\''y'\'''"), "{script}");
    }
}
