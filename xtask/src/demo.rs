//! `demo`: the whole way once, from setting up to a picture that a kernel filtered for a guest.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::backend::Backend;
use crate::boot::{self, Boot};
use crate::host_run::Libcuda;
use crate::kvm::Accelerator;
use crate::machine::FrontEnd;
use crate::samples::{self, Samples};
use crate::step::{done, seconds, step};
use crate::usage::Usage;
use crate::{build, guest_job, host_run, package, paths, picture, setup};

/// Run the samples in a guest and show what came of it
///
/// Sets up, builds, boots a Debian 13 guest, installs the guest package in it, runs every sample there and checks it
/// against the CPU. Without an NVIDIA driver the kernels run on Paravane's CPU device.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask demo\n  cargo xtask demo --no-vm    the same programs as processes on the host\n  \
                        cargo xtask demo --front-end ring-only --accelerator tcg"
)]
pub(crate) struct Demo {
    /// Run the programs on the host, over the same socket, without a VM
    #[arg(long)]
    no_vm: bool,
    /// How the device comes to the guest
    #[arg(
        long,
        value_enum,
        default_value = "vhost-user-gpu",
        conflicts_with = "no_vm"
    )]
    front_end: FrontEnd,
    /// How the guest runs, without trying whether KVM works
    #[arg(long, value_enum, conflicts_with = "no_vm")]
    accelerator: Option<Accelerator>,
    /// The libcuda that executes the calls [default: NVIDIA's, else Paravane's CPU device]
    #[arg(long, value_name = "PATH")]
    libcuda: Option<PathBuf>,
}

/// What a run of the samples leaves.
struct Ran {
    output: String,
    results: PathBuf,
    usage: Usage,
}

impl Demo {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let start = Instant::now();
        setup::to_build()?;
        let ran = if self.no_vm {
            self.on_the_host()?
        } else {
            self.in_a_guest()?
        };
        let verdicts = samples::verdicts(&ran.output);
        println!();
        for line in ran
            .output
            .lines()
            .filter(|line| line.starts_with("device: ") || line.starts_with("guest: "))
        {
            println!("{line}");
        }
        for verdict in &verdicts {
            println!(
                "{} {}: {}",
                if verdict.passed { "PASS" } else { "FAIL" },
                verdict.name,
                verdict.note
            );
        }
        if verdicts.iter().any(|verdict| !verdict.passed) {
            println!(
                "\nWhat the programs said:\n{}\ndemo: FAIL",
                ran.output.trim_end()
            );
            return Ok(ExitCode::FAILURE);
        }
        let (before, after) = show_pictures(&ran.results)?;
        println!(
            "\nThe picture: {}\nFiltered:    {}\n",
            before.display(),
            after.display()
        );
        println!("{}", ran.usage.table());
        println!("All of it took {}.\ndemo: PASS", seconds(start.elapsed()));
        Ok(ExitCode::SUCCESS)
    }

    fn on_the_host(&self) -> Result<Ran> {
        let samples = build::all()?;
        let backend = Backend::start("demo", &self.backend_arguments()?)?;
        let (output, results) = step("samples on the host", || {
            let ran = host_run::run(&samples, "demo", Libcuda::Shim(&backend.socket()))?;
            done(ran, "")
        })?;
        Ok(Ran {
            output,
            results,
            usage: backend.stop()?,
        })
    }

    fn in_a_guest(&self) -> Result<Ran> {
        let vm = setup::to_boot(self.accelerator)?;
        let samples: Samples = build::all()?;
        let package = package::make(&paths::made("package")?)?;
        let backend = Backend::start("demo", &self.backend_arguments()?)?;
        let socket = backend.socket();
        let boot = Boot {
            qemu: &vm.qemu,
            guest: &vm.guest,
            accelerator: vm.accelerator,
            front_end: self.front_end,
            socket: Some(&socket),
            disks: &[],
        };
        let what = format!("guest on {}, {:?}", self.front_end.name(), vm.accelerator);
        let outcome = step(&what, || {
            let payload = guest_job::payload(&samples, &package)?;
            let outcome = boot::run(&boot, "demo", payload, boot::LIMIT_S)?;
            let note = format!(
                "up in {:.1} s, off after {}",
                outcome.up_s,
                seconds(outcome.took)
            );
            done(outcome, note)
        })?;
        if !outcome.output.contains(guest_job::INSTALLED) {
            bail!(
                "the package did not install in the guest:\n{}",
                outcome.output
            );
        }
        Ok(Ran {
            output: outcome.output,
            results: outcome.results,
            usage: backend.stop()?,
        })
    }

    fn backend_arguments(&self) -> Result<Vec<&str>> {
        let mut arguments = Vec::new();
        if !self.no_vm {
            arguments.extend(self.front_end.backend_arguments());
        }
        if let Some(libcuda) = &self.libcuda {
            arguments.extend(["--libcuda", paths::text(libcuda)?]);
        }
        Ok(arguments)
    }
}

/// The picture before and after, as PNG.
fn show_pictures(results: &Path) -> Result<(PathBuf, PathBuf)> {
    let after = paths::made("demo")?.join("filtered.png");
    picture::ppm_to_png(&results.join(samples::PICTURE_OUT), &after)?;
    Ok((paths::root().join("tests/samples/chelsea.png"), after))
}
