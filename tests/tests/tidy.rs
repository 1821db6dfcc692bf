//! The house rules that a machine can check, over every file that git has.
//! Whoever breaks one learns here which, where and why it is one.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// The repository's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every text file that is committed or about to be, with its text.
fn files() -> Vec<(String, String)> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the files");
    assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8(listed.stdout).unwrap();
    let files: Vec<_> = names
        .lines()
        .filter_map(|name| Some((name.to_owned(), std::fs::read_to_string(root().join(name)).ok()?)))
        .collect();
    assert!(files.iter().any(|(name, _)| name == "Cargo.toml"), "the list has no Cargo.toml");
    files
}

fn rust_files() -> Vec<(String, String)> {
    files().into_iter().filter(|(name, _)| name.ends_with(".rs")).collect()
}

/// Fails with all complaints at once.
#[track_caller]
fn assert_none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// Lines of a file before its inline tests.
fn code_lines(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines.iter().position(|line| line.starts_with("mod tests {"));
    tests.unwrap_or(lines.len())
}

#[test]
fn every_file_says_first_what_it_is() {
    let silent = |(name, text): (String, String)| {
        let says = text.starts_with("//! ");
        (!says).then(|| format!("{name}: open with one //! paragraph: its place in the flow"))
    };
    assert_none(rust_files().into_iter().filter_map(silent).collect());
}

#[test]
fn a_file_is_one_room() {
    const LINES_MAX: usize = 500;
    // The API table is one list; splitting it would hide that.
    const LISTS: [&str; 1] = ["protocol/src/cuda_api.rs"];
    let long = |(name, text): (String, String)| {
        let lines = code_lines(&text);
        (lines > LINES_MAX && !LISTS.contains(&name.as_str()))
            .then(|| format!("{name}: {lines} lines before its tests, at most {LINES_MAX}"))
    };
    assert_none(rust_files().into_iter().filter_map(long).collect());
}

#[test]
fn names_say_what_a_file_holds() {
    const EMPTY_WORDS: [&str; 8] =
        ["client", "server", "manager", "util", "utils", "helper", "helpers", "common"];
    let empty = |(name, _): (String, String)| {
        let lower = name.to_lowercase();
        let mut words = lower.split(['/', '.', '_', '-']);
        let word = words.find(|word| EMPTY_WORDS.contains(word))?;
        Some(format!("{name}: \"{word}\" says nothing; name what it is"))
    };
    assert_none(rust_files().into_iter().filter_map(empty).collect());
}

#[test]
fn nothing_is_left_for_later_or_bound_to_one_machine() {
    // In two halves, so that this file does not hold them.
    let later = [("TO", "DO"), ("FIX", "ME"), ("X", "XX"), ("todo", "!("), ("unimplemented", "!(")];
    let machine = [("/ho", "me/"), ("/ro", "ot/"), ("/wo", "rk/"), ("/Us", "ers/")];
    let whole = |(a, b): (&str, &str)| format!("{a}{b}");
    let forbidden = later
        .map(|halves| (whole(halves), "do it, or write an issue"))
        .into_iter()
        .chain(machine.map(|halves| (whole(halves), "a path of one machine")));
    let forbidden: Vec<_> = forbidden.collect();
    let mut complaints = Vec::new();
    for (name, text) in files().iter().filter(|(name, _)| name != "Cargo.lock") {
        for (number, line) in (1..).zip(text.lines()) {
            for (word, why) in forbidden.iter().filter(|(word, _)| line.contains(word.as_str())) {
                complaints.push(format!("{name}:{number}: \"{word}\": {why}"));
            }
        }
    }
    assert_none(complaints);
}
