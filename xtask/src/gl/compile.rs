//! The C programs in tests/gl, compiled with the root's headers and libraries: those that draw by OpenGL, and the one of Vulkan with
//! its shaders.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::root::Root;
use crate::{paths, process};

/// The program in tests/gl/vulkan. Linux gives its name to the context that it draws in.
pub(super) const VULKAN_SCENE: &str = "vulkan_scene";
/// Its shaders, and what the C sources call them.
const SHADERS: &[(&str, &str)] = &[("compute.comp", "compute"), ("scene.vert", "vertex"), ("scene.frag", "fragment")];

fn sources() -> PathBuf {
    paths::root().join("tests/gl")
}

/// One of the programs that draw the scene by OpenGL.
pub(super) fn opengl(root: &Root, name: &str) -> Result<PathBuf> {
    let mut cc = root.cc();
    for source in ["scene", name] {
        cc.arg(sources().join(source).with_extension("c"));
    }
    link(cc, name, &["-lEGL", "-lGLESv2", "-lgbm", "-ldrm", "-lm"])
}

/// The Vulkan program.
pub(super) fn vulkan(root: &Root) -> Result<PathBuf> {
    let (folder, shaders) = (sources().join("vulkan"), paths::made("gl")?.join("shaders"));
    fs::create_dir_all(&shaders)?;
    for (source, name) in SHADERS {
        let mut glslang = Command::new("glslangValidator");
        glslang.args(["-V", "--vn", &format!("{name}_spirv"), "-o"]);
        glslang.arg(shaders.join(format!("{name}.spv.h"))).arg(folder.join(source));
        process::run("glslang-gl", &mut glslang)?;
    }
    let mut cc = root.cc();
    cc.arg(format!("-I{}", shaders.display()));
    for file in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "c") {
            cc.arg(path);
        }
    }
    link(cc, VULKAN_SCENE, &["-lvulkan", "-lm"])
}

fn link(mut cc: Command, name: &str, libraries: &[&str]) -> Result<PathBuf> {
    let program = paths::made("gl")?.join(name);
    cc.arg("-o").arg(&program).args(libraries);
    process::run("cc-gl", &mut cc)?;
    Ok(program)
}
