//! Running other programs: output goes to a log that is named when the program fails, with its last lines.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::paths;

const TAIL_LINES: usize = 30;

/// Runs `command` to its end with its output in the log `name`; an exit status other than 0 is an error that shows the
/// end of the log.
pub(crate) fn run(name: &str, command: &mut Command) -> Result<()> {
    run_within(name, command, Duration::MAX)
}

/// As [`run`]; a command that is not done within `limit` is ended with all that it started, which is an error.
pub(crate) fn run_within(name: &str, command: &mut Command, limit: Duration) -> Result<()> {
    let (status, log) = run_to_end(name, command, limit)?;
    let said = |what: &str| {
        format!(
            "{} {what}; its last lines, from {}:\n{}",
            shown(command),
            log.display(),
            tail(&log)
        )
    };
    match status {
        None => bail!(said(&format!("was not done after {} s", limit.as_secs()))),
        Some(status) if !status.success() => bail!(said(&format!("ended with {status}"))),
        Some(_) => Ok(()),
    }
}

/// Starts `command` with its output in the log `name`, whose path comes with it. It ends with this program, and leads a
/// process group.
pub(crate) fn start(name: &str, command: &mut Command) -> Result<(Child, PathBuf)> {
    let log = log_path(name)?;
    let file = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
    let child = tie(command).process_group(0).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn();
    Ok((child.with_context(|| format!("cannot start {}", shown(command)))?, log))
}

/// Runs `command` to its end, however that comes, with its output in the log `name`. The status is `None` when it was not
/// done within `limit` and was ended with all that it started. The log begins with the command line.
pub(crate) fn run_to_end(
    name: &str,
    command: &mut Command,
    limit: Duration,
) -> Result<(Option<ExitStatus>, PathBuf)> {
    let log = log_path(name)?;
    let mut file =
        File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
    writeln!(file, "{}", shown(command))?;
    if limit < Duration::MAX {
        command.process_group(0);
    }
    let mut child = tie(command)
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    let status = wait(&mut child, limit)?;
    if status.is_none() {
        let group = i32::try_from(child.id()).context("a process id beyond pid_t")?;
        // SAFETY: kill takes no pointer; the child leads this group and has not been waited for.
        unsafe { libc::kill(-group, libc::SIGKILL) };
        child.wait()?;
    }
    Ok((status, log))
}

/// What `command` prints on its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("{} ended with {}:\n{errors}", shown(command), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Waits for `child` until `limit` has passed; `None` when it still runs.
pub(crate) fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    wait_unless(child, limit, || false)
}

/// Waits for `child` until `limit` has passed or it is `hopeless`; `None` when it still runs.
pub(crate) fn wait_unless(
    child: &mut Child,
    limit: Duration,
    hopeless: impl Fn() -> bool,
) -> Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() >= limit || hopeless() {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Makes `command` end with xtask, however xtask ends.
pub(crate) fn tie(command: &mut Command) -> &mut Command {
    tie_by(command, libc::SIGTERM)
}

/// The same by another signal: what is stopped hears of SIGKILL alone.
pub(crate) fn tie_by(command: &mut Command, signal: libc::c_int) -> &mut Command {
    let tie = move || {
        // SAFETY: prctl with PR_SET_PDEATHSIG takes no pointer.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec `tie` makes one system call and takes no lock or memory.
    unsafe { command.pre_exec(tie) }
}

/// Asks `child` to end as an operator would, with SIGTERM; after `limit` it is killed, which is an error.
pub(crate) fn terminate(child: &mut Child, limit: Duration) -> Result<ExitStatus> {
    if let Some(status) = child.try_wait()? {
        return Ok(status);
    }
    let pid = i32::try_from(child.id()).context("a process id beyond pid_t")?;
    // SAFETY: kill takes no pointer; the child has not been waited for, so the id is still its own.
    unsafe { libc::kill(pid, libc::SIGTERM) };
    if let Some(status) = wait(child, limit)? {
        return Ok(status);
    }
    child.kill()?;
    child.wait()?;
    bail!(
        "process {pid} did not end within {} s of SIGTERM",
        limit.as_secs()
    )
}

pub(crate) fn log_path(name: &str) -> Result<PathBuf> {
    Ok(paths::made("logs")?.join(format!("{name}.log")))
}

/// The last lines of a file, for an error message.
pub(crate) fn tail(path: &Path) -> String {
    let Ok(bytes) = fs::read(path) else {
        return String::new();
    };
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
