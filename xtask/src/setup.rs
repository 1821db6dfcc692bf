//! `setup`: everything that a demonstration or a test needs of this machine. The other sub-commands run it first, so it is
//! quick when there is nothing to do.

use std::process::ExitCode;

use anyhow::Result;

use crate::guest_root::{self, GuestRoot};
use crate::kvm::{self, Accelerator};
use crate::qemu::{self, Qemu};
use crate::step::{done, step};
use crate::{apt, paths};

/// Install what is missing and fill the cache
///
/// Installs missing Debian packages with apt (through sudo when not root), fetches a Debian 13 guest and a QEMU with
/// vhost-user devices, and finds out whether KVM works here. About 420 MB on disk, the first time, in
/// $XDG_CACHE_HOME/paravane or ~/.cache/paravane; nothing after that.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask setup\n  cargo xtask setup --no-vm    only what programs on the host need"
)]
pub(crate) struct Setup {
    /// Leave out the guest and QEMU
    #[arg(long)]
    no_vm: bool,
}

impl Setup {
    pub(crate) fn run(self) -> Result<ExitCode> {
        to_build()?;
        if !self.no_vm {
            to_boot(None)?;
        }
        println!("setup: done");
        Ok(ExitCode::SUCCESS)
    }
}

/// What booting guests needs.
pub(crate) struct VmSetup {
    pub(crate) qemu: Qemu,
    pub(crate) guest: GuestRoot,
    pub(crate) accelerator: Accelerator,
    /// How guests run here, and why.
    pub(crate) accelerator_note: String,
}

pub(crate) fn to_build() -> Result<()> {
    step("packages to build with", || {
        let installed = apt::ensure(apt::TO_BUILD)?;
        done((), installed_note(&installed))
    })
}

pub(crate) fn to_draw_text() -> Result<()> {
    step("a font for pictures of the terminal", || {
        let installed = apt::ensure(apt::TO_WRITE)?;
        done((), installed_note(&installed))
    })
}

/// Makes guests bootable; `accelerator` spares the probe.
pub(crate) fn to_boot(accelerator: Option<Accelerator>) -> Result<VmSetup> {
    eprintln!("  cache {}", paths::cache()?.display());
    step("packages to make guests with", || {
        let installed = apt::ensure(apt::TO_BOOT)?;
        done((), installed_note(&installed))
    })?;
    let guest = step("Debian 13 guest (the first time: a minute, 270 MB)", || {
        let (guest, cached) = guest_root::ensure(&[])?;
        done(guest, if cached { "from the cache" } else { "made" })
    })?;
    let qemu = step(
        "QEMU with vhost-user devices (the first time: half a minute, 150 MB)",
        || {
            let (qemu, note) = qemu::ensure()?;
            done(qemu, note)
        },
    )?;
    let (accelerator, accelerator_note) = match accelerator {
        Some(chosen) => (chosen, "as asked".to_owned()),
        None => step("does KVM work here", || {
            let (accelerator, note) = kvm::choose(&qemu, &guest)?;
            done((accelerator, note.clone()), note)
        })?,
    };
    Ok(VmSetup {
        qemu,
        guest,
        accelerator,
        accelerator_note,
    })
}

fn installed_note(installed: &[&str]) -> String {
    if installed.is_empty() {
        "all there".to_owned()
    } else {
        format!("installed {}", installed.join(", "))
    }
}
