//! A VM that is registered, and its processes: what their pages say, and what of it is booked.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;

use paravane_backend::account::{AccountPage, Gauge};
use paravane_backend::devices::DEVICES_MAX;
use paravane_backend::lease::{VmFigures, VmId};
use paravane_backend::register::message::{self, Last, Named, ToBackend};

use crate::counters::Counters;
use crate::ledger::{self, Entry, Key, OnDevices, Past};
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
    last: Option<LastFigures>,
}

#[derive(Clone, Copy, Debug, Default)]
struct LastFigures {
    counters: Counters,
    on_devices: [u64; DEVICES_MAX],
    memory_peak_bytes: u64,
}

impl Account {
    /// Of a VM that has no processes yet but those that have ended: the ledger has their sum and their numbers.
    pub fn after(past: Past) -> Self {
        Self { past, ..Self::default() }
    }
}

impl Process {
    fn counters(&self) -> Counters {
        let page = self.page.as_ref().map(|page| Counters::of_account(page.read())).unwrap_or_default();
        // The back end read the same page at the process's end; the greater is the later.
        self.last.map_or(page, |last| page.max(&last.counters))
    }

    /// GPU time by the number of the device.
    fn on_devices(&self) -> [u64; DEVICES_MAX] {
        let mut on = self.page.as_ref().map(AccountPage::read_devices).unwrap_or_default();
        let last = self.last.map(|last| last.on_devices).unwrap_or_default();
        on.iter_mut().zip(last).for_each(|(on, last)| *on = last.max(*on));
        on
    }

    /// The most memory that it ever held.
    fn memory_peak_bytes(&self) -> u64 {
        let page = self.page.as_ref().map_or(0, |page| page.gauge(Gauge::MemoryPeakBytes).load(Ordering::Relaxed));
        self.last.map_or(page, |last| page.max(last.memory_peak_bytes)).max(self.gauge(Gauge::MemoryBytes))
    }

    fn gauge(&self, gauge: Gauge) -> u64 {
        let runs = self.last.is_none();
        self.page.as_ref().filter(|_| runs).map_or(0, |page| page.gauge(gauge).load(Ordering::Relaxed))
    }
}

/// What a VM has of a device.
#[derive(Clone, Debug, Default)]
pub struct OnDevice {
    /// The device's UUID.
    pub uuid: String,
    /// Whether the VM's guarantee is given here: it had room.
    pub guaranteed: bool,
    /// What it was last told to be entitled to, in thousandths.
    pub entitled: u32,
    /// What the arbiter said last.
    pub figures: VmFigures,
    /// Device memory that its workers say is there.
    pub resident_bytes: u64,
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
    /// The UUIDs of all devices that its back end has, in the order in which accounts count them.
    pub listed: Vec<String>,
    /// The devices that it is placed on, in the order in which it sees them.
    pub devices: Vec<OnDevice>,
    /// When it registered, in seconds since 1970.
    pub since_s: u64,
    /// What is set.
    pub layers: Layers,
    /// The most memory that was in use at a look.
    pub memory_peak_bytes: u64,
    /// None once the back end has gone. Does not block.
    pub socket: Option<OwnedFd>,
    /// What its processes use.
    pub account: Account,
}

/// The processes of a VM, those that have gone too.
#[derive(Debug, Default)]
pub struct Account {
    processes: BTreeMap<u64, Process>,
    /// What is told of without names.
    rest: Counters,
    /// What those have used that are booked and gone. Their numbers are those that an earlier run of paravaned has
    /// booked: the back end may not know.
    past: Past,
    /// Nothing comes any more.
    finished: bool,
}


