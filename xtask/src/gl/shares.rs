//! Two guests draw at once under paravaned: each has its share of the time, by OpenGL and by Vulkan.

use std::fmt::Write;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::compile::VULKAN_SCENE;
use super::judge::Verdict;
use super::{Built, Machine, vulkan};
use crate::backend::Backend;
use crate::daemon::{Daemon, Host};
use crate::demo::shares::{Shares, VMS};
use crate::guest_job::READY;
use crate::machine::FrontEnd;
use crate::paths;
use crate::payload::Payload;
use crate::step::{done, step};
use crate::words::{self, Words};

/// Two emulated guests boot side by side.
const READY_LIMIT: Duration = Duration::from_secs(300);
/// A program that starts in an emulated guest, until it draws.
const BEGIN_LIMIT: Duration = Duration::from_secs(90);
/// From the moment when both draw to the one from which on is measured.
const SETTLE: Duration = Duration::from_secs(5);
const MEASURED: Duration = Duration::from_secs(20);
/// What a guest does at most.
const LIMIT_S: u64 = 600;
/// It draws until it is told to end.
const DRAWS_S: u32 = 400;

/// What guests draw by.
struct Way {
    name: &'static str,
    check: &'static str,
    front_end: FrontEnd,
    /// Of the back end.
    option: Option<&'static str>,
    /// What the guest runs.
    program: String,
}

/// Has two guests draw each way; adds the shares to the verdict.
pub(super) fn run(machine: &Machine, built: &Built, verdict: &mut Verdict) -> Result<()> {
    let opengl = Way {
        name: "gl-shares",
        check: "two guests that draw by OpenGL",
        front_end: machine.front_end,
        option: None,
        program: format!("glmark2-es2-drm --off-screen -b texture:duration={DRAWS_S}"),
    };
    let vulkan = Way {
        name: "gl-shares-vulkan",
        check: "two guests that draw by Vulkan",
        front_end: FrontEnd::VhostUserTestDevice,
        option: Some("--vulkan"),
        program: format!("env VK_DRIVER_FILES={} HOME=/tmp ./{VULKAN_SCENE} --loop {DRAWS_S} /run/results/scene.ppm", vulkan::DRIVER),
    };
    for way in [opengl, vulkan] {
        let shares = step(way.check, || {
            let shares = draw(machine, built, &way)?;
            let note = shares.note();
            done(shares, note)
        })?;
        println!("\n{}", shares.text());
        let note = format!("asked {}: {}", VMS.map(|(_, weight)| weight.to_string()).join(":"), shares.note());
        verdict.add(way.check, if shares.hold() { Ok(note) } else { Err(anyhow!(note)) });
    }
    Ok(())
}

fn draw(machine: &Machine, built: &Built, way: &Way) -> Result<Shares> {
    let home = paths::made(way.name)?;
    let daemon = Daemon::start(way.name, &home)?;
    let socket = daemon.socket();
    let start = |(name, weight): (&str, u32)| {
        let weight = weight.to_string();
        let mut arguments = vec!["--paravaned", paths::text(&socket)?, "--weight", &weight, "--renderer", paths::text(&built.renderer)?];
        arguments.extend(way.option);
        Backend::start(name, &arguments)
    };
    let [first, second] = VMS;
    let backends = [start(first)?, start(second)?];
    let payloads = [payload(built, way)?, payload(built, way)?];
    let dirs = payloads.each_ref().map(|payload| payload.dir().to_owned());
    let machine = Machine { front_end: way.front_end, ..*machine };
    let shares = thread::scope(|scope| {
        let running: Vec<_> = payloads
            .into_iter()
            .zip(&backends)
            .zip(VMS)
            .map(|((payload, backend), (name, _))| {
                scope.spawn(move || machine.boot(&format!("{}-{name}", way.name), &backend.socket(), payload, &[], LIMIT_S))
            })
            .collect();
        let over = || running.iter().any(|guest| guest.is_finished());
        let shares = measure(&daemon, &dirs, over);
        let ended = running.into_iter().map(|guest| guest.join().unwrap_or_else(|_| bail!("the thread of a guest panicked")));
        // Why a guest ended says more than that it did.
        let outcomes = ended.collect::<Result<Vec<_>>>()?;
        shares.with_context(|| outcomes.into_iter().map(|outcome| outcome.output).collect::<String>())
    })?;
    for backend in backends {
        backend.stop()?;
    }
    daemon.stop()?;
    Ok(shares)
}

fn payload(built: &Built, way: &Way) -> Result<Payload> {
    let mut payload = Payload::new()?;
    payload.file(VULKAN_SCENE, &built.vulkan_scene, true)?;
    let mut job = words::GUEST_FUNCTIONS.to_owned();
    writeln!(job, "say {READY}; hear\n{} 2>&1 & draws=$!\nhear; kill $draws; wait $draws; echo", way.program)?;
    payload.script("job", &job)?;
    Ok(payload)
}

/// Waits for the guests and has them draw. However it ends, they hear nothing more after it.
fn measure(daemon: &Daemon, dirs: &[PathBuf], over: impl Fn() -> bool) -> Result<Shares> {
    let mut guests = dirs.iter().map(|dir| Words::connect(dir, &over)).collect::<Result<Vec<_>>>()?;
    guests.iter_mut().try_for_each(|guest| guest.hear(READY, READY_LIMIT))?;
    guests.iter_mut().try_for_each(|guest| guest.say("draw"))?;
    let start = Instant::now();
    while !VMS.iter().map(|(name, _)| draws(&daemon.host()?, name)).collect::<Result<Vec<_>>>()?.into_iter().all(|draws| draws) {
        if over() || start.elapsed() > BEGIN_LIMIT {
            bail!("a guest does not draw");
        }
        thread::sleep(Duration::from_millis(250));
    }
    thread::sleep(SETTLE);
    let before = daemon.host()?;
    thread::sleep(MEASURED);
    let shares = Shares::between(&before, &daemon.host()?)?;
    guests.iter_mut().try_for_each(|guest| guest.say("end"))?;
    Ok(shares)
}

fn draws(host: &Host, name: &str) -> Result<bool> {
    Ok(host.vm(name)?.used.gpu_time_ns > 0)
}
