//! The first kernel of a process: everything that comes before a program's
//! work, measured from inside in part and as a whole by who started it.

use std::time::Instant;

use anyhow::Result;

use crate::cuda::Cuda;
use crate::figure::{Figure, unit};

/// Tells what cuInit took (the channel's set-up is in it) once a kernel ran.
pub(crate) fn first_kernel(cuda: &Cuda) -> Result<()> {
    let start = Instant::now();
    cuda.init()?;
    let init = start.elapsed();
    let session = cuda.session()?;
    session.launch()?;
    session.synchronize()?;
    Figure::new("cuInit", init.as_secs_f64() * 1e3, unit::MS).tell();
    Ok(())
}
