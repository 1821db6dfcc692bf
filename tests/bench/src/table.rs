//! What a run prints: one table for people, or one object a line for programs.

use serde_json::{Map, Value};

use crate::figure::{Figure, unit};
use crate::goal::{Goal, reached};

/// A figure with what it is compared with.
pub(crate) struct Row {
    pub(crate) figure: Figure,
    /// What this machine needs for the bare act, in the figure's unit.
    pub(crate) floor: Option<f64>,
    /// The same figure on libcuda alone.
    pub(crate) alone: Option<f64>,
}

impl Row {
    fn goal(&self) -> Option<f64> {
        Goal::of(&self.figure.name)?.value(self.floor, self.alone)
    }

    /// One line of `--json`.
    pub(crate) fn json(&self) -> String {
        let Figure { name, value, unit } = &self.figure;
        let mut object = Map::new();
        object.insert("name".into(), name.as_str().into());
        object.insert("value".into(), (*value).into());
        object.insert("unit".into(), (*unit).into());
        object.insert("floor".into(), self.floor.map_or(Value::Null, Value::from));
        for (key, number) in [("alone", self.alone), ("goal", self.goal())] {
            if let Some(number) = number {
                object.insert(key.into(), number.into());
            }
        }
        Value::Object(object).to_string()
    }

    fn cells(&self) -> [String; 8] {
        let Figure { name, value, unit } = &self.figure;
        let goal = self.goal();
        let verdict = match goal {
            None => "",
            Some(goal) if reached(*value, goal, unit) => "reached",
            Some(_) => "missed",
        };
        let compared = |other: Option<f64>| match other {
            Some(other) if other > 0.0 && unit::more_is_better(unit) => {
                format!("{:.0}%", value / other * 100.0)
            }
            Some(other) if other > 0.0 => format!("{:.1}x", value / other),
            _ => String::new(),
        };
        [
            name.clone(),
            format!("{} {unit}", number(*value)),
            self.floor.map(number).unwrap_or_default(),
            compared(self.floor),
            self.alone.map(number).unwrap_or_default(),
            compared(self.alone),
            goal.map(number).unwrap_or_default(),
            verdict.to_owned(),
        ]
    }
}

/// Three significant digits.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        ..0.1 => format!("{value:.3}"),
        ..10.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// The rows as a table with aligned columns.
pub(crate) fn text(rows: &[Row]) -> String {
    let head = ["", "measured", "floor", "of floor", "alone", "of alone", "goal", ""].map(str::to_owned);
    let lines: Vec<[String; 8]> =
        std::iter::once(head).chain(rows.iter().map(Row::cells)).collect();
    let mut widths = [0; 8];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for line in &lines {
        let mut row = String::new();
        for (column, (cell, width)) in line.iter().zip(widths).enumerate() {
            // Words to the left, numbers to the right.
            let words = column == 0 || column == 7;
            row += &if words { format!("{cell:<width$}  ") } else { format!("{cell:>width$}  ") };
        }
        text += row.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, value: f64, unit: &'static str, floor: Option<f64>) -> Row {
        Row { figure: Figure::new(name, value, unit), floor, alone: None }
    }

    #[test]
    fn a_line_of_json_has_what_later_runs_compare() {
        let line = row("awaited call", 1.5, unit::US, Some(0.4)).json();
        let read: Value = serde_json::from_str(&line).unwrap();
        let expected = serde_json::json!({
            "name": "awaited call", "value": 1.5, "unit": "us", "floor": 0.4, "goal": 1.2
        });
        assert_eq!(read, expected);
        assert!(row("cuInit", 1.0, unit::MS, None).json().contains("\"floor\":null"));
    }

    #[test]
    fn the_table_says_what_is_reached_and_what_missed() {
        let rows = [
            row("awaited call", 1.5, unit::US, Some(0.5)),
            row("pinned to device, 1 GiB", 9.8, unit::GB_PER_S, Some(10.0)),
        ];
        let text = text(&rows);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].contains("3.0x") && lines[1].ends_with("missed"), "{text}");
        assert!(lines[2].contains("98%") && lines[2].ends_with("reached"), "{text}");
    }
}
