//! What goes into a boot and what comes out: tar archives written straight onto virtio disks, so neither side needs a file
//! system, and this one no root.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::paths;

/// Room for what a job leaves in /run/results; the file is sparse.
const RESULTS_BYTES: u64 = 64 << 20;
/// Disks are made of sectors.
const SECTOR_BYTES: u64 = 512;

/// The files of one boot, on their way into the guest's /run/payload.
pub(crate) struct Payload {
    dir: TempDir,
    archive: tar::Builder<File>,
}

impl Payload {
    /// With `start`, which runs the job.
    pub(crate) fn new() -> Result<Self> {
        let dir = TempDir::with_prefix("paravane-boot-")
            .context("cannot create a temporary directory")?;
        let archive = tar::Builder::new(File::create(dir.path().join("payload.tar"))?);
        let mut payload = Payload { dir, archive };
        let start = paths::root().join("qemu-configs/guest/start");
        payload.file("start", &start, true)?;
        Ok(payload)
    }

    /// Where this boot's sockets lie.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn file(&mut self, name: &str, from: &Path, executable: bool) -> Result<()> {
        let data = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.data(name, &data, executable)
    }

    pub(crate) fn bytes(&mut self, name: &str, data: &[u8]) -> Result<()> {
        self.data(name, data, false)
    }

    pub(crate) fn script(&mut self, name: &str, text: &str) -> Result<()> {
        self.data(name, text.as_bytes(), true)
    }

    fn data(&mut self, name: &str, data: &[u8], executable: bool) -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(u64::try_from(data.len())?);
        header.set_mode(if executable { 0o755 } else { 0o644 });
        self.archive
            .append_data(&mut header, name, data)
            .with_context(|| format!("cannot pack {name}"))
    }

    /// Ends the archive; what follows are the disks.
    pub(crate) fn finish(self) -> Result<Disks> {
        let file = self.archive.into_inner()?;
        file.set_len(file.metadata()?.len().next_multiple_of(SECTOR_BYTES))?;
        let disks = Disks { dir: self.dir };
        File::create(disks.results())?.set_len(RESULTS_BYTES)?;
        Ok(disks)
    }
}

/// The disks of one boot, removed with it.
pub(crate) struct Disks {
    dir: TempDir,
}

impl Disks {
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn payload(&self) -> PathBuf {
        self.dir.path().join("payload.tar")
    }

    pub(crate) fn results(&self) -> PathBuf {
        self.dir.path().join("results.tar")
    }

    /// Unpacks what the guest left into `to`; the guest chooses names, so only plain files at the top are taken.
    pub(crate) fn unpack_results(&self, to: &Path) -> Result<()> {
        let mut archive = tar::Archive::new(File::open(self.results())?);
        for entry in archive.entries()? {
            let mut entry = entry.context("the guest's results are not an archive")?;
            let path = entry.path()?.into_owned();
            let Some(name) = path
                .file_name()
                .filter(|_| entry.header().entry_type().is_file())
            else {
                continue;
            };
            std::io::copy(&mut entry, &mut File::create(to.join(name))?)?;
        }
        Ok(())
    }
}
