//! `package`: Debian packages, one for guests (`guest`), one for the host (`host`), one for what draws there (`renderer`).

pub(crate) mod guest;
pub(crate) mod host;
pub(crate) mod renderer;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::step::{act, done, step};
use crate::{apt, build, gl, paths, process, setup};

/// Build the packages
///
/// Makes paravane-guest_VERSION_amd64.deb: install it in a guest with `dpkg -i`, and CUDA programs there find libcuda.so.1.
/// And paravane-host_VERSION_amd64.deb: paravaned, paravanectl, paravane-backend and the CPU device, with their units.
/// With --renderer paravane-renderer_VERSION_amd64.deb too: OpenGL and Vulkan, for hosts with virglrenderer 1.0 (Debian 13).
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask package\n  cargo xtask package --renderer\n  cargo xtask package --out /srv/packages"
)]
pub(crate) struct Package {
    /// Directory for the packages [default: target/paravane/package]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Also what draws for guests; where this machine has no virglrenderer 1.0, built with Debian 13's (the first time: 430 MB)
    #[arg(long)]
    renderer: bool,
}

impl Package {
    pub(crate) fn run(self) -> Result<ExitCode> {
        setup::to_build()?;
        apt::ensure(apt::TO_BOOT)?;
        act("the product (cargo build --release)", build::product)?;
        let out = self.out.map_or_else(|| paths::made("package"), Ok)?;
        let mut packages = vec![guest::make(&out)?, host::make(&out)?];
        if self.renderer {
            packages.push(renderer::make(&out, &gl::built_renderer()?.1)?);
        }
        packages.iter().for_each(|package| println!("{}", package.display()));
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

/// A file of the source tree.
fn copy(from: &str, to: &Path) -> Result<()> {
    let from = paths::root().join(from);
    put(to, &fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?, 0o644)
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
