//! A VM that is registered, and its processes: what their pages say, and what of it is booked.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;

use paravane_backend::account::{AccountPage, Gauge};
use paravane_backend::lease::{VmFigures, VmId};
use paravane_backend::register::message::{self, Named, ToBackend};

use crate::counters::Counters;
use crate::ledger::{Entry, Key};
use crate::view::{Layers, ProcessView};

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// The process.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// A guest process.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    name: String,
    worker: u32,
    /// None where it had ended before it was told of.
    page: Option<AccountPage>,
    /// The last figures, once it has ended.
    last: Option<Counters>,
}

impl Process {
    fn counters(&self) -> Counters {
        let page = self.page.as_ref().map(|page| Counters::of_account(page.read())).unwrap_or_default();
        // The back end read the same page at the process's end; the greater is the later.
        self.last.map_or(page, |last| page.max(&last))
    }

    fn gauge(&self, gauge: Gauge) -> u64 {
        let runs = self.last.is_none();
        self.page.as_ref().filter(|_| runs).map_or(0, |page| page.gauge(gauge).load(Ordering::Relaxed))
    }
}

/// A VM.
#[derive(Debug)]
pub struct Vm {
    /// Its number for the arbiter.
    pub id: VmId,
    /// Its name.
    pub name: String,
    /// Its UUID, or empty.
    pub uuid: String,
    /// The run of its back end.
    pub boot: String,
    /// The back end.
    pub peer: Peer,
    /// The device, by UUID.
    pub gpu: String,
    /// When it registered, in seconds since 1970.
    pub since_s: u64,
    /// What is set.
    pub layers: Layers,
    /// What it was last told to be entitled to.
    pub entitled: u32,
    /// The most memory that was in use at a look.
    pub memory_peak_bytes: u64,
    /// What the arbiter said last.
    pub figures: VmFigures,
    /// None once the back end has gone.
    socket: Option<OwnedFd>,
    processes: BTreeMap<u64, Process>,
    /// What is told of without names.
    rest: Counters,
    /// What those have used that are booked and gone.
    past: Counters,
    /// Their numbers, as far as an earlier run of paravaned has booked them: the back end may not know.
    past_numbers: BTreeSet<u64>,
    /// Nothing comes any more.
    finished: bool,
}

/// What a VM is made of.
#[derive(Debug)]
pub struct Arrival {
    /// As [`Vm`] has them.
    pub id: VmId,
    /// As above.
    pub name: String,
    /// As above.
    pub uuid: String,
    /// As above.
    pub boot: String,
    /// As above.
    pub peer: Peer,
    /// As above.
    pub gpu: String,
    /// As above.
    pub since_s: u64,
    /// As above.
    pub layers: Layers,
    /// What the ledger has of its processes that have ended, and their numbers.
    pub past: (Counters, BTreeSet<u64>),
    /// The connection; does not block.
    pub socket: OwnedFd,
}

impl Vm {
    /// A VM that has no processes yet.
    pub fn new(of: Arrival) -> Self {
        Self {
            id: of.id,
            name: of.name,
            uuid: of.uuid,
            boot: of.boot,
            peer: of.peer,
            gpu: of.gpu,
            since_s: of.since_s,
            layers: of.layers,
            entitled: 0,
            memory_peak_bytes: 0,
            figures: VmFigures::default(),
            socket: Some(of.socket),
            processes: BTreeMap::new(),
            rest: Counters::default(),
            past: of.past.0,
            past_numbers: of.past.1,
            finished: false,
        }
    }

