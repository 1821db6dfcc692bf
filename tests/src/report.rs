//! What a backend writes with `--usage-json`, as tests wait for it.

use serde_json::Value;
use tempfile::TempDir;

use crate::backend::eventually;

/// A file for a backend's report.
pub struct Report {
    _folder: TempDir,
    path: String,
}

impl Default for Report {
    fn default() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("usage.json").to_str().unwrap().to_owned();
        Self { _folder: folder, path }
    }
}

impl Report {
    /// What to start the backend with.
    pub fn arguments(&self) -> [&str; 2] {
        ["--usage-json", &self.path]
    }

    /// What it says now, if it has said anything.
    pub fn now(&self) -> Option<Value> {
        serde_json::from_slice(&std::fs::read(&self.path).ok()?).ok()
    }

    /// What it says as soon as that is as wanted.
    pub fn when(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut said = None;
        eventually("the report", || {
            said = self.now().filter(&wanted);
            said.is_some()
        });
        said.unwrap()
    }

    /// The rows of processes, as soon as there are so many.
    pub fn processes(&self, count: usize) -> Vec<Value> {
        let rows = |report: &Value| report["processes"].as_array().cloned().unwrap_or_default();
        rows(&self.when(|report| rows(report).len() == count))
    }
}
