//! Who takes part: a backend started for this run, and probes on the shim or
//! on libcuda alone.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::figure::Figure;
use crate::probe::What;
use crate::probe::trace::AWAIT_ALL;

/// A backend that has not made its socket by then has failed.
const START_LIMIT: Duration = Duration::from_secs(10);

/// How many threads run kernels on cpu-driver.
const CPU_THREADS: &str = "PARAVANE_CPU_THREADS";
/// How much memory its device has.
const CPU_MEMORY: &str = "PARAVANE_CPU_MEMORY";

/// The files that are measured.
#[derive(Clone)]
pub(crate) struct Paths {
    pub(crate) backend: PathBuf,
    pub(crate) shim: PathBuf,
    pub(crate) libcuda: PathBuf,
    /// Whether cpu-driver is to run one kernel at a time. A GPU takes no notice.
    pub(crate) one_engine: bool,
    /// How much memory cpu-driver's device is to have.
    pub(crate) device_bytes: Option<u64>,
}

impl Paths {
    fn prepare(&self, command: &mut Command) {
        if self.one_engine {
            command.env(CPU_THREADS, "1");
        }
        if let Some(bytes) = self.device_bytes {
            command.env(CPU_MEMORY, bytes.to_string());
        }
    }

    /// Named files, else those beside this program.
    pub(crate) fn find(arguments: &crate::Run) -> Result<Self> {
        let program = std::env::current_exe().context("this program's own path")?;
        let beside = |named: &Option<PathBuf>, name: &str| {
            let path = match named {
                Some(path) => path.clone(),
                None => program.with_file_name(name),
            };
            path.canonicalize().with_context(|| format!("{}: not built?", path.display()))
        };
        Ok(Self {
            backend: beside(&arguments.backend, "paravane-backend")?,
            shim: beside(&arguments.shim, "libcuda.so")?,
            libcuda: beside(&arguments.libcuda, "libparavane_cpu.so")?,
            one_engine: false,
            device_bytes: None,
        })
    }
}

/// A running backend; ends when dropped.
pub(crate) struct Backend {
    child: Child,
    dir: TempDir,
}

impl Backend {
    pub(crate) fn start(paths: &Paths) -> Result<Self> {
        Self::start_with(paths, &[])
    }

    /// As [`Backend::start`], with more options.
    pub(crate) fn start_with(paths: &Paths, options: &[&str]) -> Result<Self> {
        let dir = TempDir::with_prefix("paravane-bench-")?;
        let log = std::fs::File::create(dir.path().join("backend.log"))?;
        let mut command = Command::new(&paths.backend);
        paths.prepare(&mut command);
        let child = command
            .arg("--socket-path")
            .arg(dir.path().join("socket"))
            .arg("--libcuda")
            .arg(&paths.libcuda)
            .args(options)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", paths.backend.display()))?;
        let mut backend = Self { child, dir };
        let start = Instant::now();
        while !backend.socket().exists() {
            if let Some(status) = backend.child.try_wait()? {
                bail!("paravane-backend ended with {status}:\n{}", backend.log());
            }
            if start.elapsed() > START_LIMIT {
                bail!("paravane-backend made no socket within {START_LIMIT:?}:\n{}", backend.log());
            }
            sleep(Duration::from_millis(5));
        }
        Ok(backend)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    /// What the backend has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("backend.log")).unwrap_or_default()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Which libcuda a probe loads.
#[derive(Clone, Copy)]
pub(crate) enum Side<'a> {
    /// The shim, and through this backend the host's libcuda.
    Forwarded(&'a Backend),
    /// The host's libcuda, loaded by the probe itself.
    Alone,
}

/// A running probe; ends when dropped.
pub(crate) struct Running {
    child: Child,
    what: What,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Running {
    pub(crate) fn start(paths: &Paths, side: Side, what: What, quick: bool) -> Result<Self> {
        Self::start_any(paths, side, what, if quick { &["--quick"] } else { &[] })
    }

    /// A probe that works by a pattern.
    pub(crate) fn start_pattern(paths: &Paths, side: Side, what: What, pattern: &str) -> Result<Self> {
        Self::start_any(paths, side, what, &["--pattern", pattern])
    }

    fn start_any(paths: &Paths, side: Side, what: What, options: &[&str]) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        paths.prepare(&mut command);
        let libcuda: &Path = match side {
            Side::Forwarded(backend) => {
                command.env("PARAVANE_SOCKET", backend.socket());
                &paths.shim
            }
            Side::Alone => &paths.libcuda,
        };
        let name = clap::ValueEnum::to_possible_value(&what);
        let name = name.context("a probe without a name")?;
        if what == What::TraceAwaited {
            command.env(AWAIT_ALL, "1");
        }
        command.arg("probe").arg(name.get_name()).arg("--libcuda").arg(libcuda).args(options);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (to, from) = pipes.context("a probe without pipes")?;
        Ok(Self { child, what, to, from: BufReader::new(from) })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The probe's next line, without its end; empty when it said all.
    pub(crate) fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.from.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    /// Waits until the probe is set up.
    pub(crate) fn wait_ready(&mut self) -> Result<()> {
        let line = self.line()?;
        if line != crate::probe::READY {
            bail!("probe {:?} did not get ready: {}", self.what, self.child.wait()?);
        }
        Ok(())
    }

    /// Lets a probe that is set up go on.
    pub(crate) fn go(&mut self) -> Result<()> {
        writeln!(self.to).context("a probe is gone")
    }

    /// The same for one that works so many seconds.
    pub(crate) fn go_for(&mut self, seconds: f64) -> Result<()> {
        writeln!(self.to, "{seconds}").context("a probe is gone")
    }

    /// Everything that the probe still measures, once it has ended well.
    pub(crate) fn figures(mut self) -> Result<Vec<Figure>> {
        let mut figures = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            figures.push(Figure::read(&line)?);
        }
        let status = self.child.wait()?;
        if !status.success() {
            bail!("probe {:?} ended with {status} after {} figures", self.what, figures.len());
        }
        Ok(figures)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
