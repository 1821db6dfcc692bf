//! The ledger: what every guest process of every VM has used, kept over restarts and power failures in one SQLite
//! file. Accounts count up from 0 per process; what is booked is the difference to what was booked before, in the
//! same transaction that remembers the new sum. So a restart of anybody neither loses nor doubles: whoever tells a
//! sum twice is booked once.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Transaction, params_from_iter, types::Value};

use crate::counters::{COLUMNS, Counters, from_sql, to_sql};

mod devices;
mod query;
mod schema;

pub use devices::{DeviceRow, OnDevices, add, csv_on_devices};
pub use query::{By, Interval, OfProcess, Row, csv};

/// One process of one run of one back end. `number` 0 is the VM itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// A random name of the back end's run.
    pub boot: String,
    /// Counts the run's processes from 1.
    pub number: u64,
}

/// What is known of a process now.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Which.
    pub key: Key,
    /// The VM. What a run is booked for stays with the name that it began with.
    pub vm: String,
    /// The VM's UUID, or empty.
    pub uuid: String,
    /// The process's id in the guest.
    pub pid: u32,
    /// Its name in the guest.
    pub name: String,
    /// Sums since the process began.
    pub counters: Counters,
    /// What of its GPU time is of which device.
    pub on_devices: OnDevices,
    /// Device memory in use now.
    pub memory_bytes: u64,
    /// The most that it ever held.
    pub memory_peak_bytes: u64,
    /// Whether these are its last figures.
    pub ended: bool,
}

/// What the processes have used that have ended.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// In all.
    pub counters: Counters,
    /// What of it is of which device.
    pub on_devices: OnDevices,
    /// The processes' numbers.
    pub numbers: BTreeSet<u64>,
}

/// Why something is not in the ledger, or cannot be read from it.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// SQLite's word.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// Written by a later release.
    #[error("the ledger has format {0}, this release knows up to {known}", known = schema::FORMAT)]
    Later(i64),
}

/// More is a worker's lie: a sum of such would not fit a column.
const MEMORY_BYTES_MAX: u64 = 1 << 50;
/// Between two bookings of a process that runs. A longer gap is a clock that was set.
const HELD_S_MAX: u64 = 1 << 20;
/// The row of a process that uses nothing says that often that it is there: `prune` must not take it, or its sums would
/// be booked anew.
const SIGN_OF_LIFE_S: u64 = 3600;

/// How long somebody waits where the file system cannot let readers read beside a booking.
const BUSY_MAX: Duration = Duration::from_secs(2);

type Outcome<T> = Result<T, LedgerError>;

/// What is booked of a process.
#[derive(Clone, Debug)]
struct Booked {
    row: i64,
    counters: Counters,
    on_devices: devices::Booked,
    memory_peak_bytes: u64,
    /// When memory in use was last counted; `None`: not in this run.
    at_s: Option<u64>,
    /// When the row was last written.
    written_s: u64,
}

/// The open file.
#[derive(Debug)]
pub struct Ledger {
    connection: Connection,
    resolution_s: u64,
    booked: HashMap<Key, Booked>,
}

/// Questions to the file, which wait for no booking and hold none up.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
}

impl Ledger {
    /// Opens the file, or begins it. Intervals can be told apart to `resolution_s` seconds.
    ///
    /// # Errors
    /// If the file is none of Paravane's, or of a later release, or in use by another process.
    pub fn open(path: &Path, resolution_s: u64) -> Outcome<Self> {
        let connection = Connection::open(path)?;
        schema::prepare(&connection)?;
        Ok(Self { connection, resolution_s: resolution_s.max(1), booked: HashMap::new() })
    }

