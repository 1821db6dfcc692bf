//! For orientation: rust-vmm's vhost-device-gpu, the other vhost-user device that draws by virglrenderer. Built from crates.io
//! as Paravane's renderer is, so that both run on one QEMU with one virglrenderer and one driver.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::root::Root;
use crate::{build, cache, process};

const NAME: &str = "vhost-device-gpu";
const VERSION: &str = "0.2.0";
const START_LIMIT: Duration = Duration::from_secs(10);

/// The program from the cache, or built.
pub(super) fn ensure(root: &Root) -> Result<(PathBuf, String)> {
    let key = cache::key(&[NAME, VERSION, &root.key()]);
    let (entry, cached) = cache::entry(NAME, &key, |aside| make(root, aside))?;
    Ok((entry.join("bin").join(NAME), format!("{VERSION}, {}", if cached { "from the cache" } else { "built" })))
}

fn make(root: &Root, aside: &Path) -> Result<()> {
    let mut cargo = build::cargo("install");
    cargo.args([NAME, "--version", VERSION, "--locked", "--no-default-features", "--features", "backend-virgl", "--root"]);
    cargo.arg(aside).env("CARGO_TARGET_DIR", aside.join("target"));
    root.build_with(&mut cargo)?;
    process::run("cargo-install-vhost-device-gpu", &mut cargo)?;
    fs::remove_dir_all(aside.join("target")).context("what was built on the way")
}

/// It runs; dropping it kills it.
pub(super) struct Device {
    child: Child,
    dir: TempDir,
}

impl Device {
    pub(super) fn start(root: &Root, program: &Path) -> Result<Self> {
        let dir = TempDir::with_prefix("paravane-").context("cannot create a temporary directory")?;
        let log = File::create(process::log_path(NAME)?)?;
        let mut command = root.command(program)?;
        // OpenGL as Paravane has it; OpenGL ES is its default.
        command.args(["--gpu-mode", "virglrenderer", "--use-gles", "false", "--socket-path"]).arg(dir.path().join("gpu.sock"));
        let child = process::tie(&mut command).process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        let mut device = Self { child: child.context("cannot start vhost-device-gpu")?, dir };
        let start = Instant::now();
        while !device.socket().exists() {
            if device.child.try_wait()?.is_some() || start.elapsed() > START_LIMIT {
                bail!("vhost-device-gpu does not listen: {}", process::tail(&process::log_path(NAME)?));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(device)
    }

    /// Its process, which leads a group.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.dir.path().join("gpu.sock")
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // It ends by itself when QEMU has gone.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
