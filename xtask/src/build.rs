//! `build`: the product with cargo, then the samples that run on it.

use std::env;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Result, bail};

use crate::samples::{self, Samples};
use crate::step::{act, done, step};
use crate::{paths, process, setup};

/// Build the product and the samples
///
/// One profile for everything: release. Leaves paravane-backend, paravaned, paravanectl, libcuda.so and libnvidia_ml.so (the guest's), libparavane_cpu.so and
/// libparavane_vulkan_layer.so in target/release, the samples in target/paravane/samples.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  cargo xtask build")]
pub(crate) struct Build {}

impl Build {
    pub(crate) fn run(self) -> Result<ExitCode> {
        setup::to_build()?;
        let samples = all()?;
        println!(
            "build: {} and {}",
            paths::release().display(),
            samples.dir.display()
        );
        Ok(ExitCode::SUCCESS)
    }
}

/// Builds product and samples.
pub(crate) fn all() -> Result<Samples> {
    act("the product (cargo build --release)", product)?;
    step("the samples (clang to PTX, cc)", || {
        let samples = samples::build(&shim()?)?;
        done(samples, "")
    })
}

pub(crate) fn product() -> Result<()> {
    process::run("cargo-build", cargo("build").args(["--release", "--quiet"]))
}

/// What tests load beside the product: a host's NVML where there is none.
pub(crate) fn stand_ins() -> Result<()> {
    let mut build = cargo("build");
    process::run("cargo-build-stand-ins", build.args(["--release", "--quiet", "--package", "paravane-host-nvml"]))
}

/// The cargo that runs this xtask, at the root of the source tree.
pub(crate) fn cargo(command: &str) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.arg(command).current_dir(paths::root());
    cargo
}

/// The guest's libcuda.
pub(crate) fn shim() -> Result<PathBuf> {
    built("libcuda.so")
}

/// The guest's NVML.
pub(crate) fn nvml() -> Result<PathBuf> {
    built("libnvidia_ml.so")
}

pub(crate) fn backend() -> Result<PathBuf> {
    built("paravane-backend")
}

pub(crate) fn cpu_driver() -> Result<PathBuf> {
    built("libparavane_cpu.so")
}

/// paravaned or paravanectl.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    built(name)
}

fn built(name: &str) -> Result<PathBuf> {
    let path = paths::release().join(name);
    if !path.exists() {
        bail!("{} was not built", path.display());
    }
    Ok(path)
}
