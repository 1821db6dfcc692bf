//! How VMs share a device: scenarios over the vhost-user transport, with a
//! paravaned of their own, and what came of them beside what was asked.

pub(crate) mod together;

use anyhow::{Context, Result, bail};

use crate::figure::{Figure, unit};
use crate::host::{Paths, Running, Side};
use crate::probe::What;
use crate::stats::median;
use crate::table::Row;
use together::{Told, Vm, alone, run};

/// Kernels that share, in microseconds.
const KERNELS: [(&str, u64); 3] = [("10 us", 10), ("500 us", 500), ("50 ms", 50_000)];
/// Runs of a second, of which the median counts.
const SHORT_RUNS: usize = 3;
const INTERACTIVE: &[&str] = &["--priority", "interactive"];

/// The scenarios' common things.
struct Scenarios<'a> {
    paths: &'a Paths,
    turns: u64,
    quick: bool,
    rows: Vec<Row>,
}

/// Half the difference between what the first of two got of their sum, in
/// hundredths, and what it should have got.
fn off(told: &[Told], due: f64) -> f64 {
    let [a, b] = [0, 1].map(|at| told.get(at).map_or(0.0, |told: &Told| told.work));
    if a + b > 0.0 { (100.0 * a / (a + b) - due).abs() } else { 100.0 }
}

fn sum(told: &[Told], of: impl Fn(&Told) -> f64) -> f64 {
    told.iter().map(of).sum()
}

