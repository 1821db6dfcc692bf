//! PyTorch, whose own kernels are machine code: what needs none of them, and those that come as PTX.

use std::time::Duration;

use super::scripts::{Script, Value};

pub(crate) const TORCH: Script = Script {
    name: "torch",
    about: "PyTorch: device, memory, copies, streams, graphs; kernels of NVRTC, Triton and torch.compile",
    environment_name: "torch",
    capability: "8.0",
    version: "2.15.0",
    packages: &["torch==2.15.0", "numpy==2.4.6"],
    size: "2.9 GB",
    script: "tests/clients/torch/checks.py",
    environment: &[
        // Triton gives libcuda what this leaves it: PTX.
        ("TRITON_PTXAS_PATH", Value::Ours("tests/clients/torch/ptxas")),
        ("CUDA_HOME", Value::Packages("nvidia/cu13")),
    ],
    limit: Duration::from_secs(30 * 60),
    compiles: true,
};
