//! What a host runs, as a Debian package: paravaned and its settings, paravanectl, back ends for VMs, the CPU device, the
//! units of both. Installed it begins at once; the ledger outlives the package.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{copy, copyright, put, put_stripped};
use crate::build;

/// The package's name.
pub(crate) const NAME: &str = "paravane-host";
/// paravaned's settings, which an upgrade does not overwrite.
pub(crate) const SETTINGS: &str = "etc/paravane/paravaned.toml";
/// Where systemd's units go; Debian 12 and 13 have /lib there too.
pub(crate) const UNITS: &str = "usr/lib/systemd/system";
const UNIT: &str = "paravaned.service";
const DOC: &str = "usr/share/doc/paravane-host";

/// With DPKG_ROOT the package goes into a tree that is no running system.
const POSTINST: &str = r#"#!/bin/sh
set -e
if [ "$1" = configure ]; then
    if [ -z "$DPKG_ROOT" ] && ! getent group paravane >/dev/null; then
        groupadd --system paravane
    fi
    deb-systemd-helper enable paravaned.service >/dev/null
    if [ -z "$DPKG_ROOT" ] && [ -d /run/systemd/system ]; then
        systemctl --system daemon-reload
        if [ -n "$2" ]; then
            # No guest notices. Back ends go on as the program that they are: a restart would end their VMs' contexts.
            deb-systemd-invoke try-restart paravaned.service || true
        else
            deb-systemd-invoke start paravaned.service || true
        fi
    fi
fi
"#;

const PRERM: &str = r#"#!/bin/sh
set -e
if [ "$1" = remove ] && [ -z "$DPKG_ROOT" ] && [ -d /run/systemd/system ]; then
    systemctl stop 'paravane-backend@*.service' paravaned.service || true
fi
"#;

const POSTRM: &str = r#"#!/bin/sh
set -e
if [ "$1" = purge ]; then
    deb-systemd-helper purge paravaned.service >/dev/null || true
    if [ -e "$DPKG_ROOT/var/lib/paravane/ledger.db" ]; then
        echo "paravane-host: the ledger stays in /var/lib/paravane; remove it when nobody bills from it any more" >&2
    fi
fi
if [ -z "$DPKG_ROOT" ] && [ -d /run/systemd/system ]; then
    systemctl --system daemon-reload || true
fi
"#;

/// Makes the package from what is built, in `out`.
pub(crate) fn make(out: &Path) -> Result<PathBuf> {
    super::build(out, NAME, "the host package", fill)
}

fn fill(tree: &Path, version: &str) -> Result<()> {
    let mut bytes = 0;
    for name in ["paravaned", "paravanectl"] {
        bytes += put_stripped(&tree.join("usr/bin").join(name), &build::program(name)?, 0o755)?;
    }
    bytes += put_stripped(&tree.join("usr/bin/paravane-backend"), &build::backend()?, 0o755)?;
    bytes += put_stripped(&tree.join("usr/lib/paravane/libparavane_cpu.so"), &build::cpu_driver()?, 0o644)?;
    copy("host-configs/paravaned.toml", &tree.join(SETTINGS))?;
    for unit in [UNIT, "paravane-backend@.service"] {
        copy(&format!("host-configs/systemd/{unit}"), &tree.join(UNITS).join(unit))?;
    }
    copy("host-configs/grafana/paravane.json", &tree.join("usr/share/paravane/grafana/paravane.json"))?;
    copy("docs/operating.md", &tree.join(DOC).join("operating.md"))?;
    put(&tree.join(DOC).join("copyright"), copyright().as_bytes(), 0o644)?;

    put(&tree.join("DEBIAN/control"), control(version, bytes.div_ceil(1024)).as_bytes(), 0o644)?;
    put(&tree.join("DEBIAN/conffiles"), format!("/{SETTINGS}\n").as_bytes(), 0o644)?;
    for (script, text) in [("postinst", POSTINST), ("prerm", PRERM), ("postrm", POSTRM)] {
        put(&tree.join("DEBIAN").join(script), text.as_bytes(), 0o755)?;
    }
    Ok(())
}

fn control(version: &str, size_kib: u64) -> String {
    format!(
        "Package: {NAME}\nVersion: {version}\nArchitecture: amd64\nMaintainer: Paravane's authors <paravane@localhost>\n\
         Installed-Size: {size_kib}\nDepends: libc6 (>= 2.36), libgcc-s1, passwd, init-system-helpers\n\
         Suggests: qemu-system-x86 (>= 1:10.0), libvirt-daemon-system, paravane-renderer\nSection: admin\nPriority: optional\n\
         Description: Shares and accounts of a host's GPUs for virtual machines\n paravaned gives every VM its share of the GPU's \
         time and memory and keeps an account\n that one could bill from; paravane-backend is a VM's virtio-gpu device over \
         vhost-user;\n paravanectl asks and sets. Without a GPU a CPU device executes the calls.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_control_file_is_a_field_or_continues_one() {
        let text = control("1.2.3", 7);
        assert!(text.lines().all(|line| line.starts_with(' ') || line.contains(": ")), "{text}");
        assert!(text.contains("\nDescription: Shares") && text.ends_with(".\n"));
    }
}
