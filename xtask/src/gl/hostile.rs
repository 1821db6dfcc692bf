//! Hostile guests against the renderer that was built: the tests in `tests/tests/gl_hostile.rs`, which need no machine.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::{build, process};

/// For building and running.
const LIMIT: Duration = Duration::from_secs(8 * 60);

/// Every command is answered, CUDA lives, nothing is left.
pub(super) fn run(renderer: &Path) -> Result<()> {
    let mut cargo = build::cargo("test");
    cargo.args(["--release", "--quiet", "--package", "paravane-tests", "--test", "gl_hostile"]);
    cargo.env("PARAVANE_TEST_RENDERER", renderer);
    process::run_within("gl-hostile", &mut cargo, LIMIT)
}
