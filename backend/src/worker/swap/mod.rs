//! Device memory that may lie on the host, where the VM opted in. Its cuMemAlloc
//! is made of reserved addresses and memory mapped there (`rows`, `pieces`,
//! `device`), so that it can go and come back at the same addresses. Every
//! command that could touch device memory enters ([`Swap::enter`]; `work` says
//! which do not); one thread of the process (`mover`) takes the memory out when
//! the VM's page allows less than is there, and brings it in when somebody
//! waits and there is room.

mod device;
mod host;
mod mover;
mod pieces;
mod rows;
mod work;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::process::Process;
use crate::account::Counter;
use crate::lease::page::now_ns;
use pieces::{Piece, Place, Table};

pub(super) use mover::start;
pub(super) use rows::run;
pub(super) use work::enters;

/// In [`Swap::inside`]: nobody comes in.
const CLOSED: u64 = 1 << 63;
/// Who waits for the device to be done, so that the memory can go, waits no longer than this: the
/// device may wait for what this very thread brings next. Doubled each time.
const PATIENCE: Duration = Duration::from_millis(100);
const PATIENCE_MAX: Duration = Duration::from_secs(10);
/// A thread outside looks by itself so often.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Commands come in.
    In,
    /// None comes in any more; those inside, and the device, are waited for.
    Leaving,
    /// Memory is on its way.
    Moving,
    /// Nothing is inside, and not all memory is on the device.
    Out,
}

struct State {
    phase: Phase,
    patience: Duration,
    /// Not to be tried again before.
    retry: Option<Instant>,
    /// Threads that wait for memory.
    outside: u32,
    /// Counts moves.
    moves: u64,
    /// It is in the log that memory does not move.
    told: bool,
}

/// A process's memory that moves.
pub(super) struct Swap {
    /// Commands that are being issued; [`CLOSED`] beside.
    inside: AtomicU64,
    state: Mutex<State>,
    changed: Condvar,
    /// Taken before the state where both are.
    table: Mutex<Table>,
    /// Bytes behind which the library has no memory, by their devices' leases.
    elsewhere: Vec<AtomicU64>,
}

/// A command that is being issued: memory stays where it is meanwhile.
pub(super) struct Entry<'a>(&'a Swap);

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.0.exit();
    }
}

/// Memory neither comes nor goes while this is held.
pub(super) struct Hold<'a> {
    swap: &'a Swap,
    table: MutexGuard<'a, Table>,
}

impl Hold<'_> {
    /// A context has ended with its memory.
    pub(super) fn end_context(&mut self, process: &Process, id: u64) {
        for (start, piece) in self.table.take_context(id) {
            release(process, start, piece);
        }
        self.swap.recount(&self.table);
    }
}

/// A piece that is in the table no more goes back to the library.
fn release(process: &Process, start: u64, piece: Piece) {
    let lib = &process.lib;
    let was_mapped = piece.is_mapped();
    if was_mapped && let Err(error) = device::unmap(lib, start, piece.bytes) {
        log::warn!("swap: memory is not given back: {error}");
    }
    device::unreserve(lib, start, piece.bytes);
    process.leases.at(piece.home.number).holdings.give_up(piece.bytes, was_mapped);
    process.memory.end_swappable(piece.bytes, piece.home.number);
}

impl Swap {
    /// Of a process that has no memory yet, on any of so many devices.
    pub(super) fn new(devices: usize) -> Self {
        let state = State { phase: Phase::In, patience: PATIENCE, retry: None, outside: 0, moves: 0, told: false };
        Self {
            inside: AtomicU64::new(0),
            state: Mutex::new(state),
            changed: Condvar::new(),
            table: Mutex::default(),
            elsewhere: (0..devices).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that are allocated and for which the library has no memory now.
    pub(super) fn elsewhere(&self) -> u64 {
        self.elsewhere.iter().map(|bytes| bytes.load(Ordering::SeqCst)).sum()
    }

    /// Of these, what is of one device: by the number of its lease.
    pub(super) fn elsewhere_of(&self, number: usize) -> u64 {
        self.elsewhere.get(number).map_or(0, |bytes| bytes.load(Ordering::SeqCst))
    }

    /// Devices are come to in one order, and left from the last one back: so of two VMs that wait
    /// for each other's place each has what comes before it. The first of which memory is away.
    fn first_away(&self) -> Option<usize> {
        self.elsewhere.iter().position(|bytes| bytes.load(Ordering::SeqCst) > 0)
    }

    fn recount(&self, table: &Table) {
        for (number, elsewhere) in self.elsewhere.iter().enumerate() {
            let is_away = |piece: &&Piece| piece.home.number == number && !piece.is_mapped();
            elsewhere.store(table.pieces.values().filter(is_away).map(|piece| piece.bytes).sum(), Ordering::SeqCst);
        }
    }

    /// Memory neither comes nor goes while the hold lives.
    pub(super) fn hold(&self) -> Hold<'_> {
        Hold { swap: self, table: self.table() }
    }

    /// A command that could touch device memory is about to be issued: waits until all of the
    /// process's is on the device. `holds` is told when that begins and ends.
    #[inline]
    pub(super) fn enter(&self, process: &Process, mut holds: impl FnMut(bool)) -> Entry<'_> {
        if let Some(entry) = self.try_enter() {
            return entry;
        }
        holds(true);
        let entry = loop {
            self.wait_outside(process);
            if let Some(entry) = self.try_enter() {
                break entry;
            }
        };
        holds(false);
        entry
    }

