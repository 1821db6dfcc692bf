//! The checks that cargo runs: clippy, the tests of every crate, and loom's models, which need the crates built anew with
//! `--cfg loom`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::report::{Check, Report};
use crate::{build, gl, paths, process};

/// For building and running: a test that hangs must not hold up the rest.
const LIMIT: Duration = Duration::from_secs(15 * 60);

pub(crate) fn clippy(report: &mut Report) {
    const NAME: &str = "clippy";
    const OF_GL: &str = "clippy, OpenGL";
    if process::output(build::cargo("clippy").arg("--version")).is_err() {
        report.add(Check::skipped(
            NAME,
            "this toolchain has no clippy (rustup component add clippy)",
        ));
        return;
    }
    let mut clippy = build::cargo("clippy");
    clippy.args(["--release", "--quiet", "--workspace", "--all-targets"]);
    clean(report, NAME, &mut clippy);
    // The feature `gl` needs more than the workspace: what `cargo xtask gl` has brought here.
    let mut clippy = build::cargo("clippy");
    clippy.args(["--release", "--quiet", "--package", "paravane-backend", "--features", "gl", "--all-targets"]);
    match gl::build_here(&mut clippy) {
        Ok(true) => clean(report, OF_GL, &mut clippy),
        Ok(false) => report.add(Check::skipped(OF_GL, "no virglrenderer 1.0 here; `cargo xtask gl` fetches it")),
        Err(error) => report.add(Check::failed(OF_GL, error)),
    }
}

/// One of clippy's runs, in which a warning is an error.
fn clean(report: &mut Report, name: &str, clippy: &mut Command) {
    report.check(name, || {
        Ok(Check::single(process::run(&name.replace(", ", "-"), clippy.args(["--", "--deny", "warnings"]))))
    });
}

pub(crate) fn tests(report: &mut Report) {
    report.check("cargo test", || {
        let mut cargo = build::cargo("test");
        run_tests(
            "cargo-test",
            cargo.args(["--release", "--workspace", "--no-fail-fast"]),
        )
    });
}

/// Loom's models are the tests with `loom` in their path; under `--cfg loom` nothing else makes sense.
pub(crate) fn loom(report: &mut Report) {
    report.check("loom", || {
        let mut cargo = build::cargo("test");
        cargo.env("RUSTFLAGS", "--cfg loom").args([
            "--release",
            "--package",
            "paravane-protocol",
            "--lib",
            "loom",
        ]);
        run_tests(
            "loom",
            cargo.arg("--target-dir").arg(paths::target().join("loom")),
        )
    });
}

fn run_tests(name: &str, command: &mut Command) -> Result<Check> {
    let outcome = process::run_within(name, command, LIMIT);
    let log = process::log_path(name)?;
    let text =
        fs::read_to_string(&log).with_context(|| format!("cannot read {}", log.display()))?;
    let mut check = counted(&text, &log);
    if check.failed == 0
        && let Err(error) = outcome
    {
        // It did not build, or a test took its process down.
        check.failed = 1;
        check.notes.push(format!("{error:#}"));
    }
    if check.passed + check.failed + check.skipped == 0 {
        check.failed = 1;
        check
            .notes
            .push(format!("no test ran; see {}", log.display()));
    }
    Ok(check)
}

/// Sums the lines `test result: …` and names what failed or was left out.
fn counted(text: &str, log: &Path) -> Check {
    let mut check = Check::default();
    for line in text.lines() {
        if let Some(result) = line.strip_prefix("test result: ") {
            check.passed += number_before(result, " passed");
            check.failed += number_before(result, " failed");
            check.skipped += number_before(result, " ignored");
        } else if let Some(test) = line.strip_prefix("test ") {
            match test.split_once(" ... ") {
                Some((name, "FAILED")) => check
                    .notes
                    .push(format!("{name} failed; see {}", log.display())),
                Some((name, why)) if why.starts_with("ignored") => {
                    check.notes.push(format!("skipped: {name}, {why}"))
                }
                _ => {}
            }
        }
    }
    check
}

/// The number that stands before ` word` in `ok. 5 passed; 0 failed; …`.
fn number_before(result: &str, word: &str) -> u64 {
    let before = result
        .split(word)
        .next()
        .filter(|before| before.len() < result.len());
    before
        .and_then(|before| before.rsplit(' ').next()?.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_all_crates_are_summed_and_failures_named() {
        let text = "test a::b ... ok\ntest c ... FAILED\ntest d ... ignored, needs a GPU\n\
                    test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
                    test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
        let check = counted(text, Path::new("log"));
        assert_eq!((check.passed, check.failed, check.skipped), (13, 1, 1));
        assert_eq!(
            check.notes,
            ["c failed; see log", "skipped: d, ignored, needs a GPU"]
        );
    }
}
