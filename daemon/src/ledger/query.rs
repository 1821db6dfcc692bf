//! What the ledger answers: sums over an interval, per VM or per process, and their CSV.

use rusqlite::{params_from_iter, types::Value};
use serde::{Deserialize, Serialize};

use super::{Reader, Outcome};
use crate::counters::{COLUMNS, Counters, from_sql, to_sql};

/// From `from_s` to before `to_s`, in seconds since 1970. The ledger tells moments apart by its resolution: a slice
/// counts whole if it begins in the interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Its begin.
    pub from_s: u64,
    /// Its end.
    pub to_s: u64,
}

/// What a row stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// A VM
    #[default]
    Vm,
    /// A guest process
    Process,
    /// A VM's GPU time on one device
    Device,
}

/// Who a row is about, where it is about a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfProcess {
    /// The run of the backend.
    pub boot: String,
    /// Counts the run's processes; 0 is the VM itself.
    pub number: u64,
    /// The id in the guest.
    pub pid: u32,
    /// The name in the guest.
    pub name: String,
    /// When it was first and last heard of, in seconds since 1970.
    pub started_s: u64,
    /// As above.
    pub seen_s: u64,
    /// Whether it runs no more.
    pub ended: bool,
}

/// One line of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The VM's name.
    pub vm: String,
    /// Its UUID, or empty.
    pub uuid: String,
    /// For [`By::Process`].
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub process: Option<OfProcess>,
    /// The most device memory that one process held in the interval.
    pub memory_peak_bytes: u64,
    /// Device memory held, in MiB times seconds.
    pub memory_mib_s: u64,
    /// What was used in the interval.
    #[serde(flatten)]
    pub used: Counters,
}

const FIXED: usize = 11;

impl Reader {
    /// What was used in an interval, by one VM or by all.
    ///
    /// # Errors
    /// The disk's.
    pub fn usage(&self, vm: Option<&str>, interval: Interval, by: By) -> Outcome<Vec<Row>> {
        let sums: Vec<String> = COLUMNS.iter().map(|column| format!("sum(slice.{column})")).collect();
        let select = format!(
            "SELECT process.vm, process.uuid, process.boot, process.number, process.pid, process.name, \
             process.started, process.seen, process.ended, max(slice.memory_peak_bytes), \
             sum(slice.memory_mib_s), {} FROM slice JOIN process ON process.id = slice.process \
             WHERE slice.start >= ?1 AND slice.start < ?2 AND (?3 IS NULL OR process.vm = ?3) \
             GROUP BY process.id ORDER BY process.vm, process.started, process.id",
            sums.join(", ")
        );
        let mut statement = self.connection.prepare_cached(&select)?;
        let rows = statement.query_map(params_from_iter(bounds(vm, interval)), |row| {
            let process = OfProcess {
                boot: row.get(2)?,
                number: from_sql(row.get(3)?),
                pid: row.get(4)?,
                name: row.get(5)?,
                started_s: from_sql(row.get(6)?),
                seen_s: from_sql(row.get(7)?),
                ended: row.get::<_, Option<i64>>(8)?.is_some(),
            };
            Ok(Row {
                vm: row.get(0)?,
                uuid: row.get(1)?,
                process: Some(process),
                memory_peak_bytes: from_sql(row.get(9)?),
                memory_mib_s: from_sql(row.get(10)?),
                used: Counters::of_row(row, FIXED)?,
            })
        })?;
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        Ok(if by == By::Process { rows } else { per_vm(rows) })
    }
}

/// From, to, and the VM or NULL.
pub(super) fn bounds(vm: Option<&str>, interval: Interval) -> [Value; 3] {
    let vm = vm.map_or(Value::Null, |vm| Value::Text(vm.to_owned()));
    [to_sql(interval.from_s).into(), to_sql(interval.to_s).into(), vm]
}

/// Sums what is in the order of VMs. Not in SQL: a sum of what hostile workers claim may not fit.
fn per_vm(rows: Vec<Row>) -> Vec<Row> {
    let mut sums: Vec<Row> = Vec::new();
    for row in rows {
        match sums.last_mut().filter(|sum| sum.vm == row.vm) {
            Some(sum) => {
                sum.used = sum.used.plus(&row.used);
                sum.memory_peak_bytes = sum.memory_peak_bytes.max(row.memory_peak_bytes);
                sum.memory_mib_s = sum.memory_mib_s.saturating_add(row.memory_mib_s);
                sum.uuid = row.uuid;
            }
            None => sums.push(Row { process: None, ..row }),
        }
    }
    sums
}

/// Rows as RFC 4180 has them, with a head line.
pub fn csv(rows: &[Row], by: By) -> String {
    let mut head = vec!["vm", "uuid"];
    if by == By::Process {
        head.extend(["boot", "number", "pid", "name", "started_s", "seen_s", "ended"]);
    }
    head.extend(["memory_peak_bytes", "memory_mib_s"]);
    head.extend(COLUMNS);
    let mut text = head.join(",");
    text.push_str("\r\n");
    for row in rows {
        let mut fields = vec![quoted(&row.vm), quoted(&row.uuid)];
        if let Some(process) = &row.process {
            fields.extend([quoted(&process.boot), process.number.to_string(), process.pid.to_string()]);
            fields.extend([quoted(&process.name), process.started_s.to_string(), process.seen_s.to_string()]);
            fields.push(process.ended.to_string());
        }
        fields.extend([row.memory_peak_bytes.to_string(), row.memory_mib_s.to_string()]);
        fields.extend(row.used.iter().map(|(_, value)| value.to_string()));
        text.push_str(&fields.join(","));
        text.push_str("\r\n");
    }
    text
}

/// A guest names its processes as it likes: also as what a spreadsheet takes for a formula.
pub(super) fn quoted(field: &str) -> String {
    let guard = if field.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    if guard.is_empty() && !field.contains([',', '"', '\n', '\r']) {
        return field.to_owned();
    }
    format!("\"{guard}{}\"", field.replace('"', "\"\""))
}
