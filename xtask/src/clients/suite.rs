//! What a client is: something that can be installed, and whose tests can then be run on any libcuda.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::guest::{Luggage, Part};
use super::target::{self, Target, Way};

/// A client as it is named and installed.
pub(crate) trait Client {
    /// One word, for `--only` and for its section in docs/clients.md.
    fn name(&self) -> &'static str;
    /// What it is and which tests judge it, in one line.
    fn about(&self) -> &'static str;
    /// The ways in which its tests can run.
    fn ways(&self) -> &'static [Way] {
        &target::WAYS
    }
    /// The compute capability that the CPU device names for it.
    fn capability(&self) -> &'static str {
        "8.0"
    }
    /// Installs and builds what is not there yet, saying so in steps.
    fn prepare(&self) -> Result<Box<dyn Ready>>;
    /// What of it runs in a guest too; packs what that needs.
    fn guest_part(&self, _luggage: &mut Luggage) -> Result<Option<Part>> {
        Ok(None)
    }
}

/// An installed client.
pub(crate) trait Ready {
    fn version(&self) -> String;
    /// Runs the tests with `filter` in their names, all for "". An error is one of the way there, not of a test.
    fn run(&self, target: &Target, filter: &str) -> Result<Outcome>;
}

/// How one test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    /// With the line that says most.
    Failed(String),
    Skipped,
}

/// What a client's tests came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) tests: BTreeMap<String, Verdict>,
    pub(crate) took: Duration,
}

impl Outcome {
    /// Runs `work` and takes its time.
    pub(crate) fn timed(work: impl FnOnce(&mut BTreeMap<String, Verdict>) -> Result<()>) -> Result<Self> {
        let start = Instant::now();
        let mut tests = BTreeMap::new();
        work(&mut tests)?;
        Ok(Outcome { tests, took: start.elapsed() })
    }

    fn count(&self, of: impl Fn(&Verdict) -> bool) -> u64 {
        self.tests.values().map(|verdict| u64::from(of(verdict))).sum()
    }

    pub(crate) fn passed(&self) -> u64 {
        self.count(|verdict| *verdict == Verdict::Passed)
    }

    pub(crate) fn failed(&self) -> u64 {
        self.count(|verdict| matches!(verdict, Verdict::Failed(_)))
    }

    pub(crate) fn skipped(&self) -> u64 {
        self.count(|verdict| *verdict == Verdict::Skipped)
    }

    /// The counts in one line.
    pub(crate) fn note(&self) -> String {
        format!("{} passed, {} failed, {} skipped", self.passed(), self.failed(), self.skipped())
    }
}

/// Tests from a program's output: a line "PASS name", "FAIL name: why" or "SKIP name: why" for each.
pub(crate) fn lines(text: &str) -> BTreeMap<String, Verdict> {
    let verdict = |line: &str| {
        let (word, rest) = line.split_once(' ')?;
        let (name, why) = rest.split_once(": ").unwrap_or((rest, ""));
        let verdict = match word {
            "PASS" => Verdict::Passed,
            "FAIL" => Verdict::Failed(why.to_owned()),
            "SKIP" => Verdict::Skipped,
            _ => return None,
        };
        Some((name.trim().to_owned(), verdict))
    };
    text.lines().filter_map(verdict).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_test() {
        let tests = lines("noise\nPASS a.b\nFAIL c: d: e\nSKIP f: no such device\nPASSED g\n");
        let all: Vec<_> = tests.into_iter().collect();
        let expected = [("a.b", Verdict::Passed), ("c", Verdict::Failed("d: e".to_owned())), ("f", Verdict::Skipped)];
        assert_eq!(all, expected.map(|(name, verdict)| (name.to_owned(), verdict)));
    }
}
