//! Device memory filled to a share of the device, and what it takes to copy that
//! much out to fresh memory and in again.

use std::time::Instant;

use anyhow::{Result, ensure};

use crate::cuda::{Cuda, Session};
use crate::figure::{Figure, unit};
use crate::stats::median;

/// Allocations.
const CHUNKS: usize = 16;
/// So often all is copied.
const ROUNDS: usize = 5;

/// An allocation and its bytes.
pub(super) type Chunk = (u64, usize);

/// Allocates so many hundredths of the device, and writes to all of it.
pub(super) fn fill(session: &Session, percent: usize) -> Result<Vec<Chunk>> {
    let bytes = session.total_memory()? / 100 * percent / CHUNKS;
    let pattern = vec![7_u8; bytes];
    let chunk = |_| {
        let at = session.alloc(bytes)?;
        session.copy_in(at, &pattern)?;
        Ok((at, bytes))
    };
    (0..CHUNKS).map(chunk).collect()
}

/// Tells both ways' medians.
pub(super) fn run(cuda: &Cuda, pattern: &str) -> Result<()> {
    cuda.init()?;
    let session = cuda.session()?;
    let chunks = fill(&session, pattern.parse()?)?;
    let all: usize = chunks.iter().map(|(_, bytes)| bytes).sum();
    let (mut out, mut back) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let mut copies = Vec::new();
        for (at, bytes) in &chunks {
            let mut copy = vec![0_u8; *bytes];
            session.copy_out(&mut copy, *at)?;
            copies.push(copy);
        }
        out.push(all as f64 / start.elapsed().as_secs_f64() / 1e9);
        let start = Instant::now();
        for ((at, _), copy) in chunks.iter().zip(&copies) {
            session.copy_in(*at, copy)?;
        }
        back.push(all as f64 / start.elapsed().as_secs_f64() / 1e9);
        ensure!(copies.iter().all(|copy| copy.last() == Some(&7)), "memory came back changed");
    }
    Figure::new("out", median(&mut out), unit::GB_PER_S).tell();
    Figure::new("in", median(&mut back), unit::GB_PER_S).tell();
    Ok(())
}
