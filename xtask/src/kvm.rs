//! Whether guests really run under KVM here. A machine may have /dev/kvm and not run a guest, so the guest's own kernel is
//! booted with a short limit; the answer holds until this machine boots again.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::boot::{self, Boot};
use crate::guest_root::GuestRoot;
use crate::machine::FrontEnd;
use crate::payload::Payload;
use crate::qemu::Qemu;
use crate::{apt, paths};

/// How the guest's instructions are executed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Accelerator {
    /// By the processor.
    Kvm,
    /// By QEMU's translator: slower by about ten times, and there on every machine.
    Tcg,
}

impl Accelerator {
    /// QEMU's arguments.
    pub(crate) fn arguments(self) -> &'static [&'static str] {
        match self {
            Accelerator::Kvm => &["-accel", "kvm", "-cpu", "host"],
            Accelerator::Tcg => &["-accel", "tcg,thread=multi", "-cpu", "max"],
        }
    }
}

const PROBE_LIMIT_S: u64 = 15;
const YES: &str = "kvm";

/// KVM where a guest boots with it, else TCG; and why.
pub(crate) fn choose(qemu: &Qemu, guest: &GuestRoot) -> Result<(Accelerator, String)> {
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .context("cannot read this boot's id")?;
    let answer_path = paths::cache()?.join("kvm-probe");
    // Another user of the same cache may not be allowed to use /dev/kvm.
    let key = format!(
        "{} {}\n",
        boot_id.trim(),
        if apt::is_root() { "root" } else { "user" }
    );
    let known = fs::read_to_string(&answer_path).ok();
    let answer = match known
        .as_deref()
        .and_then(|known| known.strip_prefix(key.as_str()))
    {
        Some(answer) => answer.to_owned(),
        None => {
            let answer = match probe(qemu, guest) {
                Ok(()) => YES.to_owned(),
                Err(reason) => reason.to_string(),
            };
            fs::write(&answer_path, format!("{key}{answer}"))?;
            answer
        }
    };
    if answer == YES {
        return Ok((Accelerator::Kvm, "KVM: a guest boots with it".to_owned()));
    }
    Ok((
        Accelerator::Tcg,
        format!("TCG, QEMU's translator: {answer}"),
    ))
}

/// Boots the guest with KVM to a job that does nothing.
fn probe(qemu: &Qemu, guest: &GuestRoot) -> Result<()> {
    if !Path::new("/dev/kvm").exists() {
        bail!("this machine has no /dev/kvm");
    }
    if fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_err()
    {
        bail!("this user may not open /dev/kvm");
    }
    let mut payload = Payload::new()?;
    payload.script("job", "exit 0\n")?;
    let boot = Boot {
        qemu,
        guest,
        accelerator: Accelerator::Kvm,
        front_end: FrontEnd::Nothing,
        socket: None,
        disks: &[],
        turns: None,
    };
    match boot::run(&boot, "kvm-probe", payload, PROBE_LIMIT_S) {
        Ok(outcome) if outcome.status == 0 => Ok(()),
        _ => bail!("/dev/kvm is there, but the guest's kernel does not boot with it"),
    }
}
