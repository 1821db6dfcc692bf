//! The shim as a Debian package for guests. It goes into a directory of its own that ldconfig is told of, so `dpkg -i`
//! makes it usable and `dpkg -r` leaves nothing behind.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{copyright, put, put_stripped};
use crate::build;

const LIBRARY_DIR: &str = "usr/lib/x86_64-linux-gnu/paravane";

const POSTINST: &str = r#"#!/bin/sh
set -e
if [ "$1" = configure ]; then
    if [ -S /run/udev/control ]; then
        udevadm control --reload
        udevadm trigger --action=change --subsystem-match=drm
        udevadm settle --timeout=10
    fi
fi
"#;

const UDEV_RULE: &str = "# Programs of the group `render` use the GPU; udev's own rules say the same on most systems.\n\
                         SUBSYSTEM==\"drm\", KERNEL==\"renderD*\", DRIVERS==\"virtio_gpu\", GROUP=\"render\", MODE=\"0660\"\n";

/// Makes the package from what is built, in `out`.
pub(crate) fn make(out: &Path) -> Result<PathBuf> {
    super::build(out, "paravane-guest", "the guest package", fill)
}

fn fill(tree: &Path, version: &str) -> Result<()> {
    let mut bytes = 0;
    for (built, name) in [(build::shim()?, "libcuda.so.1"), (build::nvml()?, "libnvidia-ml.so.1")] {
        bytes += put_stripped(&tree.join(LIBRARY_DIR).join(name), &built, 0o644)?;
    }
    put(
        &tree.join("etc/ld.so.conf.d/paravane-guest.conf"),
        format!("/{LIBRARY_DIR}\n").as_bytes(),
        0o644,
    )?;
    put(
        &tree.join("usr/lib/udev/rules.d/60-paravane-guest.rules"),
        UDEV_RULE.as_bytes(),
        0o644,
    )?;
    put(&tree.join("usr/share/doc/paravane-guest/copyright"), copyright().as_bytes(), 0o644)?;

    let size_kib = bytes.div_ceil(1024);
    put(
        &tree.join("DEBIAN/control"),
        control(version, size_kib).as_bytes(),
        0o644,
    )?;
    put(
        &tree.join("DEBIAN/conffiles"),
        b"/etc/ld.so.conf.d/paravane-guest.conf\n",
        0o644,
    )?;
    // libc-bin runs ldconfig for whoever activates this trigger.
    put(
        &tree.join("DEBIAN/triggers"),
        b"activate-noawait ldconfig\n",
        0o644,
    )?;
    put(&tree.join("DEBIAN/postinst"), POSTINST.as_bytes(), 0o755)
}

fn control(version: &str, size_kib: u64) -> String {
    format!(
        "Package: paravane-guest\nVersion: {version}\nArchitecture: amd64\nMaintainer: Paravane's authors <paravane@localhost>\n\
         Installed-Size: {size_kib}\nDepends: libc6 (>= 2.36), libgcc-s1\nProvides: libcuda.so.1, libcuda1, libnvidia-ml1\n\
         Conflicts: libcuda1, libnvidia-ml1\nSection: libs\nPriority: optional\nDescription: CUDA for virtual machines that share their \
         host's GPU\n The CUDA driver library for guests of Paravane: libcuda.so.1 hands every call to the\n host over the \
         guest's virtio-gpu device; libnvidia-ml.so.1 shows the VM's own devices and use. No kernel module is needed.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_control_file_is_a_field_or_continues_one() {
        let text = control("1.2.3", 7);
        for line in text.lines() {
            assert!(line.starts_with(' ') || line.contains(": "), "{line}");
        }
        assert!(text.contains("\nDescription: CUDA for") && text.ends_with(".\n"));
    }
}
