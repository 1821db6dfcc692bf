//! What the checks came to, and the table and the line that end a test run.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::samples::Verdict;
use crate::step::seconds;
use crate::table;
use crate::usage::Usage;

/// One row: a check that holds any number of tests.
#[derive(Default)]
pub(crate) struct Check {
    pub(crate) name: String,
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
    /// What a person should know: why tests were skipped, what failed.
    pub(crate) notes: Vec<String>,
    pub(crate) took: Duration,
}

impl Check {
    pub(crate) fn skipped(name: &str, why: &str) -> Self {
        Check {
            name: name.to_owned(),
            skipped: 1,
            notes: vec![format!("skipped: {why}")],
            ..Check::default()
        }
    }

    pub(crate) fn failed(name: &str, error: anyhow::Error) -> Self {
        Check {
            name: name.to_owned(),
            ..Check::single(Err(error))
        }
    }

    /// A single test with its outcome.
    pub(crate) fn single(outcome: Result<()>) -> Self {
        match outcome {
            Ok(()) => Check {
                passed: 1,
                ..Check::default()
            },
            Err(error) => Check {
                failed: 1,
                notes: vec![format!("{error:#}")],
                ..Check::default()
            },
        }
    }

    /// One test a sample.
    pub(crate) fn of_samples(verdicts: &[Verdict]) -> Self {
        let mut check = Check::default();
        for verdict in verdicts {
            check.require(verdict.passed, || {
                format!("{}: {}", verdict.name, verdict.note)
            });
        }
        check
    }

    /// One test: the back end accounted for what the samples did.
    pub(crate) fn require_account(&mut self, usage: &Usage) {
        let zeros = usage.zeros();
        self.require(zeros.is_empty(), || {
            format!("not accounted for: {}", zeros.join(", "))
        });
    }

    /// Counts one more test by its outcome.
    pub(crate) fn require_ok(&mut self, outcome: Result<()>) {
        let said = outcome.as_ref().err().map(|error| format!("{error:#}")).unwrap_or_default();
        self.require(outcome.is_ok(), || said);
    }

    /// Counts one more test.
    pub(crate) fn require(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if holds {
            self.passed += 1;
        } else {
            self.failed += 1;
            self.notes.push(otherwise());
        }
    }
}

#[derive(Default)]
pub(crate) struct Report {
    checks: Vec<Check>,
}

impl Report {
    /// Runs `work` as the check `name`; an error is one failed test.
    pub(crate) fn check(&mut self, name: &str, work: impl FnOnce() -> Result<Check>) {
        eprintln!("  ..    {name}");
        let start = Instant::now();
        let mut check = work().unwrap_or_else(|error| Check::single(Err(error)));
        check.name = name.to_owned();
        check.took = start.elapsed();
        self.add(check);
    }

    pub(crate) fn add(&mut self, check: Check) {
        let word = if check.failed > 0 { "FAIL" } else { "ok  " };
        eprintln!("  {word}  {} ({})", check.name, seconds(check.took));
        for note in &check.notes {
            for line in note.lines() {
                eprintln!("          {line}");
            }
        }
        self.checks.push(check);
    }

    /// Prints the table; the last line is the sum.
    pub(crate) fn end(self) -> ExitCode {
        let sum = |count: fn(&Check) -> u64| self.checks.iter().map(count).sum::<u64>();
        let row = |check: &Check| {
            let counts = [check.passed, check.failed, check.skipped].map(table::count);
            [
                vec![check.name.clone()],
                counts.to_vec(),
                vec![seconds(check.took)],
            ]
            .concat()
        };
        let rows: Vec<Vec<String>> = self.checks.iter().map(row).collect();
        println!(
            "\n{}",
            table::table(&["check", "passed", "failed", "skipped", "took"], &rows)
        );
        for check in &self.checks {
            for note in check.notes.iter().filter_map(|note| note.lines().next()) {
                println!("{}: {note}", check.name);
            }
        }
        let (passed, failed) = (sum(|check| check.passed), sum(|check| check.failed));
        println!(
            "{passed} passed, {failed} failed, {} skipped",
            sum(|check| check.skipped)
        );
        if failed > 0 || passed == 0 {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }
}
