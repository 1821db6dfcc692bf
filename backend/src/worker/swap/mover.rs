//! The thread that moves a process's memory. It obeys the VM's page: what may be
//! on the device is the arbiter's to say.

use std::io;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use paravane_protocol::cuda_types::*;

use super::pieces::{Place, Table};
use super::{CLOSED, LOOK, PATIENCE, Phase, Swap, device};
use crate::account::Counter;
use crate::worker::libcuda::relax;
use crate::worker::process::Process;

/// Nothing is waited for: how long until the next look.
const IDLE: Duration = Duration::from_secs(1);
/// A capture is waited for so often.
const CAPTURE_LOOK: Duration = Duration::from_millis(20);
/// What has failed is tried again behind so long.
const RETRY: Duration = Duration::from_millis(200);

/// What is to be done.
enum Next {
    /// Nothing inside any more; then as below.
    Leave,
    /// What is on the device goes to the host.
    GoOut,
    /// What is not there comes to the device.
    ComeIn,
    Wait(Duration),
}

/// Starts the thread, which lives as long as the process.
pub(in crate::worker) fn start(process: Arc<Process>) -> io::Result<()> {
    std::thread::Builder::new().name("mover".into()).spawn(move || serve(&process)).map(drop)
}

fn serve(process: &Process) {
    let Some(swap) = process.swap() else { return };
    let page = process.leases.first().gate.page();
    let mut relaxed = false;
    loop {
        let seen = page.moves_now();
        let next = swap.next(process);
        if !relaxed && !matches!(next, Next::Wait(_)) {
            relaxed = true;
            let _ = relax(&process.lib);
        }
        match next {
            Next::Leave => swap.leave(process),
            Next::GoOut => swap.go_out(process),
            Next::ComeIn => swap.come_in(process),
            Next::Wait(limit) => page.wait_for_moves(seen, limit),
        }
    }
}

impl Swap {
    fn next(&self, process: &Process) -> Next {
        let page = process.leases.first().gate.page();
        let (held, allowed, inside) = (page.held(), page.allowed(), process.leases.first().holdings.inside());
        let movable = held.resident.saturating_sub(held.claim.saturating_sub(held.swappable));
        let state = self.state();
        if let Some(left) = state.retry.and_then(|retry| retry.checked_duration_since(Instant::now())) {
            return Next::Wait(left);
        }
        let is_over = movable > allowed && inside > 0;
        let fits = held.claim <= allowed || self.elsewhere() == 0;
        match state.phase {
            Phase::In | Phase::Out if state.outside > 0 && fits => Next::ComeIn,
            Phase::In if is_over => Next::Leave,
            Phase::Out if is_over => Next::GoOut,
            _ if state.outside > 0 || inside > 0 => Next::Wait(LOOK),
            _ => Next::Wait(IDLE),
        }
    }

    fn try_again(&self, behind: Duration) {
        self.state().retry = Some(Instant::now() + behind);
    }

