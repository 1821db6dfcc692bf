//! What draws for guests, as a Debian package of its own: it needs virglrenderer 1.0, which Debian 12 lacks, where CUDA runs
//! all the same.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{copy, copyright, host, put, put_stripped};
use crate::{paths, process};

/// The package's name.
pub(crate) const NAME: &str = "paravane-renderer";
/// Beside the back end, which looks for it there.
const PROGRAM: &str = "usr/bin/paravane-renderer";
/// Vulkan's layer, and what tells Vulkan's loader of it.
const LAYER: &str = "usr/lib/paravane/libparavane_vulkan_layer.so";
const MANIFEST: &str = "VkLayer_PARAVANE_lease.json";
const DOC: &str = "usr/share/doc/paravane-renderer";

/// Makes the package in `out`, of a renderer that has been built.
pub(crate) fn make(out: &Path, built: &Path) -> Result<PathBuf> {
    super::build(out, NAME, "the renderer's package", |tree, version| fill(tree, version, built))
}

/// Unpacks a package in a folder that is made anew; where its program and its layer lie then.
pub(crate) fn unpack(package: &Path, into: &Path) -> Result<[PathBuf; 2]> {
    if into.exists() {
        std::fs::remove_dir_all(into).with_context(|| format!("cannot remove {}", into.display()))?;
    }
    process::run("dpkg-deb-extract", Command::new("dpkg-deb").arg("--extract").arg(package).arg(into))?;
    Ok([PROGRAM, LAYER].map(|path| into.join(path)))
}

fn fill(tree: &Path, version: &str, built: &Path) -> Result<()> {
    let layer = paths::release().join("libparavane_vulkan_layer.so");
    let bytes = put_stripped(&tree.join(PROGRAM), built, 0o755)? + put_stripped(&tree.join(LAYER), &layer, 0o644)?;
    copy(&format!("vulkan-layer/{MANIFEST}"), &tree.join(LAYER).with_file_name(MANIFEST))?;
    copy("docs/vulkan.md", &tree.join(DOC).join("vulkan.md"))?;
    put(&tree.join(DOC).join("copyright"), copyright().as_bytes(), 0o644)?;
    let symbols = [built, &layer].map(|of| process::output(Command::new("objdump").arg("-T").arg(of)));
    let libc = symbols.into_iter().map(|symbols| Ok(libc_of(&symbols?))).collect::<Result<Vec<_>>>()?;
    let libc = libc.into_iter().flatten().max().context("the renderer needs no C library")?;
    put(&tree.join("DEBIAN/control"), control(version, bytes.div_ceil(1024), libc).as_bytes(), 0o644)
}

/// The version of the C library whose symbols are wanted, by `objdump -T`.
fn libc_of(symbols: &str) -> Option<(u32, u32)> {
    let versions = symbols.split("GLIBC_").skip(1).filter_map(|rest| {
        let number = |text: &str| text.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u32>().ok();
        let (major, rest) = rest.split_once('.')?;
        Some((number(major)?, number(rest)?))
    });
    versions.max()
}

fn control(version: &str, size_kib: u64, (major, minor): (u32, u32)) -> String {
    format!(
        "Package: {NAME}\nVersion: {version}\nArchitecture: amd64\nMaintainer: Paravane's authors <paravane@localhost>\n\
         Installed-Size: {size_kib}\nDepends: {} (= {version}), libc6 (>= {major}.{minor}), libgcc-s1, libvirglrenderer1 (>= 1.0.0), \
         libegl1, libopengl0 | libgl1\nRecommends: libgl1-mesa-dri, virgl-server\nSuggests: mesa-vulkan-drivers\nSection: admin\n\
         Priority: optional\n\
         Description: Draws OpenGL and Vulkan of virtual machines on the host's GPU\n A process for each VM beside its \
         paravane-backend, which starts it: virglrenderer draws\n there what the guest's own Mesa sends, under the VM's lease and \
         memory quota.\n",
        host::NAME
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_symbol_counts() {
        let symbols = "0000 DF *UND* 0000 (GLIBC_2.34) pthread_create\n0000 DF *UND* 0000 (GLIBC_2.4) x\n\
                       0000 DF *UND* 0000 (GLIBC_2.2.5) free\n0000 DF *UND* (GCC_3.0) _Unwind_Resume\n";
        assert_eq!(libc_of(symbols), Some((2, 34)));
        assert_eq!(libc_of("nothing"), None);
    }

    #[test]
    fn it_goes_with_one_back_end_alone() {
        let text = control("1.2.3", 7, (2, 39));
        assert!(text.lines().all(|line| line.starts_with(' ') || line.contains(": ")), "{text}");
        assert!(text.contains("\nDepends: paravane-host (= 1.2.3), libc6 (>= 2.39), "), "they speak one version: {text}");
    }
}
