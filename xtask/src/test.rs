//! `test`: every test there is, counted in one table. Each check is a module below; a check that cannot run here says why
//! and counts as skipped.

mod boots;
mod cargo;
pub(crate) mod framebuffer;
mod guest_clients;
mod host_package;
mod no_vm;
pub(crate) mod report;

use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;

use crate::kvm::Accelerator;
use crate::samples::Samples;
use crate::setup::VmSetup;
use crate::{build, setup};
use report::{Check, Report};

/// Run every test
///
/// cargo's tests, loom's, clippy, the samples as host processes, and the samples in guests on every front end. Ends with
/// a table and the line `N passed, N failed, N skipped`; exits 1 when a test failed.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask test\n  cargo xtask test --no-vm            without booting guests\n  \
                        cargo xtask test --vm               only what boots guests, real clients in a guest included\n  \
                        cargo xtask test --only clippy --only no-vm"
)]
pub(crate) struct Test {
    /// Leave out what boots guests
    #[arg(long, conflicts_with_all = ["vm", "only"])]
    no_vm: bool,
    /// Only what boots guests, and real clients in one: they take 20 minutes where KVM does not work, 2 GB the first time
    #[arg(long, visible_alias = "vm-only", conflicts_with = "only")]
    vm: bool,
    /// Only this part; may be given more than once
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// How guests run, without trying whether KVM works
    #[arg(long, value_enum)]
    accelerator: Option<Accelerator>,
}

/// What can be run alone.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Clippy,
    Cargo,
    Loom,
    NoVm,
    Boots,
    /// Real clients in a guest; nothing runs them but this and --vm
    GuestClients,
}

impl Test {
    pub(crate) fn run(self) -> Result<ExitCode> {
        setup::to_build()?;
        let vm = if self.runs(Part::Boots) || self.runs(Part::GuestClients) {
            Some(setup::to_boot(self.accelerator)?)
        } else {
            None
        };
        let mut report = Report::default();
        if self.runs(Part::Clippy) {
            cargo::clippy(&mut report);
        }
        if self.runs(Part::Cargo) {
            // Tests run the built libraries and the back end, which `cargo test` does not build.
            report.check("cargo build", || Ok(Check::single(build::product().and_then(|()| build::stand_ins()))));
            cargo::tests(&mut report);
        }
        if self.runs(Part::Loom) {
            cargo::loom(&mut report);
        }
        if self.runs(Part::NoVm) || vm.is_some() {
            match build::all() {
                Ok(samples) => self.built(&mut report, vm.as_ref(), &samples)?,
                Err(error) => report.add(Check::failed("samples", error)),
            }
        }
        if self.no_vm {
            report.add(Check::skipped(
                "guests on every front end",
                "left out by --no-vm",
            ));
        }
        Ok(report.end())
    }

    /// What runs on the built product.
    fn built(&self, report: &mut Report, vm: Option<&VmSetup>, samples: &Samples) -> Result<()> {
        if self.runs(Part::NoVm) {
            report.check("samples, straight on the CPU device", || {
                no_vm::on_the_cpu_device(samples)
            });
            report.check("samples, host processes", || {
                no_vm::over_the_socket(samples)
            });
            report.check("the host package, installed", || host_package::installed(samples));
        }
        let Some(vm) = vm else { return Ok(()) };
        if self.runs(Part::Boots) {
            boots::all(report, vm, samples)?;
        }
        if self.runs(Part::GuestClients) {
            guest_clients::all(report, vm)?;
        }
        Ok(())
    }

    fn runs(&self, part: Part) -> bool {
        if !self.only.is_empty() {
            return self.only.contains(&part);
        }
        match part {
            Part::Boots => !self.no_vm,
            Part::GuestClients => self.vm,
            _ => !self.vm,
        }
    }
}
