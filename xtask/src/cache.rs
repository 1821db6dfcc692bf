//! The user's cache: each entry is a directory under a key that holds everything its contents depend on. An entry is made
//! aside and renamed into place, so one that is there is whole.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::{apt, paths, process};

/// Raised when the way entries are made changes without their recipes.
const FORMAT: &str = "1";

/// The first 12 hexadecimal digits of what all of `parts` hash to.
pub(crate) fn key(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in std::iter::once(&FORMAT).chain(parts) {
        // The length keeps "ab","c" apart from "a","bc".
        hash.update(part.len().to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize()
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The entry `name`-`key`, made by `make` in an empty directory when it is not there. The flag says whether it was.
pub(crate) fn entry(
    name: &str,
    key: &str,
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<(PathBuf, bool)> {
    let cache = paths::cache()?;
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let entry = cache.join(format!("{name}-{key}"));
    if entry.exists() {
        return Ok((entry, true));
    }
    // Two clones may set up at once: the second waits, then finds the first one's work.
    let lock = File::create(cache.join(format!("{name}.lock")))?;
    lock.lock()
        .with_context(|| format!("cannot lock the cache in {}", cache.display()))?;
    if entry.exists() {
        return Ok((entry, true));
    }
    remove_leftovers(&cache, name);
    // A name of its own: what a run that was killed had started may still be writing.
    let aside = cache.join(format!("{name}-{key}.partial-{}", std::process::id()));
    fs::create_dir(&aside)?;
    make(&aside)?;
    fs::rename(&aside, &entry)
        .with_context(|| format!("cannot move {} into place", aside.display()))?;
    Ok((entry, false))
}

/// The entry, if it is there.
pub(crate) fn find(name: &str, key: &str) -> Option<PathBuf> {
    paths::cache().ok().map(|cache| cache.join(format!("{name}-{key}"))).filter(|entry| entry.exists())
}

/// What runs that were killed left behind costs only room, so an error here is none.
fn remove_leftovers(cache: &Path, name: &str) {
    let start = format!("{name}-");
    for file in fs::read_dir(cache).into_iter().flatten().flatten() {
        let file_name = file.file_name();
        let file_name = file_name.to_string_lossy();
        if file_name.starts_with(&start) && file_name.contains(".partial") {
            remove(&file.path()).ok();
        }
    }
}

/// Removes a tree that root may have written parts of.
pub(crate) fn remove(tree: &Path) -> Result<()> {
    if !tree.exists() {
        return Ok(());
    }
    process::run(
        "remove",
        apt::as_root("rm")?
            .args(["--recursive", "--force", "--one-file-system"])
            .arg(tree),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_changes_with_every_part_and_with_their_borders() {
        let keys = [
            key(&["a", "bc"]),
            key(&["ab", "c"]),
            key(&["abc"]),
            key(&["a", "bc", ""]),
        ];
        for (i, one) in keys.iter().enumerate() {
            assert_eq!(one.len(), 12);
            assert!(keys[i + 1..].iter().all(|other| other != one));
        }
    }
}
