//! The host package, installed in a tree of its own by dpkg: its settings are accepted, its programs serve a guest's, its
//! units name what is there, and nothing is left when it is purged.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::report::Check;
use crate::backend::Backend;
use crate::daemon::Daemon;
use crate::host_run::{self, Libcuda};
use crate::package::host;
use crate::samples::{self, Samples};
use crate::{apt, paths, process};

pub(crate) fn installed(samples: &Samples) -> Result<Check> {
    let package = host::make(&paths::made("package")?)?;
    let root = tempfile::TempDir::with_prefix("paravane-host-")?;
    for folder in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "var/log"] {
        fs::create_dir_all(root.path().join(folder))?;
    }
    for file in ["var/lib/dpkg/status", "var/lib/dpkg/available"] {
        fs::write(root.path().join(file), "")?;
    }
    dpkg(root.path(), &["--install", &package.display().to_string()])?;
    let mut check = serves(root.path(), samples)?;
    check_units(&mut check, root.path())?;
    let wanted = root.path().join("etc/systemd/system/multi-user.target.wants/paravaned.service");
    check.require(fs::symlink_metadata(&wanted).is_ok(), || "paravaned is not enabled".to_owned());

    dpkg(root.path(), &["--remove", host::NAME])?;
    let is_there = |path: &str| root.path().join(path).exists();
    check.require(!is_there("usr/bin/paravaned") && is_there(host::SETTINGS), || {
        "a removed package leaves its settings and nothing else".to_owned()
    });
    dpkg(root.path(), &["--purge", host::NAME])?;
    check.require(!is_there(host::SETTINGS) && !is_there("etc/paravane"), || "purged, it leaves its settings".to_owned());
    Ok(check)
}

/// The tree lacks whatever the package depends on, and is no system that runs.
fn dpkg(root: &Path, arguments: &[&str]) -> Result<()> {
    let mut dpkg = apt::as_root("dpkg")?;
    dpkg.arg(format!("--root={}", root.display()));
    process::run("dpkg-host", dpkg.args(["--force-depends", "--force-script-chrootless"]).args(arguments))
}

/// A sample through the installed programs alone.
fn serves(root: &Path, samples: &Samples) -> Result<Check> {
    let program = |name: &str| root.join("usr/bin").join(name);
    let settings = root.join(host::SETTINGS);
    let mut accepts = Command::new(program("paravaned"));
    process::run("paravaned-check", accepts.arg("--check-config").arg("--config").arg(&settings))?;
    let home = tempfile::TempDir::with_prefix("paravane-")?;
    let daemon = Daemon::start_program(&program("paravaned"), "test-host-package", home.path())?;
    let socket = daemon.socket().display().to_string();
    let backend =
        Backend::start_program(&program("paravane-backend"), "test-host-package", &["--paravaned", &socket], &[])?;
    let (output, _) = host_run::run(samples, "test-host-package", Libcuda::Shim(&backend.socket()))?;
    let mut check = Check::of_samples(&samples::verdicts(&output));
    let said = daemon.said(&["list"])?;
    check.require(said.contains("test-host-package"), || format!("paravanectl list does not show the VM:\n{said}"));
    check.require_account(&backend.stop()?);
    Ok(check)
}

/// What units run and point at is in the package.
fn check_units(check: &mut Check, root: &Path) -> Result<()> {
    for unit in fs::read_dir(root.join(host::UNITS))? {
        let path = unit?.path();
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let named = text.lines().filter_map(|line| {
            let (key, value) = line.split_once('=')?;
            let value = value.strip_prefix("file://").unwrap_or(value);
            let is_ours = key.starts_with("Exec") || key == "Documentation";
            value.split(' ').next().filter(|word| is_ours && word.starts_with("/usr/"))
        });
        let named: Vec<&str> = named.collect();
        check.require(!named.is_empty(), || format!("{} runs nothing", path.display()));
        for file in named {
            check.require(root.join(&file[1..]).exists(), || format!("{}: there is no {file}", path.display()));
        }
    }
    Ok(())
}
