//! How long a call takes in the program that makes it.

use std::time::Instant;

use anyhow::Result;

use crate::cuda::{Cuda, Session};
use crate::figure::{Figure, unit};
use crate::stats::{median, seconds};

/// Launches in a timed batch: they fit into a ring, so the caller never waits.
const BATCH: u32 = 100;

pub(crate) fn run(cuda: &Cuda, quick: bool) -> Result<()> {
    cuda.init()?;
    let session = cuda.session()?;
    let rounds = if quick { 2_000 } else { 20_000 };
    let awaited = seconds(rounds, || session.awaited().map(drop))?;
    Figure::new("awaited call", awaited * 1e6, unit::US).tell();
    let synchronised = seconds(rounds, || {
        session.launch()?;
        session.synchronize()
    })?;
    Figure::new("launch and stream synchronise", synchronised * 1e6, unit::US).tell();
    let idle = seconds(rounds / BATCH, || (0..BATCH).try_for_each(|_| session.synchronize()))?;
    Figure::new("synchronise, nothing outstanding", idle / f64::from(BATCH) * 1e9, unit::NS).tell();
    let posted = posted(&session, rounds / BATCH)?;
    Figure::new("posted launch, in the caller", posted * 1e9, unit::NS).tell();
    let launches = if quick { 20_000 } else { 200_000 };
    let all = seconds(5, || {
        (0..launches).try_for_each(|_| session.launch())?;
        session.synchronize()
    })?;
    Figure::new("launches, synchronise included", f64::from(launches) / all / 1e6, unit::M_PER_S).tell();
    Ok(())
}

/// Seconds that one launch keeps the caller, while the other side works them off.
fn posted(session: &Session, rounds: u32) -> Result<f64> {
    let mut samples = Vec::new();
    for _ in 0..rounds {
        let start = Instant::now();
        for _ in 0..BATCH {
            session.launch()?;
        }
        samples.push(start.elapsed().as_secs_f64() / f64::from(BATCH));
        session.synchronize()?;
    }
    Ok(median(&mut samples))
}
