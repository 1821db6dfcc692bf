//! A recorded stream of virgl: made from a guest's own drawing once, kept in tests/gpu, and drawn again here without a VM. What
//! another machine needs to draw it is put into one folder.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::root::Root;
use super::{Machine, job, judge};
use crate::backend::Backend;
use crate::payload::Payload;
use crate::step::{done, step};
use crate::{build, paths, picture, process};

const RECORDER: &str = "recording-renderer";
const REPLAY: &str = "replay";
/// The recording and its picture's size: small, so that the file is.
const RECORDING: &str = "tests/gpu/scene.virgl";
const SIZE: [&str; 2] = ["160", "120"];
/// What the recorded programs draw with; a boot, and nothing else in it.
const LIMIT_S: u64 = 240;

/// Builds the programs that record and replay.
pub(super) fn build() -> Result<()> {
    let mut cargo = build::cargo("build");
    cargo.args(["--release", "--quiet", "--package", "paravane-tests", "--bin", RECORDER, "--bin", REPLAY]);
    process::run("cargo-build-recording", &mut cargo)
}

/// Records the scene while a guest draws it.
pub(super) fn record(machine: &Machine, renderer: &Path, off_screen: &Path) -> Result<()> {
    let file = paths::root().join(RECORDING);
    let wrapper = paths::made("gl")?.join(RECORDER);
    let text = format!(
        "#!/bin/sh\nexport PARAVANE_RECORDED_RENDERER='{}' PARAVANE_RECORDING='{}'\nexec '{}' \"$@\"\n",
        renderer.display(),
        file.display(),
        paths::release().join(RECORDER).display()
    );
    executable(&wrapper, &text)?;
    let backend = Backend::start("gl-record", &["--renderer", paths::text(&wrapper)?])?;
    let mut payload = Payload::new()?;
    payload.file(job::OFF_SCREEN, off_screen, true)?;
    payload.script("job", &format!("./{} /run/results/{}.ppm {}\n", job::OFF_SCREEN, job::SCENE, SIZE.join(" ")))?;
    let outcome = machine.boot("gl-record", &backend.socket(), payload, &[], LIMIT_S)?;
    backend.stop()?;
    if outcome.status != 0 {
        bail!("the scene was not drawn:\n{}", outcome.output);
    }
    println!("{}: {} bytes", file.display(), fs::metadata(&file)?.len());
    Ok(())
}

/// Draws the recording on a back end of its own, and compares its picture with the same scene drawn here; what was found.
pub(super) fn replay(root: &Root, renderer: &Path, off_screen: &Path) -> Result<String> {
    let made = paths::made("gl")?;
    let (here, replayed) = (made.join("replay-here.ppm"), made.join("replayed.ppm"));
    process::output(root.command(off_screen)?.arg(&here).args(SIZE))?;
    picture::ppm_to_png(&here, &here.with_extension("png"))?;
    let backend = Backend::start("gl-replay", &["--renderer", paths::text(renderer)?])?;
    let mut replay = Command::new(paths::release().join(REPLAY));
    replay.arg(backend.socket()).arg(paths::root().join(RECORDING)).arg(&replayed).args(SIZE);
    let said = process::output(&mut replay)?;
    backend.stop()?;
    let said = said.trim().strip_prefix("replay: PASS: ").context("the replay does not say that it passed")?;
    Ok(format!("{said}; {}", judge::compare(&replayed, &here)?))
}

/// Puts what tests/gpu/gl.sh takes to another machine into one folder: the renderer, and where it was built with a tree's
/// libraries those, with their dynamic linker. OpenGL itself is the other machine's.
pub(super) fn carry(root: &Root) -> Result<PathBuf> {
    let folder = paths::made("gl")?.join("carry");
    fs::remove_dir_all(&folder).ok();
    fs::create_dir_all(folder.join("lib"))?;
    fs::copy(root.built(), folder.join("renderer"))?;
    let mut text = "#!/bin/sh\nhere=${0%/*}\n".to_owned();
    if let Root::Tree(_) = root {
        for library in root.libraries(&folder.join("renderer"))? {
            fs::copy(&library, folder.join("lib").join(library.file_name().context("a library has a name")?))?;
        }
        text.push_str("exec \"$here/lib/ld-linux-x86-64.so.2\" --library-path \"$here/lib${PARAVANE_RENDERER_LIBRARIES:+:$PARAVANE_RENDERER_LIBRARIES}\" ");
    } else {
        text.push_str("exec ");
    }
    text.push_str("\"$here/renderer\" \"$@\"\n");
    executable(&folder.join("paravane-renderer"), &text)?;
    Ok(folder)
}

fn executable(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Replays, and makes the folder for another machine, as steps.
pub(super) fn steps(root: &Root, renderer: &Path, off_screen: &Path) -> Result<String> {
    step("the folder for another machine", || done((), carry(root)?.display().to_string()))?;
    step("the recorded scene, without a VM", || {
        let found = replay(root, renderer, off_screen)?;
        done(found, "")
    })
}