    #[inline]
    fn try_enter(&self) -> Option<Entry<'_>> {
        if self.inside.fetch_add(1, Ordering::SeqCst) & CLOSED == 0 {
            return Some(Entry(self));
        }
        self.exit();
        None
    }

    #[inline]
    fn exit(&self) {
        if self.inside.fetch_sub(1, Ordering::SeqCst) == CLOSED + 1 {
            drop(self.state());
            self.changed.notify_all();
        }
    }

    /// Commands come in from now on.
    fn open(&self, state: &mut State) {
        state.phase = Phase::In;
        self.inside.fetch_and(!CLOSED, Ordering::SeqCst);
        self.changed.notify_all();
    }

    #[cold]
    fn wait_outside(&self, process: &Process) {
        let (since, mut wants) = (Instant::now(), Outside::new(self, process));
        let mut state = self.state();
        loop {
            let limit = match state.phase {
                Phase::In => return,
                Phase::Leaving => match state.patience.checked_sub(since.elapsed()) {
                    Some(left) => left.max(Duration::from_millis(1)),
                    None => return self.give_up_leaving(&mut state),
                },
                Phase::Out => {
                    drop(state);
                    wants.wait();
                    state = self.state();
                    if state.phase != Phase::Out {
                        continue;
                    }
                    LOOK
                }
                Phase::Moving => LOOK,
            };
            state = self.changed.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The device is not done: perhaps it waits for who waits here.
    fn give_up_leaving(&self, state: &mut State) {
        state.retry = Some(Instant::now() + state.patience);
        state.patience = (state.patience * 2).min(PATIENCE_MAX);
        self.open(state);
    }

    /// Waits until there is memory behind an allocation, or until it has come to lie on the host
    /// with the others; whether the library had some.
    fn wait_for_memory(&self, process: &Process, start: u64) -> bool {
        let mut wants = Outside::new(self, process);
        loop {
            let before = self.state().moves;
            match self.table().piece_of(start).map(|piece| &piece.place) {
                Some(Place::Device | Place::Both(_) | Place::Host(_)) => return true,
                Some(Place::Refused) | None => return false,
                Some(Place::Fresh) => {}
            }
            wants.wait();
            let state = self.state();
            if state.moves == before {
                drop(self.changed.wait_timeout(state, LOOK));
            }
        }
    }
}

/// A thread that waits for memory: the mover and the arbiter know of it until it is dropped. The
/// time is in the account.
struct Outside<'a> {
    swap: &'a Swap,
    process: &'a Process,
    since_ns: Option<u64>,
    /// The device that it waits for, by the number of its lease.
    at: usize,
}

impl<'a> Outside<'a> {
    fn new(swap: &'a Swap, process: &'a Process) -> Self {
        Self { swap, process, since_ns: None, at: 0 }
    }

    fn counted(&self) -> &'a AtomicU32 {
        self.process.leases.at(self.at).holdings.slot().outside()
    }

    fn wait(&mut self) {
        let at = self.swap.first_away().unwrap_or(self.at);
        if self.since_ns.is_none() || at != self.at {
            if self.since_ns.is_none() {
                self.since_ns = Some(now_ns());
                self.swap.state().outside += 1;
            } else {
                self.counted().fetch_sub(1, Ordering::SeqCst);
            }
            self.at = at;
            self.counted().fetch_add(1, Ordering::SeqCst);
            self.process.leases.first().gate.page().call_movers();
        }
        self.process.leases.at(at).gate.kick();
    }
}

impl Drop for Outside<'_> {
    fn drop(&mut self) {
        let Some(since) = self.since_ns else { return };
        self.swap.state().outside -= 1;
        self.counted().fetch_sub(1, Ordering::SeqCst);
        let waited = now_ns().saturating_sub(since);
        self.process.account.counter(Counter::WaitedNs).fetch_add(waited, Ordering::Relaxed);
    }
}
