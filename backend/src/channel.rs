//! One channel: the pages that a guest process shares with its worker, and the
//! worker. Writes what the guest reads in the header page (docs/protocol.md);
//! `channels.rs` finds the channel that a command is meant for.
#![deny(clippy::indexing_slicing)]

use std::collections::HashMap;
use std::sync::Arc;

use paravane_protocol::PROTOCOL_HASH;
use paravane_protocol::channel::{
    GUEST_SAME_KERNEL, MAGIC, RING_AREA_BYTES, Status, header, ring_offset,
};
use paravane_protocol::cuda_types::{CUDA_ERROR_LAUNCH_FAILED, CUresult};
use paravane_protocol::limits::RINGS_PER_AREA;
use paravane_protocol::ring::word;
use vm_memory::GuestMemoryMmap;

use crate::backing::Backing;
use crate::control::{FromWorker, Piece, Share, ToWorker};
use crate::channels::Env;
use crate::exchange::Shares;
use crate::fence::Ticket;
use crate::usage::{ProcessAccount, User};
use crate::worker_link::WorkerLink;

/// What a guest has written into the header page, copied once.
#[derive(Debug, PartialEq, Eq)]
pub struct GuestHeader {
    /// "PARAVANE", if it is a header.
    pub magic: u64,
    /// The shim's protocol hash.
    pub hash: u64,
    /// Whether futexes reach the guest.
    pub same_kernel: bool,
    /// Process id in the guest.
    pub pid: u32,
    /// Process name in the guest; what does not print is a '?'.
    pub name: String,
}

impl GuestHeader {
    /// Reads the header. `None`: there is no page to read.
    pub fn read(backing: &Backing, memory: &GuestMemoryMmap) -> Option<Self> {
        let mut bytes = [0; header::STATUS];
        backing.read(memory, 0, &mut bytes)?;
        let u32_at = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let u64_at = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let name = bytes.get(header::GUEST_NAME..)?.get(..header::GUEST_NAME_BYTES)?;
        let name = name.iter().take_while(|&&byte| byte != 0).map(|&byte| {
            if byte.is_ascii_graphic() || byte == b' ' { char::from(byte) } else { '?' }
        });
        Some(Self {
            magic: u64_at(header::MAGIC)?,
            hash: u64_at(header::GUEST_HASH)?,
            same_kernel: u32_at(header::GUEST_FLAGS)? & GUEST_SAME_KERNEL != 0,
            pid: u32_at(header::GUEST_PID)?,
            name: name.collect(),
        })
    }

    /// What is wrong with it, if something is.
    pub fn judge(&self) -> Result<(), Status> {
        if self.magic != MAGIC {
            Err(Status::Refused)
        } else if self.hash != PROTOCOL_HASH {
            Err(Status::HashMismatch)
        } else {
            Ok(())
        }
    }
}

/// Tells the guest the outcome of a handshake.
pub fn write_status(backing: &Backing, memory: &GuestMemoryMmap, status: Status) {
    backing.write(memory, header::HOST_HASH, &PROTOCOL_HASH.to_le_bytes());
    backing.store_and_wake(memory, header::STATUS, status as u32);
}

/// How far a channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Starting,
    Ready,
    Dead,
    /// The guest has taken its pages back; nothing is written to them.
    Closing(Option<Ticket>),
}

#[derive(Debug)]
struct Area {
    backing: Arc<Backing>,
    /// Set while the worker has been asked to unmap it.
    removing: Option<Vec<Ticket>>,
}

impl Area {
    fn has_rings(&self) -> bool {
        self.backing.bytes() >= RING_AREA_BYTES as u64
    }
}

/// A channel whose worker has been started.
#[derive(Debug)]
pub struct Channel {
    /// What proves that an area belongs to it.
    pub token: u64,
    /// Its guest process's account.
    pub account: Arc<ProcessAccount>,
    state: State,
    link: Option<WorkerLink>,
    /// The channel's own pages: the guest's until it takes them back.
    home: Arc<Backing>,
    areas: HashMap<u16, Area>,
    pongs: u32,
    /// What the back end's workers hand to each other.
    shares: Arc<Shares>,
    reason: Option<CUresult>,
}

impl Channel {
    /// A channel over `backing`, whose worker has not answered yet.
    pub fn new(
        token: u64,
        account: Arc<ProcessAccount>,
        link: WorkerLink,
        backing: Arc<Backing>,
        shares: Arc<Shares>,
    ) -> Self {
        let home = Arc::clone(&backing);
        let areas = HashMap::from([(0, Area { backing, removing: None })]);
        let state = State::Starting;
        Self { token, account, state, link: Some(link), home, areas, pongs: 0, shares, reason: None }
    }

    /// The worker, while there is one.
    pub fn link(&mut self) -> Option<&mut WorkerLink> {
        self.link.as_mut()
    }

    /// Whether areas can be added and doorbells rung.
    pub fn is_open(&self) -> bool {
        !matches!(self.state, State::Closing(_))
    }

    /// Whether there is a worker that can answer.
    pub fn lives(&self) -> bool {
        matches!(self.state, State::Starting | State::Ready)
    }

    /// Whether an area of this index can be added.
    pub fn has_room_for(&self, index: u16) -> bool {
        self.is_open() && !self.areas.contains_key(&index)
    }

    /// Hands an area to the worker. On a dead channel nothing happens: nobody
    /// will touch the pages.
    pub fn add_area(&mut self, index: u16, backing: Arc<Backing>, pieces: Vec<Piece>) {
        if !self.lives() {
            return;
        }
        if let Some(link) = &mut self.link {
            link.send(ToWorker::AddArea { area: index, bytes: backing.bytes(), pieces });
        }
        self.areas.insert(index, Area { backing, removing: None });
    }

