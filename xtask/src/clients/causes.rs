//! docs/clients.md, which gives the cause of every failure: under a heading with the client's name, lines of the form
//! "- `test`: cause". A `*` in a test's name stands for anything.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};

use crate::paths;

const FILE: &str = "docs/clients.md";

/// Patterns of tests by client.
#[derive(Default, Debug)]
pub(crate) struct Causes(BTreeMap<String, Vec<String>>);

impl Causes {
    pub(crate) fn read() -> Result<Self> {
        let path = paths::root().join(FILE);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {FILE}"))?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let mut causes = Causes::default();
        let mut client = String::new();
        for line in text.lines() {
            if let Some(heading) = line.strip_prefix("## ") {
                client = heading.trim().to_owned();
            } else if let Some((pattern, cause)) = line.strip_prefix("- `").and_then(|rest| rest.split_once("`: "))
                && !cause.trim().is_empty()
            {
                causes.0.entry(client.clone()).or_default().push(pattern.to_owned());
            }
        }
        causes
    }

    /// Whether the file gives the cause of this test's failure.
    pub(crate) fn has(&self, client: &str, test: &str) -> bool {
        self.0.get(client).is_some_and(|patterns| patterns.iter().any(|pattern| matches(pattern, test)))
    }
}

/// Whether `text` is `pattern` with each `*` replaced by something.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(start) else { return false };
    loop {
        if matches(rest, left) {
            return true;
        }
        let mut characters = left.chars();
        if characters.next().is_none() {
            return false;
        }
        left = characters.as_str();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_belongs_to_its_client_and_needs_words() {
        let causes = Causes::parse("# Clients\n## one\n- `a::b`: because\n- `c`:  \n## two\n- `x/*/z`: so it is\n");
        assert!(causes.has("one", "a::b") && !causes.has("one", "c") && !causes.has("two", "a::b"));
        assert!(causes.has("two", "x/y/z") && !causes.has("two", "x/y/zz"));
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text) in [("*", ""), ("a*", "abc"), ("*c", "abc"), ("a*c*e", "abcde"), ("ab", "ab")] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("a*", "ba"), ("*c", "abcd"), ("ab", "abc"), ("a*b*c", "acb")] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }
}
