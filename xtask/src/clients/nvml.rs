//! nvidia-ml-py, NVIDIA's own Python binding of NVML: `tests/clients/nvml` compares what it tells with CUDA's figures.

use std::time::Duration;

use anyhow::Result;

use super::scripts::Script;
use super::suite::{Client, Ready};
use super::target::Way;

const COMPARISON: Script = Script {
    name: "nvml",
    about: "nvidia-ml-py: every getter, and the VM's figures beside CUDA's",
    environment_name: "nvml",
    capability: "8.0",
    version: "13.615.71",
    packages: &["nvidia-ml-py==13.615.71"],
    size: "1 MB",
    script: "tests/clients/nvml/compare.py",
    environment: &[],
    limit: Duration::from_secs(120),
    compiles: false,
};

pub(crate) struct Nvml;

impl Client for Nvml {
    fn name(&self) -> &'static str {
        COMPARISON.name
    }

    fn about(&self) -> &'static str {
        COMPARISON.about
    }

    /// NVML belongs to the guest: the CPU device alone has none.
    fn ways(&self) -> &'static [Way] {
        &[Way::Forwarded]
    }

    fn prepare(&self) -> Result<Box<dyn Ready>> {
        COMPARISON.prepare()
    }
}
