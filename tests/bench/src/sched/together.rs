//! One scenario: a paravaned and a back end for each VM, started for it, and
//! probes that work in them by their patterns.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::host::{Backend, Paths, Running, Side};
use crate::probe::What;

/// Who does not listen by then has failed.
const START_LIMIT: Duration = Duration::from_secs(10);
/// Probes begin to work, and their back ends have told each other of it.
const SETTLE: Duration = Duration::from_millis(200);

/// One paravaned; ends when dropped.
struct Daemon {
    child: Child,
    /// paravanectl.
    control: PathBuf,
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
        let daemon = Self { child, control: program.with_file_name("paravanectl"), dir };
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

    /// Milliseconds that each VM has been charged; VMs are named by their number.
    fn charged(&self, vms: usize) -> Result<Vec<f64>> {
        let mut command = Command::new(&self.control);
        let output = command.args(["list", "--output", "json", "--socket"]).arg(self.dir.path().join("control.sock"));
        let output = output.output().with_context(|| format!("cannot start {}", self.control.display()))?;
        if !output.status.success() {
            bail!("paravanectl list: {}", String::from_utf8_lossy(&output.stderr));
        }
        let list: Value = serde_json::from_slice(&output.stdout).context("what paravanectl list prints")?;
        let listed = list.get("vms").and_then(Value::as_array).context("no VMs in paravanectl's list")?;
        let of = |number: usize| {
            let named = |vm: &&Value| vm.get("name").and_then(Value::as_str) == Some(&number.to_string());
            let ns = listed.iter().find(named)?.get("used")?.get("gpu_time_ns")?.as_f64()?;
            Some(ns / 1e6)
        };
        (0..vms).map(|number| of(number).with_context(|| format!("VM {number} is not listed"))).collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A VM of a scenario.
pub(crate) struct Vm<'a> {
    /// Options of its back end.
    pub(crate) settings: &'a [&'a str],
    pub(crate) pattern: String,
}

/// What a VM's probe told, and what the VM was charged.
#[derive(Clone, Default)]
pub(crate) struct Told {
    /// Milliseconds of work a second.
    pub(crate) work: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
    pub(crate) longest: f64,
    /// Milliseconds charged a second.
    pub(crate) charged: f64,
    /// What its back end has logged.
    pub(crate) log: String,
}

/// Runs a program straight on libcuda, without a VM.
pub(crate) fn alone(paths: &Paths, pattern: &str, seconds: f64) -> Result<Told> {
    let mut probe = Running::start_pattern(paths, Side::Alone, What::Sched, pattern)?;
    probe.wait_ready()?;
    probe.go_for(seconds)?;
    told(probe)
}

/// Runs a scenario for so many seconds.
pub(crate) fn run(paths: &Paths, vms: &[Vm], seconds: f64) -> Result<Vec<Told>> {
    let daemon = Daemon::start(paths)?;
    let socket = daemon.dir.path().join("paravaned.sock");
    let socket = socket.to_str().context("a path that is no text")?;
    let mut backends = Vec::new();
    for (number, vm) in vms.iter().enumerate() {
        let name = number.to_string();
        let own = ["--paravaned", socket, "--name", &name];
        backends.push(Backend::start_with(paths, &[vm.settings, &own].concat())?);
    }
    let mut probes = Vec::new();
    for (vm, backend) in vms.iter().zip(&backends) {
        let mut probe = Running::start_pattern(paths, Side::Forwarded(backend), What::Sched, &vm.pattern)?;
        probe.wait_ready()?;
        probes.push(probe);
    }
    sleep(SETTLE);
    let (begun, before) = (Instant::now(), daemon.charged(vms.len())?);
    probes.iter_mut().try_for_each(|probe| probe.go_for(seconds))?;
    sleep(Duration::from_secs_f64(seconds));
    let (passed, after) = (begun.elapsed().as_secs_f64(), daemon.charged(vms.len())?);
    let mut all: Vec<Told> = probes.into_iter().map(told).collect::<Result<_>>()?;
    for (told, (before, after)) in all.iter_mut().zip(before.iter().zip(&after)) {
        told.charged = (after - before) / passed;
    }
    for (told, backend) in all.iter_mut().zip(&backends) {
        told.log = backend.log();
    }
    Ok(all)
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
