//! Probes that share a device by leases: each works by its pattern for some
//! seconds and tells how much it got done, in kernels' calibrated time.

use std::collections::VecDeque;
use std::io::stdin;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::fill::fill;
use super::share::READY;
use crate::cuda::{Cuda, Handle, Session, Spin};
use crate::figure::{Figure, unit};

/// How long kernels are calibrated.
const CALIBRATION: Duration = Duration::from_millis(400);
/// Work that a program has issued and not waited for, at most.
const AHEAD: Duration = Duration::from_millis(20);
/// Work between two marks, by whose events it is counted.
const MARK: Duration = Duration::from_millis(1);
/// A mark that is longer is asked for instead of waited for: it may not be
/// reached before the end.
const LONG: Duration = Duration::from_millis(20);
/// A graph's kernels.
const NODES: u32 = 16;
/// Streams of `streams`, contexts of `contexts`.
const STREAMS: usize = 4;
const CONTEXTS: usize = 64;
/// Bytes of one copy of `copy`.
const COPY: usize = 1 << 20;

/// What a VM does: a habit, a colon, the kernel's microseconds, a colon, and turns of the kernel's loop in a millisecond.
/// `stream`, `streams`, `contexts`, `graph` and `copy` keep the device busy; `await`, `burst` and `wake` wait for each, for 50
/// at a time, and for each and then sleep. A colon and hundredths of the device's memory may follow: those are filled.
pub(crate) struct Pattern {
    habit: String,
    kernel: Duration,
    turns: u32,
    fills: usize,
}

impl Pattern {
    fn read(text: &str) -> Result<Self> {
        let mut words = text.split(':');
        let mut next = || words.next().context("a pattern is HABIT:MICROSECONDS:TURNS_IN_A_MILLISECOND");
        let (habit, us, per_ms) = (next()?.to_owned(), next()?.parse::<u64>()?, next()?.parse::<u64>()?);
        let turns = u32::try_from((us * per_ms / 1000).max(1))?;
        let fills = words.next().map_or(Ok(0), str::parse)?;
        Ok(Self { habit, kernel: Duration::from_micros(us), turns, fills })
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
    let lanes = Lanes::new(cuda, &pattern)?;
    println!("{READY}");
    let mut line = String::new();
    stdin().read_line(&mut line)?;
    let limit = Duration::from_secs_f64(line.trim().parse()?);
    let (done, mut waits) = match pattern.habit.as_str() {
        "stream" | "streams" | "contexts" | "graph" | "copy" => (lanes.keep_busy(&pattern, limit)?, Vec::new()),
        _ => lanes.wait_for_each(&pattern, limit)?,
    };
    let work = done as f64 * pattern.kernel.as_secs_f64() * 1e3;
    Figure::new("work", work / limit.as_secs_f64(), unit::MS_PER_S).tell();
    waits.sort_by(f64::total_cmp);
    let at = |hundredths: usize| waits.get(waits.len() * hundredths / 100).copied();
    for (name, value) in [("median", at(50)), ("99th percentile", at(99)), ("longest", waits.last().copied())] {
        if let Some(value) = value {
            Figure::new(name, value * 1e3, unit::MS).tell();
        }
    }
    Ok(())
}

/// A stream and what is issued to it.
struct Lane<'a> {
    session: Session<'a>,
    spin: Spin<'a>,
    graph: Option<Handle>,
    copied: Option<(u64, &'static [u8])>,
}

impl Lane<'_> {
    fn new<'a>(session: Session<'a>, pattern: &Pattern) -> Result<Lane<'a>> {
        let spin = session.spin()?;
        let graph = if pattern.habit == "graph" { Some(spin.graph(pattern.turns, NODES)?) } else { None };
        let copied = if pattern.habit == "copy" {
            Some((session.alloc(COPY)?, &*session.host_alloc(COPY)?))
        } else {
            None
        };
        Ok(Lane { session, spin, graph, copied })
    }

    /// Issues the least there is; how many kernels or copies that was.
    fn issue(&self, turns: u32) -> Result<u32> {
        match (self.graph, self.copied) {
            (Some(graph), _) => self.spin.launch_graph(graph).map(|()| NODES),
            (_, Some((to, from))) => self.session.copy_in_async(to, from).map(|()| 1),
            _ => self.spin.launch(turns).map(|()| 1),
        }
    }
}

