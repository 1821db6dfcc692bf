//! Memory that moves: how fast it goes and comes, what it costs a VM whose memory
//! may move and does not, and what two VMs get done that have more together
//! than the device.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::figure::{Figure, unit};
use crate::host::{Backend, Paths, Running, Side};
use crate::probe::What;
use crate::sched::calibrated;
use crate::sched::together::{Told, Vm, run};
use crate::stats::median;
use crate::table::Row;

/// Hundredths of the device that each of two VMs fills; and so many that both have room.
const FILLS: u64 = 75;
const FITS: u64 = 40;
/// A kernel's microseconds.
const KERNEL_US: u64 = 10_000;
/// Their memory may move, and the log says how long it took.
const MOVES: &[&str] = &["--swap", "1T", "--log-level", "debug"];
/// Figures that one pair of runs compares.
const LAUNCHES: [&str; 2] = ["launch and stream synchronise", "posted launch, in the caller"];

/// The group `swap`.
pub(crate) fn group(paths: &Paths, quick: bool) -> Result<Vec<Row>> {
    let mut rows = launches(paths, quick)?;
    // A GPU has what it has; as its, the device's time is one.
    let device_bytes = Some(if quick { 256 << 20 } else { 1 << 30 });
    let paths = Paths { one_engine: true, device_bytes, ..paths.clone() };
    rows.extend(turns(&paths, quick)?);
    Ok(rows)
}

/// What a launch costs where memory may move, beside one where it may not: pairs, one after the other.
fn launches(paths: &Paths, quick: bool) -> Result<Vec<Row>> {
    let still = Backend::start(paths)?;
    let moving = Backend::start_with(paths, &MOVES[..2])?;
    let mut samples = [(Vec::new(), Vec::new()), (Vec::new(), Vec::new())];
    for pair in 0..if quick { 2 } else { 7 } {
        let mut order = [(&still, false), (&moving, true)];
        order.rotate_left(pair % 2);
        for (backend, moves) in order {
            let figures = Running::start(paths, Side::Forwarded(backend), What::Call, quick)?.figures()?;
            for (name, (with, without)) in LAUNCHES.iter().zip(&mut samples) {
                let figure = figures.iter().find(|figure| figure.name == *name).context("a figure is missing")?;
                (if moves { with } else { without }).push((figure.value, figure.unit));
            }
        }
    }
    let middle = |samples: &[(f64, &'static str)]| median(&mut samples.iter().map(|(value, _)| *value).collect::<Vec<_>>());
    let row = |(name, (with, without)): (&&str, &(Vec<_>, Vec<_>))| {
        let unit = with.first().map_or(unit::US, |(_, unit)| *unit);
        let figure = Figure::new(format!("swap: {name}, memory may move"), middle(with), unit);
        Row { figure, floor: Some(middle(without)), alone: None }
    };
    Ok(LAUNCHES.iter().zip(&samples).map(row).collect())
}

/// Two VMs that have more together than the device.
fn turns(paths: &Paths, quick: bool) -> Result<Vec<Row>> {
    let turns = calibrated(paths, quick)?;
    let floors = Running::start_pattern(paths, Side::Alone, What::Fill, &FILLS.to_string())?.figures()?;
    let floor = |name: &str| floors.iter().find(|figure| figure.name == name).map(|figure| figure.value);
    let span = if quick { 8.0 } else { 30.0 };
    let both = |fills: u64| {
        let vm = || Vm { settings: MOVES, pattern: format!("stream:{KERNEL_US}:{turns}:{fills}") };
        run(paths, &[vm(), vm()], span)
    };
    let (fit, fill) = (both(FITS)?, both(FILLS)?);
    let work = |told: &[Told]| told.iter().map(|told| told.work).sum::<f64>();
    let moves: Vec<Move> = fill.iter().flat_map(|told| told.log.lines()).filter_map(Move::read).collect();
    let speed = |way: Way| {
        let of_way = moves.iter().filter(|moved| moved.way == way && moved.bytes > 0.0);
        median(&mut of_way.map(|moved| moved.bytes / moved.seconds / 1e9).collect::<Vec<_>>())
    };
    let came = moves.iter().filter(|moved| moved.way == Way::In && moved.bytes > 0.0).count();
    let row = |name: &str, value: f64, unit, floor| Row { figure: Figure::new(format!("swap: {name}"), value, unit), floor, alone: None };
    Ok(vec![
        row("out", speed(Way::Out), unit::GB_PER_S, floor("out")),
        row("in", speed(Way::In), unit::GB_PER_S, floor("in")),
        row("two VMs of 75 %, rounds", came as f64 / 2.0 / span, unit::A_SECOND, None),
        row("two VMs of 75 %, time lost beside two of 40 %", 100.0 * (1.0 - work(&fill) / work(&fit)), unit::PERCENT, None),
    ])
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Out,
    In,
}

/// What a worker logs of a move: "swap: 1048576 bytes out in 1.2ms".
#[derive(Debug, PartialEq)]
struct Move {
    way: Way,
    bytes: f64,
    seconds: f64,
}

impl Move {
    fn read(line: &str) -> Option<Self> {
        let (_, rest) = line.split_once("swap: ")?;
        let mut words = rest.split(' ');
        let mut next = || words.next();
        let (bytes, _bytes, way) = (next()?.parse().ok()?, next().filter(|word| *word == "bytes")?, next()?);
        let way = match way {
            "out" => Way::Out,
            "in" => Way::In,
            _ => return None,
        };
        let took = next().filter(|word| *word == "in").and_then(|_| next())?;
        Some(Self { way, bytes, seconds: duration(took.trim_end())?.as_secs_f64() })
    }
}

/// As `Duration`'s `Debug` writes it.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|sign: char| !sign.is_ascii_digit() && sign != '.')?;
    let (number, unit) = text.split_at(digits);
    let one = match unit {
        "s" => 1.0,
        "ms" => 1e-3,
        "µs" => 1e-6,
        "ns" => 1e-9,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * one).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_workers_log_of_moves_is_read() {
        let line = "[2026-11-22T16:25:31Z DEBUG paravane_backend::worker::swap::mover] swap: 201326592 bytes out in 157.25ms";
        assert_eq!(Move::read(line), Some(Move { way: Way::Out, bytes: 201_326_592.0, seconds: 0.157_25 }));
        let back = format!("swap: 8 bytes in in {:?}", Duration::from_nanos(1_500));
        assert_eq!(Move::read(&back), Some(Move { way: Way::In, bytes: 8.0, seconds: 0.000_001_5 }));
        assert_eq!(Move::read("swap: memory cannot go to the host: 2"), None);
        let all = [Duration::ZERO, Duration::from_millis(2), Duration::from_secs(70)];
        assert_eq!(all.map(|one| duration(&format!("{one:?}"))), all.map(Some));
        assert_eq!(duration("12"), None);
    }
}
