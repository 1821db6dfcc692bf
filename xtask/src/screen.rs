//! What a guest's screen shows: the guest names a picture on a port of its own, QEMU is asked for the screen until it stands
//! still, and the guest is told. The pictures lie beside the job's results.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::{paths, picture};

/// Shell functions for a job: `screen NAME` returns when the picture is taken. The port is found by its name, for udev may
/// not have run when it came.
pub(crate) const GUEST_FUNCTIONS: &str = "for port in /sys/class/virtio-ports/*; do\n\
                                          [ \"$(cat \"$port/name\" 2>/dev/null)\" = paravane.screen ] && exec 3<> \"/dev/${port##*/}\"\n\
                                          done\n\
                                          screen() { echo \"$1\" >&3; read -r answer <&3; }\n";
/// Two pictures that are this long apart and equal are a screen that stands still.
const STILL: Duration = Duration::from_millis(300);
/// A screen that does not come to rest is taken as it is.
const LIMIT: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Takes pictures while QEMU runs.
pub(crate) struct Screens {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Screens {
    /// Sockets lie in `dir`, pictures go to `results`.
    pub(crate) fn watch(dir: &Path, results: &Path) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let camera = Camera { dir: dir.to_owned(), results: results.to_owned(), over: Arc::clone(&over) };
        Screens { over, thread: std::thread::spawn(move || camera.serve()) }
    }

    /// QEMU has ended.
    pub(crate) fn end(self) -> Result<()> {
        self.over.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(outcome) => outcome.context("a picture of the guest's screen"),
            Err(_) => bail!("the thread that takes pictures of the screen panicked"),
        }
    }
}

/// What QEMU needs for it.
pub(crate) fn arguments(dir: &Path, command: &mut Command) -> Result<()> {
    let socket = |name: &str| -> Result<String> { Ok(paths::text(&dir.join(name))?.replace(',', ",,")) };
    command.args(["-qmp", &format!("unix:{},server=on,wait=off", socket(QMP)?)]);
    command.args(["-chardev", &format!("socket,id=screen,path={},server=on,wait=off", socket(PORT)?)]);
    command.args(["-device", "virtserialport,chardev=screen,name=paravane.screen"]);
    Ok(())
}

const QMP: &str = "qmp.sock";
const PORT: &str = "screen.sock";

struct Camera {
    dir: PathBuf,
    results: PathBuf,
    over: Arc<AtomicBool>,
}

impl Camera {
    fn serve(&self) -> Result<()> {
        let (Some(port), Some(qmp)) = (self.connect(PORT), self.connect(QMP)) else {
            return Ok(());
        };
        let mut qmp = Qmp::begin(qmp)?;
        let mut answers = port.try_clone()?;
        for name in BufReader::new(port).lines() {
            // The port ends with QEMU.
            let Ok(name) = name else { break };
            let name: String = name.chars().filter(|letter| letter.is_ascii_alphanumeric()).collect();
            self.take(&mut qmp, &name)?;
            writeln!(answers, "taken")?;
        }
        Ok(())
    }

    /// QEMU makes its sockets when it starts.
    fn connect(&self, name: &str) -> Option<UnixStream> {
        while !self.over.load(Ordering::Relaxed) {
            if let Ok(stream) = UnixStream::connect(self.dir.join(name)) {
                return Some(stream);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        None
    }

    fn take(&self, qmp: &mut Qmp, name: &str) -> Result<()> {
        let shot = self.dir.join("screen.ppm");
        let start = Instant::now();
        let mut before = Vec::new();
        loop {
            qmp.execute("screendump", &json!({ "filename": paths::text(&shot)? }))?;
            let now = fs::read(&shot).context("QEMU has written no picture")?;
            if now == before || start.elapsed() > LIMIT {
                break;
            }
            before = now;
            std::thread::sleep(STILL);
        }
        fs::create_dir_all(&self.results)?;
        picture::ppm_to_png(&shot, &self.results.join(format!("{name}.png")))
    }
}

/// QEMU's monitor (QEMU's docs/interop/qmp-spec): a line of JSON each way, events in between.
struct Qmp {
    stream: UnixStream,
    lines: BufReader<UnixStream>,
}

impl Qmp {
    fn begin(stream: UnixStream) -> Result<Self> {
        let lines = BufReader::new(stream.try_clone()?);
        let mut qmp = Qmp { stream, lines };
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    fn execute(&mut self, command: &str, arguments: &Value) -> Result<()> {
        writeln!(self.stream, "{}", json!({ "execute": command, "arguments": arguments }))?;
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line)? == 0 {
                bail!("QEMU ended before it answered {command}");
            }
            let said: Value = serde_json::from_str(&line)?;
            if let Some(error) = said.get("error") {
                bail!("QEMU answered {command} with {error}");
            }
            if said.get("return").is_some() {
                return Ok(());
            }
        }
    }
}
