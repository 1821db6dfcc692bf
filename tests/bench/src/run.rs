//! A whole run: floors, then the probes of each group on both sides, then the
//! table. What cannot be measured is said, and the rest goes on.

use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::figure::{Figure, unit};
use crate::host::{Backend, Paths, Running, Side};
use crate::probe::{What, copy};
use crate::stats::median;
use crate::table::{Row, text};
use crate::{Run, floor, processes, sched, swap};

/// How long idle processes are watched.
const IDLE: Duration = Duration::from_secs(2);
/// Idle processes over which memory is averaged.
const IDLE_PROCESSES: usize = 4;

/// Load by others above which figures say little.
const BUSY: f64 = 0.1;

/// A group of figures.
type Group = fn(&Bench) -> Result<Vec<Row>>;
const GROUPS: [(&str, Group); 10] = [
    ("call", call),
    ("threads", threads),
    ("trace", trace),
    ("copy", copies),
    ("load", load),
    ("share", share),
    ("sched", |bench| sched::group(&bench.paths, bench.quick)),
    ("swap", |bench| swap::group(&bench.paths, bench.quick)),
    ("idle", idle),
    ("start", start),
];

struct Bench {
    paths: Paths,
    backend: Backend,
    quick: bool,
}

pub(crate) fn run(arguments: &Run) -> Result<ExitCode> {
    for name in &arguments.only {
        if !GROUPS.iter().any(|(known, _)| known == name) {
            bail!("no group is called {name}; there are {}", GROUPS.map(|(name, _)| name).join(", "));
        }
    }
    let paths = Paths::find(arguments)?;
    let backend = Backend::start(&paths)?;
    let bench = Bench { paths, backend, quick: arguments.quick };
    if !arguments.json {
        println!("libcuda: {}", bench.paths.libcuda.display());
    }
    let mut rows = Vec::new();
    let mut failed = false;
    for (name, group) in GROUPS {
        if !arguments.only.is_empty() && !arguments.only.iter().any(|only| only == name) {
            continue;
        }
        let load = processes::load(Duration::from_millis(300))?;
        if load > BUSY {
            eprintln!(
                "note: other programs keep the processors {:.0}% busy; that shows in group {name}",
                load * 100.0
            );
        }
        match group(&bench) {
            Ok(more) => {
                if arguments.json {
                    more.iter().for_each(|row| println!("{}", row.json()));
                }
                rows.extend(more);
            }
            Err(error) => {
                failed = true;
                eprintln!("error: {name}: {error:#}");
            }
        }
    }
    if failed {
        eprintln!("the back end's log:\n{}", bench.backend.log());
    }
    if !arguments.json {
        print!("{}", text(&rows));
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

impl Bench {
    /// Runs one probe to its end.
    fn figures(&self, side: Side, what: What) -> Result<Vec<Figure>> {
        Running::start(&self.paths, side, what, self.quick)?.figures()
    }

    /// Runs one probe on both sides; each figure forwarded, with the one alone.
    fn both(&self, what: What, floor: impl Fn(&Figure) -> Option<f64>) -> Result<Vec<Row>> {
        let alone = self.figures(Side::Alone, what).context("on libcuda alone")?;
        let forwarded = self.figures(Side::Forwarded(&self.backend), what)?;
        let row = |figure: Figure| {
            let alone = alone.iter().find(|alone| alone.name == figure.name);
            Row { floor: floor(&figure), alone: alone.map(|alone| alone.value), figure }
        };
        Ok(forwarded.into_iter().map(row).collect())
    }

    /// Starts so many probes and waits until all are set up.
    fn ready(&self, side: Side, what: What, count: usize) -> Result<Vec<Running>> {
        let start = |_| Running::start(&self.paths, side, what, self.quick);
        let mut probes = (0..count).map(start).collect::<Result<Vec<_>>>()?;
        probes.iter_mut().try_for_each(Running::wait_ready)?;
        Ok(probes)
    }
}

fn call(bench: &Bench) -> Result<Vec<Row>> {
    let rounds = if bench.quick { 20_000 } else { 200_000 };
    let round_trip = floor::spin_round_trip(rounds);
    let asleep = floor::sleeping_round_trip(rounds / 20);
    let publish = floor::publish(rounds / 100);
    let floors = |figure: &Figure| match figure.name.as_str() {
        "synchronise, nothing outstanding" => Some(round_trip * 1e9),
        "posted launch, in the caller" => Some(publish * 1e9),
        "launches, synchronise included" => Some(1e-6 / publish),
        _ => Some(round_trip * 1e6),
    };
    let mut rows = bench.both(What::Call, floors)?;
    rows.extend(bench.both(What::Wake, |_| Some(asleep * 1e6))?);
    Ok(rows)
}

/// The floor of several threads is one.
fn threads(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = bench.both(What::Threads, |_| None)?;
    let one = rows.first().map(|row| row.figure.value);
    rows.iter_mut().skip(1).for_each(|row| row.floor = one);
    Ok(rows)
}

/// Both mixes forwarded; the floor of the second is the first.
fn trace(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = bench.both(What::Trace, |_| None)?;
    let Some(local) = rows.first().map(|row| row.figure.value) else { return Ok(rows) };
    let mut awaited = bench.both(What::TraceAwaited, |_| Some(local))?;
    for row in &mut awaited {
        row.figure.name.push_str(", each awaited");
        // Alone nothing is awaited that is not so anyway.
        row.alone = None;
    }
    rows.extend(awaited);
    Ok(rows)
}

/// The floor is a memcpy of the image.
fn load(bench: &Bench) -> Result<Vec<Row>> {
    let memcpy = floor::copy(50_000_000, 20) * 1e3;
    bench.both(What::Load, |_| Some(memcpy))
}

fn copies(bench: &Bench) -> Result<Vec<Row>> {
    let floors: Vec<(String, f64)> = copy::sizes(bench.quick)
        .iter()
        .map(|&bytes| {
            let seconds = floor::copy(bytes, copy::rounds(bytes, bench.quick));
            (copy::size_name(bytes), bytes as f64 / seconds / 1e9)
        })
        .collect();
    bench.both(What::Copy, |figure| {
        let of_size = floors.iter().find(|(size, _)| figure.name.ends_with(&format!(", {size}")));
        of_size.map(|(_, rate)| *rate)
    })
}

/// What so many processes get done together, and the least of them compared
/// with the most.
fn together(bench: &Bench, side: Side, what: What, count: usize) -> Result<(f64, f64)> {
    let mut probes = bench.ready(side, what, count)?;
    probes.iter_mut().try_for_each(Running::go)?;
    let mut rates = Vec::new();
    for probe in probes {
        rates.extend(probe.figures()?.into_iter().map(|figure| figure.value));
    }
    let most = rates.iter().copied().fold(0.0, f64::max);
    let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
    Ok((rates.iter().sum(), least / most))
}

fn share(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (work, what) in [("each synchronised", What::Share), ("in bursts", What::Burst)] {
        let forwarded = Side::Forwarded(&bench.backend);
        let (one, _) = together(bench, forwarded, what, 1)?;
        let (one_alone, _) = together(bench, Side::Alone, what, 1)?;
        let single = Figure::new(format!("launches {work}: one process"), one, unit::K_PER_S);
        rows.push(Row { figure: single, floor: None, alone: Some(one_alone) });
        for (name, count) in [("two", 2), ("eight", 8)] {
            let (sum, fairness) = together(bench, forwarded, what, count)?;
            let (sum_alone, fairness_alone) = together(bench, Side::Alone, what, count)?;
            let sum = Figure::new(format!("launches {work}: {name} together"), sum, unit::K_PER_S);
            rows.push(Row { figure: sum, floor: Some(one), alone: Some(sum_alone) });
            let fairness = Figure::new(format!("launches {work}: {name}, fairness"), fairness, unit::RATIO);
            rows.push(Row { figure: fairness, floor: Some(1.0), alone: Some(fairness_alone) });
        }
    }
    Ok(rows)
}

/// Processor time and memory of idle processes with everything that serves
/// them. `base` is what there was before.
fn idle_cost(probes: &[Running], serving: Option<u32>, base: f64) -> Result<(f64, f64)> {
    let mut pids: Vec<u32> = probes.iter().map(Running::pid).collect();
    if let Some(backend) = serving {
        pids.extend(processes::family(backend)?);
    }
    // Who has just been set up may still be on the way to sleep.
    sleep(Duration::from_millis(500));
    let before = processes::cpu_ms(&pids)?;
    sleep(IDLE);
    let spent = processes::cpu_ms(&pids)? - before;
    let each = probes.len() as f64;
    Ok((spent / each, (processes::memory_mb(&pids)? - base) / each))
}

fn idle(bench: &Bench) -> Result<Vec<Row>> {
    let alone = bench.ready(Side::Alone, What::Idle, IDLE_PROCESSES)?;
    let (cpu_alone, memory_alone) = idle_cost(&alone, None, 0.0)?;
    drop(alone);
    let backend = bench.backend.pid();
    let base = processes::memory_mb(&processes::family(backend)?)?;
    let forwarded = bench.ready(Side::Forwarded(&bench.backend), What::Idle, IDLE_PROCESSES)?;
    let (cpu, memory) = idle_cost(&forwarded, Some(backend), base)?;
    let cpu = Figure::new("idle for 2 s, processor time", cpu, unit::MS);
    let memory = Figure::new("memory per idle process", memory - memory_alone, unit::MB);
    Ok(vec![
        Row { figure: cpu, floor: Some(0.0), alone: Some(cpu_alone) },
        Row { figure: memory, floor: Some(0.0), alone: Some(memory_alone) },
    ])
}

/// Median milliseconds from starting a process to its first kernel's end, and
/// of its cuInit.
fn first_kernel(bench: &Bench, side: Side) -> Result<(f64, f64)> {
    let rounds = if bench.quick { 5 } else { 20 };
    let (mut whole, mut init) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let start = Instant::now();
        let mut probe = Running::start(&bench.paths, side, What::First, bench.quick)?;
        let line = probe.line()?;
        whole.push(start.elapsed().as_secs_f64() * 1e3);
        init.push(Figure::read(&line)?.value);
        probe.figures()?;
    }
    Ok((median(&mut whole), median(&mut init)))
}

fn start(bench: &Bench) -> Result<Vec<Row>> {
    let (whole_alone, init_alone) = first_kernel(bench, Side::Alone)?;
    let (whole, init) = first_kernel(bench, Side::Forwarded(&bench.backend))?;
    let row = |name: &str, value: f64, alone: f64| Row {
        figure: Figure::new(name, value, unit::MS),
        floor: Some(alone),
        alone: Some(alone),
    };
    Ok(vec![
        row("channel set-up (cuInit)", init, init_alone),
        row("process start to first kernel", whole, whole_alone),
    ])
}
