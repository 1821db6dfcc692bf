//! The samples as host processes: the vhost-user transport, and a back end that is the same as for a VM.

use anyhow::Result;

use super::report::Check;
use crate::backend::Backend;
use crate::host_run;
use crate::samples::{self, Samples};

pub(crate) fn samples(samples: &Samples) -> Result<Check> {
    let backend = Backend::start("test-no-vm", &[])?;
    let (output, _) = host_run::run(samples, "test-no-vm", &backend.socket())?;
    let mut check = Check::of_samples(&samples::verdicts(&output));
    let usage = backend.stop()?;
    check.require(usage.kernels > 0 && usage.calls > 0, || {
        format!("the back end accounted for nothing: {usage:?}")
    });
    Ok(check)
}
