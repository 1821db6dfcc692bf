//! The ledger's tables. `process` has what has been booked of each process in all, `slice` what falls into each
//! interval. A counter that a release adds becomes a column of both. `devices` has GPU time by device beside them.

use rusqlite::Connection;

use super::{BUSY_MAX, LedgerError, Outcome, devices};
use crate::counters::COLUMNS;

/// The tables' format; a change that an older release cannot live with counts it up.
pub(super) const FORMAT: i64 = 1;
/// "PVLD": what SQLite's header says of whose file it is.
const APPLICATION: i64 = 0x5056_4c44;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS process (
    id INTEGER PRIMARY KEY,
    boot TEXT NOT NULL,
    vm TEXT NOT NULL,
    number INTEGER NOT NULL,
    uuid TEXT NOT NULL,
    pid INTEGER NOT NULL,
    name TEXT NOT NULL,
    started INTEGER NOT NULL,
    seen INTEGER NOT NULL,
    ended INTEGER,
    memory_peak_bytes INTEGER NOT NULL DEFAULT 0,
    memory_mib_s INTEGER NOT NULL DEFAULT 0,
    UNIQUE (boot, number)
);
CREATE INDEX IF NOT EXISTS process_vm ON process (vm);
CREATE TABLE IF NOT EXISTS slice (
    process INTEGER NOT NULL REFERENCES process (id),
    start INTEGER NOT NULL,
    memory_peak_bytes INTEGER NOT NULL DEFAULT 0,
    memory_mib_s INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (process, start)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS slice_start ON slice (start);
";

/// Makes the tables, and every commit durable: WAL with a sync at each commit survives a power failure.
pub(super) fn prepare(connection: &Connection) -> Outcome<()> {
    connection.busy_timeout(BUSY_MAX)?;
    let pragma = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    let format = pragma("user_version")?;
    if format > FORMAT {
        return Err(LedgerError::Later(format));
    }
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        log::warn!("the ledger's journal is {mode}: its file system has no shared memory");
    }
    connection.execute_batch(&format!(
        "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA application_id = {APPLICATION}; \
         PRAGMA user_version = {FORMAT};"
    ))?;
    connection.execute_batch(TABLES)?;
    connection.execute_batch(devices::TABLES)?;
    for table in ["process", "slice"] {
        let names = format!("SELECT name FROM pragma_table_info('{table}')");
        let mut listed = connection.prepare(&names)?;
        let there: Vec<String> = listed.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        for column in COLUMNS.iter().filter(|column| !there.iter().any(|name| name == *column)) {
            let add = format!("ALTER TABLE {table} ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0");
            connection.execute_batch(&add)?;
        }
    }
    Ok(())
}

/// Sets what is known of a process: id, seen, ended or NULL, most memory, MiB seconds to add, counters.
pub(super) fn update_process() -> String {
    let sets: Vec<String> = (6..).zip(COLUMNS).map(|(at, column)| format!("{column} = ?{at}")).collect();
    format!(
        "UPDATE process SET seen = ?2, ended = ?3, memory_peak_bytes = max(memory_peak_bytes, ?4), \
         memory_mib_s = memory_mib_s + ?5, {} WHERE id = ?1",
        sets.join(", ")
    )
}

/// Adds to a slice: process, start, most memory, MiB seconds, counters.
pub(super) fn add_to_slice() -> String {
    let columns = COLUMNS.join(", ");
    let places: Vec<String> = (5..).zip(COLUMNS).map(|(at, _)| format!("?{at}")).collect();
    let sums: Vec<String> =
        COLUMNS.iter().map(|column| format!("{column} = {column} + excluded.{column}")).collect();
    format!(
        "INSERT INTO slice (process, start, memory_peak_bytes, memory_mib_s, {columns}) \
         VALUES (?1, ?2, ?3, ?4, {}) ON CONFLICT (process, start) DO UPDATE SET \
         memory_peak_bytes = max(memory_peak_bytes, excluded.memory_peak_bytes), \
         memory_mib_s = memory_mib_s + excluded.memory_mib_s, {}",
        places.join(", "),
        sums.join(", ")
    )
}
