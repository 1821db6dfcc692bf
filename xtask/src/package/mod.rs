//! `package`: Debian packages, one for guests (`guest`), one for the host (`host`).

pub(crate) mod guest;
pub(crate) mod host;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::step::{act, done, step};
use crate::{apt, build, paths, process, setup};

/// Build the packages
///
/// Makes paravane-guest_VERSION_amd64.deb: install it in a guest with `dpkg -i`, and CUDA programs there find libcuda.so.1.
/// And paravane-host_VERSION_amd64.deb: paravaned, paravanectl, paravane-backend and the CPU device, with their units.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask package\n  cargo xtask package --out /srv/packages"
)]
pub(crate) struct Package {
    /// Directory for the packages [default: target/paravane/package]
    #[arg(long)]
    out: Option<PathBuf>,
}

impl Package {
    pub(crate) fn run(self) -> Result<ExitCode> {
        setup::to_build()?;
        apt::ensure(apt::TO_BOOT)?;
        act("the product (cargo build --release)", build::product)?;
        let out = self.out.map_or_else(|| paths::made("package"), Ok)?;
        println!("{}\n{}", guest::make(&out)?.display(), host::make(&out)?.display());
        Ok(ExitCode::SUCCESS)
    }
}

/// Makes a package of a name in `out`; `fill` lays it out, for a version.
fn build(out: &Path, name: &str, what: &str, fill: impl FnOnce(&Path, &str) -> Result<()>) -> Result<PathBuf> {
    let version = env!("CARGO_PKG_VERSION");
    let package = out.join(format!("{name}_{version}_amd64.deb"));
    step(what, || {
        let tree = tempfile::TempDir::with_prefix("paravane-package-")?;
        // mkdtemp's 0700 would become the mode of the root directory where it is installed.
        fs::set_permissions(tree.path(), fs::Permissions::from_mode(0o755))?;
        fill(tree.path(), version).with_context(|| format!("cannot lay out {what}"))?;
        let mut dpkg = Command::new("dpkg-deb");
        // A fixed time makes the same input give the same package.
        dpkg.env("SOURCE_DATE_EPOCH", "1767225600").args(["--root-owner-group", "-Zxz", "-z1", "--build"]);
        process::run("dpkg-deb", dpkg.arg(tree.path()).arg(&package))?;
        done(package.clone(), format!("{} KB", fs::metadata(&package)?.len() / 1000))
    })
}

fn put(path: &Path, data: &[u8], mode: u32) -> Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(path, data).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}

/// Puts a program or library there, without what only debuggers read; its bytes.
fn put_stripped(path: &Path, built: &Path, mode: u32) -> Result<u64> {
    put(path, &fs::read(built)?, mode)?;
    process::run("strip", Command::new("strip").arg("--strip-unneeded").arg(path))?;
    Ok(fs::metadata(path)?.len())
}

fn copyright() -> String {
    "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: Paravane\n\n\
     Files: *\nCopyright: Paravane's authors\nLicense: Apache-2.0 or BSD-3-Clause\n On Debian systems the full texts are in \
     /usr/share/common-licenses/Apache-2.0\n and /usr/share/common-licenses/BSD.\n"
        .to_owned()
}
