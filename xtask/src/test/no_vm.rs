//! The samples as host processes: straight on the CPU device, then over the vhost-user transport to a back end that is the
//! same as for a VM.

use anyhow::Result;

use super::report::Check;
use crate::backend::Backend;
use crate::host_run::{self, Libcuda};
use crate::samples::{self, Samples};

pub(crate) fn on_the_cpu_device(samples: &Samples) -> Result<Check> {
    let (output, _) = host_run::run(samples, "test-cpu-device", Libcuda::CpuDevice)?;
    Ok(Check::of_samples(&samples::verdicts(&output)))
}

pub(crate) fn over_the_socket(samples: &Samples) -> Result<Check> {
    let backend = Backend::start("test-no-vm", &[])?;
    let (output, _) = host_run::run(samples, "test-no-vm", Libcuda::Shim(&backend.socket()))?;
    let mut check = Check::of_samples(&samples::verdicts(&output));
    check.require_account(&backend.stop()?);
    Ok(check)
}
