//! A desktop in a guest: Debian's weston on the guest's KMS composes what Wayland programs draw by OpenGL, as on any machine
//! with a GPU; and once more by pixels alone, as in a guest without OpenGL. What QEMU's screen shows is compared with what weston
//! says that it shows.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::judge::{self, Verdict};
use super::{GUEST_PACKAGES, Machine};
use crate::backend::Backend;
use crate::boot::Outcome;
use crate::payload::Payload;
use crate::step::{done, seconds, step};
use crate::usage::Usage;
use crate::{guest_root, paths, picture, screen};

/// Weston with its programs, and a benchmark that draws in a window.
const PACKAGES: &[&str] = &["weston", "glmark2-es2-wayland"];
/// For all of it, where the guest is emulated.
const LIMIT_S: u64 = 480;
/// What is waited for is there within this.
const WAIT_S: u32 = 90;
/// No clock: the picture stands still where programs do.
const SETTINGS: &str = "[core]\nidle-time=0\n\
                        [shell]\nclock-format=none\nanimation=none\nstartup-animation=none\nbackground-color=0xff204060\n";
/// How weston composes, and the program whose window changes with each frame then.
const WAYS: [(&str, &str); 2] = [("gl", "weston-simple-egl"), ("pixman", "weston-simple-shm")];
/// In the output: what weston draws with, and what the program says of its frames.
const DRAWS_WITH: &str = "desktop: GL renderer: ";
const FRAMES: &str = "desktop: frames: ";
/// In the account: Linux keeps fifteen letters of a program's name.
const CHARGED: [&str; 2] = ["OpenGL: weston", "OpenGL: weston-simple-e"];
/// A picture with fewer colours shows no program.
const COLOURS: usize = 100;

/// Boots a guest of its own and shows its desktop.
pub(super) fn run(machine: &Machine, renderer: &Path, verdict: &mut Verdict) -> Result<()> {
    let guest = step("Debian 13 guest with a desktop (the first time: two minutes, 800 MB)", || {
        let (guest, cached) = guest_root::ensure(&[GUEST_PACKAGES, PACKAGES].concat())?;
        done(guest, if cached { "from the cache" } else { "made" })
    })?;
    let machine = Machine { guest: &guest, ..*machine };
    let backend = Backend::start("gl-desktop", &["--renderer", paths::text(renderer)?])?;
    let outcome = step("the guest's desktop", || {
        let outcome = machine.boot("gl-desktop", &backend.socket(), payload()?, &[], LIMIT_S)?;
        let took = seconds(outcome.took);
        done(outcome, took)
    })?;
    let usage = backend.stop()?;
    verdict.add("a desktop is composed by", judge::renderer(&outcome.output, DRAWS_WITH));
    verdict.add("its windows", windows(&outcome.output));
    for (way, _) in WAYS {
        let name = if way == "gl" { "the desktop on QEMU's screen" } else { "the same by pixels alone" };
        verdict.add(name, same(&outcome, way));
    }
    verdict.add("what draws on it is charged", charged(&usage));
    println!("the desktop's pictures: {}", outcome.results.display());
    Ok(())
}

fn payload() -> Result<Payload> {
    let mut payload = Payload::new()?;
    payload.bytes("weston.ini", SETTINGS.as_bytes())?;
    payload.script("job", &script()?)?;
    Ok(payload)
}

