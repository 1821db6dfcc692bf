//! One measured figure, as it goes from a probe to the table: a line of JSON
//! between processes, a row at the end.

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// What a probe measured.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
}

/// The units that figures come in.
pub(crate) mod unit {
    pub(crate) const US: &str = "us";
    pub(crate) const NS: &str = "ns";
    pub(crate) const MS: &str = "ms";
    pub(crate) const M_PER_S: &str = "M/s";
    pub(crate) const K_PER_S: &str = "k/s";
    pub(crate) const GB_PER_S: &str = "GB/s";
    pub(crate) const MB: &str = "MB";
    pub(crate) const RATIO: &str = "min/max";
    pub(crate) const COUNT: &str = "";
    pub(crate) const MS_PER_S: &str = "ms/s";
    pub(crate) const POINTS: &str = "points";
    pub(crate) const PERCENT: &str = "%";
    pub(crate) const A_SECOND: &str = "/s";
    const ALL: [&str; 13] =
        [US, NS, MS, M_PER_S, K_PER_S, GB_PER_S, MB, RATIO, COUNT, MS_PER_S, POINTS, PERCENT, A_SECOND];

    pub(crate) fn known(text: &str) -> Option<&'static str> {
        ALL.into_iter().find(|unit| *unit == text)
    }

    /// Whether a larger figure is the better one.
    pub(crate) fn more_is_better(unit: &str) -> bool {
        matches!(unit, M_PER_S | K_PER_S | GB_PER_S | RATIO | MS_PER_S)
    }
}

impl Figure {
    pub(crate) fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, unit }
    }

    /// Tells the benchmark, on stdout.
    pub(crate) fn tell(&self) {
        println!("{}", json!({ "name": self.name, "value": self.value, "unit": self.unit }));
    }

    /// Reads what [`Figure::tell`] wrote.
    pub(crate) fn read(line: &str) -> Result<Self> {
        let read = || {
            let object: Value = serde_json::from_str(line).ok()?;
            Some(Self {
                name: object.get("name")?.as_str()?.to_owned(),
                value: object.get("value")?.as_f64()?,
                unit: unit::known(object.get("unit")?.as_str()?)?,
            })
        };
        read().with_context(|| format!("a probe said {line:?}, which is no figure"))
    }
}
