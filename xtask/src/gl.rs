//! `gl`: OpenGL in a guest, drawn on this host. Boots the guest with its own Mesa, has it say what it draws with, compares a
//! scene drawn there with the same scene drawn here, and runs glmark2 beside the guest's own software renderer.

mod hostile;
mod judge;
mod root;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;

use crate::backend::Backend;
use crate::boot::{self, Boot};
use crate::guest_root;
use crate::kvm::Accelerator;
use crate::machine::FrontEnd;
use crate::payload::Payload;
use crate::setup::VmSetup;
use crate::step::{act, done, seconds, step};
use crate::{apt, build, paths, picture, process, screen, setup};

/// The guest's own Mesa, and what draws with it.
const GUEST_PACKAGES: &[&str] =
    &["libegl1", "libegl-mesa0", "libgles2", "libgl1-mesa-dri", "libgbm1", "mesa-utils", "glmark2-es2-drm"];
/// Stages of glmark2; each runs for so many seconds.
const STAGES: &[&str] = &["build", "texture", "shading"];
const STAGE_S: u32 = 5;
/// Everything in an emulated guest.
const LIMIT_S: u64 = 480;

/// Draw OpenGL in a guest on this host
///
/// Needs virglrenderer 1.0; where the host has an older one, the renderer is built with Debian 13's, which is fetched into the
/// cache and run beside the host's libraries (the first time: two minutes, 400 MB; the guest with Mesa another 700 MB).
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask gl\n  cargo xtask gl --no-glmark    without the benchmark")]
pub(crate) struct Gl {
    /// Leave out glmark2
    #[arg(long)]
    no_glmark: bool,
    /// How the device comes to the guest
    #[arg(long, value_enum, default_value = "vhost-user-gpu")]
    front_end: FrontEnd,
    /// How the guest runs, without trying whether KVM works
    #[arg(long, value_enum)]
    accelerator: Option<Accelerator>,
}

impl Gl {
    pub(crate) fn run(self) -> Result<ExitCode> {
        setup::to_build()?;
        let vm = setup::to_boot(self.accelerator)?;
        step("packages to build OpenGL with", || done((), apt::ensure(apt::TO_DRAW)?.join(", ")))?;
        let root = step("virglrenderer (the first time: a minute, 400 MB)", || {
            let (root, note) = root::ensure()?;
            done(root, note)
        })?;
        act("the product (cargo build --release)", build::product)?;
        let renderer = step("the renderer", || done(root.renderer()?, ""))?;
        step("hostile guests", || done(hostile::run(&renderer)?, "every command is answered, CUDA lives"))?;
        let scene = paths::made("gl")?.join("scene");
        root.compile(&paths::root().join("tests/gl/scene.c"), &scene)?;
        let here = paths::made("gl")?.join("scene-here.ppm");
        step("the scene, drawn here", || {
            let said = process::output(root.command(&scene)?.arg(&here))?;
            picture::ppm_to_png(&here, &here.with_extension("png"))?;
            done((), said.trim().to_owned())
        })?;
        let (output, results) = self.boot(&vm, &renderer, &scene)?;
        let verdict = judge::Verdict::of(&output, &results, &here)?;
        verdict.print();
        println!("pictures: {} and {}", results.join("scene.png").display(), here.with_extension("png").display());
        Ok(verdict.exit_code())
    }

    fn boot(&self, vm: &VmSetup, renderer: &Path, scene: &Path) -> Result<(String, PathBuf)> {
        let guest = step("Debian 13 guest with Mesa (the first time: two minutes, 700 MB)", || {
            let (guest, cached) = guest_root::ensure(GUEST_PACKAGES)?;
            done(guest, if cached { "from the cache" } else { "made" })
        })?;
        let backend = Backend::start("gl", &["--renderer", paths::text(renderer)?])?;
        let socket = backend.socket();
        let boot = Boot {
            qemu: &vm.qemu,
            guest: &guest,
            accelerator: vm.accelerator,
            front_end: self.front_end,
            socket: Some(&socket),
            disks: &[],
        };
        let mut payload = Payload::new()?;
        payload.file("scene", scene, true)?;
        payload.script("job", &self.job()?)?;
        let outcome = step("the guest draws", || {
            let outcome = boot::run(&boot, "gl", payload, LIMIT_S)?;
            let took = seconds(outcome.took);
            done(outcome, took)
        })?;
        backend.stop()?;
        Ok((outcome.output, outcome.results))
    }

    fn job(&self) -> Result<String> {
        let mut job = String::from(screen::GUEST_FUNCTIONS);
        job.push_str("eglinfo -B -p surfaceless 2>&1 | sed -n 's/^OpenGL.*renderer: /eglinfo: renderer /p' | sort -u\n");
        job.push_str("timeout 60 ./scene /run/results/scene.ppm 2>&1 || echo \"scene: ended with $?\"\n");
        if !self.no_glmark {
            let stages: String = STAGES.iter().fold(String::new(), |all, stage| format!("{all} -b {stage}:duration={STAGE_S}"));
            let glmark = format!("timeout 200 glmark2-es2-drm --off-screen{stages} 2>&1 | tr -d '\\r'");
            writeln!(job, "echo 'glmark2: on the host'; {glmark}")?;
            writeln!(job, "export GBM_ALWAYS_SOFTWARE=1 LIBGL_ALWAYS_SOFTWARE=1")?;
            writeln!(job, "echo 'glmark2: in the guest'; {glmark}")?;
        }
        job.push_str("dmesg | grep -i 'virtio_gpu.*ERROR' | tail -5\n");
        Ok(job)
    }
}
