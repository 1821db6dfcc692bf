//! What each guest process has used, for `--usage-json` and for paravaned:
//! counters of workers that run, of workers that have ended, and their sum.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use paravane_protocol::limits::PROCESSES_KEPT_MAX;
use serde_json::{Map, Value, json};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::account::{AccountPage, COUNTERS, Counter, Gauge, OnDevices};
use crate::budget::{Figures, UNLIMITED};
use crate::control::{Share, sealed_file};
use crate::register::message::{Last, Named};
use crate::unbooked::Unbooked;

pub(crate) type Counters = [u64; COUNTERS.len()];

/// The account of one guest process.
#[derive(Debug)]
pub struct ProcessAccount {
    /// Counts the back end's processes from 1.
    pub number: u64,
    /// Its id in the guest.
    pub pid: u32,
    /// Its name in the guest.
    pub name: String,
    /// Its worker's id on the host.
    pub worker: u32,
    /// Its counters.
    pub page: AccountPage,
    /// What paravaned maps the page from, and what ends the worker.
    held: Option<Held>,
}

/// What there is of a worker besides its account's page.
#[derive(Debug)]
pub struct Held {
    /// The account page's file.
    pub page: OwnedFd,
    /// The worker.
    pub pidfd: OwnedFd,
}

impl ProcessAccount {
    /// The page's file, for another process.
    pub fn page_file(&self) -> io::Result<OwnedFd> {
        let held = self.held.as_ref().ok_or(io::ErrorKind::NotFound)?;
        held.page.try_clone()
    }
}

/// A process that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Finished {
    pub(crate) number: u64,
    pub(crate) pid: u32,
    pub(crate) name: String,
    pub(crate) counters: Counters,
    pub(crate) on_devices: OnDevices,
    pub(crate) memory_peak_bytes: u64,
}

/// What paravaned is told of a process.
#[derive(Debug)]
pub enum Told {
    /// It runs.
    Begins(Arc<ProcessAccount>),
    /// It does not any more.
    Ended(Last),
}

#[derive(Default)]
struct Ledger {
    issued: u64,
    running: Vec<Arc<ProcessAccount>>,
    finished: Vec<Finished>,
    /// Sum of the finished ones that are no longer named.
    forgotten: Counters,
    /// Those of the finished ones that paravaned has not booked.
    unbooked: Option<Unbooked>,
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
    /// Readable when there is something to tell paravaned.
    news: OnceLock<OwnedFd>,
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
        held: Option<Held>,
    ) -> Arc<ProcessAccount> {
        let mut ledger = self.ledger();
        ledger.issued += 1;
        let account = Arc::new(ProcessAccount { number: ledger.issued, pid, name, worker, page, held });
        ledger.running.push(Arc::clone(&account));
        self.ring();
        account
    }

    /// Closes it: the worker has ended, its counters are final.
    pub fn close(&self, account: &Arc<ProcessAccount>) {
        let mut ledger = self.ledger();
        ledger.running.retain(|other| !Arc::ptr_eq(other, account));
        let finished = Finished {
            number: account.number,
            pid: account.pid,
            name: account.name.clone(),
            counters: account.page.read(),
            on_devices: account.page.read_devices(),
            memory_peak_bytes: memory(account).1,
        };
        if let Some(unbooked) = &mut ledger.unbooked {
            unbooked.push(finished.clone());
        }
        ledger.finished.push(finished);
        if ledger.finished.len() > PROCESSES_KEPT_MAX {
            let oldest = ledger.finished.remove(0);
            add(&mut ledger.forgotten, &oldest.counters);
        }
        self.ring();
    }

    fn ring(&self) {
        if let Some(news) = self.news.get() {
            // Fails only when 2^64 - 2 news have not been looked at.
            let _ = rustix::io::write(news, &1_u64.to_ne_bytes());
        }
    }

    /// From now on finished processes are kept until they are booked.
    pub fn expect_bookings(&self) {
        use rustix::event::{EventfdFlags, eventfd};
        match eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK) {
            Ok(news) => drop(self.news.set(news)),
            Err(error) => log::error!("processes are told to paravaned late: {error}"),
        }
        self.ledger().unbooked.get_or_insert_default();
    }

    /// Readable when there is something to tell.
    pub fn news(&self) -> Option<BorrowedFd<'_>> {
        self.news.get().map(AsFd::as_fd)
    }

    /// What paravaned must hear that knows which processes have begun and ended.
    pub fn untold(&self, begun: &BTreeSet<u64>, ended: &BTreeSet<u64>) -> Vec<Told> {
        let mut ledger = self.ledger();
        let ledger = &mut *ledger;
        let Some(unbooked) = &mut ledger.unbooked else { return Vec::new() };
        let fresh = ledger.running.iter().filter(|account| !begun.contains(&account.number));
        let mut told: Vec<Told> = fresh.map(|account| Told::Begins(Arc::clone(account))).collect();
        unbooked.known(ledger.running.iter().map(|account| account.number));
        let silent = unbooked.iter().filter(|finished| !ended.contains(&finished.number));
        told.extend(silent.map(|finished| {
            Told::Ended(Last {
                number: finished.number,
                pid: finished.pid,
                name: finished.name.clone(),
                counters: by_name(&finished.counters),
                gpu_time_ns_on: finished.on_devices.to_vec(),
                memory_peak_bytes: finished.memory_peak_bytes,
            })
        }));
        told
    }

    /// What finished processes have used that are not told of one by one.
    pub fn rest(&self) -> Named {
        self.ledger().unbooked.as_ref().map(|unbooked| by_name(&unbooked.rest)).unwrap_or_default()
    }

    /// The last figures of these are on paravaned's disk.
    pub fn booked(&self, numbers: &[u64]) {
        if let Some(unbooked) = &mut self.ledger().unbooked {
            unbooked.remove(numbers);
        }
    }

    /// Ends a process's worker, or all. How many.
    pub fn kill(&self, number: Option<u64>) -> usize {
        let ledger = self.ledger();
        let named = ledger.running.iter().filter(|account| number.is_none_or(|number| number == account.number));
        let held = named.filter_map(|account| account.held.as_ref());
        held.filter(|held| rustix::process::pidfd_send_signal(&held.pidfd, rustix::process::Signal::KILL).is_ok())
            .count()
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

pub(crate) fn add(sum: &mut Counters, counters: &Counters) {
    for (sum, counter) in sum.iter_mut().zip(counters) {
        *sum = sum.saturating_add(*counter);
    }
}

fn by_name(counters: &Counters) -> Named {
    COUNTERS.iter().zip(counters).map(|((_, name), counter)| ((*name).to_string(), *counter)).collect()
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
        usage.open(pid, format!("p{pid}"), 70 + pid, page, None)
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
