//! How VMs share a device: a paravaned and a back end for each VM, started for
//! one scenario, and probes that work in them by their patterns.

use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::figure::{Figure, unit};
use crate::host::{Backend, Paths, Running, Side};
use crate::probe::What;
use crate::table::Row;

/// Who does not listen by then has failed.
const START_LIMIT: Duration = Duration::from_secs(10);
/// Probes begin to work, and their back ends have told each other of it.
const SETTLE: Duration = Duration::from_millis(200);

/// One paravaned; ends when dropped.
struct Daemon {
    child: Child,
    dir: TempDir,
}

impl Daemon {
    fn start(paths: &Paths) -> Result<Self> {
        let dir = TempDir::with_prefix("paravane-sched-")?;
        let at = |name: &str| dir.path().join(name);
        let config = format!(
            "[registration]\nsocket = {:?}\n[control]\nsocket = {:?}\n[ledger]\npath = {:?}\n",
            at("paravaned.sock"),
            at("control.sock"),
            at("ledger.db")
        );
        std::fs::write(at("paravaned.toml"), config)?;
        let log = std::fs::File::create(at("paravaned.log"))?;
        let program = paths.backend.with_file_name("paravaned");
        let child = Command::new(&program)
            .arg("--config")
            .arg(at("paravaned.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let daemon = Self { child, dir };
        let start = Instant::now();
        while !daemon.dir.path().join("paravaned.sock").exists() {
            if start.elapsed() > START_LIMIT {
                let log = std::fs::read_to_string(daemon.dir.path().join("paravaned.log"));
                bail!("paravaned does not listen:\n{}", log.unwrap_or_default());
            }
            sleep(Duration::from_millis(5));
        }
        Ok(daemon)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A VM of a scenario.
struct Vm<'a> {
    /// Options of its back end.
    settings: &'a [&'a str],
    pattern: String,
}

/// What a VM's probe told.
#[derive(Default)]
struct Told {
    /// Milliseconds of work a second.
    work: f64,
    median: f64,
    high: f64,
    longest: f64,
}

/// Runs a scenario for so many seconds.
fn run(paths: &Paths, vms: &[Vm], seconds: f64) -> Result<Vec<Told>> {
    let daemon = Daemon::start(paths)?;
    let socket = daemon.dir.path().join("paravaned.sock");
    let socket = socket.to_str().context("a path that is no text")?;
    let mut backends = Vec::new();
    for vm in vms {
        backends.push(Backend::start_with(paths, &[vm.settings, &["--paravaned", socket]].concat())?);
    }
    let mut probes = Vec::new();
    for (vm, backend) in vms.iter().zip(&backends) {
        let mut probe = Running::start_pattern(paths, Side::Forwarded(backend), &vm.pattern)?;
        probe.wait_ready()?;
        probes.push(probe);
    }
    sleep(SETTLE);
    probes.iter_mut().try_for_each(|probe| probe.go_for(seconds))?;
    probes.into_iter().map(told).collect()
}

fn told(probe: Running) -> Result<Told> {
    let mut told = Told::default();
    for figure in probe.figures()? {
        match figure.name.as_str() {
            "work" => told.work = figure.value,
            "median" => told.median = figure.value,
            "99th percentile" => told.high = figure.value,
            "longest" => told.longest = figure.value,
            _ => {}
        }
    }
    Ok(told)
}

/// The scenarios' common things.
struct Scenarios<'a> {
    paths: &'a Paths,
    turns: u64,
    quick: bool,
    rows: Vec<Row>,
}

impl Scenarios<'_> {
    fn pattern(&self, habit: &str, us: u64) -> String {
        format!("{habit}:{us}:{}", self.turns)
    }

    fn vm<'v>(&self, settings: &'v [&'v str], habit: &str, us: u64) -> Vm<'v> {
        Vm { settings, pattern: self.pattern(habit, us) }
    }

    fn row(&mut self, name: String, value: f64, unit: &'static str, alone: Option<f64>) {
        self.rows.push(Row { figure: Figure::new(name, value, unit), floor: None, alone });
    }

    fn spans(&self) -> &'static [f64] {
        if self.quick { &[1.0] } else { &[1.0, 10.0] }
    }

