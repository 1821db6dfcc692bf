//! Real clients in a guest: the parts of `cargo xtask clients` that go there, in one boot, judged as they are on the host.

use std::path::Path;

use anyhow::{Context, Result};

use super::report::{Check, Report};
use crate::backend::Backend;
use crate::boot::{self, Boot};
use crate::clients::causes::Causes;
use crate::clients::guest::{self, Luggage, Part};
use crate::clients::{self, suite::Verdict};
use crate::machine::FrontEnd;
use crate::payload::Payload;
use crate::setup::VmSetup;
use crate::step::{done, step};
use crate::{guest_job, guest_root, package, paths};

/// What programs need in the guest beside the recipe's packages.
const PACKAGES: &[&str] = &["python3", "libstdc++6"];
/// An emulated guest takes ten minutes.
const LIMIT_S: u64 = 2400;
const FRONT_END: FrontEnd = FrontEnd::VhostUserGpu;

/// One check a client.
pub(crate) fn all(report: &mut Report, vm: &VmSetup) -> Result<()> {
    let package = package::guest::make(&paths::made("package")?)?;
    let mut luggage = Luggage::new()?;
    let mut parts = Vec::new();
    for client in clients::all() {
        parts.extend(client.guest_part(&mut luggage)?);
    }
    let causes = Causes::read()?;
    let mut output = None;
    report.check("clients in a guest", || {
        let said = run(vm, &package, &parts, &luggage)?;
        output = Some(said);
        Ok(Check::default())
    });
    let output = output.unwrap_or_default();
    for (client, tests) in guest::verdicts(&parts, &output) {
        report.check(&format!("{client} in a guest"), || {
            let mut check = Check::default();
            for (name, verdict) in &tests {
                match verdict {
                    Verdict::Passed => check.passed += 1,
                    Verdict::Skipped => check.skipped += 1,
                    Verdict::Failed(why) if causes.has(client, name) => {
                        check.skipped += 1;
                        check.notes.push(format!("{name}: {why} (see docs/clients.md)"));
                    }
                    Verdict::Failed(why) => check.require(false, || format!("{name}: {why}")),
                }
            }
            Ok(check)
        });
    }
    Ok(())
}

/// Boots, runs every part and answers what the job said.
fn run(vm: &VmSetup, package: &Path, parts: &[Part], luggage: &Luggage) -> Result<String> {
    let guest = step("Debian 13 guest with Python (the first time: a minute, 300 MB)", || {
        let (guest, cached) = guest_root::ensure(PACKAGES)?;
        done(guest, if cached { "from the cache" } else { "made" })
    })?;
    let backend = Backend::start("test-clients", FRONT_END.backend_arguments())?;
    let disks = guest::disks(parts, luggage)?;
    let boot = Boot {
        qemu: &vm.qemu,
        guest: &guest,
        accelerator: vm.accelerator,
        front_end: FRONT_END,
        socket: Some(&backend.socket()),
        disks: &disks,
        turns: None,
    };
    let mut payload = Payload::new()?;
    payload.file(guest_job::PACKAGE, package, false)?;
    payload.script("job", &guest::script(parts)?)?;
    let outcome = boot::run(&boot, "test-clients", payload, LIMIT_S).context("clients in a guest")?;
    backend.stop()?;
    Ok(outcome.output)
}
