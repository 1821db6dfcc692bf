//! The ledger by device: which of the host's GPUs worked how long for a process. Devices may cost differently; all else
//! of an account is the process's. Booked in the transaction that books the process, and never more than it booked of
//! GPU time in all: so the sums by device are never more than the sums by VM.

use std::collections::BTreeMap;

use rusqlite::{Transaction, params_from_iter};
use serde::{Deserialize, Serialize};

use super::query::{bounds, quoted};
use super::{By, Interval, Outcome, Reader};
use crate::counters::{Counters, from_sql, to_sql};

/// GPU time by a device's UUID, in nanoseconds.
pub type OnDevices = BTreeMap<String, u64>;

/// The account's sum over all devices.
const ALL: &str = "gpu_time_ns";

pub(super) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS device (
    process INTEGER NOT NULL REFERENCES process (id) ON DELETE CASCADE,
    gpu TEXT NOT NULL,
    gpu_time_ns INTEGER NOT NULL,
    PRIMARY KEY (process, gpu)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS device_slice (
    process INTEGER NOT NULL REFERENCES process (id) ON DELETE CASCADE,
    start INTEGER NOT NULL,
    gpu TEXT NOT NULL,
    gpu_time_ns INTEGER NOT NULL,
    PRIMARY KEY (process, start, gpu)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS device_slice_start ON device_slice (start);
";

/// What is booked of a process by device.
#[derive(Clone, Debug, Default)]
pub(super) struct Booked {
    on: OnDevices,
    /// GPU time that was booked before any device was told of, by an earlier release: it stays of none.
    of_none: u64,
}

impl Booked {
    /// What an earlier run has booked, and in all.
    pub(super) fn find(transaction: &Transaction, row: i64, counters: &Counters) -> Outcome<Self> {
        let mut statement = transaction.prepare_cached("SELECT gpu, gpu_time_ns FROM device WHERE process = ?1")?;
        let on = statement.query_map([row], |row| Ok((row.get(0)?, from_sql(row.get(1)?))))?;
        let on: OnDevices = on.collect::<Result<_, _>>()?;
        let of_none = counters.get(ALL).saturating_sub(sum(&on));
        Ok(Self { on, of_none })
    }

    /// What has come since by device: at most what of the process's GPU time is of no device yet.
    pub(super) fn more(&self, told: &OnDevices, counters: &Counters) -> OnDevices {
        let mut room = counters.get(ALL).saturating_sub(self.of_none).saturating_sub(sum(&self.on));
        let mut more = OnDevices::new();
        for (gpu, told) in told {
            let before = self.on.get(gpu).copied().unwrap_or(0);
            let given = told.saturating_sub(before).min(room);
            room -= given;
            if given > 0 {
                more.insert(gpu.clone(), given);
            }
        }
        more
    }

    /// Books what has come.
    pub(super) fn write(mut self, transaction: &Transaction, (row, slice): (i64, u64), more: OnDevices) -> Outcome<Self> {
        for (gpu, more) in more {
            add(&mut self.on, &gpu, more);
            let all = "INSERT INTO device (process, gpu, gpu_time_ns) VALUES (?1, ?2, ?3) \
                       ON CONFLICT (process, gpu) DO UPDATE SET gpu_time_ns = gpu_time_ns + ?3";
            transaction.prepare_cached(all)?.execute((row, &gpu, to_sql(more)))?;
            let interval = "INSERT INTO device_slice (process, gpu, gpu_time_ns, start) VALUES (?1, ?2, ?3, ?4) \
                            ON CONFLICT (process, start, gpu) DO UPDATE SET gpu_time_ns = gpu_time_ns + ?3";
            transaction.prepare_cached(interval)?.execute((row, &gpu, to_sql(more), to_sql(slice)))?;
        }
        Ok(self)
    }
}

fn sum(on: &OnDevices) -> u64 {
    on.values().copied().fold(0, u64::saturating_add)
}

/// One line of an answer by device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRow {
    /// The VM's name.
    pub vm: String,
    /// Its UUID, or empty.
    pub uuid: String,
    /// The device by UUID; empty for time of which no device was told.
    pub gpu: String,
    /// How long it worked for the VM in the interval.
    pub gpu_time_ns: u64,
}

impl Reader {
    /// GPU time in an interval by device, of one VM or of all. What each VM has in all is the sum of its lines.
    ///
    /// # Errors
    /// The disk's.
    pub fn usage_on_devices(&self, vm: Option<&str>, interval: Interval) -> Outcome<Vec<DeviceRow>> {
        // One view of the file for both questions.
        let view = self.connection.unchecked_transaction()?;
        let vms = self.usage(vm, interval, By::Vm)?;
        let select = "SELECT process.vm, device_slice.gpu, sum(device_slice.gpu_time_ns) FROM device_slice \
                      JOIN process ON process.id = device_slice.process \
                      WHERE start >= ?1 AND start < ?2 AND (?3 IS NULL OR process.vm = ?3) GROUP BY process.id, gpu";
        let mut of: BTreeMap<String, OnDevices> = BTreeMap::new();
        let mut statement = view.prepare_cached(select)?;
        let rows = statement.query_map(params_from_iter(bounds(vm, interval)), |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, from_sql(row.get(2)?)))
        })?;
        // Not summed in SQL: what hostile workers claim may not fit.
        for row in rows {
            let (vm, gpu, ns) = row?;
            add(of.entry(vm).or_default(), &gpu, ns);
        }
        let lines = vms.into_iter().flat_map(|all| {
            let mut on = of.remove(&all.vm).unwrap_or_default();
            let of_none = all.used.get(ALL).saturating_sub(sum(&on));
            if of_none > 0 {
                on.insert(String::new(), of_none);
            }
            let line = move |(gpu, gpu_time_ns)| DeviceRow { vm: all.vm.clone(), uuid: all.uuid.clone(), gpu, gpu_time_ns };
            on.into_iter().map(line)
        });
        Ok(lines.collect())
    }

    /// What the processes of a back end's run have used by device that have ended.
    pub(super) fn past_on_devices(&self, boot: &str) -> Outcome<OnDevices> {
        let select = "SELECT device.gpu, device.gpu_time_ns FROM device JOIN process ON process.id = device.process \
                      WHERE boot = ?1 AND number > 0 AND ended IS NOT NULL";
        let mut statement = self.connection.prepare_cached(select)?;
        let rows = statement.query_map([boot], |row| Ok((row.get::<_, String>(0)?, from_sql(row.get(1)?))))?;
        let mut past = OnDevices::new();
        for row in rows {
            let (gpu, ns) = row?;
            add(&mut past, &gpu, ns);
        }
        Ok(past)
    }
}

/// Adds to a device's time.
pub fn add(on: &mut OnDevices, gpu: &str, ns: u64) {
    let sum = on.entry(gpu.to_owned()).or_default();
    *sum = sum.saturating_add(ns);
}

/// Rows as RFC 4180 has them, with a head line.
pub fn csv_on_devices(rows: &[DeviceRow]) -> String {
    let line = |row: &DeviceRow| {
        format!("{},{},{},{}\r\n", quoted(&row.vm), quoted(&row.uuid), quoted(&row.gpu), row.gpu_time_ns)
    };
    std::iter::once("vm,uuid,gpu,gpu_time_ns\r\n".to_owned()).chain(rows.iter().map(line)).collect()
}

#[cfg(test)]
#[path = "devices_tests.rs"]
mod tests;