    /// Lets nobody in, waits for what is inside and for the device; then the memory goes. Whoever
    /// has waited outside for too long meanwhile has opened again.
    fn leave(&self, process: &Process) {
        if process.leases.captures() {
            return self.try_again(CAPTURE_LOOK);
        }
        let mut state = self.state();
        (state.phase, state.retry) = (Phase::Leaving, None);
        self.inside.fetch_or(CLOSED, Ordering::SeqCst);
        while state.phase == Phase::Leaving && self.inside.load(Ordering::SeqCst) != CLOSED {
            state = self.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.phase != Phase::Leaving {
            return;
        }
        if process.leases.captures() {
            // It has begun before the gate was closed.
            self.open(&mut state);
            drop(state);
            return self.try_again(CAPTURE_LOOK);
        }
        drop(state);
        for context in process.handles.contexts() {
            // In a context that has failed, or is active no more, nothing runs.
            let _ = device::synchronise(&process.lib, context);
        }
        let mut state = self.state();
        if state.phase != Phase::Leaving {
            return;
        }
        state.phase = Phase::Moving;
        drop(state);
        self.go_out(process);
    }

    /// What is on the device goes to the host. If it cannot, it comes back.
    fn go_out(&self, process: &Process) {
        let since = Instant::now();
        let mut table = self.table();
        let change = process.memory.change();
        let mut gone = 0;
        let all = table.pieces.iter_mut().filter(|(_, piece)| piece.is_mapped());
        let moved = { all }.try_for_each(|(start, piece)| {
            device::move_out(&process.lib, *start, piece)?;
            gone += piece.bytes;
            Ok::<(), CUresult>(())
        });
        if let Err(error) = moved {
            let is_back = fetch(process, &mut table).is_ok();
            drop(change);
            self.recount(&table);
            return self.failed(is_back, &format!("memory cannot go to the host: {error}"));
        }
        drop(change);
        log::debug!("swap: {gone} bytes out in {:?}", since.elapsed());
        process.leases.first().holdings.go_out(gone);
        process.account.counter(Counter::SwappedOutBytes).fetch_add(gone, Ordering::Relaxed);
        self.recount(&table);
        drop(table);
        let mut state = self.state();
        (state.phase, state.patience, state.retry, state.told) = (Phase::Out, PATIENCE, None, false);
        state.moves += 1;
        drop(state);
        self.changed.notify_all();
        process.leases.first().gate.kick();
    }

    /// It is tried again, and said once.
    fn failed(&self, is_in: bool, why: &str) {
        let mut state = self.state();
        if !std::mem::replace(&mut state.told, true) {
            log::warn!("swap: {why}");
        }
        state.retry = Some(Instant::now() + RETRY);
        state.moves += 1;
        if is_in {
            self.open(&mut state);
        } else {
            state.phase = Phase::Out;
            self.changed.notify_all();
        }
    }

    /// What is not on the device comes there: first what has bytes, then what is new.
    fn come_in(&self, process: &Process) {
        let was_out = {
            let mut state = self.state();
            let was_out = state.phase == Phase::Out;
            if was_out {
                state.phase = Phase::Moving;
            }
            was_out
        };
        let mut table = self.table();
        let away = |place: &Place| matches!(place, Place::Host(_));
        let (there, new) = (bytes_at(&table, away), bytes_at(&table, |place| matches!(place, Place::Fresh)));
        if there + new > 0 && !process.leases.first().holdings.come_in(there + new) {
            drop(table);
            if was_out {
                self.state().phase = Phase::Out;
            }
            return;
        }
        let since = Instant::now();
        let change = process.memory.change();
        let fetched = fetch(process, &mut table);
        let refused = match fetched {
            Ok(()) => make(process, &mut table),
            Err(_) => there + new,
        };
        drop(change);
        process.leases.first().holdings.go_out(refused);
        self.recount(&table);
        drop(table);
        if let Err(error) = fetched {
            return self.failed(false, &format!("there is no room on the device, although it was given: {error}"));
        }
        log::debug!("swap: {there} bytes in in {:?}", since.elapsed());
        process.account.counter(Counter::SwappedInBytes).fetch_add(there, Ordering::Relaxed);
        let mut state = self.state();
        (state.moves, state.retry, state.told) = (state.moves + 1, None, false);
        if was_out {
            self.open(&mut state);
        } else {
            self.changed.notify_all();
        }
        drop(state);
        if process.leases.first().gate.page().allowed() != u64::MAX {
            // The arbiter learns how long it took.
            process.leases.first().gate.kick();
        }
    }
}

fn bytes_at(table: &Table, is_there: impl Fn(&Place) -> bool) -> u64 {
    table.pieces.values().filter(|piece| is_there(&piece.place)).map(|piece| piece.bytes).sum()
}

/// All that lies on the host comes to the device, or nothing does.
fn fetch(process: &Process, table: &mut Table) -> Result<(), CUresult> {
    let lib = &process.lib;
    let all = table.pieces.iter_mut().filter(|(_, piece)| matches!(piece.place, Place::Host(_)));
    let fetched = { all }.try_for_each(|(start, piece)| device::move_in(lib, *start, piece));
    for (start, piece) in &mut table.pieces {
        match fetched {
            Ok(()) if matches!(piece.place, Place::Both(_)) => piece.place = Place::Device,
            Ok(()) => {}
            Err(_) => device::move_back(lib, *start, piece)?,
        }
    }
    fetched
}

/// Memory comes behind addresses that had none yet; the bytes for which the library has none.
fn make(process: &Process, table: &mut Table) -> u64 {
    let mut refused = 0;
    for (start, piece) in table.pieces.iter_mut().filter(|(_, piece)| matches!(piece.place, Place::Fresh)) {
        piece.place = match device::map(&process.lib, *start, piece.bytes, piece.home.device) {
            Ok(()) => Place::Device,
            Err(_) => {
                refused += piece.bytes;
                Place::Refused
            }
        };
    }
    refused
}

impl Swap {
    /// Memory for a fresh allocation at once, if nothing is in the way.
    pub(super) fn make_now(&self, process: &Process, start: u64) {
        let mut table = self.table();
        if !matches!(self.state().phase, Phase::In | Phase::Leaving) {
            return;
        }
        let Some(piece) = table.pieces.get_mut(&start).filter(|piece| matches!(piece.place, Place::Fresh)) else { return };
        if !process.leases.first().holdings.come_in(piece.bytes) {
            return;
        }
        let change = process.memory.change();
        piece.place = match device::map(&process.lib, start, piece.bytes, piece.home.device) {
            Ok(()) => Place::Device,
            Err(_) => {
                process.leases.first().holdings.go_out(piece.bytes);
                Place::Refused
            }
        };
        drop(change);
        self.recount(&table);
    }
}
