//! From samples to one number. A median says what usually happens; a mean
//! would say how often the machine did something else.

use std::time::{Duration, Instant};

use anyhow::Result;

/// The middle of the samples; 0 of none.
pub(crate) fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(0.0)
}

/// Median seconds of one `action`, over `rounds`, after a tenth as many to warm up.
pub(crate) fn seconds(rounds: u32, mut action: impl FnMut() -> Result<()>) -> Result<f64> {
    for _ in 0..rounds / 10 {
        action()?;
    }
    let mut samples = Vec::new();
    for _ in 0..rounds {
        let start = Instant::now();
        action()?;
        samples.push(start.elapsed().as_secs_f64());
    }
    Ok(median(&mut samples))
}

/// The same for what cannot fail.
pub(crate) fn seconds_of(rounds: u32, mut action: impl FnMut()) -> f64 {
    let timed = seconds(rounds, || {
        action();
        Ok(())
    });
    timed.unwrap_or(f64::NAN)
}

/// How many of `action` fit into `limit`.
pub(crate) fn count_for(limit: Duration, mut action: impl FnMut() -> Result<()>) -> Result<u64> {
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < limit {
        action()?;
        count += 1;
    }
    Ok(count)
}
