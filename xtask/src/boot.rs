//! One boot of the guest: QEMU on the given machine, with a payload, until the guest switches itself off. The kernel's
//! console and the job's output travel apart, so neither garbles the other.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::guest_root::GuestRoot;
use crate::kvm::Accelerator;
use crate::machine::FrontEnd;
use crate::payload::{Disks, Payload};
use crate::qemu::Qemu;
use crate::step::seconds;
use crate::turns::Part;
use crate::screen::{self, Screens};
use crate::{paths, process, words};

const ENDED: &str = "paravane-guest: job ended with ";
const UP: &str = "paravane-guest: up ";
/// For a boot with the samples: an emulated guest takes about 20 s.
pub(crate) const LIMIT_S: u64 = 300;

/// The machine to boot.
pub(crate) struct Boot<'a> {
    pub(crate) qemu: &'a Qemu,
    pub(crate) guest: &'a GuestRoot,
    pub(crate) accelerator: Accelerator,
    pub(crate) front_end: FrontEnd,
    /// Where the back end listens, for machines that have one.
    pub(crate) socket: Option<&'a Path>,
    /// Further disks, by the serial that the guest knows them by; nothing writes to them.
    pub(crate) disks: &'a [(String, PathBuf)],
    /// Other machines that it takes turns with.
    pub(crate) turns: Option<Part<'a>>,
}

/// What a boot came to.
pub(crate) struct Outcome {
    /// The job's exit status.
    pub(crate) status: i32,
    /// The job's output, without the guest's own lines.
    pub(crate) output: String,
    /// Seconds by the guest's clock until the job began.
    pub(crate) up_s: f64,
    /// Everything QEMU took, by the host's clock.
    pub(crate) took: Duration,
    /// A directory with what the job left in /run/results.
    pub(crate) results: PathBuf,
}

/// Boots, runs the payload's job, and waits until the machine is off; `limit_s` is for all of it. Logs go under `name`.
pub(crate) fn run(boot: &Boot, name: &str, payload: Payload, limit_s: u64) -> Result<Outcome> {
    let disks = payload.finish()?;
    let logs = Logs::new(name)?;
    let mut command = boot.qemu.command();
    arguments(boot, &disks, &logs, &mut command)?;
    let errors = File::create(&logs.qemu)?;
    let results = paths::made("results")?.join(name);
    if results.exists() {
        // Nobody shall take what an earlier boot left for this one's.
        fs::remove_dir_all(&results).with_context(|| format!("cannot remove {}", results.display()))?;
    }
    let start = Instant::now();
    let screens = Screens::watch(disks.dir(), &results);
    let mut qemu = process::tie_by(&mut command, libc::SIGKILL)
        .stdin(Stdio::null())
        .stdout(errors.try_clone()?)
        .stderr(errors)
        .spawn()
        .context("cannot start QEMU")?;
    if let Some(part) = boot.turns {
        part.enter(qemu.id()).context("QEMU cannot take turns")?;
    }
    let ended = process::wait_unless(&mut qemu, Duration::from_secs(limit_s), || stopped(&logs));
    if !matches!(ended, Ok(Some(_))) {
        qemu.kill()?;
        qemu.wait()?;
    }
    let pictures = screens.end();
    let Some(status) = ended? else {
        bail!(
            "the guest was not done after {}; {}",
            seconds(start.elapsed()),
            logs.tails()
        );
    };
    if !status.success() {
        bail!("QEMU ended with {status}; {}", logs.tails());
    }
    pictures?;
    fs::create_dir_all(&results)?;
    disks.unpack_results(&results)?;
    let took = start.elapsed();
    let text = String::from_utf8_lossy(&fs::read(&logs.job)?).replace('\r', "");
    parse(&text, took, results)
        .with_context(|| format!("the guest did not finish its job; {}", logs.tails()))
}

/// QEMU neither ends nor goes on when KVM cannot execute the guest.
fn stopped(logs: &Logs) -> bool {
    fs::read_to_string(&logs.qemu).is_ok_and(|text| text.contains("KVM internal error"))
}

