//! Disks for guests: a directory as a plain ext4 file system without a journal, since no boot keeps what it writes.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;

pub(crate) const MKFS: &str = "/usr/sbin/mkfs.ext4";
/// Room for the file system's own tables; the file is sparse.
const TABLES_BYTES: u64 = 64 << 20;

/// Fills `image` with what lies in `tree`. `mkfs` may need root's rights where the tree's files do; `size` is as mkfs takes it.
pub(crate) fn make(mut mkfs: Command, tree: &Path, image: &Path, size: &str) -> Result<()> {
    mkfs.args(["-q", "-L", "paravane", "-O", "^has_journal", "-d"]).arg(tree).arg(image).arg(size);
    process::run("mkfs-guest", &mut mkfs)
}

/// A disk of this user's files, as large as they need.
pub(crate) fn of_files(tree: &Path, image: &Path) -> Result<()> {
    let mebibytes = (2 * bytes(tree)? + TABLES_BYTES).div_ceil(1 << 20);
    make(Command::new(MKFS), tree, image, &format!("{mebibytes}M"))
}

/// What the files below `tree` hold, each rounded up to a block.
fn bytes(tree: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(tree).with_context(|| format!("cannot read {}", tree.display()))? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        sum += if metadata.is_dir() { bytes(&entry.path())? } else { metadata.len().next_multiple_of(4096) };
    }
    Ok(sum)
}
