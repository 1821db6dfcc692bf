//! tinygrad, which writes every kernel itself: it trains a network of the size of its MNIST example.

use std::time::Duration;

use super::scripts::{Script, Value};

pub(crate) const TINYGRAD: Script = Script {
    name: "tinygrad",
    about: "tinygrad: operations, and the training of a small network, beside its CPU backend",
    environment_name: "tinygrad",
    capability: "8.0",
    version: "0.14.0",
    packages: &["tinygrad==0.14.0", "numpy==2.4.6", "nvidia-cuda-nvrtc==13.5.37", "nvidia-cuda-runtime==13.5.37"],
    size: "130 MB",
    script: "tests/clients/tinygrad/checks.py",
    environment: &[
        ("CUDA_PATH", Value::Packages("nvidia/cu13")),
        ("NVRTC_PATH", Value::Packages("nvidia/cu13/lib/libnvrtc.so.13")),
    ],
    limit: Duration::from_secs(30 * 60),
    compiles: false,
};
