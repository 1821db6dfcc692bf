//! What the clients came to: a table, then every failure without a cause and every difference between the two ways.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use super::causes::Causes;
use super::suite::{Outcome, Verdict};
use super::target::Way;
use crate::step::seconds;
use crate::table;

/// One client.
pub(crate) struct Row {
    name: &'static str,
    pub(crate) version: String,
    pub(crate) ways: Vec<(Way, Outcome)>,
    /// What went wrong beside the tests.
    pub(crate) errors: Vec<String>,
}

impl Row {
    pub(crate) fn new(name: &'static str) -> Self {
        Row { name, version: "-".to_owned(), ways: Vec::new(), errors: Vec::new() }
    }

    /// Tests that failed either way or ended differently, each with a line that says how.
    fn troubles(&self) -> Vec<(String, String)> {
        let names: BTreeSet<&String> = self.ways.iter().flat_map(|(_, outcome)| outcome.tests.keys()).collect();
        let mut troubles = Vec::new();
        for name in names {
            let ends: Vec<_> = self.ways.iter().map(|(way, outcome)| (way, outcome.tests.get(name))).collect();
            let failed = ends.iter().any(|(_, end)| matches!(end, Some(Verdict::Failed(_))));
            let word = |end: &Option<&Verdict>| match end {
                Some(Verdict::Passed) => "passed".to_owned(),
                Some(Verdict::Failed(why)) => format!("failed: {why}"),
                Some(Verdict::Skipped) => "skipped".to_owned(),
                None => "not run".to_owned(),
            };
            let kinds: BTreeSet<String> =
                ends.iter().map(|(_, end)| word(end).split(':').next().unwrap_or_default().to_owned()).collect();
            if failed || kinds.len() > 1 {
                let words: Vec<String> = ends.iter().map(|(way, end)| format!("{} {}", way.name(), word(end))).collect();
                troubles.push((name.clone(), words.join("; ")));
            }
        }
        troubles
    }
}

/// One line of `--json`.
#[derive(Serialize)]
struct Line<'a> {
    client: &'a str,
    version: &'a str,
    way: &'a str,
    passed: u64,
    failed: u64,
    skipped: u64,
    seconds: f64,
}

#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Prints everything; a failure without a cause is the program's.
    pub(crate) fn end(self, causes: &Causes, json: bool) -> Result<ExitCode> {
        if json {
            self.print_lines()?;
        } else {
            println!("\n{}", self.table());
        }
        let mut unexplained = 0;
        for row in &self.rows {
            for (test, how) in row.troubles() {
                let known = causes.has(row.name, &test);
                unexplained += u32::from(!known);
                eprintln!("{} {test}: {how}{}", row.name, if known { " (see docs/clients.md)" } else { "" });
            }
            for error in &row.errors {
                eprintln!("{}: {error}", row.name);
            }
            if row.ways.is_empty() || !row.errors.is_empty() {
                unexplained += 1;
            }
        }
        if unexplained > 0 {
            eprintln!("{unexplained} without a cause in docs/clients.md");
            return Ok(ExitCode::FAILURE);
        }
        Ok(ExitCode::SUCCESS)
    }

    fn table(&self) -> String {
        let head = ["client", "version", "way", "passed", "failed", "skipped", "took"];
        let mut rows = Vec::new();
        for row in &self.rows {
            for (way, outcome) in &row.ways {
                let counts = [outcome.passed(), outcome.failed(), outcome.skipped()].map(table::count);
                let start = vec![row.name.to_owned(), row.version.clone(), way.name().to_owned()];
                rows.push([start, counts.to_vec(), vec![seconds(outcome.took)]].concat());
            }
            if row.ways.is_empty() {
                let none = || "-".to_owned();
                rows.push(vec![row.name.to_owned(), row.version.clone(), "not run".to_owned(), none(), none(), none(), none()]);
            }
        }
        table::table(&head, &rows)
    }

    fn print_lines(&self) -> Result<()> {
        for row in &self.rows {
            for (way, outcome) in &row.ways {
                let line = Line {
                    client: row.name,
                    version: &row.version,
                    way: way.name(),
                    passed: outcome.passed(),
                    failed: outcome.failed(),
                    skipped: outcome.skipped(),
                    seconds: outcome.took.as_secs_f64(),
                };
                println!("{}", serde_json::to_string(&line)?);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(tests: &[(&str, Verdict)]) -> Outcome {
        let tests = tests.iter().map(|(name, verdict)| ((*name).to_owned(), verdict.clone())).collect();
        Outcome { tests, ..Outcome::default() }
    }

    #[test]
    fn failures_and_differences_are_told_and_agreement_is_not() {
        let failed = || Verdict::Failed("line 3: wrong".to_owned());
        let mut row = Row::new("one");
        let alone = [("a", Verdict::Passed), ("b", failed()), ("c", Verdict::Skipped), ("d", Verdict::Passed)];
        let forwarded = [("a", Verdict::Passed), ("b", failed()), ("c", Verdict::Skipped)];
        row.ways = vec![(Way::Alone, outcome(&alone)), (Way::Forwarded, outcome(&forwarded))];
        let troubles = row.troubles();
        let names: Vec<_> = troubles.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["b", "d"]);
        assert_eq!(troubles[1].1, "alone passed; forwarded not run");
    }
}
