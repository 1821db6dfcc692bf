//! Columns of text, and figures as people read them.

use paravane_backend::register::wanted::Percent;

/// Lines of cells under a head; numbers to the right.
#[derive(Debug)]
pub struct Table {
    head: Vec<&'static str>,
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these heads; one that begins with `>` has its column to the right.
    pub fn new(head: &[&'static str]) -> Self {
        let right = head.iter().map(|head| head.starts_with('>')).collect();
        Self { head: head.iter().map(|head| head.trim_start_matches('>')).collect(), right, rows: Vec::new() }
    }

    /// One more line.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The whole, a newline at the end of each line.
    pub fn text(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            let head = self.head.get(column).map_or(0, |head| head.chars().count());
            cells.max().unwrap_or(0).max(head)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let cells = cells.zip(widths.iter().zip(&self.right));
            let cells: Vec<String> = cells
                .map(|(cell, (width, right))| if *right { format!("{cell:>width$}") } else { format!("{cell:<width$}") })
                .collect();
            format!("{}\n", cells.join("  ").trim_end())
        };
        let mut text = line(&mut self.head.iter().copied());
        for row in &self.rows {
            text.push_str(&line(&mut row.iter().map(String::as_str)));
        }
        text
    }
}

/// 1.5 GiB.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    scaled(bytes, 1024, &UNITS)
}

/// 1.5 M.
pub fn count(count: u64) -> String {
    const UNITS: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    scaled(count, 1000, &UNITS).trim_end().to_owned()
}

fn scaled(value: u64, base: u64, units: &[&str]) -> String {
    let mut scale = 1_u64;
    let mut units = units.iter().peekable();
    let mut unit = units.next().copied().unwrap_or_default();
    while value / scale >= base {
        let Some(next) = units.next() else { break };
        unit = next;
        scale *= base;
    }
    let tenths = u128::from(value) * 10 / u128::from(scale);
    match scale {
        1 => format!("{value} {unit}"),
        _ if tenths < 100 => format!("{}.{} {unit}", tenths / 10, tenths % 10),
        _ => format!("{} {unit}", tenths / 10),
    }
}

/// 1h 02m, 3.25 s, 12 ms.
pub fn duration(ns: u64) -> String {
    let (us, ms, s) = (ns / 1000, ns / 1_000_000, ns / 1_000_000_000);
    match ns {
        0 => "0".into(),
        1..1_000_000 => format!("{us} us"),
        1_000_000..1_000_000_000 => format!("{ms} ms"),
        1_000_000_000..60_000_000_000 => format!("{s}.{:02} s", ms % 1000 / 10),
        60_000_000_000..3_600_000_000_000 => format!("{}m {:02}s", s / 60, s % 60),
        _ => format!("{}h {:02}m", s / 3600, s / 60 % 60),
    }
}

/// 12.5%.
pub fn percent(part: Percent) -> String {
    format!("{:.1}%", f64::from(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["NAME", ">CALLS"]);
        table.row(vec!["a".into(), "5".into()]);
        table.row(vec!["longer".into(), "1234567".into()]);
        assert_eq!(table.text(), "NAME      CALLS\na             5\nlonger  1234567\n");
    }

    #[test]
    fn figures_are_short() {
        let cases = [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (10 << 30, "10 GiB"), (u64::MAX, "16383 PiB")];
        for (value, text) in cases {
            assert_eq!(bytes(value), text);
        }
        assert_eq!((count(999).as_str(), count(1_250_000).as_str()), ("999", "1.2 M"));
        let cases = [
            (999, "0 us"),
            (12_345_678, "12 ms"),
            (3_256_000_000, "3.25 s"),
            (125_000_000_000, "2m 05s"),
            (7_325_000_000_000, "2h 02m"),
        ];
        for (ns, text) in cases {
            assert_eq!(duration(ns), text);
        }
    }
}
