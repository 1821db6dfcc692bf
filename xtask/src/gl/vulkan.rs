//! Vulkan in a guest: the scene of tests/gl/vulkan drawn by the guest's venus and the host's Vulkan behind it, in a boot of its own,
//! because QEMU's generic vhost-user device alone has the shared memory that venus takes.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::compile::VULKAN_SCENE;
use super::job::{self, OFF_SCREEN, PROGRAM_LIMIT_S, SCENE};
use super::judge::{self, Verdict};
use super::piglit::{self, Slice};
use super::root::Root;
use super::{Built, Machine, PIGLIT_LIMIT_S};
use crate::backend::Backend;
use crate::boot::Outcome;
use crate::machine::FrontEnd;
use crate::payload::Payload;
use crate::samples;
use crate::step::{done, seconds, step};
use crate::usage::Usage;
use crate::{guest_job, paths, picture, process};

/// For all of it, where the guest is emulated.
const LIMIT_S: u64 = 600;
/// How long the scene is drawn again and again, alone and each time beside CUDA.
const ALONE_S: u32 = 3;
const BESIDE_S: u32 = 1;
/// Memories that the guest's kernel sees in the window, more than a front end has regions for.
const MANY: u32 = 600;
/// In the output, where the program draws as before when it had them.
const AFTER_MANY: &str = "vulkan: after many: the same scene";
/// OpenGL's scene by Vulkan, in the results.
const ZINK: &str = "zink";
/// Vulkan programs that draw at once.
const AT_ONCE: usize = 6;
/// In the output, how many of them drew the same.
const SAME: &str = "vulkan: the same at once: ";
/// How a guest's program gets venus: the package has every driver of Mesa's.
pub(super) const DRIVER: &str = "/usr/share/vulkan/icd.d/virtio_icd.json";
/// What venus calls the device.
const VENUS: &str = "Virtio-GPU Venus";
/// In the output: the device, as vulkaninfo has it.
const VULKANINFO: &str = "vulkaninfo: device ";
/// In the account.
const DRAWS: &str = "Vulkan: vulkan_scene";

/// Computes and draws here; the picture, and frames a second.
pub(super) fn here(root: &Root, program: &Path) -> Result<(PathBuf, f64)> {
    let here = paths::made("gl")?.join("vulkan-here.ppm");
    let frames = step("the Vulkan scene, drawn here", || {
        let said = process::output(root.command(program)?.args(["--loop", &ALONE_S.to_string()]).arg(&here))?;
        picture::ppm_to_png(&here, &here.with_extension("png"))?;
        let frames = frames(&said)?;
        done(frames, format!("{}, {frames:.1} frames a second", line(&said, "vulkan: device ")?))
    })?;
    Ok((here, frames))
}

/// What is wanted of the guest.
pub(super) struct Wanted<'a> {
    /// OpenGL's scene, drawn here.
    pub(super) opengl_here: &'a Path,
    /// Drawn beside CUDA, at least.
    pub(super) scenes: usize,
    /// Run by OpenGL over Vulkan.
    pub(super) slice: Option<&'a Slice>,
}

/// Draws here and in a guest of its own; adds what was found to the verdict.
pub(super) fn run(machine: &Machine, built: &Built, package: &Path, wanted: &Wanted, verdict: &mut Verdict) -> Result<()> {
    let (here, frames_here) = here(&built.root, &built.vulkan_scene)?;
    let machine = Machine { front_end: FrontEnd::VhostUserTestDevice, ..*machine };
    let backend = Backend::start("gl-vulkan", &["--vulkan", "--renderer", paths::text(&built.renderer)?])?;
    let outcome = step("the guest draws by Vulkan", || {
        let disks: Vec<_> = wanted.slice.map(Slice::disk).into_iter().collect();
        let limit_s = if wanted.slice.is_some() { PIGLIT_LIMIT_S } else { LIMIT_S };
        let outcome = machine.boot("gl-vulkan", &backend.socket(), payload(built, package, wanted)?, &disks, limit_s)?;
        let took = seconds(outcome.took);
        done(outcome, took)
    })?;
    let usage = backend.stop()?;
    judge(verdict, &outcome, &usage, &here, frames_here);
    let zink = outcome.results.join(ZINK).with_extension("ppm");
    verdict.add("OpenGL by Vulkan, beside the host's", by_zink(&outcome.output).and_then(|by| Ok(format!("{by}; {}", judge::compare(&zink, wanted.opengl_here)?))));
    if let Some(slice) = wanted.slice {
        let here = step("piglit, here", || done(slice.here(&built.root)?, ""))?;
        verdict.add("piglit by Vulkan", piglit::in_guest(&outcome.output).and_then(|guest| piglit::compare(&guest, &here, ZINK)));
    }
    println!("Vulkan's pictures: {} and {}", outcome.results.display(), here.with_extension("png").display());
    Ok(())
}

