//! Probes that run beside others. They say "ready" when their context is up,
//! and act when a line comes on stdin, so that all start together.

use std::io::stdin;
use std::time::Duration;

use anyhow::Result;

use crate::cuda::{Cuda, Session};
use crate::figure::{Figure, unit};
use crate::stats::count_for;

/// Seconds for which each process counts what it gets done.
pub(crate) fn seconds(quick: bool) -> u64 {
    if quick { 1 } else { 3 }
}

/// What a probe says when it is set up.
pub(crate) const READY: &str = "ready";

/// Launches bursts of this length and synchronises, for some seconds, and
/// tells how many launches there were.
pub(crate) fn run(cuda: &Cuda, quick: bool, burst: u32) -> Result<()> {
    let session = set_up(cuda)?;
    wait_for_a_line()?;
    let limit = Duration::from_secs(seconds(quick));
    let count = count_for(limit, || {
        (0..burst).try_for_each(|_| session.launch())?;
        session.synchronize()
    })?;
    let launches = (count * u64::from(burst)) as f64;
    Figure::new("launches", launches / limit.as_secs_f64() / 1e3, unit::K_PER_S).tell();
    Ok(())
}

/// Does nothing until told to end.
pub(crate) fn idle(cuda: &Cuda) -> Result<()> {
    let _session = set_up(cuda)?;
    wait_for_a_line()
}

fn set_up(cuda: &Cuda) -> Result<Session<'_>> {
    cuda.init()?;
    let session = cuda.session()?;
    for _ in 0..100 {
        session.launch()?;
        session.synchronize()?;
    }
    println!("{READY}");
    Ok(session)
}

fn wait_for_a_line() -> Result<()> {
    stdin().read_line(&mut String::new())?;
    Ok(())
}
