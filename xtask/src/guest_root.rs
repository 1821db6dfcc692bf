//! The guest's Debian 13: kernel, initial RAM disk and root disk, made with mmdebstrap from the recipe in
//! `qemu-configs/guest` and kept in the cache.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{apt, cache, guest_disk, initrd, paths, process};

/// The Debian release of the guest, and of the root that QEMU comes from.
pub(crate) const SUITE: &str = "trixie";
/// Room for the root and for what a boot writes; the file is sparse.
const DISK_SIZE: &str = "2G";
/// Ordinary user in the guest who runs the samples.
pub(crate) const USER: &str = "guest";

/// What a boot needs of the guest.
pub(crate) struct GuestRoot {
    pub(crate) kernel: PathBuf,
    pub(crate) initrd: PathBuf,
    pub(crate) disk: PathBuf,
}

/// The guest with these packages beside the recipe's, from the cache or made. The flag says which.
pub(crate) fn ensure(more: &[&str]) -> Result<(GuestRoot, bool)> {
    let recipe = paths::root().join("qemu-configs/guest");
    let read = |name: &str| {
        fs::read_to_string(recipe.join(name))
            .with_context(|| format!("cannot read {name} of {}", recipe.display()))
    };
    let (recipe, init) = (read("packages")?, read("init")?);
    let listed = recipe.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let packages: Vec<&str> = listed.chain(more.iter().copied()).collect();
    let key = cache::key(&[&[SUITE, DISK_SIZE, USER, &init], &packages[..]].concat());
    let name = if more.is_empty() { "guest" } else { "guest-more" };
    let (entry, cached) = cache::entry(name, &key, |aside| make(aside, &packages, &init))?;
    let root = GuestRoot {
        kernel: entry.join("vmlinuz"),
        initrd: entry.join("initrd"),
        disk: entry.join("root.ext4"),
    };
    Ok((root, cached))
}

fn make(aside: &Path, packages: &[&str], init: &str) -> Result<()> {
    let tree = aside.join("tree");
    process::run("mmdebstrap-guest", &mut bootstrap(&tree, packages)?)?;

    fs::copy(kernel(&tree)?, aside.join("vmlinuz")).context("cannot copy the guest's kernel")?;
    let archive = initrd::build(&tree, init).context("cannot make the initial RAM disk")?;
    fs::write(aside.join("initrd"), archive)?;
    let disk = aside.join("root.ext4");
    guest_disk::make(apt::as_root(guest_disk::MKFS)?, &tree, &disk, DISK_SIZE)?;
    process::run("chmod-guest", apt::as_root("chmod")?.arg("a+r").arg(&disk))?;
    cache::remove(&tree)
}

fn bootstrap(tree: &Path, names: &[&str]) -> Result<std::process::Command> {
    let archive = apt::archive()?;
    let mut command = apt::as_root("mmdebstrap")?;
    command.args([
        "--variant=minbase",
        &format!("--include={}", names.join(",")),
    ]);
    for path in [
        "/usr/share/doc/*",
        "/usr/share/man/*",
        "/usr/share/locale/*",
        "/usr/share/info/*",
    ] {
        command.arg(format!("--dpkgopt=path-exclude={path}"));
    }
    command.arg("--dpkgopt=path-include=/usr/share/doc/*/copyright");
    // The initial RAM disk is made by `initrd`; Debian's own would take half of the time and of the disk.
    command.arg(
        "--essential-hook=chroot \"$1\" dpkg-divert --quiet --local --rename --add /usr/sbin/update-initramfs \
         && ln -s /bin/true \"$1/usr/sbin/update-initramfs\"",
    );
    command.arg(format!(
        "--customize-hook=chroot \"$1\" useradd --create-home --groups render,video {USER}"
    ));
    command
        .arg(SUITE)
        .arg(tree)
        .arg(format!("deb {archive} {SUITE} main"));
    Ok(command)
}

fn kernel(tree: &Path) -> Result<PathBuf> {
    let boot = tree.join("boot");
    for file in fs::read_dir(&boot)? {
        let path = file?.path();
        if path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-"))
        {
            return Ok(path);
        }
    }
    anyhow::bail!(
        "there is no kernel in {}: does the recipe name one?",
        boot.display()
    )
}
