//! `demo`: the whole way once, from setting up to a picture that a kernel filtered for a guest, and two VMs that share the
//! device 3:1 under paravaned.

mod guests;
mod on_host;
pub(crate) mod shares;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

use crate::backend::Backend;
use crate::daemon::Daemon;
use crate::kvm::Accelerator;
use crate::machine::FrontEnd;
use crate::samples::{self, Verdict};
use crate::step::seconds;
use crate::{paths, picture, setup};
use shares::{Shares, VMS};

/// Run the samples in a guest, have two guests share the device, and show what came of it
///
/// Sets up, builds, boots two Debian 13 guests, installs the guest package in them, runs every sample in the first and checks
/// it against the CPU. Then both work at the same time with weights 3:1 under a paravaned of their own: what each was charged
/// for, the picture of `paravanectl top`, and the usage table. Without an NVIDIA driver the kernels run on Paravane's CPU
/// device.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask demo\n  cargo xtask demo --no-vm    the same programs as processes on the host\n  \
                        cargo xtask demo --front-end ring-only --accelerator tcg"
)]
pub(crate) struct Demo {
    /// Run the programs on the host, over the same sockets, without VMs
    #[arg(long)]
    no_vm: bool,
    /// How the device comes to the guests
    #[arg(long, value_enum, default_value = "vhost-user-gpu", conflicts_with = "no_vm")]
    front_end: FrontEnd,
    /// How the guests run, without trying whether KVM works
    #[arg(long, value_enum, conflicts_with = "no_vm")]
    accelerator: Option<Accelerator>,
    /// The libcuda that executes the calls [default: NVIDIA's, else Paravane's CPU device]
    #[arg(long, value_name = "PATH")]
    libcuda: Option<PathBuf>,
}

/// What the programs leave.
struct Ran {
    /// What each VM's programs said.
    outputs: Vec<String>,
    /// Where the first one's results lie.
    results: PathBuf,
    shares: Shares,
    top: PathBuf,
    /// By VM and by process, from the ledger.
    usage: String,
}

impl Demo {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let start = Instant::now();
        setup::to_build()?;
        setup::to_draw_text()?;
        let ran = if self.no_vm { on_host::run(&self)? } else { guests::run(&self)? };
        println!();
        let passed = ran.print_verdicts();
        println!("\n{}", ran.shares.text());
        println!("The account of all of it (paravanectl usage):\n\n{}", ran.usage);
        println!("paravanectl top:  {}", ran.top.display());
        if passed {
            let (before, after) = show_pictures(&ran.results)?;
            println!("The picture:      {}\nFiltered:         {}", before.display(), after.display());
        } else {
            println!("\nWhat the programs said:\n{}", ran.outputs.join("\n").trim_end());
        }
        println!(
            "\nAll of it took {}.\ndemo: {}",
            seconds(start.elapsed()),
            if passed { "PASS" } else { "FAIL" }
        );
        Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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

/// paravaned and the back ends, one for each of `VMS`.
struct Stage {
    backends: Vec<Backend>,
    daemon: Daemon,
    /// Where the picture of `paravanectl top` shall lie.
    top: PathBuf,
}

impl Stage {
    fn set(demo: &Demo) -> Result<Self> {
        let home = paths::made("demo")?;
        let daemon = Daemon::start("demo", &home)?;
        let socket = daemon.socket();
        let mut backends = Vec::new();
        for (name, weight) in VMS {
            let weight = weight.to_string();
            let mut arguments = vec!["--paravaned", paths::text(&socket)?, "--weight", &weight];
            arguments.extend(demo.backend_arguments()?);
            backends.push(Backend::start(name, &arguments)?);
        }
        Ok(Self { backends, daemon, top: home.join("top.png") })
    }

    /// What everybody used, when all of it is booked.
    fn end(self) -> Result<String> {
        for backend in self.backends {
            backend.stop()?;
        }
        let tables = [self.daemon.said(&["usage"])?, self.daemon.said(&["usage", "--by", "process"])?];
        self.daemon.stop()?;
        Ok(tables.join("\n"))
    }
}

impl Ran {
    /// True: everything is as it should be.
    fn print_verdicts(&self) -> bool {
        let first = self.outputs.first().map_or("", String::as_str);
        for line in first.lines().filter(|line| line.starts_with("device: ") || line.starts_with("guest: ")) {
            println!("{line}");
        }
        let mut all = true;
        let mut print = |name: &str, passed: bool, note: &str| {
            all &= passed;
            println!("{} {name}: {note}", if passed { "PASS" } else { "FAIL" });
        };
        for Verdict { name, passed, note } in samples::verdicts(first) {
            print(name, passed, &note);
        }
        for (output, (vm, _)) in self.outputs.iter().zip(VMS) {
            let Verdict { name, passed, note } = samples::verdict(samples::LOAD, output);
            print(&format!("{name} in {vm}"), passed, &note);
        }
        print("shares", self.shares.hold(), &self.shares.note());
        all
    }
}

/// The picture before and after, as PNG.
fn show_pictures(results: &Path) -> Result<(PathBuf, PathBuf)> {
    let after = paths::made("demo")?.join("filtered.png");
    picture::ppm_to_png(&results.join(samples::PICTURE_OUT), &after)?;
    Ok((paths::root().join("tests/samples/chelsea.png"), after))
}
