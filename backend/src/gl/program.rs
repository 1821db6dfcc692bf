//! The renderer's executable, and how it is run: on which GPU, and with whose EGL.
#![deny(clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names EGL's vendors to glvnd, in the place of all that it would find.
const ENV_VENDORS: &str = "__EGL_VENDOR_LIBRARY_FILENAMES";
/// Where NVIDIA's driver leaves its own, as glvnd looks for it.
const NVIDIA_EGL: &[&str] =
    &["/etc/glvnd/egl_vendor.d/10_nvidia.json", "/usr/share/glvnd/egl_vendor.d/10_nvidia.json"];
const NVIDIA: &str = "0x10de";

/// What draws.
#[derive(Clone, Debug)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// The GPU; none: virglrenderer chooses.
    pub render_node: Option<PathBuf>,
    /// Whether it serves Vulkan too.
    pub vulkan: bool,
}

impl Program {
    /// A command that runs it.
    pub(super) fn command(&self, what: &str) -> Command {
        let mut command = Command::new(&self.path);
        command.arg(what);
        if self.vulkan {
            command.arg("--vulkan");
        }
        if let Some(node) = &self.render_node {
            command.arg("--render-node").arg(node);
            let egl = NVIDIA_EGL.iter().map(Path::new).find(|path| path.exists());
            // The operator's own choice counts.
            if let (true, None, Some(egl)) = (is_nvidias(node), std::env::var_os(ENV_VENDORS), egl) {
                command.env(ENV_VENDORS, egl);
            }
        }
        command
    }
}

/// Whether a render node is an NVIDIA GPU's, as the kernel tells.
fn is_nvidias(node: &Path) -> bool {
    let name = node.canonicalize().ok().and_then(|node| Some(node.file_name()?.to_owned()));
    let vendor = name.and_then(|name| fs::read_to_string(Path::new("/sys/class/drm").join(name).join("device/vendor")).ok());
    vendor.is_some_and(|vendor| vendor.trim() == NVIDIA)
}
