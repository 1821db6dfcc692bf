//! The initial RAM disk: BusyBox, `init`, and the modules that reach the guest's disks in the order in which they load,
//! as a cpio archive in the `newc` form that the kernel reads.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// What it takes to mount an ext4 root on virtio-blk; the virtio-gpu driver is left to udev, as on an installed system.
const NEEDED: &[&str] = &["virtio_blk", "ext4"];
/// ext4 asks the kernel's crypto interface for this by name, so no dependency leads to it; newer kernels have it built in.
const WANTED: &[&str] = &["crc32c_generic"];

/// The archive for the guest whose root lies in `tree`.
pub(crate) fn build(tree: &Path, init: &str) -> Result<Vec<u8>> {
    let modules = modules_dir(tree)?;
    let dependencies = fs::read_to_string(modules.join("modules.dep")).context("modules.dep")?;
    let builtin = fs::read_to_string(modules.join("modules.builtin")).context("modules.builtin")?;

    let mut archive = Newc::default();
    for dir in ["bin", "dev", "proc", "sys", "debian", "modules"] {
        archive.directory(dir)?;
    }
    let busybox = fs::read(tree.join("usr/bin/busybox")).context("the guest's BusyBox")?;
    archive.file("bin/busybox", 0o755, &busybox)?;
    archive.file("init", 0o755, init.as_bytes())?;
    for (place, path) in load_order(&dependencies, &builtin)?.iter().enumerate() {
        let name = module_name(path);
        archive.file(
            &format!("modules/{place:02}-{name}.ko"),
            0o644,
            &unpacked(&modules.join(path))?,
        )?;
    }
    archive.finish()
}

fn modules_dir(tree: &Path) -> Result<PathBuf> {
    let all = tree.join("usr/lib/modules");
    let first = fs::read_dir(&all)
        .with_context(|| format!("cannot read {}", all.display()))?
        .next();
    Ok(first.context("the guest has no kernel modules")??.path())
}

/// BusyBox loads plain modules only, and unpacking here is faster than in an emulated guest.
fn unpacked(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_none_or(|extension| extension != "xz") {
        return fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    }
    let output = Command::new("xz")
        .args(["--decompress", "--stdout"])
        .arg(path)
        .output()
        .context("cannot start xz")?;
    if !output.status.success() {
        bail!("xz cannot unpack {}", path.display());
    }
    Ok(output.stdout)
}

/// Paths below the modules' directory, each after those it depends on.
fn load_order(dependencies: &str, builtin: &str) -> Result<Vec<String>> {
    let mut order: Vec<String> = Vec::new();
    for name in WANTED.iter().chain(NEEDED) {
        let line = dependencies.lines().find(|line| {
            line.split(':')
                .next()
                .is_some_and(|path| module_name(path) == *name)
        });
        let Some((path, before)) = line.and_then(|line| line.split_once(':')) else {
            if NEEDED.contains(name) && !builtin.lines().any(|path| module_name(path) == *name) {
                bail!("the guest's kernel has no module {name}");
            }
            continue;
        };
        // modules.dep lists what to load first last.
        for path in before.split_whitespace().rev().chain([path]) {
            if !order.iter().any(|known| known == path) {
                order.push(path.to_owned());
            }
        }
    }
    Ok(order)
}

fn module_name(path: &str) -> &str {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file)
}

/// A cpio archive of the kind `newc`: headers of hexadecimal digits, everything padded to four bytes.
#[derive(Default)]
struct Newc {
    bytes: Vec<u8>,
    entries: u32,
}

impl Newc {
    fn directory(&mut self, name: &str) -> Result<()> {
        self.entry(name, 0o040_755, &[])
    }

    fn file(&mut self, name: &str, mode: u32, data: &[u8]) -> Result<()> {
        self.entry(name, 0o100_000 | mode, data)
    }

    fn finish(mut self) -> Result<Vec<u8>> {
        self.entry("TRAILER!!!", 0, &[])?;
        Ok(self.bytes)
    }

    fn entry(&mut self, name: &str, mode: u32, data: &[u8]) -> Result<()> {
        self.entries += 1;
        let data_bytes = u32::try_from(data.len())
            .with_context(|| format!("{name} is too large for an archive"))?;
        let name_bytes = u32::try_from(name.len() + 1)?;
        // inode, mode, owner, group, links, time, size, four device numbers, length of the name, checksum
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            data_bytes,
            0,
            0,
            0,
            0,
            name_bytes,
            0,
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes().chain([0]));
        self.pad();
        self.bytes.extend(data);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPENDENCIES: &str = "kernel/fs/ext4/ext4.ko.xz: kernel/lib/crc16.ko.xz kernel/fs/jbd2/jbd2.ko.xz\n\
                                kernel/drivers/block/virtio_blk.ko.xz:\n\
                                kernel/fs/ext4/ext4-inode-test.ko.xz: kernel/fs/ext4/ext4.ko.xz\n";

    #[test]
    fn a_module_loads_after_what_it_depends_on() {
        let order = load_order(DEPENDENCIES, "").unwrap();
        let names: Vec<&str> = order.iter().map(|path| module_name(path)).collect();
        assert_eq!(names, ["virtio_blk", "jbd2", "crc16", "ext4"]);
    }

    #[test]
    fn a_built_in_module_is_no_gap_and_a_missing_one_is_named() {
        let only_ext4 = "kernel/fs/ext4/ext4.ko:\n";
        assert_eq!(
            load_order(only_ext4, "kernel/drivers/block/virtio_blk.ko\n")
                .unwrap()
                .len(),
            1
        );
        assert!(
            load_order(only_ext4, "")
                .unwrap_err()
                .to_string()
                .contains("virtio_blk")
        );
    }

    #[test]
    fn an_entry_is_padded_so_that_the_next_header_is_aligned() {
        let mut archive = Newc::default();
        archive.file("init", 0o755, b"12345").unwrap();
        // A header of 110 bytes, the name with its NUL and one byte of padding, the data with three.
        assert_eq!(archive.bytes.len(), 116 + 8);
        let bytes = archive.finish().unwrap();
        assert_eq!(&bytes[..14], b"07070100000001");
        assert_eq!(&bytes[14..22], b"000081ed");
        assert_eq!(&bytes[116..124], b"12345\0\0\0");
        assert_eq!(&bytes[124..130], b"070701");
    }
}