fn arguments(boot: &Boot, disks: &Disks, logs: &Logs, command: &mut Command) -> Result<()> {
    let config = disks.dir().join("machine.cfg");
    fs::write(&config, boot.front_end.config(boot.socket)?)?;
    command.args([
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
        "-vga",
        "none",
        "-smp",
        "2",
    ]);
    command.arg("-readconfig").arg(&config);
    command.args(boot.accelerator.arguments());
    command
        .arg("-kernel")
        .arg(&boot.guest.kernel)
        .arg("-initrd")
        .arg(&boot.guest.initrd);
    command.args(["-append", "console=ttyS0 quiet loglevel=4 panic=-1"]);
    disk(command, "root", &boot.guest.disk, "snapshot=on")?;
    disk(command, "payload", &disks.payload(), "readonly=on")?;
    disk(command, "results", &disks.results(), "cache=unsafe")?;
    for (serial, image) in boot.disks {
        disk(command, serial, image, "readonly=on")?;
    }
    command.args([
        "-chardev",
        &format!("file,id=console,path={}", quoted(&logs.console)?),
        "-serial",
        "chardev:console",
    ]);
    command.args([
        "-chardev",
        &format!("file,id=job,path={}", quoted(&logs.job)?),
    ]);
    command.args([
        "-device",
        "virtio-serial-pci",
        "-device",
        "virtconsole,chardev=job",
    ]);
    words::arguments(disks.dir(), command)?;
    screen::arguments(disks.dir(), command)
}

fn disk(command: &mut Command, serial: &str, path: &Path, option: &str) -> Result<()> {
    let file = quoted(path)?;
    command.args([
        "-drive",
        &format!("file={file},format=raw,if=none,id={serial},{option}"),
    ]);
    command.args([
        "-device",
        &format!("virtio-blk-pci,drive={serial},serial={serial}"),
    ]);
    Ok(())
}

/// A path in QEMU's comma-separated options.
fn quoted(path: &Path) -> Result<String> {
    Ok(paths::text(path)?.replace(',', ",,"))
}

struct Logs {
    /// The kernel's serial console.
    console: PathBuf,
    /// The job's output.
    job: PathBuf,
    qemu: PathBuf,
}

impl Logs {
    fn new(name: &str) -> Result<Self> {
        let log = |part: &str| process::log_path(&format!("{name}-{part}"));
        let logs = Logs {
            console: log("console")?,
            job: log("job")?,
            qemu: log("qemu")?,
        };
        for path in [&logs.console, &logs.job] {
            File::create(path)?;
        }
        Ok(logs)
    }

    fn tails(&self) -> String {
        let mut text = String::from("what was said last:");
        for path in [&self.job, &self.console, &self.qemu] {
            text.push_str(&format!(
                "\n--- {}\n{}",
                path.display(),
                process::tail(path)
            ));
        }
        text
    }
}

/// Takes the guest's own lines out of its output.
fn parse(text: &str, took: Duration, results: PathBuf) -> Result<Outcome> {
    let (mut status, mut up_s, mut output) = (None, 0.0, String::new());
    for line in text.lines() {
        if let Some(number) = line.strip_prefix(ENDED) {
            status = Some(number.trim().parse().context("the guest's exit status")?);
        } else if let Some(number) = line.strip_prefix(UP) {
            up_s = number.trim().parse().context("the guest's clock")?;
        } else {
            output.push_str(line);
            output.push('\n');
        }
    }
    let Some(status) = status else {
        bail!("the line `{ENDED}…` is missing")
    };
    Ok(Outcome {
        status,
        output,
        up_s,
        took,
        results,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guests_lines_are_taken_out_of_the_jobs_output() {
        let text = "paravane-guest: up 6.25\nPASS a\nparavane-guest: job ended with 3\n";
        let outcome = parse(text, Duration::ZERO, PathBuf::new()).unwrap();
        assert_eq!(
            (outcome.status, outcome.up_s, outcome.output.as_str()),
            (3, 6.25, "PASS a\n")
        );
    }

    #[test]
    fn an_output_that_breaks_off_is_an_error() {
        assert!(
            parse(
                "paravane-guest: up 6.25\nPASS a\n",
                Duration::ZERO,
                PathBuf::new()
            )
            .is_err()
        );
    }
}
