//! The real `paravane-backend`, started for one test, and what it holds: file
//! descriptors, mappings, children.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use paravane_backend::lease::VmPage;
use paravane_protocol::visible::{ENV_VISIBLE, visible};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Threads of a backend without front ends: main, the starter of workers, the arbiter of the GPU. There is one more for
/// each further device.
pub const IDLE_THREADS: usize = 3;

/// Further devices that cpu-driver is to have, as far as the back end sees them.
fn further_devices(command: &Command) -> usize {
    let set = |name: &str| command.get_envs().find(|(known, _)| *known == name)?.1?.to_str();
    let all = set("PARAVANE_CPU_DEVICES").map_or(1, |count| count.parse().unwrap());
    let seen = set(ENV_VISIBLE).map_or(all, |list| visible(list, &vec![String::new(); all]).len());
    seen - 1
}

/// A wait that takes longer has hung.
pub const HANG: Duration = Duration::from_secs(10);

/// The built backend, beside the test's own executable.
pub fn executable() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().and_then(Path::parent).unwrap();
    let path = folder.join("paravane-backend");
    assert!(path.is_file(), "{} is missing: cargo build --release", path.display());
    path
}

/// Waits until `done` says so.
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < HANG, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What a process holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Held {
    /// Open descriptors, by what they are; numbers do not matter.
    pub fds: Vec<String>,
    /// Mapped files.
    pub files: BTreeSet<String>,
    /// Threads.
    pub threads: usize,
    /// Child processes.
    pub children: usize,
}

/// A running backend. Dropping it kills it.
pub struct Backend {
    child: Child,
    folder: TempDir,
}

impl Backend {
    /// Starts a backend with these arguments besides its socket, and waits until
    /// it is ready.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, |_| ())
    }

    /// As [`Self::start`], with whatever else `prepare` does to the command.
    pub fn start_with(arguments: &[&str], prepare: impl FnOnce(&mut Command)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("gpu.sock");
        let mut command = Command::new(executable());
        command.arg("--socket-path").arg(&socket).args(arguments).stdin(Stdio::null());
        prepare(&mut command);
        // Of devices that paravaned gives leases of, the backend has no arbiter.
        let idle = IDLE_THREADS..=IDLE_THREADS + further_devices(&command);
        let child = command.spawn().unwrap();
        let mut backend = Self { child, folder };
        let mut first = None;
        eventually("the backend listens", || {
            assert_eq!(backend.child.try_wait().unwrap(), None, "the backend has ended");
            first = UnixStream::connect(&socket).ok();
            first.is_some()
        });
        // Once it has served somebody it holds all that it holds when idle.
        let mut first = first.unwrap();
        first.shutdown(Shutdown::Write).unwrap();
        // A reset ends the wait as well.
        let _ = first.read_to_end(&mut Vec::new());
        eventually("the backend is idle", || {
            idle.contains(&backend.held().threads) && backend.children().len() == 1
        });
        backend
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("gpu.sock")
    }

    /// A path in a folder that goes away with the backend.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its child processes: workers and one spare.
    pub fn children(&self) -> Vec<u32> {
        children(self.pid())
    }

    /// The lease page of its VM's first device.
    pub fn lease_page(&self) -> VmPage {
        self.lease_pages().swap_remove(0)
    }

    /// The lease pages of its VM, in the devices' order: it makes them so.
    pub fn lease_pages(&self) -> Vec<VmPage> {
        let fds = fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().flatten();
        let number = |path: &Path| path.file_name().unwrap().to_string_lossy().parse::<u32>().unwrap();
        let mut paths: Vec<PathBuf> = fds.map(|fd| fd.path()).collect();
        paths.sort_by_key(|path| number(path));
        let is_page = |path: &PathBuf| {
            fs::read_link(path).is_ok_and(|to| to.to_string_lossy().starts_with("/memfd:paravane-lease"))
        };
        let open = |path| VmPage::map(fs::OpenOptions::new().read(true).write(true).open(path).unwrap()).unwrap();
        paths.into_iter().filter(is_page).map(open).collect()
    }

    /// What it holds once it has stopped doing things: a spare worker is started
    /// behind every handshake.
    pub fn held(&self) -> Held {
        let mut last = held(self.pid());
        let mut same = 0;
        while same < 5 {
            std::thread::sleep(Duration::from_millis(5));
            let now = held(self.pid());
            same = if now == last { same + 1 } else { 0 };
            last = now;
        }
        last
    }

    /// What it holds once that has stayed the same for a while: connections that
    /// end and workers that start are over.
    pub fn settled(&self) -> Held {
        let mut held = self.held();
        let mut same = 0;
        eventually("the backend settles", || {
            std::thread::sleep(Duration::from_millis(10));
            let before = std::mem::replace(&mut held, self.held());
            same = if before == held { same + 1 } else { 0 };
            same == 20
        });
        held
    }

    /// Waits until it holds what it held `before`.
    pub fn assert_nothing_leaked(&self, before: &Held) {
        let start = Instant::now();
        while self.held() != *before {
            if start.elapsed() > HANG {
                assert_eq!(self.held(), *before, "leaked");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal);
    }

    /// Waits until it has ended.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the backend ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Asks it to end and checks that it does so cleanly.
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert_eq!((status.code(), status.signal()), (Some(0), None));
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        // It may have ended; both then fail, and nothing is left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process.
pub fn kill(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Child processes of all threads of a process.
pub fn children(pid: u32) -> Vec<u32> {
    let mut children = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let list = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        children.extend(list.split_whitespace().map(|pid| pid.parse::<u32>().unwrap()));
    }
    children.sort_unstable();
    children
}

/// What a process holds now.
pub fn held(pid: u32) -> Held {
    let mut fds = Vec::new();
    for fd in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
        let target = fs::read_link(fd.path()).unwrap_or_default();
        // Sockets and the like carry a number of their own.
        let name = target.to_string_lossy().into_owned();
        fds.push(name.split(":[").next().unwrap_or_default().to_string());
    }
    fds.sort_unstable();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let files = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    let files = files.filter(|name| !name.starts_with('[')).map(String::from).collect();
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().count();
    Held { fds, files, threads, children: children(pid).len() }
}

