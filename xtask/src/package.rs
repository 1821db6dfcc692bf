//! `package`: the shim as a Debian package for guests. It goes into a directory of its own that ldconfig is told of, so
//! `dpkg -i` makes it usable and `dpkg -r` leaves nothing behind.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::step::{done, step};
use crate::{apt, build, paths, process, setup};

/// Build the guest package
///
/// Makes paravane-guest_VERSION_amd64.deb: install it in a guest with `dpkg -i`, and CUDA programs there find libcuda.so.1.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask package\n  cargo xtask package --out /srv/packages"
)]
pub(crate) struct Package {
    /// Directory for the package [default: target/paravane/package]
    #[arg(long)]
    out: Option<PathBuf>,
}

const LIBRARY_DIR: &str = "usr/lib/x86_64-linux-gnu/paravane";

const POSTINST: &str = r#"#!/bin/sh
set -e
if [ "$1" = configure ]; then
    if [ -S /run/udev/control ]; then
        udevadm control --reload
        udevadm trigger --action=change --subsystem-match=drm
        udevadm settle --timeout=10
    fi
fi
"#;

const UDEV_RULE: &str = "# Programs of the group `render` use the GPU; udev's own rules say the same on most systems.\n\
                         SUBSYSTEM==\"drm\", KERNEL==\"renderD*\", DRIVERS==\"virtio_gpu\", GROUP=\"render\", MODE=\"0660\"\n";

impl Package {
    pub(crate) fn run(self) -> Result<ExitCode> {
        setup::to_build()?;
        apt::ensure(apt::TO_BOOT)?;
        step("the product (cargo build --release)", || {
            done(build::product()?, "")
        })?;
        let out = self.out.map_or_else(|| paths::made("package"), Ok)?;
        println!("{}", make(&out)?.display());
        Ok(ExitCode::SUCCESS)
    }
}

/// Makes the package from what is built, in `out`.
pub(crate) fn make(out: &Path) -> Result<PathBuf> {
    let version = env!("CARGO_PKG_VERSION");
    let package = out.join(format!("paravane-guest_{version}_amd64.deb"));
    step("the guest package", || {
        let tree = tempfile::TempDir::with_prefix("paravane-package-")?;
        fill(tree.path(), version).context("cannot lay out the guest package")?;
        let mut dpkg = Command::new("dpkg-deb");
        // A fixed time makes the same input give the same package.
        dpkg.env("SOURCE_DATE_EPOCH", "1767225600").args([
            "--root-owner-group",
            "-Zxz",
            "-z1",
            "--build",
        ]);
        process::run("dpkg-deb", dpkg.arg(tree.path()).arg(&package))?;
        done(
            package.clone(),
            format!("{} KB", fs::metadata(&package)?.len() / 1000),
        )
    })
}

fn fill(tree: &Path, version: &str) -> Result<()> {
    // mkdtemp's 0700 would become the mode of the guest's root directory.
    fs::set_permissions(tree, fs::Permissions::from_mode(0o755))?;
    let mut bytes = 0;
    for (built, name) in [(build::shim()?, "libcuda.so.1"), (build::nvml()?, "libnvidia-ml.so.1")] {
        let library = tree.join(LIBRARY_DIR).join(name);
        put(&library, &fs::read(built)?, 0o644)?;
        process::run("strip", Command::new("strip").arg("--strip-unneeded").arg(&library))?;
        bytes += fs::metadata(&library)?.len();
    }
    put(
        &tree.join("etc/ld.so.conf.d/paravane-guest.conf"),
        format!("/{LIBRARY_DIR}\n").as_bytes(),
        0o644,
    )?;
    put(
        &tree.join("usr/lib/udev/rules.d/60-paravane-guest.rules"),
        UDEV_RULE.as_bytes(),
        0o644,
    )?;
    put(
        &tree.join("usr/share/doc/paravane-guest/copyright"),
        copyright().as_bytes(),
        0o644,
    )?;

    let size_kib = bytes.div_ceil(1024);
    put(
        &tree.join("DEBIAN/control"),
        control(version, size_kib).as_bytes(),
        0o644,
    )?;
    put(
        &tree.join("DEBIAN/conffiles"),
        b"/etc/ld.so.conf.d/paravane-guest.conf\n",
        0o644,
    )?;
    // libc-bin runs ldconfig for whoever activates this trigger.
    put(
        &tree.join("DEBIAN/triggers"),
        b"activate-noawait ldconfig\n",
        0o644,
    )?;
    put(&tree.join("DEBIAN/postinst"), POSTINST.as_bytes(), 0o755)
}

fn control(version: &str, size_kib: u64) -> String {
    format!(
        "Package: paravane-guest\nVersion: {version}\nArchitecture: amd64\nMaintainer: Paravane's authors <paravane@localhost>\n\
         Installed-Size: {size_kib}\nDepends: libc6 (>= 2.36), libgcc-s1\nProvides: libcuda.so.1, libcuda1, libnvidia-ml1\n\
         Conflicts: libcuda1, libnvidia-ml1\nSection: libs\nPriority: optional\nDescription: CUDA for virtual machines that share their \
         host's GPU\n The CUDA driver library for guests of Paravane: libcuda.so.1 hands every call to the\n host over the \
         guest's virtio-gpu device; libnvidia-ml.so.1 shows the VM's own devices and use. No kernel module is needed.\n"
    )
}

fn copyright() -> String {
    "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: Paravane\n\n\
     Files: *\nCopyright: Paravane's authors\nLicense: Apache-2.0 or BSD-3-Clause\n On Debian systems the full texts are in \
     /usr/share/common-licenses/Apache-2.0\n and /usr/share/common-licenses/BSD.\n"
        .to_owned()
}

fn put(path: &Path, data: &[u8], mode: u32) -> Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(path, data).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_control_file_is_a_field_or_continues_one() {
        let text = control("1.2.3", 7);
        for line in text.lines() {
            assert!(line.starts_with(' ') || line.contains(": "), "{line}");
        }
        assert!(text.contains("\nDescription: CUDA for") && text.ends_with(".\n"));
    }
}