    /// Asks the worker to unmap an area. False: it does not have it.
    pub fn remove_area(&mut self, index: u16) -> bool {
        let Some(area) = self.areas.get_mut(&index) else { return false };
        if area.removing.is_none() {
            area.removing = Some(Vec::new());
            if let (Some(link), State::Starting | State::Ready) = (&mut self.link, self.state) {
                link.send(ToWorker::RemoveArea { area: index });
            }
        }
        true
    }

    /// Notes who waits for an area's removal.
    pub fn await_removal(&mut self, index: u16, ticket: Ticket) {
        if let Some(waiting) = self.areas.get_mut(&index).and_then(|area| area.removing.as_mut()) {
            waiting.push(ticket);
        }
    }

    /// Ends the worker, because the guest takes its pages back.
    pub fn close(&mut self) {
        self.state = State::Closing(None);
        if let Some(link) = &self.link {
            link.process().kill();
        }
    }

    /// Notes who waits for the end of the worker.
    pub fn await_death(&mut self, ticket: Ticket) {
        self.state = State::Closing(Some(ticket));
    }

    /// Takes what the worker has said. Returns whose area is unmapped.
    pub fn hear(&mut self, message: FromWorker, env: &Env) -> Vec<Ticket> {
        let memory = env.memory;
        match message {
            FromWorker::Ready if self.state == State::Starting => {
                self.state = State::Ready;
                self.home.write(memory, header::TOKEN, &self.token.to_le_bytes());
                write_status(&self.home, memory, Status::Ready);
                Vec::new()
            }
            FromWorker::Ready => Vec::new(),
            FromWorker::Failed { result } => {
                self.reason = Some(CUresult(result));
                if let Some(link) = &self.link {
                    link.process().kill();
                }
                Vec::new()
            }
            FromWorker::Removed { area } => {
                let removed = self.areas.get(&area).is_some_and(|area| area.removing.is_some());
                let area = if removed { self.areas.remove(&area) } else { None };
                area.and_then(|area| area.removing).unwrap_or_default()
            }
            FromWorker::Share(share) => {
                let token = share.token;
                let filed = self.shares.put(self.token, share);
                let share = Share { token, bytes: [0; 64], file: None };
                self.answer(filed.then_some(share));
                Vec::new()
            }
            FromWorker::Users => {
                let told = User::share(&env.host.usage.users());
                self.answer(told.inspect_err(|error| log::error!("users: {error}")).ok());
                Vec::new()
            }
            FromWorker::Seek { token } => {
                let found = self.shares.get(token);
                self.answer(found);
                Vec::new()
            }
            FromWorker::Withdraw { token } => {
                self.shares.remove(self.token, token);
                Vec::new()
            }
        }
    }

    fn answer(&mut self, share: Option<Share>) {
        if let Some(link) = &mut self.link {
            link.send(ToWorker::Answer(share));
        }
    }

    /// The worker has ended: tells the guest, unless it has taken its pages
    /// back, and returns who waited for it.
    pub fn die(&mut self, memory: &GuestMemoryMmap) -> Vec<Ticket> {
        self.shares.remove_owner(self.token);
        self.link = None;
        let mut tickets = Vec::new();
        if let State::Closing(ticket) = self.state {
            tickets.extend(ticket);
        } else {
            let reason = self.reason.unwrap_or(CUDA_ERROR_LAUNCH_FAILED);
            self.state = State::Dead;
            self.home.write(memory, header::REASON, &reason.0.to_le_bytes());
            write_status(&self.home, memory, Status::Dead);
            for area in self.areas.values().filter(|area| area.removing.is_none()) {
                wake_guest(area, memory);
            }
        }
        for (_, area) in self.areas.drain() {
            tickets.extend(area.removing.unwrap_or_default());
        }
        tickets
    }

    /// Ends the worker and waits until it is gone. False: it was gone already.
    pub fn end(&mut self) -> bool {
        self.link.take().is_some()
    }

    /// Rings the host thread of a ring. `None`: there is no such ring.
    pub fn kick(&self, area: u16, ring: u32, memory: &GuestMemoryMmap) -> Option<()> {
        let (area, at) = self.ring(area, ring)?;
        area.backing.wake(memory, at + word::HOST_SLEEPS);
        Some(())
    }

    /// Whether the guest thread of a ring may go on. `None`: no such ring.
    pub fn guest_is_awake(&self, area: u16, ring: u32, memory: &GuestMemoryMmap) -> Option<bool> {
        if !self.lives() {
            return Some(true);
        }
        let (area, at) = self.ring(area, ring)?;
        Some(area.backing.load(memory, at + word::GUEST_SLEEPS)? == 0)
    }

    fn ring(&self, area: u16, ring: u32) -> Option<(&Area, usize)> {
        let area = self.areas.get(&area)?;
        let there = ring < RINGS_PER_AREA && area.has_rings() && area.removing.is_none();
        there.then(|| (area, ring_offset(ring)))
    }

    /// Answers PING.
    pub fn pong(&mut self, memory: &GuestMemoryMmap) {
        self.pongs = self.pongs.wrapping_add(1);
        if self.state == State::Dead {
            write_status(&self.home, memory, Status::Dead);
        }
        self.home.store_and_wake(memory, header::PONG, self.pongs);
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.shares.remove_owner(self.token);
    }
}

/// Wakes every guest thread that sleeps on a ring of this area.
fn wake_guest(area: &Area, memory: &GuestMemoryMmap) {
    if !area.has_rings() {
        return;
    }
    for ring in 0..RINGS_PER_AREA {
        area.backing.store_and_wake(memory, ring_offset(ring) + word::GUEST_SLEEPS, 0);
    }
}