/// A little-endian number of so many bytes.
fn number(bytes: &[u8], at: usize, width: usize) -> usize {
    bytes[at..at + width].iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

/// Writes a copy of cpu-driver that shows nobody these functions: a libcuda that
/// lacks them.
pub fn without_symbols(path: &Path, lacking: &[&str]) {
    const SHT_DYNSYM: usize = 11;
    const STV_HIDDEN: u8 = 2;
    let mut elf = fs::read(executable().with_file_name("libparavane_cpu.so")).unwrap();
    let (sections, count) = (number(&elf, 40, 8), number(&elf, 60, 2));
    let header = |section: usize| sections + 64 * section;
    let symbols = (0..count).map(header).find(|at| number(&elf, at + 4, 4) == SHT_DYNSYM).unwrap();
    let names = number(&elf, header(number(&elf, symbols + 40, 4)) + 24, 8);
    let (first, bytes) = (number(&elf, symbols + 24, 8), number(&elf, symbols + 32, 8));
    let mut hidden = 0;
    for symbol in (first..first + bytes).step_by(24) {
        let name = &elf[names + number(&elf, symbol, 4)..];
        let name = name.split(|byte| *byte == 0).next().unwrap();
        if lacking.iter().any(|lacks| lacks.as_bytes() == name) {
            elf[symbol + 5] = STV_HIDDEN;
            hidden += 1;
        }
    }
    assert_eq!(hidden, lacking.len());
    fs::write(path, elf).unwrap();
}

/// Runs the backend with these arguments to its end: status, stdout, stderr.
pub fn run<A: AsRef<OsStr>>(arguments: &[A]) -> (ExitStatus, String, String) {
    let output = Command::new(executable()).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status, text(output.stdout), text(output.stderr))
}
