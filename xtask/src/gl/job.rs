//! What the guest does: says what it draws with, shows its console and the scene on its screen, draws while CUDA runs, and
//! runs glmark2.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;

use super::STAGES;
use super::piglit::Slice;
use crate::guest_job;
use crate::payload::Payload;
use crate::samples::{self, Samples};
use crate::test::framebuffer;

/// Each stage of glmark2 runs for so many seconds; a little longer where machines take turns.
const STAGE_S: u32 = 5;
const COMPARED_STAGE_S: u32 = 6;
/// Programs that hang are ended, so that the others still run.
pub(super) const PROGRAM_LIMIT_S: u32 = 60;

/// The programs that draw the scene, in tests/gl.
pub(super) const OFF_SCREEN: &str = "off_screen";
pub(super) const ON_SCREEN: &str = "on_screen";
/// And one that asks what was drawn.
pub(super) const QUERIES: &str = "queries";
/// Pictures in the results: the scene, the scene as KMS would have it, and what QEMU shows of that.
pub(super) const SCENE: &str = "scene";
pub(super) const UNSHOWN: &str = "unshown";
pub(super) const SHOWN: &str = "shown";
/// In the output: how often the scene was drawn while CUDA ran, and how often it differed from the first.
pub(super) const BESIDE: &str = "beside CUDA: scenes ";
/// At least.
pub(super) const SCENES: usize = 2;

/// Says what OpenGL is drawn with.
pub(super) const EGLINFO: &str = "eglinfo -B -p surfaceless 2>&1 | sed -n 's/^OpenGL.*renderer: /eglinfo: renderer /p' | sort -u\n";
/// What the kernel's driver complains of.
pub(super) const COMPLAINTS: &str = "dmesg | grep -i 'virtio_gpu.*ERROR' | tail -5\n";

/// What is packed for a guest.
pub(super) struct Programs<'a> {
    pub(super) off_screen: &'a Path,
    pub(super) queries: &'a Path,
    pub(super) on_screen: &'a Path,
    pub(super) samples: &'a Samples,
    pub(super) package: &'a Path,
}

/// The payload of a boot.
pub(super) fn payload(programs: &Programs, glmark: bool, piglit: bool) -> Result<Payload> {
    let mut payload = Payload::new()?;
    payload.file(OFF_SCREEN, programs.off_screen, true)?;
    payload.file(QUERIES, programs.queries, true)?;
    payload.file(ON_SCREEN, programs.on_screen, true)?;
    payload.file(guest_job::PACKAGE, programs.package, false)?;
    samples::pack(programs.samples, &mut payload)?;
    let mut job = framebuffer::pack(&mut payload)?;
    job.push_str(EGLINFO);
    writeln!(job, "timeout {PROGRAM_LIMIT_S} ./{OFF_SCREEN} /run/results/{SCENE}.ppm 2>&1 || echo \"scene: ended with $?\"")?;
    writeln!(job, "timeout {PROGRAM_LIMIT_S} ./{QUERIES} 2>&1 || echo \"queries: ended with $?\"")?;
    job.push_str(&on_screen());
    job.push_str(&guest_job::install());
    job.push_str(&beside_cuda(&format!("./{OFF_SCREEN} /run/beside.ppm"), "/run/beside.ppm", SCENES)?);
    if piglit {
        job.push_str(&Slice::job());
    }
    if glmark {
        job.push_str(&in_turn());
    }
    job.push_str(COMPLAINTS);
    payload.script("job", &job)?;
    Ok(payload)
}

/// The scene stays on the screen until the picture is taken.
fn on_screen() -> String {
    format!(
        "mkfifo /run/hold; timeout {PROGRAM_LIMIT_S} ./{ON_SCREEN} /dev/dri/card0 /run/results/{UNSHOWN}.ppm < /run/hold > /run/shown 2>&1 &\n\
         shows=$!; exec 4> /run/hold\n\
         while kill -0 $shows 2> /dev/null && ! grep -q 'on_screen: shown' /run/shown; do sleep 0.2; done\n\
         cat /run/shown; screen {SHOWN}; exec 4>&-\n\
         wait $shows || echo \"on_screen: ended with $?\"\n"
    )
}

/// Has `draws` make `picture` again and again, so often at least, while every sample runs, as another user, and compares it with the
/// one that lies in the results.
pub(super) fn beside_cuda(draws: &str, picture: &str, least: usize) -> Result<String> {
    let mut job = format!(
        "( drawn=0 wrong=0\n  while [ ! -e /run/cuda-done ] || [ $drawn -lt {least} ]; do\n    \
         timeout {PROGRAM_LIMIT_S} {draws} > /run/beside.log 2>&1 && cmp -s {picture} /run/results/{SCENE}.ppm \
         || {{ wrong=$((wrong + 1)); cat /run/beside.log; [ $wrong -gt 2 ] && break; }}\n    \
         drawn=$((drawn + 1)); : > /run/drawing\n  done; echo \"{BESIDE}$drawn, wrong $wrong\" ) &\n\
         draws=$!\nwhile kill -0 $draws 2> /dev/null && [ ! -e /run/drawing ]; do sleep 0.1; done\n"
    );
    for name in samples::NAMES {
        let arguments = samples::arguments(name, samples::PICTURE_IN, "/run/results").join(" ");
        writeln!(
            job,
            "timeout {PROGRAM_LIMIT_S} {} ./{name} {arguments} 2>&1 || echo \"{name} ended with $?\"",
            guest_job::as_user()
        )?;
    }
    job.push_str(": > /run/cuda-done; wait $draws\n");
    Ok(job)
}

/// A payload that runs glmark2 and nothing else.
pub(super) fn only_glmark2() -> Result<Payload> {
    let mut payload = Payload::new()?;
    payload.script("job", &format!("{}\n", glmark2(COMPARED_STAGE_S)))?;
    Ok(payload)
}

fn glmark2(stage_s: u32) -> String {
    let stages: String = STAGES.iter().fold(String::new(), |all, stage| format!("{all} -b {stage}:duration={stage_s}"));
    format!("timeout 200 glmark2-es2-drm --off-screen{stages} 2>&1 | tr -d '\\r'")
}

/// By virgl, then by the guest's own software renderer.
fn in_turn() -> String {
    let glmark = glmark2(STAGE_S);
    format!(
        "echo 'glmark2: on the host'; {glmark}\n\
         export GBM_ALWAYS_SOFTWARE=1 LIBGL_ALWAYS_SOFTWARE=1\n\
         echo 'glmark2: in the guest'; {glmark}\n"
    )
}
