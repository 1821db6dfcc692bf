//! Finding a QEMU that has both vhost-user devices: this machine's own, or Debian's from the backports to the guest's
//! release, unpacked in the cache and run with its own dynamic linker, so that nothing on this machine changes.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::guest_root::SUITE;
use crate::{apt, cache, process};

const PROGRAM: &str = "qemu-system-x86_64";
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
/// The devices that carry Paravane; the second is there since QEMU 11.1.
const DEVICES: &[&str] = &["\"vhost-user-gpu-pci\"", "\"vhost-user-test-device-pci\""];

/// A QEMU and how to start it.
pub(crate) enum Qemu {
    /// On the PATH.
    Installed,
    /// In a tree of unpacked packages.
    Unpacked(PathBuf),
}

/// A QEMU with the devices, and a word on where it comes from.
pub(crate) fn ensure() -> Result<(Qemu, String)> {
    if let Ok(version) = usable(&Qemu::Installed, DEVICES) {
        return Ok((Qemu::Installed, format!("{version}, installed here")));
    }
    let key = cache::key(&[SUITE, PROGRAM]);
    fetched(&key, DEVICES, |tree| unpack(tree, &format!("{SUITE}-backports")))
}

/// The QEMU of the guest's release itself, without backports: an older one, which has the first of the devices.
pub(crate) fn of_release() -> Result<(Qemu, String)> {
    let key = cache::key(&[SUITE, PROGRAM, "release"]);
    fetched(&key, &DEVICES[..1], |tree| unpack(tree, SUITE))
}

fn fetched(key: &str, devices: &[&str], make: impl FnOnce(&Path) -> Result<()>) -> Result<(Qemu, String)> {
    let (tree, cached) = cache::entry("qemu", key, make)?;
    let qemu = Qemu::Unpacked(tree);
    let version = usable(&qemu, devices)?;
    Ok((qemu, format!("{version}, {}", if cached { "from the cache" } else { "fetched" })))
}

impl Qemu {
    pub(crate) fn command(&self) -> Command {
        let Qemu::Unpacked(tree) = self else {
            return Command::new(PROGRAM);
        };
        let mut command = Command::new(tree.join(LIBRARIES).join("ld-linux-x86-64.so.2"));
        command.arg("--library-path").arg(tree.join(LIBRARIES));
        command.arg(tree.join("usr/bin").join(PROGRAM));
        for firmware in ["usr/share/qemu", "usr/share/seabios"] {
            command.arg("-L").arg(tree.join(firmware));
        }
        command.env("QEMU_MODULE_DIR", tree.join(LIBRARIES).join("qemu"));
        command
    }
}

/// The version of `qemu` when it has the devices.
fn usable(qemu: &Qemu, wanted: &[&str]) -> Result<String> {
    let devices = process::output(qemu.command().args(["-device", "help"]))?;
    for device in wanted {
        if !devices.contains(device) {
            bail!("QEMU has no device {device}");
        }
    }
    let version = process::output(qemu.command().arg("--version"))?;
    let number = version
        .split("version ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next());
    Ok(format!(
        "QEMU {}",
        number.context("QEMU does not tell its version")?
    ))
}

/// From `suite`, with what it needs of the release.
fn unpack(tree: &Path, suite: &str) -> Result<()> {
    let archive = apt::archive()?;
    let mut command = apt::as_root("mmdebstrap")?;
    command.args([
        "--mode=root",
        "--variant=extract",
        "--include=qemu-system-x86",
    ]);
    command.arg(format!("--aptopt=APT::Default-Release \"{suite}\""));
    command.arg("--dpkgopt=path-exclude=/usr/share/doc/*");
    command.arg(SUITE).arg(tree);
    command.arg(format!("deb {archive} {SUITE} main"));
    if suite != SUITE {
        command.arg(format!("deb {archive} {suite} main"));
    }
    process::run("mmdebstrap-qemu", &mut command)?;
    process::run(
        "chmod-qemu",
        apt::as_root("chmod")?
            .args(["--recursive", "a+rX"])
            .arg(tree),
    )
}