    /// Tells the back end something. One that does not listen is hung up on: it registers again and hears all.
    pub fn tell(&self, message: &ToBackend) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = message::send(socket.as_fd(), message, Vec::new()) {
            log::warn!("{}: the back end cannot be told: {error}", self.name);
            // Its reader notices.
            let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
        }
    }

    /// A process begins. False: there are too many, or it is known.
    pub fn begin(&mut self, number: u64, pid: u32, name: &str, worker: u32, page: AccountPage) -> bool {
        let room = self.processes.len() < PROCESSES_MAX && !self.processes.contains_key(&number) && number > 0;
        if room {
            let process = Process { pid, name: printable(name), worker, page: Some(page), last: None };
            self.processes.insert(number, process);
        }
        room
    }

    /// A process has ended. False: there are too many.
    pub fn end(&mut self, number: u64, pid: u32, name: &str, counters: &Named) -> bool {
        if number == 0 || (self.processes.len() >= PROCESSES_MAX && !self.processes.contains_key(&number)) {
            return false;
        }
        if self.past_numbers.contains(&number) {
            self.tell(&ToBackend::Booked { numbers: vec![number] });
            return true;
        }
        let fresh = || Process { pid, name: printable(name), worker: 0, page: None, last: None };
        self.processes.entry(number).or_insert_with(fresh).last = Some(of_names(counters));
        true
    }

    /// What is told of without names.
    pub fn set_rest(&mut self, counters: &Named) {
        self.rest = of_names(counters);
    }

    /// The back end has gone: whatever ran ends.
    pub fn leave(&mut self) {
        self.socket = None;
    }

    /// After [`leave`](Self::leave): the workers are gone too, these are the last figures.
    pub fn finish(&mut self) {
        self.finished = true;
        for process in self.processes.values_mut() {
            process.last.get_or_insert_default();
        }
    }

    /// All that there is to book.
    pub fn entries(&self) -> Vec<Entry> {
        let entry = |number, pid, name: &str, counters, memory_bytes, ended| Entry {
            key: Key { boot: self.boot.clone(), number },
            vm: self.name.clone(),
            uuid: self.uuid.clone(),
            pid,
            name: name.to_owned(),
            counters,
            memory_bytes,
            ended,
        };
        let mut entries = vec![entry(0, 0, "", self.of_the_vm(), 0, self.finished)];
        entries.extend(self.processes.iter().map(|(number, process)| {
            let memory = process.gauge(Gauge::MemoryBytes);
            entry(*number, process.pid, &process.name, process.counters(), memory, process.last.is_some())
        }));
        entries
    }

    /// What belongs to no single process.
    fn of_the_vm(&self) -> Counters {
        let mut counters = self.rest;
        counters.set("waited_ns", self.figures.waited_ns);
        counters.set("throttled_ns", self.figures.throttled_ns);
        counters.set("overrun_ns", self.figures.overrun_ns);
        counters
    }

    /// These are on the disk: those that have ended are forgotten here and in the back end.
    pub fn booked(&mut self, entries: &[Entry]) {
        let mine = entries.iter().filter(|entry| entry.ended && entry.key.boot == self.boot);
        let numbers: Vec<u64> = mine.map(|entry| entry.key.number).filter(|number| *number > 0).collect();
        for process in numbers.iter().filter_map(|number| self.processes.remove(number)) {
            self.past = self.past.plus(&process.counters());
        }
        for numbers in numbers.chunks(NUMBERS_MAX) {
            self.tell(&ToBackend::Booked { numbers: numbers.to_vec() });
        }
    }

    /// Sums since the back end began.
    pub fn used(&self) -> Counters {
        let running = self.processes.values().map(Process::counters);
        running.fold(self.past.plus(&self.of_the_vm()), |sum, counters| sum.plus(&counters))
    }

    /// Device memory in use.
    pub fn memory_bytes(&self) -> u64 {
        let gauges = self.processes.values().map(|process| process.gauge(Gauge::MemoryBytes));
        gauges.fold(0, u64::saturating_add)
    }

    /// Whether there is such a process, and it runs.
    pub fn runs(&self, number: u64) -> bool {
        self.processes.get(&number).is_some_and(|process| process.last.is_none())
    }

    /// The processes that run.
    pub fn process_views(&self) -> Vec<ProcessView> {
        let running = self.processes.iter().filter(|(_, process)| process.last.is_none());
        let view = |(number, process): (&u64, &Process)| ProcessView {
            number: *number,
            pid: process.pid,
            name: process.name.clone(),
            worker: process.worker,
            memory_bytes: process.gauge(Gauge::MemoryBytes),
            contexts: process.gauge(Gauge::Contexts),
            busy_percent: process.gauge(Gauge::BusyPercent).min(100),
            used: process.counters(),
        };
        running.map(view).collect()
    }
}

/// Processes of a VM that are known at a time: those that run, and those that ended since the last booking or while
/// paravaned was away.
const PROCESSES_MAX: usize = 4096;
/// Numbers in one packet.
const NUMBERS_MAX: usize = 1000;

fn of_names(named: &Named) -> Counters {
    let mut counters = Counters::default();
    named.iter().for_each(|(name, value)| counters.set(name, *value));
    counters
}

/// A name that somebody else chose, for logs and terminals.
pub fn printable(name: &str) -> String {
    let shown = |letter: char| if letter.is_control() { '\u{fffd}' } else { letter };
    let mut text: String = name.chars().map(shown).collect();
    while text.len() > message::NAME_BYTES_MAX {
        text.pop();
    }
    text
}