    /// Two VMs of weights 3:1: by how much the first's part is off, and what
    /// is lost against one alone.
    fn weights(&mut self) -> Result<()> {
        for (kernel, us) in [("10 us", 10), ("500 us", 500), ("50 ms", 50_000)] {
            let one = run(self.paths, &[self.vm(&[], "stream", us)], 1.0)?;
            let one = one.first().map_or(0.0, |told| told.work);
            self.row(format!("sched: one VM, {kernel}: work"), one, unit::MS_PER_S, None);
            for span in self.spans() {
                let vms = [
                    self.vm(&["--weight", "300"], "stream", us),
                    self.vm(&["--weight", "100"], "stream", us),
                ];
                let told = run(self.paths, &vms, *span)?;
                let [a, b] = [0, 1].map(|at| told.get(at).map_or(0.0, |told: &Told| told.work));
                let off = (100.0 * a / (a + b) - 75.0).abs();
                self.row(format!("sched: 3:1, {kernel}, {span} s: share error"), off, unit::POINTS, None);
                let lost = 100.0 * (1.0 - (a + b) / one);
                self.row(
                    format!("sched: 3:1, {kernel}, {span} s: lost against one VM"),
                    lost,
                    unit::PERCENT,
                    None,
                );
            }
        }
        Ok(())
    }

    fn caps(&mut self) -> Result<()> {
        for habit in ["stream", "graph", "await", "burst"] {
            for span in self.spans() {
                let told = run(self.paths, &[self.vm(&["--cap", "25"], habit, 100)], *span)?;
                let over = told.first().map_or(0.0, |told| told.work / 10.0 - 25.0);
                let name = format!("sched: cap of 25 %, {habit} of 100 us, {span} s: above it");
                self.row(name, over, unit::POINTS, None);
            }
        }
        Ok(())
    }

    fn many(&mut self) -> Result<()> {
        let one = run(self.paths, &[self.vm(&[], "stream", 500)], 1.0)?;
        let one = one.first().map_or(0.0, |told| told.work);
        let span = if self.quick { 1.0 } else { 10.0 };
        let vms: Vec<Vm> = (0..8).map(|_| self.vm(&[], "stream", 500)).collect();
        let told = run(self.paths, &vms, span)?;
        let sum: f64 = told.iter().map(|told| told.work).sum();
        let off = told.iter().map(|told| (100.0 * told.work / sum - 12.5).abs()).fold(0.0, f64::max);
        self.row(format!("sched: eight VMs, 500 us, {span} s: largest share error"), off, unit::POINTS, None);
        self.row(
            format!("sched: eight VMs, 500 us, {span} s: lost against one VM"),
            100.0 * (1.0 - sum / one),
            unit::PERCENT,
            None,
        );
        Ok(())
    }

    /// An interactive VM that wakes beside others.
    fn interactive(&mut self) -> Result<()> {
        let settings: &[&str] = &["--priority", "interactive"];
        let span = if self.quick { 2.0 } else { 10.0 };
        let alone = run(self.paths, &[self.vm(settings, "wake", 2000)], span)?;
        let alone = alone.into_iter().next().unwrap_or_default();
        for (name, habit, us) in
            [("500 us", "stream", 500), ("graphs of 100 us", "graph", 100), ("1 s", "stream", 1_000_000)]
        {
            let told = run(self.paths, &[self.vm(settings, "wake", 2000), self.vm(&[], habit, us)], span)?;
            let Some(mine) = told.first() else { continue };
            let row = |figure: &str| format!("sched: interactive kernel of 2 ms beside {name}: {figure}");
            self.row(row("median"), mine.median, unit::MS, Some(alone.median));
            self.row(row("P99"), mine.high, unit::MS, Some(alone.high));
            self.row(row("longest"), mine.longest, unit::MS, Some(alone.longest));
        }
        Ok(())
    }
}

/// The group `sched`.
pub(crate) fn group(paths: &Paths, quick: bool) -> Result<Vec<Row>> {
    let calibrated = Running::start(paths, Side::Alone, What::Calibrate, quick)?.figures()?;
    let turns = calibrated.first().context("nothing was calibrated")?.value;
    if !(1.0..1e12).contains(&turns) {
        bail!("{turns} turns in a millisecond");
    }
    let turns = format!("{turns:.0}").parse()?;
    let mut scenarios = Scenarios { paths, turns, quick, rows: Vec::new() };
    scenarios.weights()?;
    scenarios.caps()?;
    scenarios.many()?;
    scenarios.interactive()?;
    Ok(scenarios.rows)
}
