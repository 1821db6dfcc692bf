//! Launches from several threads of one process, each on a stream of its own.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::cuda::{Cuda, Session};
use crate::figure::{Figure, unit};
use crate::stats::median;

/// Launches between two synchronisations.
const BATCH: u32 = 1_000;

pub(crate) fn run(cuda: &Cuda, quick: bool) -> Result<()> {
    cuda.init()?;
    let limit = Duration::from_millis(if quick { 300 } else { 2_000 });
    for count in [1, 2, 8] {
        let mut rates = Vec::new();
        for _ in 0..3 {
            rates.push(together(cuda, count, limit)? / 1e6);
        }
        let s = if count == 1 { "" } else { "s" };
        Figure::new(format!("launches from {count} thread{s}"), median(&mut rates), unit::M_PER_S).tell();
    }
    Ok(())
}

/// Launches a second of so many threads together.
fn together(cuda: &Cuda, count: usize, limit: Duration) -> Result<f64> {
    let start = Barrier::new(count);
    let launches: Result<Vec<u64>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|_| {
                scope.spawn(|| {
                    let session = cuda.session();
                    start.wait();
                    launches(&session?, limit)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?).collect()
    });
    Ok(launches?.iter().sum::<u64>() as f64 / limit.as_secs_f64())
}

fn launches(session: &Session, limit: Duration) -> Result<u64> {
    let begun = Instant::now();
    let mut done = 0;
    while begun.elapsed() < limit {
        (0..BATCH).try_for_each(|_| session.launch())?;
        session.synchronize()?;
        done += u64::from(BATCH);
    }
    Ok(done)
}
