//! Guests on every front end: each boots, gets the package, and runs the samples; and one whose virtio-gpu is not
//! Paravane's, where programs must be told that there is no device.

use std::path::Path;

use anyhow::Result;

use super::framebuffer;
use super::report::{Check, Report};
use crate::backend::Backend;
use crate::boot::{self, Boot, Outcome};
use crate::machine::FrontEnd;
use crate::samples::{self, Samples};
use crate::setup::VmSetup;
use crate::{guest_job, package, paths};

const FRONT_ENDS: [FrontEnd; 3] = [
    FrontEnd::VhostUserGpu,
    FrontEnd::VhostUserTestDevice,
    FrontEnd::RingOnly,
];
/// What a sample's first call must answer without Paravane.
const NO_DEVICE: &str = "cuInit(0) answered CUDA_ERROR_NO_DEVICE (100)";

pub(crate) fn all(report: &mut Report, vm: &VmSetup, samples: &Samples) -> Result<()> {
    eprintln!("        guests run with {}", vm.accelerator_note);
    let package = package::guest::make(&paths::made("package")?)?;
    for front_end in FRONT_ENDS {
        let name = format!("guest on {}", front_end.name());
        report.check(&name, || with_paravane(vm, samples, &package, front_end));
    }
    report.check("guest without Paravane", || {
        without_paravane(vm, samples, &package)
    });
    Ok(())
}

fn with_paravane(
    vm: &VmSetup,
    samples: &Samples,
    package: &Path,
    front_end: FrontEnd,
) -> Result<Check> {
    let backend = Backend::start(
        &format!("test-{}", front_end.name()),
        front_end.backend_arguments(),
    )?;
    let outcome = boot(vm, samples, package, front_end, Some(&backend.socket()))?;
    let mut check = Check::of_samples(&samples::verdicts(&outcome.output));
    require_installed(&mut check, &outcome);
    let sleep = format!("{}{}", guest_job::SLEEPS_BY, front_end.sleep());
    check.require(outcome.output.lines().any(|line| line.trim() == sleep), || {
        format!("not in the guest's output: {sleep}")
    });
    if front_end == FrontEnd::VhostUserGpu {
        framebuffer::judge(&mut check, &outcome);
    }
    check.require_account(&backend.stop()?);
    Ok(check)
}

fn without_paravane(vm: &VmSetup, samples: &Samples, package: &Path) -> Result<Check> {
    let outcome = boot(vm, samples, package, FrontEnd::Foreign, None)?;
    let mut check = Check::default();
    require_installed(&mut check, &outcome);
    for verdict in samples::verdicts(&outcome.output) {
        check.require(!verdict.passed && verdict.note == NO_DEVICE, || {
            format!("{}: {}", verdict.name, verdict.note)
        });
    }
    Ok(check)
}

fn require_installed(check: &mut Check, outcome: &Outcome) {
    check.require(outcome.output.contains(guest_job::INSTALLED), || {
        format!(
            "programs in the guest do not find the package's library:\n{}",
            outcome.output
        )
    });
}

fn boot(
    vm: &VmSetup,
    samples: &Samples,
    package: &Path,
    front_end: FrontEnd,
    socket: Option<&Path>,
) -> Result<Outcome> {
    let boot = Boot {
        qemu: &vm.qemu,
        guest: &vm.guest,
        accelerator: vm.accelerator,
        front_end,
        socket,
        disks: &[],
        turns: None,
    };
    let payload = guest_job::payload_with(samples, package, |payload| match front_end {
        FrontEnd::VhostUserGpu => framebuffer::pack(payload),
        _ => Ok(String::new()),
    })?;
    boot::run(
        &boot,
        &format!("test-{}", front_end.name()),
        payload,
        boot::LIMIT_S,
    )
}
