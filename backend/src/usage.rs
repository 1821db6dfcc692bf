//! What each guest process has used, for `--usage-json`: counters of workers
//! that run, of workers that have ended, and their sum.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use paravane_protocol::limits::PROCESSES_KEPT_MAX;
use serde_json::{Map, Value, json};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::account::{AccountPage, COUNTERS, Counter, Gauge};
use crate::budget::{Figures, UNLIMITED};
use crate::control::{Share, sealed_file};

type Counters = [u64; COUNTERS.len()];

/// The account of one guest process.
#[derive(Debug)]
pub struct ProcessAccount {
    /// Its id in the guest.
    pub pid: u32,
    /// Its name in the guest.
    pub name: String,
    /// Its worker's id on the host.
    pub worker: u32,
    /// Its counters.
    pub page: AccountPage,
}

struct Finished {
    pid: u32,
    name: String,
    counters: Counters,
    memory_peak_bytes: u64,
}

#[derive(Default)]
struct Ledger {
    running: Vec<Arc<ProcessAccount>>,
    finished: Vec<Finished>,
    /// Sum of the finished ones that are no longer named.
    forgotten: Counters,
}

/// A process of the VM that runs, as the VM's workers are told of it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct User {
    /// Its id in the guest.
    pub pid: U32,
    /// Its worker's id on the host.
    pub worker: U32,
    /// Gauges and GPU time as [`crate::account`] has them.
    pub memory_bytes: U64,
    /// Contexts that live.
    pub contexts: U64,
    /// Of the last sample period.
    pub busy_percent: U64,
    /// The end of that period.
    pub seen_us: U64,
    /// GPU time.
    pub busy_ns: U64,
}
const _: () = assert!(size_of::<User>() == 48);

impl User {
    /// The answer to [`crate::control::FromWorker::Users`].
    pub fn share(users: &[Self]) -> io::Result<Share> {
        let file = Some(sealed_file("paravane-users", users.as_bytes())?);
        Ok(Share { token: [0; 16], bytes: [0; 64], file })
    }

    /// Reads what [`User::share`] has made.
    pub fn read(share: Share) -> io::Result<Vec<Self>> {
        let file = share.file.ok_or(io::ErrorKind::InvalidData)?;
        let mut bytes = Vec::new();
        File::from(file).read_to_end(&mut bytes)?;
        let users = <[Self]>::ref_from_bytes(&bytes);
        users.map(<[Self]>::to_vec).map_err(|_| io::ErrorKind::InvalidData.into())
    }
}

/// All accounts of a back end.
#[derive(Default)]
pub struct Usage {
    ledger: Mutex<Ledger>,
}

impl Usage {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a process's account.
    pub fn open(
        &self,
        pid: u32,
        name: String,
        worker: u32,
        page: AccountPage,
    ) -> Arc<ProcessAccount> {
        let account = Arc::new(ProcessAccount { pid, name, worker, page });
        self.ledger().running.push(Arc::clone(&account));
        account
    }

    /// Closes it: the worker has ended, its counters are final.
    pub fn close(&self, account: &Arc<ProcessAccount>) {
        let mut ledger = self.ledger();
        ledger.running.retain(|other| !Arc::ptr_eq(other, account));
        ledger.finished.push(Finished {
            pid: account.pid,
            name: account.name.clone(),
            counters: account.page.read(),
            memory_peak_bytes: memory(account).1,
        });
        if ledger.finished.len() > PROCESSES_KEPT_MAX {
            let oldest = ledger.finished.remove(0);
            add(&mut ledger.forgotten, &oldest.counters);
        }
    }

    /// The processes that run, for one of the VM's workers.
    pub fn users(&self) -> Vec<User> {
        let user = |account: &Arc<ProcessAccount>| {
            let gauge = |gauge| account.page.gauge(gauge).load(Ordering::Relaxed).into();
            User {
                pid: account.pid.into(),
                worker: account.worker.into(),
                memory_bytes: gauge(Gauge::MemoryBytes),
                contexts: gauge(Gauge::Contexts),
                busy_percent: gauge(Gauge::BusyPercent),
                seen_us: gauge(Gauge::SeenUs),
                busy_ns: account.page.counter(Counter::GpuTimeNs).load(Ordering::Relaxed).into(),
            }
        };
        self.ledger().running.iter().map(user).collect()
    }

