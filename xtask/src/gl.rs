//! `gl`: OpenGL in a guest, drawn on this host. Boots the guest with its own Mesa, has it say what it draws with, compares a
//! scene drawn there with the same scene drawn here, looks at it on QEMU's screen, has it draw while CUDA runs, and runs glmark2
//! beside the guest's own software renderer.

mod compile;
mod desktop;
mod hostile;
mod job;
mod judge;
mod piglit;
mod recording;
mod root;
mod shares;
mod vhost_device;
mod vulkan;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Error, Result, bail};

use crate::backend::Backend;
use crate::boot::{self, Boot, Outcome};
use crate::guest_root::{self, GuestRoot};
use crate::kvm::Accelerator;
use crate::machine::FrontEnd;
use crate::payload::Payload;
use crate::qemu::{self, Qemu};
use crate::samples::Samples;
use crate::setup::VmSetup;
use crate::step::{act, done, seconds, step};
use crate::turns::{self, Part};
use crate::{apt, build, package, paths, picture, process, setup};
use job::Programs;
use root::Root;
use vulkan::Wanted;
pub(crate) use root::RENDER_SERVER;

/// The guest's own Mesa, what draws with it, and what piglit links.
const GUEST_PACKAGES: &[&str] = &[
    "libegl1",
    "libegl-mesa0",
    "libgles2",
    "libgl1-mesa-dri",
    "libgbm1",
    "mesa-utils",
    "glmark2-es2-drm",
    "libgl1",
    "libwaffle-1-0",
    "libwayland-client0",
    "libxcb-dri2-0",
    "libxkbcommon0",
    // Vulkan: venus is among Mesa's drivers.
    "libvulkan1",
    "mesa-vulkan-drivers",
    "vulkan-tools",
];
/// Stages of glmark2.
const STAGES: &[&str] = &["build", "texture", "shading"];
/// Pairs of boots that `--compare` takes the median of. A boot is faster or slower by several percent as its memory happens to lie,
/// so many short ones say more than few long ones.
const BOOTS: usize = 9;
/// Everything in an emulated guest.
const LIMIT_S: u64 = 480;

/// With piglit: some ten minutes more.
const PIGLIT_LIMIT_S: u64 = 2400;

/// Draw OpenGL in a guest on this host
///
/// Needs virglrenderer 1.0; where the host has an older one, the renderer is built with Debian 13's, which is fetched into the
/// cache and run beside the host's libraries (the first time: two minutes, 430 MB; the guest with Mesa another 570 MB).
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask gl\n  cargo xtask gl --no-glmark    without the benchmark\n  \
                  cargo xtask gl --compare      rust-vmm's vhost-device-gpu beside it\n  cargo xtask gl --piglit\n  \
                  cargo xtask gl --desktop\n  cargo xtask gl --shares\n  cargo xtask gl --only-vulkan --scenes 40"
)]
pub(crate) struct Gl {
    /// Leave out glmark2
    #[arg(long, conflicts_with = "compare")]
    no_glmark: bool,
    /// Run glmark2 on rust-vmm's vhost-device-gpu too, built from crates.io the first time
    #[arg(long)]
    compare: bool,
    /// Only that comparison, of so many boots of each
    #[arg(long, value_name = "BOOTS", conflicts_with_all = ["compare", "no_glmark", "piglit"])]
    only_compare: Option<usize>,
    /// Run some 850 of piglit's tests, in the guest and here (the first time: 35 MB; ten minutes where KVM does not work); by Mesa's OpenGL
    /// over Vulkan with --only-vulkan
    #[arg(long)]
    piglit: bool,
    /// Only draw by Vulkan
    #[arg(long, conflicts_with_all = ["compare", "no_glmark", "replay", "record", "only_compare"])]
    only_vulkan: bool,
    /// Only show a desktop: weston with programs in windows, on QEMU's screen (the first time: another 800 MB)
    #[arg(long, conflicts_with_all = ["compare", "no_glmark", "replay", "record", "only_compare", "only_vulkan", "piglit"])]
    desktop: bool,
    /// Only have two guests draw at once, with weights of 3 and 1
    #[arg(long, conflicts_with_all = ["compare", "no_glmark", "replay", "record", "only_compare", "only_vulkan", "piglit", "desktop"])]
    shares: bool,
    /// At least so many pictures by Vulkan beside CUDA, to find what happens rarely
    #[arg(long, value_name = "COUNT", default_value_t = job::SCENES, requires = "only_vulkan")]
    scenes: usize,
    /// Only draw the recorded scene of tests/gpu, without a VM
    #[arg(long, conflicts_with_all = ["compare", "only_compare", "piglit", "record"])]
    replay: bool,
    /// Only record that scene anew from a guest
    #[arg(long, conflicts_with_all = ["compare", "only_compare", "piglit"])]
    record: bool,
    /// How the device comes to the guest
    #[arg(long, value_enum, default_value = "vhost-user-gpu")]
    front_end: FrontEnd,
    /// How the guest runs, without trying whether KVM works
    #[arg(long, value_enum)]
    accelerator: Option<Accelerator>,
}