/// A desktop each way, with a program that is stopped for the picture. Nobody sits at the guest: weston opens its seat itself.
fn script() -> Result<String> {
    let mut job = screen::GUEST_FUNCTIONS.to_owned();
    writeln!(
        job,
        "export XDG_RUNTIME_DIR=/run/desktop HOME=/tmp WAYLAND_DISPLAY=wayland-9 LIBSEAT_BACKEND=builtin SEATD_VTBOUND=0\n\
         mkdir -m 700 $XDG_RUNTIME_DIR\n\
         wait_for() {{\n  for i in $(seq {}); do eval \"$1\" && return; kill -0 $weston || break; sleep 0.2; done\n  \
         echo \"desktop: in vain: $1\"; cat /run/weston.log /run/weston.out; exit 1\n}}\n\
         start() {{\n  env -u WAYLAND_DISPLAY weston --backend=drm --renderer=$1 --continue-without-input --debug --config=$PWD/weston.ini \
         --socket=$WAYLAND_DISPLAY --log=/run/weston.log > /run/weston.out 2>&1 & weston=$!\n  \
         wait_for '[ -S $XDG_RUNTIME_DIR/$WAYLAND_DISPLAY ]'\n  wait_for 'grep -q \"launching.*desktop-shell\" /run/weston.log'\n}}\n\
         shows() {{\n  kill -STOP $3; screen $1$2\n  ( mkdir /run/shot-$2; cd /run/shot-$2; timeout {WAIT_S} weston-screenshooter; \
         mv *.png /run/results/$1$2-own.png )\n  kill -CONT $3; kill $3\n}}\n\
         end() {{ kill $weston; wait $weston; }}",
        WAIT_S * 5
    )?;
    for (way, program) in WAYS {
        writeln!(job, "start {way}; weston-flower > /dev/null 2>&1 & weston-clickdot > /dev/null 2>&1 &\nstdbuf -oL {program} > /run/program.log 2>&1 & program=$!; sleep 3")?;
        if way == "gl" {
            writeln!(job, "wait_for 'grep -q frames /run/program.log'; sed 's/^/{FRAMES}/' /run/program.log")?;
            writeln!(job, "sed -n 's/^.*GL renderer: /{DRAWS_WITH}/p' /run/weston.log")?;
        }
        writeln!(job, "shows desktop {way} $program")?;
        if way == "gl" {
            writeln!(job, "timeout {WAIT_S} glmark2-es2-wayland -b build:duration=5 -b texture:duration=5 2>&1 | tr -d '\\r'")?;
        }
        writeln!(job, "end")?;
    }
    Ok(job)
}

/// What a program in a window says of its frames, and glmark2 in one.
fn windows(output: &str) -> Result<String> {
    let said = output.lines().find_map(|line| line.strip_prefix(FRAMES)?.split_once("seconds: "));
    let (_, frames) = said.with_context(|| format!("no program in a window says what it has drawn:\n{output}"))?;
    let [build, texture] = ["build", "texture"].map(|stage| judge::frames(output, stage).with_context(|| format!("glmark2 lacks {stage}")));
    Ok(format!("weston-simple-egl: {frames}; glmark2: {:.1} / {:.1} frames a second in build and texture", build?, texture?))
}

/// QEMU's screen shows what weston shows.
fn same(outcome: &Outcome, way: &str) -> Result<String> {
    let read = |of: &str| picture::read_png(&outcome.results.join(format!("desktop{way}{of}.png")));
    let ((width, height, shown), (.., own)) = (read("")?, read("-own")?);
    let (shown, _) = shown.as_chunks::<3>();
    let (own, _) = own.as_chunks::<3>();
    let colours = shown.iter().collect::<BTreeSet<_>>().len();
    let differ = shown.iter().zip(own).filter(|(one, other)| one != other).count();
    let said = format!("{differ} of {width} by {height} pixels differ from weston's own picture of it, {colours} colours");
    if shown.len() != own.len() || differ > 0 || colours < COLOURS {
        bail!(said);
    }
    Ok(said)
}

/// The compositor's time is told from the program's.
fn charged(usage: &Usage) -> Result<String> {
    let times = CHARGED.map(|name| (name, usage.gpu_time(name)));
    if let Some((name, _)) = times.iter().find(|(_, time)| time.is_zero()) {
        bail!("{name} is charged no GPU time");
    }
    Ok(times.map(|(name, time)| format!("{name} {time:.1?}")).join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_says_what_it_has_drawn() {
        let frames = format!("{FRAMES}has no fps yet\n{FRAMES}301 frames in 5 seconds: 60.200000 fps\n");
        let marks = "[build] duration=5: FPS: 75 FrameTime: 12.5 ms\n[texture] duration=5: FPS: 85 FrameTime: 10.0 ms\n";
        let said = windows(&(frames.clone() + marks)).unwrap();
        assert_eq!(said, "weston-simple-egl: 60.200000 fps; glmark2: 80.0 / 100.0 frames a second in build and texture");
        assert!(windows(&frames).is_err() && windows(marks).is_err());
    }
}
