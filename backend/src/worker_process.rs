//! Starts worker processes: this executable again, with `worker` as its first
//! argument and nothing open but what control.rs names. One thread starts them
//! all and lives as long as any of them, because a worker is told to die with
//! the thread that started it; it keeps one spare, so that a guest process does
//! not wait for exec and the loading of libcuda.
#![allow(unsafe_code)] // What happens between fork and exec.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use rustix::event::EventfdFlags;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

use crate::account::AccountPage;
use crate::inherited;
use crate::budget::{Budget, Slot};
use crate::control::{
    self, ACCOUNT_FD, BUDGET_FD, CONTROL_FD, ENV_BUDGET_SLOT, ENV_LIBCUDA, ENV_LOG_LEVEL,
    GUEST_WAKE_FD, LAST_FD, LEASES_FD, TURNS_FD,
};
use crate::lease::VmLease;
use crate::visible::{ENV_DEVICES, ENV_SMS, ENV_VISIBLE, Seen, Visible};
use crate::turn::Turns;

/// How to start workers.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// The libcuda that they load.
    pub libcuda: PathBuf,
    /// What they log.
    pub log_level: log::LevelFilter,
    /// Their VM's lease.
    pub lease: Arc<VmLease>,
    /// What they see.
    pub visible: Arc<Visible>,
}

/// A worker process and this side's ends of what it holds. Dropping it kills
/// and reaps the process.
#[derive(Debug)]
pub struct WorkerProcess {
    pid: u32,
    pidfd: OwnedFd,
    control: OwnedFd,
    guest_wake: OwnedFd,
    account: Option<(AccountPage, OwnedFd)>,
    lease: Arc<VmLease>,
    reaped: bool,
    /// What it was started with.
    seen: Seen,
    /// Given back when the process is reaped.
    _slot: Slot,
}

impl WorkerProcess {
    fn start(options: &WorkerOptions, turns: &OwnedFd, budget: &Arc<Budget>) -> io::Result<Self> {
        let slot = budget.slot().ok_or_else(|| io::Error::other("the budget has no slot left"))?;
        let (control, control_there) = control::pair()?;
        let guest_wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (account, account_there) = AccountPage::create()?;
        let own = [
            (control_there.as_raw_fd(), CONTROL_FD),
            (guest_wake.as_raw_fd(), GUEST_WAKE_FD),
            (account_there.as_raw_fd(), ACCOUNT_FD),
            (turns.as_raw_fd(), TURNS_FD),
            (budget.file().as_raw_fd(), BUDGET_FD),
        ];
        let leases = options.lease.descriptors().map(|fd| fd.as_raw_fd()).zip(LEASES_FD..);
        let given: Vec<_> = own.into_iter().chain(leases).collect();
        let mut command = Command::new("/proc/self/exe");
        command.arg0("paravane-worker").arg("worker");
        command.env(ENV_LIBCUDA, &options.libcuda);
        command.env(ENV_LOG_LEVEL, options.log_level.as_str());
        let seen = options.visible.seen();
        command.env(ENV_DEVICES, options.lease.uuids().join(","));
        if !seen.devices.is_empty() {
            command.env(ENV_VISIBLE, seen.devices.join(","));
        }
        if let Some(sms) = seen.sms {
            command.env(ENV_SMS, sms.to_string());
        }
        command.env(ENV_BUDGET_SLOT, slot.number().to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let backend = std::process::id();
        // SAFETY: between fork and exec, prepare() makes system calls only and
        // allocates nothing.
        unsafe { command.pre_exec(move || prepare(&given, backend)) };
        let pid = command.spawn()?.id();
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let raw = raw.ok_or_else(|| io::Error::other("a process id out of range"))?;
        // The process is not reaped yet, so its number is still its own.
        let pidfd = rustix::process::pidfd_open(raw, PidfdFlags::empty())?;
        let (account, lease) = (Some((account, account_there)), Arc::clone(&options.lease));
        Ok(Self { pid, pidfd, control, guest_wake, account, lease, reaped: false, seen, _slot: slot })
    }

    /// Its id on the host.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Readable once the process has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The control socket.
    pub fn control(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    /// Readable when GUEST_SLEEPS words have turned 0. Does not block.
    pub fn guest_wake(&self) -> BorrowedFd<'_> {
        self.guest_wake.as_fd()
    }

    /// The account page and its file; there is one to take.
    pub fn take_account(&mut self) -> Option<(AccountPage, OwnedFd)> {
        self.account.take()
    }

    /// Ends the process, whatever it does.
    pub fn kill(&self) {
        if !self.reaped {
            // Fails only when the process has ended already.
            let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        }
    }

    /// How the process has ended, in words for the log; `None`: it runs.
    pub fn ended(&mut self) -> Option<String> {
        self.wait(WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
    }

    fn wait(&mut self, options: WaitIdOptions) -> Option<String> {
        let status = rustix::io::retry_on_intr(|| {
            rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), options)
        });
        let words = match status {
            Ok(None) => return None,
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => format!("exit status {code}"),
                (None, Some(signal)) => format!("signal {signal}"),
                (None, None) => "unknown status".to_string(),
            },
            Err(errno) => format!("unknown status ({errno})"),
        };
        self.reaped = true;
        self.lease.worker_ended(self.pid);
        Some(words)
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill();
            self.wait(WaitIdOptions::EXITED);
        }
    }
}

