//! The samples in `tests/samples`: built here, run on the host or in a guest, judged by the one line each prints.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::payload::Payload;
use crate::{build, paths, picture, process};

/// Every sample; the last takes a picture and gives one.
pub(crate) const NAMES: &[&str] = &["vector_add", "matmul", "reduction", "parts", PICTURE_SAMPLE];
const PICTURE_SAMPLE: &str = "image_filter";
/// Works until it is told to end; for whoever wants a busy device.
pub(crate) const LOAD: &str = "steady";

pub(crate) const PICTURE_IN: &str = "original.ppm";
pub(crate) const PICTURE_OUT: &str = "filtered.ppm";

/// PTX for every GPU since Volta.
const PTX_FLAGS: &[&str] = &[
    "-x",
    "cuda",
    "--cuda-device-only",
    "--cuda-gpu-arch=sm_70",
    "-Xclang",
    "-target-feature",
    "-Xclang",
    "+ptx60",
    "-nocudainc",
    "-nocudalib",
    "-O2",
    "-Wall",
    "-S",
];

/// The samples as built.
pub(crate) struct Samples {
    pub(crate) dir: PathBuf,
}

/// Builds every sample against `shim`, which the dynamic linker is to find as libcuda.so.1.
pub(crate) fn build(shim: &Path) -> Result<Samples> {
    let dir = paths::made("samples")?;
    let library = library_dir(shim)?;
    let source = paths::root().join("tests/samples");
    for name in NAMES.iter().chain([&LOAD]) {
        let include = format!("-I{}", source.join("include").display());
        let mut clang = Command::new("clang");
        clang
            .args(PTX_FLAGS)
            .arg(&include)
            .arg(source.join(format!("{name}.cu")));
        process::run(
            "samples-clang",
            clang.arg("-o").arg(dir.join(format!("{name}.ptx"))),
        )?;

        let mut cc = Command::new("cc");
        cc.args(["-O2", "-Wall", "-Wextra", "-pthread", &include])
            .arg(source.join(format!("{name}.c")));
        cc.arg(format!("-L{}", library.display()))
            .arg("-l:libcuda.so.1");
        process::run("samples-cc", cc.arg("-o").arg(dir.join(name)))?;
    }
    picture::png_to_ppm(&source.join("chelsea.png"), &dir.join(PICTURE_IN))?;
    Ok(Samples { dir })
}

/// A directory for LD_LIBRARY_PATH that holds `library` under the names that programs ask for; beside the guest's libcuda,
/// the guest's NVML.
pub(crate) fn library_dir(library: &Path) -> Result<PathBuf> {
    let name = library.file_stem().context("a library has a name")?;
    let dir = paths::made("lib")?.join(name);
    fs::create_dir_all(&dir)?;
    // Some programs ask for the name without a version first, which cargo's own folder has too: the shim.
    for name in ["libcuda.so.1", "libcuda.so"] {
        link(&dir.join(name), library)?;
    }
    if library == build::shim()? {
        link(&dir.join("libnvidia-ml.so.1"), &build::nvml()?)?;
    }
    Ok(dir)
}

fn link(at: &Path, to: &Path) -> Result<()> {
    if fs::read_link(at).ok().as_deref() != Some(to) {
        fs::remove_file(at).ok();
        symlink(to, at).with_context(|| format!("cannot make {}", at.display()))?;
    }
    Ok(())
}

/// A sample's arguments: where the picture comes from, and where the new one goes.
pub(crate) fn arguments(name: &str, picture_in: &str, results: &str) -> Vec<String> {
    if name != PICTURE_SAMPLE {
        return Vec::new();
    }
    vec![picture_in.to_owned(), format!("{results}/{PICTURE_OUT}")]
}

/// Packs programs, PTX and the picture.
pub(crate) fn pack(samples: &Samples, payload: &mut Payload) -> Result<()> {
    for name in NAMES.iter().chain([&LOAD]) {
        payload.file(name, &samples.dir.join(name), true)?;
        let ptx = format!("{name}.ptx");
        payload.file(&ptx, &samples.dir.join(&ptx), false)?;
    }
    payload.file(PICTURE_IN, &samples.dir.join(PICTURE_IN), false)
}

/// What a sample's output says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) name: &'static str,
    pub(crate) passed: bool,
    /// The line after PASS or FAIL and the name, or why there is none.
    pub(crate) note: String,
}

/// One verdict for every sample from their joint output.
pub(crate) fn verdicts(output: &str) -> Vec<Verdict> {
    NAMES.iter().map(|name| verdict(name, output)).collect()
}

/// What a program's own line says; silence is a failure.
pub(crate) fn verdict(name: &'static str, output: &str) -> Verdict {
    let said = |word: &str| {
        let start = format!("{word} {name}: ");
        output.lines().find_map(|line| line.strip_prefix(&start).map(str::to_owned))
    };
    let (passed, note) = match (said("FAIL"), said("PASS")) {
        (Some(note), _) => (false, note),
        (None, Some(note)) => (true, note),
        (None, None) => (false, "ended without a verdict".to_owned()),
    };
    Verdict { name, passed, note }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_passes_only_by_its_own_line() {
        let output = "device: x\nPASS vector_add: fine\nFAIL matmul: element 3\nPASS reduction_of_else: no\n";
        let verdicts = verdicts(output);
        let passed: Vec<bool> = verdicts.iter().map(|verdict| verdict.passed).collect();
        assert_eq!(passed, [true, false, false, false, false]);
        assert_eq!(verdicts[1].note, "element 3");
        assert_eq!(verdicts[2].note, "ended without a verdict");
    }
}