impl Vm {
    /// Tells the back end something. One that does not listen is hung up on: it registers again and hears all.
    pub fn tell(&self, message: &ToBackend) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = message::send(socket.as_fd(), message, Vec::new()) {
            log::warn!("{}: the back end cannot be told: {error}", self.name);
            // Its reader notices.
            let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
        }
    }

    /// What it has of a device, if it is placed there.
    pub fn on(&self, uuid: &str) -> Option<&OnDevice> {
        self.devices.iter().find(|on| on.uuid == uuid)
    }

    /// The same, to change it.
    pub fn on_mut(&mut self, uuid: &str) -> Option<&mut OnDevice> {
        self.devices.iter_mut().find(|on| on.uuid == uuid)
    }

    /// The UUIDs of its devices.
    pub fn uuids(&self) -> Vec<String> {
        self.devices.iter().map(|on| on.uuid.clone()).collect()
    }

    /// Its part of all its devices' time in the last second, in thousandths.
    pub fn share(&self) -> u32 {
        mean(self.devices.iter().map(|on| on.figures.share))
    }

    /// Device memory of its on one of its devices. Of a VM on one device the account has all of it;
    /// what its workers say of each is seen a little later.
    pub fn memory_on(&self, on: &OnDevice) -> u64 {
        if self.devices.len() == 1 { self.memory_bytes() } else { on.resident_bytes }
    }

    /// A process begins. False: there are too many, or it is known.
    pub fn begin(&mut self, number: u64, pid: u32, name: &str, worker: u32, page: AccountPage) -> bool {
        let room = self.account.processes.len() < PROCESSES_MAX && !self.account.processes.contains_key(&number) && number > 0;
        if room {
            let process = Process { pid, name: printable(name), worker, page: Some(page), last: None };
            self.account.processes.insert(number, process);
        }
        room
    }

    /// A process has ended. False: there are too many.
    pub fn end(&mut self, last: &Last) -> bool {
        let number = last.number;
        if number == 0 || (self.account.processes.len() >= PROCESSES_MAX && !self.account.processes.contains_key(&number)) {
            return false;
        }
        if self.account.past.numbers.contains(&number) {
            self.tell(&ToBackend::Booked { numbers: vec![number] });
            return true;
        }
        let fresh = || Process { pid: last.pid, name: printable(&last.name), worker: 0, page: None, last: None };
        let process = self.account.processes.entry(number).or_insert_with(fresh);
        let mut on_devices = [0; DEVICES_MAX];
        on_devices.iter_mut().zip(&last.gpu_time_ns_on).for_each(|(on, told)| *on = *told);
        let (counters, memory_peak_bytes) = (of_names(&last.counters), last.memory_peak_bytes);
        process.last = Some(LastFigures { counters, on_devices, memory_peak_bytes });
        true
    }

    /// What is told of without names.
    pub fn set_rest(&mut self, counters: &Named) {
        self.account.rest = of_names(counters);
    }

    /// The back end has gone: whatever ran ends.
    pub fn leave(&mut self) {
        self.socket = None;
    }

    /// After [`leave`](Self::leave): the workers are gone too, these are the last figures.
    pub fn finish(&mut self) {
        self.account.finished = true;
        for process in self.account.processes.values_mut() {
            process.last.get_or_insert_default();
        }
    }

    /// All that there is to book.
    pub fn entries(&self) -> Vec<Entry> {
        let entry = |number, counters, ended| Entry {
            key: Key { boot: self.boot.clone(), number },
            vm: self.name.clone(),
            uuid: self.uuid.clone(),
            pid: 0,
            name: String::new(),
            counters,
            on_devices: OnDevices::new(),
            memory_bytes: 0,
            memory_peak_bytes: 0,
            ended,
        };
        let rest = self.account.rest;
        let on_devices = self.by_uuid(&rest, [0; DEVICES_MAX]);
        let mut entries = vec![Entry { on_devices, ..entry(0, rest, self.account.finished) }];
        entries.extend(self.account.processes.iter().map(|(number, process)| Entry {
            pid: process.pid,
            name: process.name.clone(),
            memory_bytes: process.gauge(Gauge::MemoryBytes),
            memory_peak_bytes: process.memory_peak_bytes(),
            on_devices: self.on_devices(process),
            ..entry(*number, process.counters(), process.last.is_some())
        }));
        entries
    }

    fn on_devices(&self, process: &Process) -> OnDevices {
        self.by_uuid(&process.counters(), process.on_devices())
    }

    /// GPU time by device. What no device is told of is of the VM's only one: of OpenGL, and of back ends of an
    /// earlier release, the account has the sum alone.
    fn by_uuid(&self, counters: &Counters, told: [u64; DEVICES_MAX]) -> OnDevices {
        let told = self.listed.iter().zip(told).filter(|(_, ns)| *ns > 0);
        let mut on: OnDevices = told.map(|(uuid, ns)| (uuid.clone(), ns)).collect();
        if let [only] = self.devices.as_slice() {
            let sum = on.values().copied().fold(0, u64::saturating_add);
            ledger::add(&mut on, &only.uuid, counters.get("gpu_time_ns").saturating_sub(sum));
        }
        on
    }

    /// How long a device has worked for it since the back end began, in nanoseconds.
    pub fn gpu_time_on(&self, uuid: &str) -> u64 {
        let running = self.account.processes.values().map(|process| self.on_devices(process));
        let rest = self.by_uuid(&self.account.rest, [0; DEVICES_MAX]);
        let all = running.chain([rest, self.account.past.on_devices.clone()]);
        all.filter_map(|on| on.get(uuid).copied()).fold(0, u64::saturating_add)
    }

    /// These are on the disk: those that have ended are forgotten here and in the back end.
    pub fn booked(&mut self, entries: &[Entry]) {
        let mine = entries.iter().filter(|entry| entry.ended && entry.key.boot == self.boot);
        let numbers: Vec<u64> = mine.map(|entry| entry.key.number).filter(|number| *number > 0).collect();
        for number in &numbers {
            let Some(process) = self.account.processes.remove(number) else { continue };
            let on_devices = self.on_devices(&process);
            let past = &mut self.account.past;
            past.counters = past.counters.plus(&process.counters());
            on_devices.iter().for_each(|(uuid, ns)| ledger::add(&mut past.on_devices, uuid, *ns));
        }
        for numbers in numbers.chunks(NUMBERS_MAX) {
            self.tell(&ToBackend::Booked { numbers: numbers.to_vec() });
        }
    }

    /// Sums since the back end began.
    pub fn used(&self) -> Counters {
        let running = self.account.processes.values().map(Process::counters);
        running.fold(self.account.past.counters.plus(&self.account.rest), |sum, counters| sum.plus(&counters))
    }

    /// Device memory in use.
    pub fn memory_bytes(&self) -> u64 {
        let gauges = self.account.processes.values().map(|process| process.gauge(Gauge::MemoryBytes));
        gauges.fold(0, u64::saturating_add)
    }

    /// Whether there is such a process, and it runs.
    pub fn runs(&self, number: u64) -> bool {
        self.account.processes.get(&number).is_some_and(|process| process.last.is_none())
    }

    /// The processes that run.
    pub fn process_views(&self) -> Vec<ProcessView> {
        let running = self.account.processes.iter().filter(|(_, process)| process.last.is_none());
        let view = |(number, process): (&u64, &Process)| ProcessView {
            number: *number,
            pid: process.pid,
            name: process.name.clone(),
            worker: process.worker,
            memory_bytes: process.gauge(Gauge::MemoryBytes),
            memory_peak_bytes: process.memory_peak_bytes(),
            contexts: process.gauge(Gauge::Contexts),
            busy_percent: process.gauge(Gauge::BusyPercent).min(100),
            used: process.counters(),
        };
        running.map(view).collect()
    }
}

/// The mean of some parts; 0 of none.
pub fn mean(parts: impl Iterator<Item = u32>) -> u32 {
    let (sum, count) = parts.fold((0_u64, 0_u64), |(sum, count), part| (sum + u64::from(part), count + 1));
    u32::try_from(sum / count.max(1)).unwrap_or(u32::MAX)
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