/// In the child, before exec: the descriptors at their numbers, everything
/// else closed, and death with the backend. The backend holds the numbers
/// (`reserve_descriptors`), so nothing that exec needs is overwritten.
fn prepare(given: &[(RawFd, RawFd)], backend: u32) -> io::Result<()> {
    for &(from, to) in given {
        // SAFETY: dup2 takes two numbers; `from` is open, `to` is a placeholder.
        if unsafe { libc::dup2(from, to) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    inherited::mark_from((LAST_FD + 1).unsigned_abs());
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // The backend may have ended before the line above.
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
    if parent.and_then(|parent| u32::try_from(parent).ok()) != Some(backend) {
        // SAFETY: ends this process at once. An error would be told to a backend
        // that is not there.
        unsafe { libc::_exit(1) };
    }
    Ok(())
}

/// Occupies the numbers that a worker's descriptors have. To be called before
/// anything else is opened.
pub fn reserve_descriptors() -> io::Result<()> {
    loop {
        let null = OwnedFd::from(std::fs::File::open("/dev/null")?);
        if null.as_raw_fd() > LAST_FD {
            return Ok(());
        }
        std::mem::forget(null);
    }
}

type Request = Sender<io::Result<WorkerProcess>>;

/// The thread that starts workers.
#[derive(Debug)]
pub struct Starter {
    requests: Option<Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl Starter {
    /// Starts the thread, and the first spare.
    pub fn new(options: WorkerOptions, budget: Arc<Budget>) -> io::Result<Self> {
        let turns = Turns::create()?;
        let (requests, incoming) = channel();
        let thread = std::thread::Builder::new()
            .name("worker starter".into())
            .spawn(move || serve(&options, &turns, &budget, &incoming))?;
        Ok(Self { requests: Some(requests), thread: Some(thread) })
    }

    /// A running worker that has not been given memory yet.
    pub fn take(&self) -> io::Result<WorkerProcess> {
        let gone = || io::Error::other("the worker starter has ended");
        let (answer, started) = channel();
        let requests = self.requests.as_ref().ok_or_else(gone)?;
        requests.send(answer).map_err(|_| gone())?;
        started.recv().map_err(|_| gone())?
    }
}

impl Drop for Starter {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // The thread catches nothing and owns nothing that is not dropped.
            let _ = thread.join();
        }
    }
}

fn serve(options: &WorkerOptions, turns: &OwnedFd, budget: &Arc<Budget>, incoming: &Receiver<Request>) {
    let start = || {
        WorkerProcess::start(options, turns, budget)
            .inspect_err(|error| log::error!("a worker cannot be started: {error}"))
    };
    let mut spare = start().ok();
    while let Ok(answer) = incoming.recv() {
        // A spare that has ended would fail its guest; a fresh one may not.
        // Nor would one do that sees another device, or more of it, than the VM is to see now.
        let seen = options.visible.seen();
        let runs = spare.as_mut().is_some_and(|worker| worker.ended().is_none() && worker.seen == seen);
        let worker = match spare.take() {
            Some(worker) if runs => Ok(worker),
            _ => start(),
        };
        let started = worker.is_ok();
        // The asker waits; if it has gone, the worker ends with its handle.
        let _ = answer.send(worker);
        spare = if started { start().ok() } else { None };
    }
}
