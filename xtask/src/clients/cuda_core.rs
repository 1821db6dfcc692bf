//! cuda-core, NVIDIA's Python interface to the driver: programs after its public interface.

use std::time::Duration;

use super::scripts::{Script, Value};

pub(crate) const CUDA_CORE: Script = Script {
    name: "cuda-core",
    about: "cuda-core: programs over its devices, streams, buffers, compilers, linkers, launches and graphs",
    environment_name: "cuda-core",
    capability: "8.0",
    version: "1.2.2",
    packages: &[
        "cuda-core==1.2.2",
        "cuda-bindings==13.5.0",
        "numpy==2.4.6",
        "nvidia-cuda-nvrtc==13.5.37",
        "nvidia-cuda-runtime==13.5.37",
    ],
    size: "160 MB",
    script: "tests/clients/cuda_core/checks.py",
    environment: &[("CUDA_HOME", Value::Packages("nvidia/cu13"))],
    limit: Duration::from_secs(10 * 60),
    compiles: false,
};
