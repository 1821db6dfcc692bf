//! What OpenGL on this host is built and run with: where the host has virglrenderer 1.0, the host's own; else a root of
//! Debian 13 beside it, of which nothing is installed. Programs of that root run with its own dynamic linker, Mesa and EGL.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::guest_root::SUITE;
use crate::{apt, build, cache, paths, process};

const PACKAGES: &[&str] = &[
    "libc6-dev",
    "libvirglrenderer-dev",
    "libegl-dev",
    "libgles-dev",
    "libgbm-dev",
    "libdrm-dev",
    "libegl1",
    "libegl-mesa0",
    "libgles2",
    "libgl1-mesa-dri",
    // What piglit links.
    "libgl1",
    "libwaffle-1-0",
    "libwayland-client0",
    "libxcb-dri2-0",
    "libxkbcommon0",
    // Vulkan: what builds a program, the loader, lavapipe among Mesa's drivers, and what draws guests' Vulkan.
    "libvulkan-dev",
    "libvulkan1",
    "mesa-vulkan-drivers",
    "virgl-server",
    // Which virgl-server's libepoxy looks for by itself.
    "libopengl0",
];
/// virglrenderer's process for Vulkan, as Debian has it.
pub(crate) const RENDER_SERVER: &str = "/usr/libexec/virgl_render_server";
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// In the cache.
const NAME: &str = "gl-root";
const LEAST_VERSION: &str = "1.0.0";

/// Where virglrenderer and OpenGL come from.
pub(crate) enum Root {
    /// This machine.
    Host,
    /// A tree.
    Tree(PathBuf),
}

/// The root, and a word on where it comes from.
pub(super) fn ensure() -> Result<(Root, String)> {
    if has(&format!("--atleast-version={LEAST_VERSION}")) {
        apt::ensure(apt::TO_DRAW_HERE)?;
        return Ok((Root::Host, "this machine's own".to_owned()));
    }
    let (tree, cached) = cache::entry(NAME, &key(), unpack)?;
    let version = fs::read_to_string(tree.join(LIBRARIES).join("pkgconfig/virglrenderer.pc"))?;
    let version = version.lines().find_map(|line| line.strip_prefix("Version:")).unwrap_or("").trim().to_owned();
    let from = if cached { "from the cache" } else { "fetched" };
    Ok((Root::Tree(tree), format!("Debian 13's virglrenderer {version}, {from}")))
}

/// The root, if there is one without fetching anything, and what builds with it.
pub(super) fn there() -> Option<Root> {
    if has(&format!("--atleast-version={LEAST_VERSION}")) {
        return Some(Root::Host);
    }
    let tree = cache::find(NAME, &key())?;
    Command::new("pkg-config").arg("--version").output().is_ok().then_some(Root::Tree(tree))
}

fn key() -> String {
    cache::key(&[&[SUITE, "/lib"], PACKAGES].concat())
}

/// Whether the machine's own virglrenderer is so.
fn has(condition: &str) -> bool {
    Command::new("pkg-config").arg(condition).arg("virglrenderer").status().is_ok_and(|status| status.success())
}

fn unpack(tree: &Path) -> Result<()> {
    let archive = apt::archive()?;
    let mut command = apt::as_root("mmdebstrap")?;
    command.args(["--mode=root", "--variant=extract"]);
    command.arg(format!("--include={}", PACKAGES.join(",")));
    command.arg("--dpkgopt=path-exclude=/usr/share/doc/*");
    command.arg(SUITE).arg(tree).arg(format!("deb {archive} {SUITE} main"));
    process::run("mmdebstrap-gl", &mut command)?;
    // The C library's linker scripts name these, which base-files would make.
    for name in ["lib", "lib64"] {
        let mut link = apt::as_root("ln")?;
        process::run("ln-gl", link.args(["--symbolic", &format!("usr/{name}")]).arg(tree.join(name)))?;
    }
    process::run("chmod-gl", apt::as_root("chmod")?.args(["--recursive", "a+rX"]).arg(tree))
}

impl Root {
    /// Builds the renderer; where it lies.
    pub(super) fn renderer(&self) -> Result<PathBuf> {
        let mut cargo = build::cargo("build");
        cargo.args(["--release", "--quiet", "--package", "paravane-backend"]);
        cargo.args(["--features", "gl", "--bin", "paravane-renderer"]);
        self.build_with(&mut cargo)?;
        process::run("cargo-build-gl", &mut cargo)?;
        Ok(self.built())
    }

    /// What paravane-backend is to start, for that renderer and its layer for Vulkan.
    pub(super) fn runs_renderer(&self, program: &Path, layer: &Path) -> Result<PathBuf> {
        let server = self.render_server()?;
        let of_vulkan = [("PARAVANE_RENDER_SERVER", server.as_path()), ("PARAVANE_VULKAN_LAYER", layer)];
        let exports = of_vulkan.iter().map(|(name, path)| Ok(format!("export {name}=\"${{{name}:-{}}}\"\n", paths::text(path)?)));
        self.script_with("paravane-renderer", program, &exports.collect::<Result<String>>()?)
    }

    /// What `paravane-renderer --vulkan` is to start.
    pub(super) fn render_server(&self) -> Result<PathBuf> {
        let Root::Tree(tree) = self else { return Ok(PathBuf::from(RENDER_SERVER)) };
        let program = tree.join(RENDER_SERVER.trim_start_matches('/'));
        self.script("virgl_render_server", &program)
    }

