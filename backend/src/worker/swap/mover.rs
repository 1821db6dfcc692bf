//! The thread that moves a process's memory. It obeys the VM's page: what may be
//! on the device is the arbiter's to say.

use std::io;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use paravane_protocol::cuda_types::*;

use super::pieces::{Piece, Place, Table};
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

/// Starts the thread, which lives as long as the process, and one for each further device that
/// lets it look at that one's page.
pub(in crate::worker) fn start(process: &Arc<Process>) -> io::Result<()> {
    let spawn = |run: Box<dyn FnOnce() + Send>| std::thread::Builder::new().name("mover".into()).spawn(run).map(drop);
    for number in 1..process.leases.count() {
        let process = Arc::clone(process);
        spawn(Box::new(move || relay(&process, number)))?;
    }
    let process = Arc::clone(process);
    spawn(Box::new(move || serve(&process)))
}

/// What the mover is called for by a further device's page.
fn relay(process: &Process, number: usize) {
    let page = process.leases.at(number).gate.page();
    let mut seen = page.moves_now();
    loop {
        page.wait_for_moves(seen, IDLE);
        let now = page.moves_now();
        if std::mem::replace(&mut seen, now) != now {
            process.leases.first().gate.page().call_movers();
        }
    }
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

/// The first device on which more can be moved than may be there.
fn first_over(process: &Process) -> Option<usize> {
    process.leases.all().position(|lease| {
        let (held, allowed) = (lease.gate.page().held(), lease.gate.page().allowed());
        let movable = held.resident.saturating_sub(held.claim.saturating_sub(held.swappable));
        movable > allowed && lease.holdings.inside() > 0
    })
}

impl Swap {
    fn next(&self, process: &Process) -> Next {
        let inside: u64 = process.leases.all().map(|lease| lease.holdings.inside()).sum();
        let is_over = first_over(process).is_some();
        let fits = self.first_away().is_none_or(|number| {
            let page = process.leases.at(number).gate.page();
            page.held().claim <= page.allowed()
        });
        let state = self.state();
        if let Some(left) = state.retry.and_then(|retry| retry.checked_duration_since(Instant::now())) {
            return Next::Wait(left);
        }
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

    /// What is on a device that is to be left goes to the host, and so does what is on those behind
    /// it. If it cannot, it comes back.
    fn go_out(&self, process: &Process) {
        let mut table = self.table();
        // Where it may stay after all, it is over with the next look.
        let first = first_over(process).unwrap_or(process.leases.count());
        for number in first..process.leases.count() {
            if !self.leave_device(process, &mut table, number) {
                return;
            }
        }
        drop(table);
        let mut state = self.state();
        (state.phase, state.patience, state.retry, state.told) = (Phase::Out, PATIENCE, None, false);
        state.moves += 1;
        drop(state);
        self.changed.notify_all();
        process.leases.all().for_each(|lease| lease.gate.kick());
    }

    /// What is on one device goes to the host; whether it has.
    fn leave_device(&self, process: &Process, table: &mut Table, number: usize) -> bool {
        let since = Instant::now();
        let change = process.memory.change();
        let mut gone = 0;
        let all = table.pieces.iter_mut().filter(|(_, piece)| piece.home.number == number && piece.is_mapped());
        let moved = { all }.try_for_each(|(start, piece)| {
            device::move_out(&process.lib, *start, piece)?;
            gone += piece.bytes;
            Ok::<(), CUresult>(())
        });
        if let Err(error) = moved {
            let is_back = fetch(process, table, number).is_ok();
            drop(change);
            self.recount(table);
            let is_in = is_back && !table.pieces.values().any(|piece| matches!(piece.place, Place::Host(_)));
            self.failed(is_in, &format!("memory cannot go to the host: {error}"));
            return false;
        }
        drop(change);
        log::debug!("swap: {gone} bytes out in {:?}", since.elapsed());
        process.leases.at(number).holdings.go_out(gone);
        process.account.counter(Counter::SwappedOutBytes).fetch_add(gone, Ordering::Relaxed);
        self.recount(table);
        true
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

    /// What is not on the devices comes there, to one after the other, as far as they have room for
    /// all of the VM's.
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
        let (mut came, mut is_all_in) = (false, true);
        for number in 0..process.leases.count() {
            match self.come_to(process, &mut table, number) {
                Ok(true) => came = true,
                Ok(false) => {
                    is_all_in = false;
                    break;
                }
                Err(error) => {
                    drop(table);
                    return self.failed(false, &format!("there is no room on the device, although it was given: {error}"));
                }
            }
        }
        drop(table);
        let mut state = self.state();
        if came {
            (state.moves, state.retry, state.told) = (state.moves + 1, None, false);
        }
        match (was_out, is_all_in) {
            (true, true) => self.open(&mut state),
            (true, false) => state.phase = Phase::Out,
            (false, _) => {}
        }
        drop(state);
        if came {
            self.changed.notify_all();
            // The arbiters learn how long it took.
            let limited = process.leases.all().filter(|lease| lease.gate.page().allowed() != u64::MAX);
            limited.for_each(|lease| lease.gate.kick());
        }
    }

    /// What is not on one device comes there, first what has bytes, then what is new; whether
    /// there was room.
    fn come_to(&self, process: &Process, table: &mut Table, number: usize) -> Result<bool, CUresult> {
        let holdings = &process.leases.at(number).holdings;
        let there = bytes_at(table, number, |place| matches!(place, Place::Host(_)));
        let new = bytes_at(table, number, |place| matches!(place, Place::Fresh));
        if there + new > 0 && !holdings.come_in(there + new) {
            return Ok(false);
        }
        let since = Instant::now();
        let change = process.memory.change();
        let fetched = fetch(process, table, number);
        let refused = match fetched {
            Ok(()) => make(process, table, number),
            Err(_) => there + new,
        };
        drop(change);
        holdings.go_out(refused);
        self.recount(table);
        fetched?;
        if there + new > 0 {
            log::debug!("swap: {there} bytes in in {:?}", since.elapsed());
        }
        process.account.counter(Counter::SwappedInBytes).fetch_add(there, Ordering::Relaxed);
        Ok(true)
    }
}

fn bytes_at(table: &Table, number: usize, is_there: impl Fn(&Place) -> bool) -> u64 {
    let of_device = table.pieces.values().filter(|piece| piece.home.number == number);
    of_device.filter(|piece| is_there(&piece.place)).map(|piece| piece.bytes).sum()
}

/// All that lies on the host comes to its device, or nothing does.
fn fetch(process: &Process, table: &mut Table, number: usize) -> Result<(), CUresult> {
    let lib = &process.lib;
    let is_away = |piece: &Piece| piece.home.number == number && matches!(piece.place, Place::Host(_));
    let all = table.pieces.iter_mut().filter(|(_, piece)| is_away(piece));
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
fn make(process: &Process, table: &mut Table, number: usize) -> u64 {
    let mut refused = 0;
    let is_new = |piece: &Piece| piece.home.number == number && matches!(piece.place, Place::Fresh);
    for (start, piece) in table.pieces.iter_mut().filter(|(_, piece)| is_new(piece)) {
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
        let holdings = &process.leases.at(piece.home.number).holdings;
        if !holdings.come_in(piece.bytes) {
            return;
        }
        let change = process.memory.change();
        piece.place = match device::map(&process.lib, start, piece.bytes, piece.home.device) {
            Ok(()) => Place::Device,
            Err(_) => {
                holdings.go_out(piece.bytes);
                Place::Refused
            }
        };
        drop(change);
        self.recount(&table);
    }
}
