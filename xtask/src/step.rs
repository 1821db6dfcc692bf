//! Progress on the terminal: each step says what it does while it does it, and how long it took once it has.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// What a step answers: the value for the program, and a word for the person.
pub(crate) struct Done<T> {
    pub(crate) value: T,
    pub(crate) note: String,
}

pub(crate) fn done<T>(value: T, note: impl Into<String>) -> Result<Done<T>> {
    Ok(Done {
        value,
        note: note.into(),
    })
}

/// Runs `work` under a line that says `what`; ends the line with its note and time.
pub(crate) fn step<T>(what: &str, work: impl FnOnce() -> Result<Done<T>>) -> Result<T> {
    let start = Instant::now();
    let spinner = spinner(what);
    let outcome = work();
    spinner.finish_and_clear();
    let took = seconds(start.elapsed());
    match outcome {
        Ok(Done { value, note }) if note.is_empty() => {
            eprintln!("  ok    {what} ({took})");
            Ok(value)
        }
        Ok(Done { value, note }) => {
            eprintln!("  ok    {what}: {note} ({took})");
            Ok(value)
        }
        Err(error) => {
            eprintln!("  FAIL  {what} ({took})");
            Err(error)
        }
    }
}

/// A step that has nothing to hand on.
pub(crate) fn act(what: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    step(what, || {
        work()?;
        done((), "")
    })
}

pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

fn spinner(what: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        eprintln!("  ..    {what}");
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("  {spinner}     {msg} ({elapsed})") {
        spinner.set_style(style);
    }
    spinner.set_message(what.to_owned());
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner
}
