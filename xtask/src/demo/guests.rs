//! Two guests at a time: both boot and get the package, the first runs the samples; then each waits for xtask's word to work,
//! and for the next to end.

use std::path::Path;
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use super::shares::{self, Load, Shares, VMS};
use super::{Demo, Ran, Stage};
use crate::boot::{self, Boot, Outcome};
use crate::payload::Payload;
use crate::setup::{self, VmSetup};
use crate::step::{done, step};
use crate::words::Words;
use crate::{build, guest_job, package, paths};

/// Two emulated guests boot side by side, and one runs the samples.
const READY_LIMIT: Duration = Duration::from_secs(300);
/// All that a guest does.
const LIMIT_S: u64 = 600;

/// A guest's load, which waits for words. Where xtask has gone the guest ends.
struct Guest(Words);

impl Load for Guest {
    fn start(&mut self) -> Result<()> {
        self.0.say("work")
    }

    fn stop(&mut self) -> Result<()> {
        self.0.say("end")
    }
}

/// Boots the guests and has them share the device.
pub(super) fn run(demo: &Demo) -> Result<Ran> {
    let vm = setup::to_boot(demo.accelerator)?;
    let samples = build::all()?;
    let package = package::guest::make(&paths::made("package")?)?;
    let stage = Stage::set(demo)?;
    let payload = |vm| guest_job::payload_of_load(&samples, &package, &shares::arguments(vm), vm == 0);
    let payloads = [payload(0)?, payload(1)?];
    let dirs = payloads.each_ref().map(|payload| payload.dir().to_owned());
    let (shares, outcomes) = thread::scope(|scope| {
        let running: Vec<_> = payloads
            .into_iter()
            .enumerate()
            .map(|(at, payload)| {
                let (vm, socket) = (&vm, stage.backends[at].socket());
                scope.spawn(move || boot(demo, vm, VMS[at].0, payload, &socket))
            })
            .collect();
        let shares = share(demo, &vm, &stage, &dirs, &running);
        let outcomes = step("the guests switch off", || {
            let outcomes = running.into_iter().map(ended).collect::<Result<Vec<_>>>()?;
            let up_s = outcomes.iter().map(|outcome| format!("{:.1} s", outcome.up_s));
            let note = format!("they were up in {}", up_s.collect::<Vec<_>>().join(" and "));
            done(outcomes, note)
        });
        // Why a guest ended says more than that it did.
        let outcomes = outcomes?;
        Ok::<_, anyhow::Error>((shares?, outcomes))
    })?;
    for outcome in &outcomes {
        if !outcome.output.contains(guest_job::INSTALLED) {
            bail!("the package did not install in the guest:\n{}", outcome.output);
        }
    }
    let results = outcomes.first().context("a guest")?.results.clone();
    let outputs = outcomes.into_iter().map(|outcome| outcome.output).collect();
    Ok(Ran { outputs, results, shares, top: stage.top.clone(), usage: stage.end()? })
}

fn boot(demo: &Demo, vm: &VmSetup, name: &str, payload: Payload, socket: &Path) -> Result<Outcome> {
    let boot = Boot {
        qemu: &vm.qemu,
        guest: &vm.guest,
        accelerator: vm.accelerator,
        front_end: demo.front_end,
        socket: Some(socket),
        disks: &[],
        turns: None,
    };
    boot::run(&boot, &format!("demo-{name}"), payload, LIMIT_S)
}

fn ended(running: ScopedJoinHandle<Result<Outcome>>) -> Result<Outcome> {
    running.join().map_err(|_| anyhow!("the thread of a guest panicked"))?
}

/// Waits for the guests and has them work. However it ends, they hear nothing more after it.
fn share(
    demo: &Demo,
    vm: &VmSetup,
    stage: &Stage,
    dirs: &[std::path::PathBuf],
    running: &[ScopedJoinHandle<Result<Outcome>>],
) -> Result<Shares> {
    let what = format!("two guests on {}, {:?}; vm1 runs the samples", demo.front_end.name(), vm.accelerator);
    let mut guests = step(&what, || {
        let over = || running.iter().any(ScopedJoinHandle::is_finished);
        let mut guests = Vec::new();
        for dir in dirs {
            guests.push(Guest(Words::connect(dir, over)?));
        }
        guests.iter_mut().try_for_each(|guest| guest.0.hear(guest_job::READY, READY_LIMIT))?;
        done(guests, "ready")
    })?;
    let loads = guests.iter_mut().map(|guest| guest as &mut dyn Load).collect();
    shares::measure(&stage.daemon, loads, &stage.top)
}