/// What boots have in common.
#[derive(Clone, Copy)]
struct Machine<'a> {
    qemu: &'a Qemu,
    guest: &'a GuestRoot,
    accelerator: Accelerator,
    front_end: FrontEnd,
    turns: Option<Part<'a>>,
}

impl Machine<'_> {
    fn boot(&self, name: &str, socket: &Path, payload: Payload, disks: &[(String, PathBuf)], limit_s: u64) -> Result<Outcome> {
        let Machine { qemu, guest, accelerator, front_end, turns } = *self;
        boot::run(&Boot { qemu, guest, accelerator, front_end, socket: Some(socket), disks, turns }, name, payload, limit_s)
    }
}

/// What is built for both sides.
struct Built {
    root: Root,
    samples: Samples,
    renderer: PathBuf,
    off_screen: PathBuf,
    vulkan_scene: PathBuf,
}

/// The renderer's executable, built with what the root has.
pub(crate) fn built_renderer() -> Result<(Root, PathBuf)> {
    step("packages to build OpenGL with", || done((), apt::ensure(apt::TO_DRAW)?.join(", ")))?;
    let root = note_step("virglrenderer (the first time: a minute, 430 MB)", root::ensure)?;
    let built = step("the renderer", || done(root.renderer()?, ""))?;
    Ok((root, built))
}

/// Everything is drawn by the renderer as its package has it.
fn build_all() -> Result<Built> {
    let samples = build::all()?;
    let (root, built) = built_renderer()?;
    let package = package::renderer::make(&paths::made("package")?, &built)?;
    let [program, layer] = package::renderer::unpack(&package, &paths::made("gl")?.join("installed"))?;
    let renderer = root.runs_renderer(&program, &layer)?;
    act("what records and replays", recording::build)?;
    let off_screen = compile::opengl(&root, job::OFF_SCREEN)?;
    let vulkan_scene = compile::vulkan(&root)?;
    Ok(Built { root, samples, renderer, off_screen, vulkan_scene })
}

/// Draws the OpenGL scene here.
fn scene_here(built: &Built) -> Result<PathBuf> {
    let here = paths::made("gl")?.join("scene-here.ppm");
    step("the scene, drawn here", || {
        let said = process::output(built.root.command(&built.off_screen)?.arg(&here))?;
        picture::ppm_to_png(&here, &here.with_extension("png"))?;
        done(here, said.trim().to_owned())
    })
}

impl Gl {
    pub(crate) fn run(self) -> Result<ExitCode> {
        setup::to_build()?;
        if self.replay {
            let built = build_all()?;
            println!("PASS {}", recording::steps(&built.root, &built.renderer, &built.off_screen)?);
            return Ok(ExitCode::SUCCESS);
        }
        let vm = setup::to_boot(self.accelerator)?;
        let built = build_all()?;
        let guest = step("Debian 13 guest with Mesa (the first time: two minutes, 570 MB)", || {
            let (guest, cached) = guest_root::ensure(GUEST_PACKAGES)?;
            done(guest, if cached { "from the cache" } else { "made" })
        })?;
        let VmSetup { qemu, accelerator, .. } = &vm;
        let machine = Machine { qemu, guest: &guest, accelerator: *accelerator, front_end: self.front_end, turns: None };
        if self.record {
            act("the guest draws and is recorded", || recording::record(&machine, &built.renderer, &built.off_screen))?;
            return Ok(ExitCode::SUCCESS);
        }
        if let Some(boots) = self.only_compare {
            let verdict = judge::Verdict::compared(&compared(&built.root, &built.renderer, &machine, boots)?);
            verdict.print();
            return Ok(verdict.exit_code());
        }
        if self.desktop || self.shares {
            let mut verdict = judge::Verdict::empty();
            if self.desktop {
                desktop::run(&machine, &built.renderer, &mut verdict)?;
            } else {
                shares::run(&machine, &built, &mut verdict)?;
            }
            verdict.print();
            return Ok(verdict.exit_code());
        }
        let package = package::guest::make(&paths::made("package")?)?;
        if self.only_vulkan {
            let mut verdict = judge::Verdict::empty();
            let slice = self.slice()?;
            let wanted = Wanted { opengl_here: &scene_here(&built)?, scenes: self.scenes, slice: slice.as_ref() };
            vulkan::run(&machine, &built, &package, &wanted, &mut verdict)?;
            verdict.print();
            return Ok(verdict.exit_code());
        }
        self.show(&machine, &built, &package)
    }