    /// Books what has been used since the last time, in one transaction: all of it is on the disk when this returns,
    /// or none. `now_s` is in seconds since 1970.
    ///
    /// # Errors
    /// The disk's. What is not booked now is booked the next time.
    pub fn book(&mut self, now_s: u64, entries: &[Entry]) -> Outcome<()> {
        let staged = self.stage(now_s, entries)?;
        for (entry, booked) in entries.iter().zip(staged) {
            if entry.ended {
                self.booked.remove(&entry.key);
            } else {
                self.booked.insert(entry.key.clone(), booked);
            }
        }
        Ok(())
    }

    /// A way to ask beside bookings.
    ///
    /// # Errors
    /// The disk's.
    pub fn reader(&self) -> Outcome<Reader> {
        reader(&self.connection)
    }

    fn stage(&mut self, now_s: u64, entries: &[Entry]) -> Outcome<Vec<Booked>> {
        let transaction = self.connection.transaction()?;
        let staged = write_all(&transaction, &self.booked, now_s, self.resolution_s, entries)?;
        transaction.commit()?;
        Ok(staged)
    }

    /// Forgets what lies before a moment; processes that have ended with it.
    ///
    /// # Errors
    /// The disk's.
    pub fn prune(&mut self, before_s: u64) -> Outcome<usize> {
        let transaction = self.connection.transaction()?;
        let before = to_sql(before_s);
        let gone = transaction.execute("DELETE FROM slice WHERE start < ?1", [before])?;
        transaction.execute("DELETE FROM device_slice WHERE start < ?1", [before])?;
        transaction.execute(
            "DELETE FROM process WHERE seen < ?1 AND NOT EXISTS (SELECT 1 FROM slice WHERE process = process.id)",
            [before],
        )?;
        transaction.commit()?;
        // A process that runs and was forgotten is looked up again.
        self.booked.clear();
        Ok(gone)
    }
}

/// Another connection to the same file.
fn reader(to: &Connection) -> Outcome<Reader> {
    let connection = Connection::open(to.path().unwrap_or_default())?;
    connection.busy_timeout(BUSY_MAX)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(Reader { connection })
}

impl Reader {
    /// One more, for a question that takes long.
    ///
    /// # Errors
    /// The disk's.
    pub fn another(&self) -> Outcome<Self> {
        reader(&self.connection)
    }

    /// What the processes of a back end's run have used that have ended, and their numbers.
    ///
    /// # Errors
    /// The disk's.
    pub fn past(&self, boot: &str) -> Outcome<Past> {
        let select = format!("SELECT number, {} FROM process WHERE boot = ?1 AND number > 0 AND ended IS NOT NULL", COLUMNS.join(", "));
        let mut statement = self.connection.prepare_cached(&select)?;
        let ended = statement.query_map([boot], |row| Ok((from_sql(row.get(0)?), Counters::of_row(row, 1)?)))?;
        let mut past = Past { on_devices: self.past_on_devices(boot)?, ..Past::default() };
        for process in ended {
            let (number, counters) = process?;
            past.counters = past.counters.plus(&counters);
            past.numbers.insert(number);
        }
        Ok(past)
    }
}

fn write_all(
    transaction: &Transaction,
    known: &HashMap<Key, Booked>,
    now_s: u64,
    resolution_s: u64,
    entries: &[Entry],
) -> Outcome<Vec<Booked>> {
    let slice = now_s - now_s % resolution_s;
    let mut staged: Vec<Booked> = Vec::with_capacity(entries.len());
    let mut places: HashMap<&Key, usize> = HashMap::with_capacity(entries.len());
    for (at, entry) in entries.iter().enumerate() {
        // Of a key that comes twice, the second is after the first.
        let earlier = places.insert(&entry.key, at).and_then(|place| staged.get(place));
        let before = match earlier.or_else(|| known.get(&entry.key)) {
            Some(booked) => booked.clone(),
            None => find(transaction, entry, now_s)?,
        };
        staged.push(write(transaction, before, entry, now_s, slice)?);
    }
    Ok(staged)
}