impl Scenarios<'_> {
    fn pattern(&self, habit: &str, us: u64) -> String {
        format!("{habit}:{us}:{}", self.turns)
    }

    fn vm<'v>(&self, settings: &'v [&'v str], habit: &str, us: u64) -> Vm<'v> {
        Vm { settings, pattern: self.pattern(habit, us) }
    }

    fn row(&mut self, name: String, value: f64, unit: &'static str, alone: Option<f64>) {
        self.rows.push(Row { figure: Figure::new(format!("sched: {name}"), value, unit), floor: None, alone });
    }

    /// The long and the short runs' seconds.
    fn spans(&self) -> &'static [f64] {
        if self.quick { &[1.0] } else { &[1.0, 10.0] }
    }

    fn long(&self) -> f64 {
        if self.quick { 2.0 } else { 10.0 }
    }

    /// Runs of a scenario, several if they are short.
    fn runs(&self, vms: &[Vm], span: f64) -> Result<Vec<Vec<Told>>> {
        let count = if self.quick || span > 1.0 { 1 } else { SHORT_RUNS };
        (0..count).map(|_| run(self.paths, vms, span)).collect()
    }

    /// What one VM gets done, median of short runs.
    fn one(&self, habit: &str, us: u64) -> Result<f64> {
        let runs = self.runs(&[self.vm(&[], habit, us)], 1.0)?;
        let mut work: Vec<f64> = runs.iter().flatten().map(|told| told.work).collect();
        Ok(median(&mut work))
    }

    /// What leases, and the whole way to the device, cost a VM that has it for
    /// itself; and what it is charged, beside the time that the device worked.
    fn single(&mut self) -> Result<()> {
        for (kernel, us) in KERNELS {
            let pattern = self.pattern("stream", us);
            let (mut bare, mut through) = (Vec::new(), Vec::new());
            for _ in 0..if self.quick { 1 } else { SHORT_RUNS } {
                bare.push(alone(self.paths, &pattern, 1.0)?.work);
                through.push(sum(&run(self.paths, &[self.vm(&[], "stream", us)], 1.0)?, |told| told.work));
            }
            let lost = 100.0 * (1.0 - median(&mut through) / median(&mut bare));
            self.row(format!("one VM, {kernel}: overhead"), lost, unit::PERCENT, None);
        }
        // A kernel of 10 ms after the other keeps the device busy all the time.
        let told = run(self.paths, &[self.vm(&[], "stream", 10_000)], self.long())?;
        let error = (sum(&told, |told| told.charged) / 10.0 - 100.0).abs();
        self.row("one VM that keeps the device busy: error of the account".into(), error, unit::PERCENT, None);
        Ok(())
    }

    /// Two VMs of weights 3:1: by how much the first's part is off, and what
    /// is lost against one alone.
    fn weights(&mut self) -> Result<()> {
        let heavy: &[&str] = &["--weight", "300"];
        let all = KERNELS.map(|(name, us)| (name.to_owned(), "stream", us));
        let more = [("graphs of 100 us", "graph", 100), ("4 streams of 100 us", "streams", 100), ("copies of 1 MiB", "copy", 100)];
        let more = more.map(|(name, habit, us)| (name.to_owned(), habit, us));
        for (kernel, habit, us) in all.into_iter().chain(more) {
            let one = self.one(habit, us)?;
            for span in self.spans() {
                let runs = self.runs(&[self.vm(heavy, habit, us), self.vm(&[], habit, us)], *span)?;
                let mut errors: Vec<f64> = runs.iter().map(|told| off(told, 75.0)).collect();
                let mut works: Vec<f64> = runs.iter().map(|told| sum(told, |told| told.work)).collect();
                let mut charges: Vec<f64> = runs.iter().map(|told| sum(told, |told| told.charged)).collect();
                let name = |figure: &str| format!("3:1, {kernel}, {span} s: {figure}");
                self.row(name("share error"), median(&mut errors), unit::POINTS, None);
                let lost = 100.0 * (1.0 - median(&mut works) / one);
                self.row(name("lost against one VM"), lost, unit::PERCENT, None);
                let charged = median(&mut charges) / 10.0;
                if habit != "copy" {
                    self.row(name("charged, of the time"), charged, unit::PERCENT, None);
                }
            }
        }
        Ok(())
    }

    fn caps(&mut self) -> Result<()> {
        for habit in ["stream", "graph", "await", "burst"] {
            for span in self.spans() {
                let runs = self.runs(&[self.vm(&["--cap", "25"], habit, 100)], *span)?;
                let mut over: Vec<f64> = runs.iter().flatten().map(|told| told.work.max(told.charged) / 10.0 - 25.0).collect();
                let name = format!("cap of 25 %, {habit} of 100 us, {span} s: above it");
                self.row(name, median(&mut over), unit::POINTS, None);
            }
        }
        Ok(())
    }

    fn many(&mut self) -> Result<()> {
        let one = self.one("stream", 500)?;
        let span = self.long();
        let vms: Vec<Vm> = (0..8).map(|_| self.vm(&[], "stream", 500)).collect();
        let told = run(self.paths, &vms, span)?;
        let all = sum(&told, |told| told.work);
        let error = told.iter().map(|told| (100.0 * told.work / all - 12.5).abs()).fold(0.0, f64::max);
        self.row(format!("eight VMs, 500 us, {span} s: largest share error"), error, unit::POINTS, None);
        let lost = 100.0 * (1.0 - all / one);
        self.row(format!("eight VMs, 500 us, {span} s: lost against one VM"), lost, unit::PERCENT, None);
        Ok(())
    }

    /// An interactive VM that wakes beside others.
    fn interactive(&mut self) -> Result<()> {
        self.interactive_of(2)?;
        self.interactive_of(10)
    }

    /// With kernels of so many milliseconds.
    fn interactive_of(&mut self, ms: u64) -> Result<()> {
        let span = self.long();
        let mine = || self.vm(INTERACTIVE, "wake", ms * 1000);
        let alone = run(self.paths, &[mine()], span)?.pop().unwrap_or_default();
        let others = [
            ("10 us", "stream", 10),
            ("500 us", "stream", 500),
            ("graphs of 100 us", "graph", 100),
            ("50 ms", "stream", 50_000),
            ("1 s", "stream", 1_000_000),
        ];
        let mut all = Vec::new();
        for (name, habit, us) in others {
            let told = run(self.paths, &[mine(), self.vm(&[], habit, us)], span)?;
            all.extend(told.into_iter().next().map(|told| (name, told)));
        }
        for (name, told) in all {
            let row = |figure: &str| format!("interactive kernel of {ms} ms beside {name}: {figure}");
            self.row(row("median"), told.median, unit::MS, Some(alone.median));
            self.row(row("P99"), told.high, unit::MS, Some(alone.high));
            self.row(row("longest"), told.longest, unit::MS, Some(alone.longest));
        }
        Ok(())
    }

    /// A VM with kernels of 500 us beside one of the same weight that takes
    /// what it can get: how much is missing of its half.
    fn adversaries(&mut self) -> Result<()> {
        let one = self.one("stream", 500)?;
        let span = self.long();
        let others = [
            ("64 contexts of 500 us", "contexts", 500),
            ("4 streams of 10 us", "streams", 10),
            ("endless kernels", "stream", 3_000_000),
            ("bursts of 50 times 100 us", "burst", 100),
            ("copies of 1 MiB", "copy", 100),
        ];
        for (name, habit, us) in others {
            let told = run(self.paths, &[self.vm(&[], "stream", 500), self.vm(&[], habit, us)], span)?;
            let mine = told.first().map_or(0.0, |told| told.work);
            let missing = (50.0 - 100.0 * mine / one).max(0.0);
            self.row(format!("500 us beside {name}: missing of its half"), missing, unit::POINTS, None);
        }
        Ok(())
    }
}

/// Turns of the spinning kernel in a millisecond.
pub(crate) fn calibrated(paths: &Paths, quick: bool) -> Result<u64> {
    let calibrated = Running::start(paths, Side::Alone, What::Calibrate, quick)?.figures()?;
    let turns = calibrated.first().context("nothing was calibrated")?.value;
    if !(1.0..1e12).contains(&turns) {
        bail!("{turns} turns in a millisecond");
    }
    Ok(format!("{turns:.0}").parse()?)
}

/// The group `sched`.
pub(crate) fn group(paths: &Paths, quick: bool) -> Result<Vec<Row>> {
    let turns = calibrated(paths, quick)?;
    // As a GPU's, the device's time is one; and programs and workers have a core beside it.
    let paths = Paths { one_engine: true, ..paths.clone() };
    let mut scenarios = Scenarios { paths: &paths, turns, quick, rows: Vec::new() };
    scenarios.single()?;
    scenarios.weights()?;
    scenarios.caps()?;
    scenarios.many()?;
    scenarios.interactive()?;
    scenarios.adversaries()?;
    Ok(scenarios.rows)
}
