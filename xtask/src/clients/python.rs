//! Python environments in the cache, each with exactly the packages that its key names, from PyPI by its ordinary pip.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::apt::{self, Package};
use crate::step::{done, step};
use crate::{cache, guest_disk, paths, process};

const TO_MAKE: &[Package] = &[Package {
    name: "python3-venv",
    proof: "/usr/share/doc/python3-venv",
    purpose: "Python environments for the clients",
}];

/// The guest's, Debian 13's.
pub(crate) const GUEST_PYTHON: &str = "3.13";
const DISK: &str = "packages.ext4";

/// The system's Python, with what makes environments.
fn python() -> Result<(&'static str, String)> {
    const ASK: [&str; 2] = ["-c", "import venv, ensurepip, sys; print(*sys.version_info[:2], sep='.')"];
    let ask = || process::output(Command::new("python3").args(ASK));
    let version = match ask() {
        Ok(version) => version,
        Err(_) => {
            apt::ensure(TO_MAKE)?;
            ask().context("python3 cannot make environments (modules venv and ensurepip)")?
        }
    };
    Ok(("python3", version.trim().to_owned()))
}

/// An environment.
pub(crate) struct Environment {
    dir: PathBuf,
}

impl Environment {
    /// The environment `name` with these requirements, as pip writes them; each step of `then` is a further pip command line
    /// (`["uninstall", "--yes", "x"]`). `size` is for the person who waits.
    pub(crate) fn ensure(name: &str, size: &str, requirements: &[&str], then: &[&[&str]]) -> Result<Self> {
        let (python, version) = python()?;
        let after: Vec<String> = then.iter().map(|words| words.join(" ")).collect();
        let parts: Vec<&str> =
            std::iter::once(version.as_str()).chain(requirements.iter().copied()).chain(after.iter().map(String::as_str)).collect();
        let dir = step(&format!("{name} from PyPI (the first time: {size})"), || {
            let (dir, cached) = cache::entry(name, &cache::key(&parts), |aside| {
                process::run(&format!("{name}-venv"), Command::new(python).args(["-m", "venv"]).arg(aside))?;
                pip(name, aside, &[&["install"], requirements].concat())?;
                then.iter().try_for_each(|words| pip(name, aside, words))
            })?;
            done(dir, if cached { "from the cache" } else { "installed" })
        })?;
        Ok(Environment { dir })
    }

    /// Its Python. Programs in its bin/ name the directory in which it was made, so run modules: `-m pytest`.
    pub(crate) fn python(&self) -> Command {
        let mut command = Command::new(self.dir.join("bin/python"));
        command.env("PYTHONNOUSERSITE", "1").env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    /// Whether C can be compiled against it.
    pub(crate) fn has_headers(&self) -> Result<bool> {
        let ask = "import os, sysconfig; print(os.path.exists(os.path.join(sysconfig.get_path('include'), 'Python.h')))";
        Ok(process::output(self.python().args(["-c", ask]))?.trim() == "True")
    }

    /// Where its packages lie.
    pub(crate) fn packages(&self) -> Result<PathBuf> {
        let path = process::output(self.python().args(["-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]))?;
        Ok(PathBuf::from(path.trim()))
    }

}

/// A guest's disk with these packages for its Python, less the folders `without`.
pub(crate) fn guest_disk(name: &str, size: &str, requirements: &[&str], without: &[&str]) -> Result<PathBuf> {
    let name = &format!("{name}-guest");
    let pip_environment = Environment::ensure("pip", "3 MB", &["pip==25.3"], &[])?;
    let parts = [&[GUEST_PYTHON], requirements, &["without"], without].concat();
    step(&format!("{name} from PyPI (the first time: {size})"), || {
        let (dir, cached) = cache::entry(name, &cache::key(&parts), |aside| {
            let tree = aside.join("tree");
            let mut words = vec!["install", "--no-compile", "--only-binary=:all:", "--implementation=cp", "--python-version", GUEST_PYTHON];
            // What wheels call the systems that a current Debian is.
            for platform in ["manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"] {
                words.extend(["--platform", platform]);
            }
            words.extend(["--target", paths::text(&tree)?]);
            words.extend(requirements);
            pip(name, &pip_environment.dir, &words)?;
            for folder in without {
                cache::remove(&tree.join(folder))?;
            }
            guest_disk::of_files(&tree, &aside.join(DISK))?;
            cache::remove(&tree)
        })?;
        done(dir.join(DISK), if cached { "from the cache" } else { "installed" })
    })
}

fn pip(name: &str, dir: &Path, words: &[&str]) -> Result<()> {
    let mut command = Command::new(dir.join("bin/python"));
    command.args(["-m", "pip", "--disable-pip-version-check", "--no-input"]).args(words);
    process::run(&format!("{name}-pip"), &mut command).context("pip could not install from PyPI (is the network there?)")
}