    fn slice(&self) -> Result<Option<piglit::Slice>> {
        self.piglit.then(|| note_step("piglit (the first time: 35 MB)", piglit::ensure)).transpose()
    }

    /// Everything in a guest, then what needs none.
    fn show(&self, machine: &Machine, built: &Built, package: &Path) -> Result<ExitCode> {
        let Built { root, samples, renderer, off_screen, .. } = built;
        step("hostile guests", || done(hostile::run(renderer)?, "every command is answered, CUDA lives"))?;
        let [on_screen, queries] = [compile::opengl(root, job::ON_SCREEN)?, compile::opengl(root, job::QUERIES)?];
        let here = scene_here(built)?;
        let slice = self.slice()?;
        let backend = Backend::start("gl", &["--renderer", paths::text(renderer)?])?;
        let payload = job::payload(&Programs { off_screen, queries: &queries, on_screen: &on_screen, samples, package }, !self.no_glmark, self.piglit)?;
        let outcome = step("the guest draws", || {
            let disks: Vec<_> = slice.iter().map(piglit::Slice::disk).collect();
            let limit_s = if self.piglit { PIGLIT_LIMIT_S } else { LIMIT_S };
            let outcome = machine.boot("gl", &backend.socket(), payload, &disks, limit_s)?;
            let took = seconds(outcome.took);
            done(outcome, took)
        })?;
        let usage = backend.stop()?;
        let compared = self.compare.then(|| compared(root, renderer, machine, BOOTS)).transpose()?;
        let mut verdict = judge::Verdict::of(&outcome, &usage, &here, self.front_end);
        if let Some(said) = &compared {
            verdict.compare(said);
        }
        verdict.add("the recorded scene, without a VM", recording::steps(root, renderer, off_screen));
        if let Some(slice) = &slice {
            let here = step("piglit, here", || done(slice.here(root)?, ""))?;
            verdict.add("piglit", piglit::in_guest(&outcome.output).and_then(|guest| piglit::compare(&guest, &here, "virgl")));
        }
        let wanted = Wanted { opengl_here: &here, scenes: self.scenes, slice: None };
        if let Err(error) = vulkan::run(machine, built, package, &wanted, &mut verdict) {
            verdict.add("Vulkan in a guest", Err(error));
        }
        verdict.print();
        println!("pictures: {} and {}", outcome.results.display(), here.with_extension("png").display());
        Ok(verdict.exit_code())
    }
}

/// Has cargo build the feature `gl` with what is here to build it with. `false`: there is nothing.
pub(crate) fn build_here(cargo: &mut Command) -> Result<bool> {
    let Some(root) = root::there() else { return Ok(false) };
    root.build_with(cargo)?;
    Ok(true)
}

/// A step that says what it found.
fn note_step<T>(what: &str, work: impl FnOnce() -> Result<(T, String)>) -> Result<T> {
    step(what, || {
        let (value, note) = work()?;
        done(value, note)
    })
}

/// What glmark2 says on the one device and on the other, in boots of its own that take turns, on one QEMU. It is Debian 13's
/// own: QEMU 11.1 asks for more of a GPU's configuration than vhost-device-gpu 0.2.0 has, and then has no display to draw for.
fn compared(root: &Root, renderer: &Path, machine: &Machine, boots: usize) -> Result<Vec<[String; 2]>> {
    let program = note_step("vhost-device-gpu (the first time: some minutes)", || vhost_device::ensure(root))?;
    let qemu = note_step("a QEMU that it runs on (the first time: a minute, 150 MB)", qemu::of_release)?;
    let draw = |name: &str, socket: &Path, part: Part| {
        let machine = Machine { qemu: &qemu, turns: Some(part), ..*machine };
        Ok::<_, Error>(machine.boot(name, socket, job::only_glmark2()?, &[], LIMIT_S)?.output)
    };
    let pair = || {
        let device = vhost_device::Device::start(root, &program)?;
        let backend = Backend::start("gl-compared", &["--renderer", paths::text(renderer)?])?;
        let (ours, other) = turns::during(|turns| {
            let [part, others] = [backend.pid(), device.pid()].map(|device| Part { turns, device });
            std::thread::scope(|scope| {
                let other = scope.spawn(|| draw("gl-vhost-device-gpu", &device.socket(), others));
                let ours = draw("gl-compared", &backend.socket(), part);
                (ours, other.join().unwrap_or_else(|_| bail!("the thread of a guest panicked")))
            })
        });
        backend.stop()?;
        let said = [ours?, other?];
        let note = format!("{} and {} frames a second", judge::marks(&said[0]), judge::marks(&said[1]));
        done(said, note)
    };
    (0..boots).map(|_| step("glmark2 on Paravane and on vhost-device-gpu, in turn", pair)).collect()
}