fn payload(built: &Built, package: &Path, wanted: &Wanted) -> Result<Payload> {
    let mut payload = Payload::new()?;
    payload.file(VULKAN_SCENE, &built.vulkan_scene, true)?;
    payload.file(OFF_SCREEN, &built.off_screen, true)?;
    payload.file(guest_job::PACKAGE, package, false)?;
    samples::pack(&built.samples, &mut payload)?;
    payload.script("job", &script(wanted)?)?;
    Ok(payload)
}

/// As an ordinary user: what the device is called, the scene, alone and while OpenGL begins on the same device, and beside CUDA;
/// last, a program that wants more of the window than there is.
fn script(wanted: &Wanted) -> Result<String> {
    let as_user = guest_job::as_user();
    let scene = |seconds: u32, picture: &str| format!("{as_user} ./{VULKAN_SCENE} --loop {seconds} /run/results/{picture}.ppm");
    let mut job = guest_job::install();
    writeln!(job, "export VK_DRIVER_FILES={DRIVER} HOME=/tmp")?;
    writeln!(
        job,
        "timeout {PROGRAM_LIMIT_S} {as_user} vulkaninfo --summary > /run/vulkaninfo 2>&1 || {{ echo \"vulkaninfo ended with $?\"; cat /run/vulkaninfo; }}\n\
         sed -n 's/^.*deviceName *= /{VULKANINFO}/p' /run/vulkaninfo"
    )?;
    writeln!(job, "timeout {PROGRAM_LIMIT_S} {} 2>&1 || echo \"{VULKAN_SCENE} ended with $?\"", scene(ALONE_S, SCENE))?;
    writeln!(job, "timeout {PROGRAM_LIMIT_S} {} > /run/beside.log 2>&1 & draws=$!", scene(ALONE_S, "beside"))?;
    job.push_str(job::EGLINFO);
    writeln!(job, "wait $draws || {{ echo \"beside OpenGL, {VULKAN_SCENE} ended with $?\"; cat /run/beside.log; }}")?;
    job.push_str(&job::beside_cuda(&scene(BESIDE_S, "beside"), "/run/results/beside.ppm", wanted.scenes)?);
    job.push_str(&others(&scene(BESIDE_S, "at-once-$i"), &wanted.slice.map_or_else(String::new, |_| Slice::job())));
    writeln!(
        job,
        "timeout {PROGRAM_LIMIT_S} {} --many {MANY} 2>&1 || echo \"{VULKAN_SCENE} ended with $?\"\n\
         cmp /run/results/many.ppm /run/results/{SCENE}.ppm && echo '{AFTER_MANY}'",
        scene(0, "many")
    )?;
    job.push_str(job::COMPLAINTS);
    Ok(job)
}

/// Mesa's OpenGL by Vulkan; and `scene`, the picture of which has `$i` in its name, several times at once.
fn others(scene: &str, piglit: &str) -> String {
    let as_user = guest_job::as_user();
    format!(
        "export MESA_LOADER_DRIVER_OVERRIDE=zink LIBGL_ALWAYS_SOFTWARE=1\n{}\
         timeout {PROGRAM_LIMIT_S} {as_user} ./{OFF_SCREEN} /run/results/{ZINK}.ppm 2>&1 || echo \"by Vulkan, {OFF_SCREEN} ended with $?\"\n\
         {piglit}unset MESA_LOADER_DRIVER_OVERRIDE LIBGL_ALWAYS_SOFTWARE; all=\n\
         for i in $(seq {AT_ONCE}); do timeout {PROGRAM_LIMIT_S} {scene} > /run/at-once-$i.log 2>&1 & all=\"$all $!\"; done\n\
         same=0; i=0; for one in $all; do i=$((i + 1)); wait $one && cmp /run/results/at-once-$i.ppm /run/results/{SCENE}.ppm && same=$((same + 1)) \
         || cat /run/at-once-$i.log; done; echo \"{SAME}$same\"\n",
        job::EGLINFO.replace("eglinfo: ", "by zink: "),
    )
}