    /// Where the renderer lies when it is built.
    pub(super) fn built(&self) -> PathBuf {
        match self {
            Root::Host => paths::release().join("paravane-renderer"),
            Root::Tree(_) => paths::target().join(TARGET).join("release/paravane-renderer"),
        }
    }

    /// The files that a program of this root loads: its libraries, those that its libraries look for by themselves to find
    /// OpenGL, and the dynamic linker.
    pub(super) fn libraries(&self, program: &Path) -> Result<Vec<PathBuf>> {
        const LOOKED_FOR: &[&str] = &["libEGL.so.1", "libGLESv2.so.2", "libOpenGL.so.0", "libGL.so.1"];
        let Root::Tree(tree) = self else { return Ok(Vec::new()) };
        let folder = tree.join(LIBRARIES);
        let linker = folder.join("ld-linux-x86-64.so.2");
        let looked_for = LOOKED_FOR.iter().map(|name| folder.join(name)).filter(|path| path.exists());
        let mut files: Vec<PathBuf> = looked_for.collect();
        for needs in [&files.clone()[..], &[program.to_owned()]].concat() {
            let said = process::output(Command::new(&linker).arg("--library-path").arg(&folder).arg("--list").arg(needs))?;
            let paths = said.lines().filter_map(|line| line.split_once("=> ")?.1.split_once(" (").map(|(path, _)| PathBuf::from(path)));
            files.extend(paths);
        }
        files.push(linker);
        files.sort();
        files.dedup();
        Ok(files)
    }

    /// Has cargo build with the root's libraries.
    pub(super) fn build_with(&self, cargo: &mut Command) -> Result<()> {
        let Root::Tree(tree) = self else { return Ok(()) };
        let libraries = tree.join(LIBRARIES);
        // With a target named, build scripts stay this machine's.
        cargo.args(["--target", TARGET]);
        cargo.env("PKG_CONFIG_SYSROOT_DIR", tree).env("PKG_CONFIG_LIBDIR", libraries.join("pkgconfig"));
        let sysroot = format!("--sysroot={}", paths::text(tree)?);
        let rpath = format!("-Clink-arg=-Wl,-rpath-link,{}", paths::text(&libraries)?);
        cargo.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", format!("-Clink-arg={sysroot} {rpath}"));
        // For those that read C headers.
        cargo.env("BINDGEN_EXTRA_CLANG_ARGS", sysroot);
        Ok(())
    }

    /// A C compiler that finds the root's headers and libraries.
    pub(super) fn cc(&self) -> Command {
        let mut cc = Command::new("cc");
        cc.args(["-O2", "-Wall", "-Wextra"]);
        if let Root::Tree(tree) = self {
            cc.arg(format!("--sysroot={}", tree.display()));
            for include in ["usr/include", "usr/include/libdrm"] {
                cc.arg(format!("-I{}", tree.join(include).display()));
            }
            cc.arg(format!("-L{}", tree.join(LIBRARIES).display()));
        }
        cc
    }

    /// A command that runs a program with the root's libraries.
    pub(super) fn command(&self, program: &Path) -> Result<Command> {
        Ok(Command::new(self.script(&format!("run-{}", paths::text(Path::new(program.file_name().context("a program")?))?), program)?))
    }

    /// An executable file that runs what its arguments say with the root's libraries; where the host's are used, `env`.
    pub(super) fn wrapper(&self) -> Result<PathBuf> {
        match self {
            Root::Host => Ok(PathBuf::from("/usr/bin/env")),
            Root::Tree(_) => self.script("run", Path::new("")),
        }
    }

    /// What it is made of, for the cache.
    pub(super) fn key(&self) -> String {
        match self {
            Root::Host => "host".to_owned(),
            Root::Tree(tree) => tree.to_string_lossy().into_owned(),
        }
    }

    /// An executable file that runs `program` with the root's libraries, its EGL and its Vulkan; without one, its first argument.
    fn script(&self, name: &str, program: &Path) -> Result<PathBuf> {
        self.script_with(name, program, "")
    }

    /// The same with `more` lines before the program.
    fn script_with(&self, name: &str, program: &Path, more: &str) -> Result<PathBuf> {
        let tree = match self {
            Root::Host if more.is_empty() => return Ok(program.to_owned()),
            Root::Host => return executable(name, &format!("#!/bin/sh\n{more}exec '{}' \"$@\"\n", paths::text(program)?)),
            Root::Tree(tree) => paths::text(tree)?,
        };
        let text = format!(
            "#!/bin/sh\nroot='{tree}'\nlibraries=$root/{LIBRARIES}\n\
             export LIBGL_DRIVERS_PATH=$libraries/dri GBM_BACKENDS_PATH=$libraries/gbm\n\
             export __EGL_VENDOR_LIBRARY_DIRS=$root/usr/share/glvnd/egl_vendor.d\n\
             export VK_DRIVER_FILES=\"${{VK_DRIVER_FILES:-$root/usr/share/vulkan/icd.d/lvp_icd.json}}\"\n\
             {more}exec $libraries/ld-linux-x86-64.so.2 --library-path \"$libraries${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\"{} \"$@\"\n",
            if program == Path::new("") { String::new() } else { format!(" '{}'", paths::text(program)?) }
        );
        executable(name, &text)
    }
}

/// A script of that name.
fn executable(name: &str, text: &str) -> Result<PathBuf> {
    let script = paths::made("gl")?.join(name);
    fs::write(&script, text).with_context(|| format!("cannot write {}", script.display()))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Ok(script)
}