    /// One JSON object: the VM, its processes, the totals, and of memory what is
    /// in use now and was at most.
    pub fn report(&self, vm: &str, budget: &Figures) -> Value {
        let ledger = self.ledger();
        let mut totals = ledger.forgotten;
        let running = ledger.running.iter().map(|a| (a.pid, a.name.as_str(), a.page.read(), memory(a)));
        let finished =
            ledger.finished.iter().map(|f| (f.pid, f.name.as_str(), f.counters, (0, f.memory_peak_bytes)));
        let processes: Vec<Value> = finished
            .chain(running)
            .map(|(pid, name, counters, (memory_bytes, memory_peak_bytes))| {
                add(&mut totals, &counters);
                let mut object = named(&counters);
                object.insert("pid".into(), pid.into());
                object.insert("name".into(), name.into());
                object.insert("memory_bytes".into(), memory_bytes.into());
                object.insert("memory_peak_bytes".into(), memory_peak_bytes.into());
                Value::Object(object)
            })
            .collect();
        let mut totals = named(&totals);
        totals.insert("memory_bytes".into(), budget.used.into());
        totals.insert("memory_peak_bytes".into(), budget.peak.into());
        let quota = (budget.limit != UNLIMITED).then_some(budget.limit);
        json!({ "vm": vm, "memory_quota_bytes": quota, "processes": processes, "totals": totals })
    }

    /// Replaces the file at `path` by the report.
    pub fn write(&self, vm: &str, budget: &Figures, path: &Path) -> io::Result<()> {
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".new");
        fs::write(&unfinished, format!("{}\n", self.report(vm, budget)))?;
        fs::rename(&unfinished, path)
    }
}

/// Memory of a process: now and at most.
fn memory(account: &Arc<ProcessAccount>) -> (u64, u64) {
    let gauge = |gauge| account.page.gauge(gauge).load(Ordering::Relaxed);
    (gauge(Gauge::MemoryBytes), gauge(Gauge::MemoryPeakBytes))
}

fn add(sum: &mut Counters, counters: &Counters) {
    for (sum, counter) in sum.iter_mut().zip(counters) {
        *sum = sum.saturating_add(*counter);
    }
}

fn named(counters: &Counters) -> Map<String, Value> {
    COUNTERS
        .iter()
        .zip(counters)
        .map(|((_, name), counter)| ((*name).to_string(), (*counter).into()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Figures = Figures { limit: 100, used: 5, pinned: 0, peak: 9 };

    fn open(usage: &Usage, pid: u32, kernels: u64) -> Arc<ProcessAccount> {
        let page = AccountPage::create().unwrap().0;
        page.counter(Counter::Kernels).store(kernels, Ordering::Relaxed);
        usage.open(pid, format!("p{pid}"), 70 + pid, page)
    }

    #[test]
    fn running_and_ended_processes_are_summed() {
        let usage = Usage::default();
        let first = open(&usage, 7, 3);
        let _second = open(&usage, 8, 4);
        first.page.gauge(Gauge::MemoryPeakBytes).store(8, Ordering::Relaxed);
        usage.close(&first);
        first.page.counter(Counter::Kernels).store(100, Ordering::Relaxed);
        let report = usage.report("vm", &BUDGET);
        assert_eq!(report["memory_quota_bytes"], 100);
        assert_eq!((&report["totals"]["memory_bytes"], &report["totals"]["memory_peak_bytes"]), (&json!(5), &json!(9)));
        assert_eq!(report["processes"][0]["memory_peak_bytes"], 8);
        assert_eq!(report["vm"], "vm");
        assert_eq!(report["totals"]["kernels"], 7);
        assert_eq!(report["processes"][0]["pid"], 7);
        assert_eq!(report["processes"][0]["kernels"], 3);
        assert_eq!(report["processes"][1]["name"], "p8");
        assert_eq!(report["processes"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn users_are_the_processes_that_run() {
        let usage = Usage::default();
        let ended = open(&usage, 1, 1);
        let runs = open(&usage, 2, 1);
        runs.page.gauge(Gauge::MemoryBytes).store(9, Ordering::Relaxed);
        usage.close(&ended);
        let users = usage.users();
        let [user] = users.as_slice() else { panic!("{users:?}") };
        assert_eq!((user.pid.get(), user.worker.get(), user.memory_bytes.get()), (2, 72, 9));
        let told = User::read(User::share(&users).unwrap()).unwrap();
        assert_eq!(told.as_bytes(), users.as_bytes());
        let nothing = Share { token: [0; 16], bytes: [0; 64], file: None };
        assert!(User::read(nothing).is_err());
    }

    #[test]
    fn forgotten_processes_stay_in_the_totals() {
        let usage = Usage::default();
        for _ in 0..PROCESSES_KEPT_MAX + 5 {
            usage.close(&open(&usage, 1, 1));
        }
        let report = usage.report("vm", &Figures { limit: UNLIMITED, ..BUDGET });
        assert_eq!(report["memory_quota_bytes"], Value::Null);
        assert_eq!(report["processes"].as_array().unwrap().len(), PROCESSES_KEPT_MAX);
        assert_eq!(report["totals"]["kernels"], PROCESSES_KEPT_MAX + 5);
    }
}