fn judge(verdict: &mut Verdict, outcome: &Outcome, usage: &Usage, here: &Path, frames_here: f64) {
    let output = &outcome.output[..];
    verdict.add("vulkaninfo", venus(output, VULKANINFO));
    verdict.add("a Vulkan program", venus(output, "vulkan: device "));
    verdict.add("Vulkan computes", line(output, "vulkan: compute: ").map(str::to_owned));
    let picture = outcome.results.join(SCENE).with_extension("ppm");
    verdict.add("the Vulkan scene, beside the host's", judge::compare(&picture, here));
    let frames = frames(output).map(|frames| format!("{frames:.1} frames a second, {frames_here:.1} here"));
    verdict.add("the Vulkan scene, again and again", frames);
    verdict.add("OpenGL beside Vulkan on one device", judge::renderer(output, "eglinfo: renderer "));
    verdict.add("Vulkan scenes while CUDA runs", judge::scenes(output, usage, DRAWS));
    verdict.add("CUDA while Vulkan draws", judge::cuda(output, usage));
    verdict.add("Vulkan programs at once", at_once(output));
    verdict.add("more memories than there is room for", many(output));
}

/// OpenGL was drawn by venus.
fn by_zink(output: &str) -> Result<&str> {
    let by = line(output, "by zink: renderer ")?;
    if by.contains("zink") && by.contains(VENUS) { Ok(by) } else { bail!("by {by}") }
}

fn at_once(output: &str) -> Result<String> {
    let same = line(output, SAME)?;
    if same != AT_ONCE.to_string() {
        bail!("{same} of {AT_ONCE} draw the same scene");
    }
    Ok(format!("all of {AT_ONCE} draw the same scene"))
}

/// Some were had, not all, and the program went on.
fn many(output: &str) -> Result<String> {
    let said = line(output, "vulkan: many: ")?;
    let had: u32 = said.split(' ').next().and_then(|had| had.parse().ok()).with_context(|| format!("no figure in {said}"))?;
    if !(MANY / 2..MANY).contains(&had) {
        bail!("{said}");
    }
    line(output, AFTER_MANY).map(|_| format!("{said}; then the same scene"))
}

/// The rest of the first line that begins so.
fn line<'a>(output: &'a str, begins: &'static str) -> Result<&'a str> {
    let said = output.lines().find_map(|said| said.strip_prefix(begins));
    said.with_context(|| format!("not in the output: {begins}\n{output}"))
}

fn venus(output: &str, begins: &'static str) -> Result<String> {
    let device = line(output, begins)?;
    if !device.contains(VENUS) {
        bail!("the device is {device}");
    }
    Ok(device.to_owned())
}

/// By the first such line: `vulkan: loop: 31 frames in 3.0 s, 10.3 frames a second`.
fn frames(output: &str) -> Result<f64> {
    let said = line(output, "vulkan: loop: ")?;
    let frames = said.rsplit(", ").next().and_then(|said| said.split(' ').next()?.parse().ok());
    frames.with_context(|| format!("no figure in {said}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_the_programs_own_figure() {
        let output = "vulkan: scene: 512 by 384\nvulkan: loop: 78 frames in 3.0 s, 25.7 frames a second\n";
        assert_eq!(frames(output).unwrap(), 25.7);
        assert!(frames("vulkan: scene: 512 by 384\n").is_err());
    }

    #[test]
    fn a_device_of_the_guests_own_is_not_venus() {
        assert!(venus("vulkan: device Virtio-GPU Venus (x)\n", "vulkan: device ").is_ok());
        assert!(venus("vulkan: device llvmpipe (LLVM 19.1.7, 256 bits)\n", "vulkan: device ").is_err());
    }
}
