//! Vulkan: the scene of tests/gl/vulkan, drawn here by this host's own driver.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::root::Root;
use crate::step::{done, step};
use crate::{paths, picture, process};

/// Computes and draws here; the picture.
pub(super) fn here(root: &Root, program: &Path) -> Result<PathBuf> {
    let here = paths::made("gl")?.join("vulkan-here.ppm");
    step("the Vulkan scene, drawn here", || {
        let said = process::output(root.command(program)?.arg(&here))?;
        picture::ppm_to_png(&here, &here.with_extension("png"))?;
        let device = said.lines().find_map(|line| line.strip_prefix("vulkan: device ")).unwrap_or_default();
        done((), device.to_owned())
    })?;
    Ok(here)
}
