//! CUDA's compiler from PyPI: the 13.x packages are a whole one, and older runtimes are linked with it.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::python::Environment;
use crate::apt::{self, Package};

const COMPILER: &[Package] =
    &[Package { name: "g++", proof: "/usr/bin/g++", purpose: "compiles the host's half of CUDA programs" }];

/// The compiler, and headers and libraries of one runtime each.
pub(crate) struct Nvcc {
    root: PathBuf,
    pub(crate) runtimes: Vec<Runtime>,
}

/// One version of cudart.
pub(crate) struct Runtime {
    pub(crate) version: &'static str,
    includes: Vec<PathBuf>,
    pub(crate) lib: PathBuf,
}

impl Runtime {
    /// The packages lack the name by which the linker asks for the shared library.
    fn new(version: &'static str, root: &Path, shared: &str, cccl: PathBuf) -> Result<Self> {
        let lib = root.join("lib");
        let link = lib.join("libcudart.so");
        if !link.exists() {
            symlink(shared, &link).with_context(|| format!("cannot make {}", link.display()))?;
        }
        Ok(Runtime { version, includes: vec![root.join("include"), cccl], lib })
    }
}

/// The compiler's packages, of one version that fits together.
const PACKAGES: &[&str] = &[
    "nvidia-cuda-nvcc==13.5.37",
    "nvidia-cuda-crt==13.5.37",
    "nvidia-nvvm==13.5.37",
    "nvidia-cuda-runtime==13.5.37",
    "nvidia-cuda-cccl==13.3.5.0.6",
];

impl Nvcc {
    pub(crate) fn ensure() -> Result<Self> {
        apt::ensure(COMPILER)?;
        let newest = Environment::ensure("cuda-nvcc", "180 MB", PACKAGES, &[])?;
        let root = newest.packages()?.join("nvidia/cu13");
        let first13 = Environment::ensure("cudart-13.0", "6 MB", &["nvidia-cuda-runtime==13.0.96"], &[])?;
        let first13 = first13.packages()?.join("nvidia/cu13");
        let last12 = Environment::ensure("cudart-12.9", "7 MB", &["nvidia-cuda-runtime-cu12==12.9.79", "nvidia-cuda-cccl-cu12==12.9.27"], &[])?;
        let last12 = last12.packages()?.join("nvidia");
        let runtimes = vec![
            Runtime::new("13.5", &root, "libcudart.so.13", root.join("include/cccl"))?,
            // Its own C++ library refuses a newer compiler, and this one may be told not to.
            Runtime::new("13.0", &first13, "libcudart.so.13", root.join("include/cccl"))?,
            Runtime::new(
                "12.9",
                &last12.join("cuda_runtime"),
                "libcudart.so.12",
                last12.join("cuda_cccl/include"),
            )?,
        ];
        Ok(Nvcc { root, runtimes })
    }

    /// A command that compiles against `runtime` into PTX alone, so that every device with a compiler runs it.
    pub(crate) fn command(&self, runtime: &Runtime) -> Result<Command> {
        let bin = self.root.join("bin");
        let mut command = Command::new(bin.join("nvcc"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let dirs = std::iter::once(bin).chain(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(dirs).context("PATH")?);
        command.args(["-O2", "-std=c++17", "-gencode", "arch=compute_80,code=compute_80"]);
        // An older runtime's headers with this compiler, which its C++ library would refuse.
        command.arg("-DCCCL_DISABLE_CTK_COMPATIBILITY_CHECK");
        // Before the compiler's own, which are of its version.
        for include in &runtime.includes {
            command.arg("-I").arg(include);
        }
        command.arg("-L").arg(&runtime.lib);
        Ok(command)
    }
}