/// What a process issues to.
struct Lanes<'a> {
    cuda: &'a Cuda,
    all: Vec<Lane<'a>>,
}

impl<'a> Lanes<'a> {
    fn new(cuda: &'a Cuda, pattern: &Pattern) -> Result<Self> {
        let first = Lane::new(cuda.session()?, pattern)?;
        let more = match pattern.habit.as_str() {
            "streams" => STREAMS,
            "contexts" => CONTEXTS,
            _ => 1,
        };
        if pattern.fills > 0 {
            // It stays until the process ends.
            fill(&first.session, pattern.fills)?;
        }
        let mut all = vec![first];
        while all.len() < more {
            let session = match all.first() {
                Some(first) if pattern.habit == "streams" => first.session.on_new_stream()?,
                _ => cuda.separate_session()?,
            };
            all.push(Lane::new(session, pattern)?);
        }
        for lane in &all {
            lane.session.enter()?;
            lane.issue(if pattern.kernel < LONG * 5 { pattern.turns } else { 1000 })?;
            lane.session.synchronize()?;
        }
        Ok(Self { cuda, all })
    }

    /// Has [`AHEAD`] issued at any time. Counts what was done in time.
    fn keep_busy(&self, pattern: &Pattern, limit: Duration) -> Result<u64> {
        let begun = Instant::now();
        let (mut done, mut turn) = (0, 0);
        let mut marks: VecDeque<(Handle, u32, &Lane)> = VecDeque::new();
        let mut events = Vec::new();
        while begun.elapsed() < limit {
            let ahead: u32 = marks.iter().map(|(_, count, _)| count).sum();
            if marks.len() >= 2 && pattern.kernel * ahead >= AHEAD {
                let Some((event, count, lane)) = marks.pop_front() else { continue };
                lane.session.enter()?;
                if !self.reach(event, pattern.kernel * count, || begun.elapsed() < limit)? {
                    break;
                }
                done += if begun.elapsed() < limit { u64::from(count) } else { 0 };
                events.push((event, lane));
                continue;
            }
            let Some(lane) = self.all.get(turn % self.all.len()) else { bail!("no lane") };
            turn += 1;
            lane.session.enter()?;
            let mut count = 0;
            while count == 0 || pattern.kernel * count < MARK {
                count += lane.issue(pattern.turns)?;
            }
            let spare = events.iter().position(|(_, of)| std::ptr::eq(*of, lane));
            let event = match spare {
                Some(at) => events.swap_remove(at).0,
                None => self.cuda.event()?,
            };
            lane.session.record(event)?;
            marks.push_back((event, count, lane));
        }
        Ok(done)
    }

    /// Waits for a mark of so much work; whether it was reached.
    fn reach(&self, event: Handle, work: Duration, in_time: impl Fn() -> bool) -> Result<bool> {
        if work < LONG {
            self.cuda.wait_for(event)?;
            return Ok(true);
        }
        while in_time() {
            if self.cuda.is_reached(event)? {
                return Ok(true);
            }
            sleep(Duration::from_millis(1));
        }
        Ok(false)
    }

    /// Kernels done, and how long each awaited one took, in seconds.
    fn wait_for_each(&self, pattern: &Pattern, limit: Duration) -> Result<(u64, Vec<f64>)> {
        let Some(lane) = self.all.first() else { bail!("no lane") };
        let at_once = if pattern.habit == "burst" { super::BURST } else { 1 };
        let pause = match pattern.habit.as_str() {
            "await" => None,
            "burst" => Some(Duration::from_millis(5)),
            "wake" => Some(Duration::from_millis(10)),
            other => bail!("no habit {other}"),
        };
        let (mut done, mut waits) = (0, Vec::new());
        let begun = Instant::now();
        while begun.elapsed() < limit {
            let start = Instant::now();
            (0..at_once).try_for_each(|_| lane.issue(pattern.turns).map(drop))?;
            lane.session.synchronize()?;
            if begun.elapsed() < limit {
                done += u64::from(at_once);
                waits.push(start.elapsed().as_secs_f64());
            }
            if let Some(pause) = pause {
                sleep(pause);
            }
        }
        Ok((done, waits))
    }
}
