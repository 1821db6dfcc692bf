//! A Vulkan device in a process of the render server. What it says may be any:
//! a guest may have taken the process over. It can do no more than its VM may.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use paravane_protocol::vulkan::{ADMIT, Answer, Ask, GIVE_BACK, OVER, TAKE};
use zerocopy::{FromBytes, IntoBytes};

use super::Counted;
use crate::packet::{Packet, PacketError};
use crate::renderer::lease::{RendererLease, Whose, Work, vulkan_shape};
use crate::slice;

/// Submits of one device that may be under way; further ones wait. A lease lets few be
/// there, unless they take no time.
pub(super) const WORKS_MAX: usize = if cfg!(test) { 1 << 6 } else { 1 << 12 };

#[derive(Debug, Default)]
struct State {
    works: HashMap<u64, Work>,
    ticket: u64,
    /// Memory taken and not given back.
    bytes: u64,
    ended: bool,
}

/// A device's connection.
pub(super) struct Process {
    lease: Arc<RendererLease>,
    context: u32,
    gate: OwnedFd,
    notes: OwnedFd,
    state: Mutex<State>,
    /// Something is over, or all has ended.
    departed: Condvar,
    _counted: Counted,
}

impl Process {
    /// Serves a device that has said hello, in two threads, until one of its sockets is
    /// closed or it says what it must not. What it had is given back then.
    pub(super) fn start(
        lease: Arc<RendererLease>,
        context: u32,
        [gate, notes]: [OwnedFd; 2],
        counted: Counted,
    ) -> io::Result<()> {
        let (state, departed) = (Mutex::default(), Condvar::new());
        let process = Arc::new(Self { lease, context, gate, notes, state, departed, _counted: counted });
        let at_gate = Arc::clone(&process);
        let of_gate = move || at_gate.run(Self::serve_gate);
        let gate = thread::Builder::new().name("vulkan-gate".to_owned()).spawn(of_gate)?;
        let at_notes = Arc::clone(&process);
        let of_notes = move || at_notes.run(Self::serve_notes);
        let notes = thread::Builder::new().name("vulkan-notes".to_owned()).spawn(of_notes);
        if notes.is_err() {
            process.end();
        }
        // Neither thread is waited for.
        drop(gate);
        notes.map(drop)
    }

    fn run(&self, serve: impl Fn(&Self) -> Result<(), PacketError>) {
        slice::shorten();
        match serve(self) {
            Ok(()) | Err(PacketError::Closed) => {}
            // A guest can bring this about.
            Err(error) => log::debug!("the Vulkan of context {}: {error}", self.context),
        }
        self.end();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve_gate(&self) -> Result<(), PacketError> {
        answer(&self.gate, true, 0)?;
        loop {
            let asked = hear(&self.gate)?;
            if asked.kind.get() != ADMIT {
                return Err(PacketError::Malformed("not for the gate"));
            }
            self.wait_for_place();
            let shape = vulkan_shape(self.context, asked.first.get(), asked.second.get());
            let work = self.lease.admit(shape, Whose::Vulkan(self.context), || ());
            let Some(ticket) = self.keep(work) else { return Ok(()) };
            answer(&self.gate, true, ticket)?;
        }
    }

    fn wait_for_place(&self) {
        let full = |state: &mut State| !state.ended && state.works.len() >= WORKS_MAX;
        drop(self.departed.wait_while(self.lock(), full));
    }

    /// Keeps what was admitted until it is over; `None`: the device has ended.
    fn keep(&self, work: Work) -> Option<u64> {
        let mut state = self.lock();
        if state.ended {
            drop(state);
            self.lease.over(work);
            return None;
        }
        state.ticket += 1;
        let ticket = state.ticket;
        state.works.insert(ticket, work);
        Some(ticket)
    }

    fn serve_notes(&self) -> Result<(), PacketError> {
        loop {
            let asked = hear(&self.notes)?;
            let first = asked.first.get();
            match asked.kind.get() {
                OVER => {
                    let work = self.lock().works.remove(&first);
                    self.lease.over(work.ok_or(PacketError::Malformed("no such ticket"))?);
                    self.departed.notify_all();
                }
                TAKE => {
                    let taken = self.take(first);
                    answer(&self.notes, taken, 0)?;
                }
                GIVE_BACK => {
                    let mut state = self.lock();
                    let bytes = first.min(state.bytes);
                    state.bytes -= bytes;
                    drop(state);
                    self.lease.give_back(bytes);
                }
                _ => return Err(PacketError::Malformed("not for the notes")),
            }
        }
    }

    fn take(&self, bytes: u64) -> bool {
        // Under the lock: what is taken behind the device's end would stay taken.
        let mut state = self.lock();
        let taken = !state.ended && self.lease.take(bytes);
        if taken {
            state.bytes = state.bytes.saturating_add(bytes);
        }
        taken
    }

    /// It has ended, or is not heard any more: nothing of it is left.
    fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        let (works, bytes) = (std::mem::take(&mut state.works), std::mem::take(&mut state.bytes));
        drop(state);
        self.departed.notify_all();
        works.into_values().for_each(|work| self.lease.over(work));
        self.lease.give_back(bytes);
        for socket in [&self.gate, &self.notes] {
            // The other thread wakes; one that is closed already has none.
            let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
        }
    }
}

fn hear(socket: &OwnedFd) -> Result<Ask, PacketError> {
    let packet = Packet::receive(socket.as_fd(), size_of::<Ask>())?;
    Ask::read_from_bytes(&packet.bytes).map_err(|_| PacketError::Malformed("shorter than what it must be"))
}

fn answer(socket: &OwnedFd, granted: bool, ticket: u64) -> Result<(), PacketError> {
    let bytes = Answer::new(granted, ticket).as_bytes().to_vec();
    Packet { bytes, fds: Vec::new() }.send(socket.as_fd())
}