/// What an earlier run has booked of a process, or a fresh row.
fn find(transaction: &Transaction, entry: &Entry, now_s: u64) -> Outcome<Booked> {
    let key = &entry.key;
    let columns = COLUMNS.join(", ");
    let select = format!("SELECT id, memory_peak_bytes, {columns} FROM process WHERE boot = ?1 AND number = ?2");
    let there = transaction
        .prepare_cached(&select)?
        .query_row((&key.boot, to_sql(key.number)), |row| {
            Ok((row.get(0)?, from_sql(row.get(1)?), Counters::of_row(row, 2)?))
        })
        .optional()?;
    if let Some((row, memory_peak_bytes, counters)) = there {
        let on_devices = devices::Booked::find(transaction, row, &counters)?;
        return Ok(Booked { row, counters, on_devices, memory_peak_bytes, at_s: None, written_s: 0 });
    }
    let insert = "INSERT INTO process (boot, vm, number, uuid, pid, name, started, seen) \
                  VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7)";
    transaction.prepare_cached(insert)?.execute((
        &key.boot,
        &entry.vm,
        to_sql(key.number),
        &entry.uuid,
        entry.pid,
        &entry.name,
        to_sql(now_s),
    ))?;
    let row = transaction.last_insert_rowid();
    let (counters, on_devices) = (Counters::default(), devices::Booked::default());
    Ok(Booked { row, counters, on_devices, memory_peak_bytes: 0, at_s: None, written_s: 0 })
}

/// Books one process's difference.
fn write(transaction: &Transaction, before: Booked, entry: &Entry, now_s: u64, slice: u64) -> Outcome<Booked> {
    // A worker writes its account itself: a sum that goes back is not believed.
    let counters = before.counters.max(&entry.counters);
    let used = counters.since(&before.counters);
    let held_s = before.at_s.map_or(0, |at| now_s.saturating_sub(at)).min(HELD_S_MAX);
    let memory_bytes = entry.memory_bytes.min(MEMORY_BYTES_MAX);
    let mib_s = (memory_bytes >> 20).saturating_mul(held_s);
    let peak_bytes = entry.memory_peak_bytes.min(MEMORY_BYTES_MAX).max(before.memory_peak_bytes);
    let written = before.at_s.is_some() && now_s.abs_diff(before.written_s) < SIGN_OF_LIFE_S;
    let more = before.on_devices.more(&entry.on_devices, &counters);
    let is_news = !used.is_zero() || mib_s > 0 || peak_bytes > before.memory_peak_bytes || !more.is_empty();
    if !is_news && !entry.ended && written {
        return Ok(Booked { at_s: Some(now_s), ..before });
    }
    // A new peak was in this interval, whenever it was; else what is held now is the most that is known of it.
    let high_bytes = if peak_bytes > before.memory_peak_bytes { peak_bytes } else { memory_bytes };
    let memory = [to_sql(high_bytes), to_sql(mib_s)];
    let mut values: Vec<Value> = vec![before.row.into()];
    values.push(to_sql(now_s).into());
    values.push(Value::from(entry.ended.then(|| to_sql(now_s))));
    values.extend(memory.map(Value::from));
    values.extend(counters.sql());
    transaction.prepare_cached(&schema::update_process())?.execute(params_from_iter(values))?;
    if is_news || memory_bytes > 0 {
        let mut values: Vec<Value> = vec![before.row.into(), to_sql(slice).into()];
        values.extend(memory.map(Value::from));
        values.extend(used.sql());
        transaction.prepare_cached(&schema::add_to_slice())?.execute(params_from_iter(values))?;
    }
    let on_devices = before.on_devices.write(transaction, (before.row, slice), more)?;
    Ok(Booked { row: before.row, counters, on_devices, memory_peak_bytes: peak_bytes, at_s: Some(now_s), written_s: now_s })
}

#[cfg(test)]
#[path = "ledger/tests.rs"]
mod tests;
