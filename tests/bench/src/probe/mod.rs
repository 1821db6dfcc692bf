//! A probe: one process that loads a libcuda and measures it from inside, as
//! any program would see it. It tells its figures on stdout, a line each.
#![allow(unsafe_code, reason = "alarm and prctl")]

mod call;
pub(crate) mod copy;
mod fill;
mod load;
mod sched;
mod share;
pub(crate) use share::READY;
mod start;
mod threads;
pub(crate) mod trace;
mod wake;

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;

use crate::cuda::Cuda;

/// A probe that has not ended by then is stuck and is ended.
const LIMIT_S: u32 = 240;

/// Launches between two synchronisations of a program that is no test.
const BURST: u32 = 50;

/// One measured process.
#[derive(clap::Args)]
pub(crate) struct Probe {
    what: What,
    /// The libcuda to load
    #[arg(long)]
    libcuda: PathBuf,
    #[arg(long)]
    quick: bool,
    /// What `sched` does; hundredths of the device that `fill` fills
    #[arg(long, default_value = "")]
    pattern: String,
}

/// What a probe does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// Calls, launches and synchronisation.
    Call,
    /// Waking from sleep.
    Wake,
    /// Copies in both directions, from pageable and pinned memory.
    Copy,
    /// Launches and synchronises, one by one, beside others.
    Share,
    /// Launches in bursts and synchronises, beside others.
    Burst,
    /// Opens a context, then does nothing.
    Idle,
    /// The first kernel of a process.
    First,
    /// Launches from several threads.
    Threads,
    /// Loads a large image, twice.
    Load,
    /// A framework's mix of calls.
    Trace,
    /// The same, every call awaited.
    TraceAwaited,
    /// How long a spinning kernel spins.
    Calibrate,
    /// Works beside others by a pattern.
    Sched,
    /// Fills a share of the device, and copies all out and in.
    Fill,
}

impl Probe {
    pub(crate) fn run(self) -> Result<()> {
        end_with_the_benchmark();
        let cuda = Cuda::load(&self.libcuda)?;
        match self.what {
            What::Call => call::run(&cuda, self.quick),
            What::Wake => wake::run(&cuda, self.quick),
            What::Copy => copy::run(&cuda, self.quick),
            What::Share => share::run(&cuda, self.quick, 1),
            What::Burst => share::run(&cuda, self.quick, BURST),
            What::Idle => share::idle(&cuda),
            What::First => start::first_kernel(&cuda),
            What::Threads => threads::run(&cuda, self.quick),
            What::Load => load::run(&cuda, self.quick),
            What::Trace => trace::run(&cuda, self.quick, false),
            What::TraceAwaited => trace::run(&cuda, self.quick, true),
            What::Calibrate => sched::calibrate(&cuda),
            What::Sched => sched::run(&cuda, &self.pattern),
            What::Fill => fill::run(&cuda, &self.pattern),
        }
    }
}

/// No probe outlives the benchmark or hangs it.
fn end_with_the_benchmark() {
    // SAFETY: no pointers are passed.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    // SAFETY: no pointers are passed.
    unsafe { libc::alarm(LIMIT_S) };
}
