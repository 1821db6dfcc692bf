//! Probes that share a device by leases: each works by its pattern for some
//! seconds and tells how much it got done, in kernels' calibrated time.

use std::io::stdin;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::share::READY;
use crate::cuda::{Cuda, Spin};
use crate::figure::{Figure, unit};

/// How long kernels are calibrated.
const CALIBRATION: Duration = Duration::from_millis(400);
/// Work between two synchronises of a stream.
const AHEAD: Duration = Duration::from_millis(20);
/// A graph's kernels.
const NODES: u32 = 16;

/// What a VM does: `stream`, `graph`, `await`, `burst` or `wake`, a colon, the kernel's microseconds, a colon, and turns
/// of the kernel's loop in a millisecond.
pub(crate) struct Pattern {
    habit: String,
    kernel: Duration,
    turns: u32,
}

impl Pattern {
    fn read(text: &str) -> Result<Self> {
        let mut words = text.split(':');
        let mut next = || words.next().context("a pattern is HABIT:MICROSECONDS:TURNS_IN_A_MILLISECOND");
        let (habit, us, per_ms) = (next()?.to_owned(), next()?.parse::<u64>()?, next()?.parse::<u64>()?);
        let turns = u32::try_from((us * per_ms / 1000).max(1))?;
        Ok(Self { habit, kernel: Duration::from_micros(us), turns })
    }
}

/// Turns of the kernel's loop in a millisecond.
pub(crate) fn calibrate(cuda: &Cuda) -> Result<()> {
    cuda.init()?;
    let session = cuda.session()?;
    let spin = session.spin()?;
    let timed = |turns: u32| -> Result<Duration> {
        let start = Instant::now();
        spin.launch(turns)?;
        session.synchronize()?;
        Ok(start.elapsed())
    };
    let turns = 1_000_000;
    let begun = Instant::now();
    let mut best = timed(turns)?;
    while begun.elapsed() < CALIBRATION {
        best = best.min(timed(turns)?);
    }
    Figure::new("turns in a millisecond", f64::from(turns) / best.as_secs_f64() / 1e3, unit::COUNT).tell();
    Ok(())
}

/// Says "ready", waits for a line that names the seconds, works, and tells.
pub(crate) fn run(cuda: &Cuda, pattern: &str) -> Result<()> {
    let pattern = Pattern::read(pattern)?;
    cuda.init()?;
    let session = cuda.session()?;
    let spin = session.spin()?;
    for _ in 0..20 {
        spin.launch(pattern.turns.min(100_000))?;
        session.synchronize()?;
    }
    println!("{READY}");
    let mut line = String::new();
    stdin().read_line(&mut line)?;
    let limit = Duration::from_secs_f64(line.trim().parse()?);
    let (done, waits) = work(&pattern, &spin, limit, || session.synchronize())?;
    Figure::new(
        "work",
        done as f64 * pattern.kernel.as_secs_f64() * 1e3 / limit.as_secs_f64(),
        unit::MS_PER_S,
    )
    .tell();
    let mut waits = waits;
    waits.sort_by(f64::total_cmp);
    let at = |hundredths: usize| waits.get(waits.len() * hundredths / 100).copied();
    for (name, value) in [("median", at(50)), ("99th percentile", at(99)), ("longest", waits.last().copied())]
    {
        if let Some(value) = value {
            Figure::new(name, value * 1e3, unit::MS).tell();
        }
    }
    Ok(())
}

/// Kernels done, and how long each awaited one took, in seconds.
fn work(
    pattern: &Pattern,
    spin: &Spin,
    limit: Duration,
    wait: impl Fn() -> Result<()>,
) -> Result<(u64, Vec<f64>)> {
    let (mut done, mut waits) = (0, Vec::new());
    let begun = Instant::now();
    let ahead = u32::try_from((AHEAD.as_nanos() / pattern.kernel.as_nanos().max(1)).clamp(2, 1000))?;
    let graph = if pattern.habit == "graph" { Some(spin.graph(pattern.turns, NODES)?) } else { None };
    while begun.elapsed() < limit {
        let start = Instant::now();
        match (pattern.habit.as_str(), &graph) {
            ("stream", _) => {
                (0..ahead).try_for_each(|_| spin.launch(pattern.turns))?;
                done += u64::from(ahead);
            }
            ("graph", Some(graph)) => {
                let launches = (ahead / NODES).max(2);
                (0..launches).try_for_each(|_| spin.launch_graph(*graph))?;
                done += u64::from(launches * NODES);
            }
            ("await", _) => {
                spin.launch(pattern.turns)?;
                done += 1;
            }
            ("burst", _) => {
                (0..50).try_for_each(|_| spin.launch(pattern.turns))?;
                done += 50;
            }
            ("wake", _) => {
                spin.launch(pattern.turns)?;
                done += 1;
            }
            (other, _) => bail!("no habit {other}"),
        }
        wait()?;
        match pattern.habit.as_str() {
            "await" => waits.push(start.elapsed().as_secs_f64()),
            "wake" => {
                waits.push(start.elapsed().as_secs_f64());
                sleep(Duration::from_millis(10));
            }
            "burst" => sleep(Duration::from_millis(5)),
            _ => {}
        }
    }
    Ok((done, waits))
}
