//! The channels of one connection: handshakes, doorbells, areas, and the waits
//! of guest threads for them. `process.rs` calls in with commands, `device.rs`
//! with events; both get back the tickets of commands that are done.
#![deny(clippy::indexing_slicing)]

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use paravane_protocol::PROTOCOL_HASH;
use paravane_protocol::channel::{
    BELL_ATTACH, BELL_KICK, BELL_PING, BELL_WAIT, RING_AREA_BYTES, Status,
};
use paravane_protocol::limits::FENCED_WAIT_US_MAX;
use vm_memory::GuestMemoryMmap;

use crate::backing::Backing;
use crate::channel::{Channel, GuestHeader, write_status};
use crate::control::{Piece, ToWorker};
use crate::fence::Ticket;
use crate::host::{Host, WorkerSlot};
use crate::memory::MemoryTable;
use crate::response::Refusal;
use crate::usage::Held;
use crate::worker_link::WorkerLink;

/// Names a channel in its connection, for as long as the connection lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId(pub u32);

/// What a command waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The worker unmaps an area.
    Removal {
        /// The area's channel.
        channel: ChannelId,
        /// Its index.
        area: u16,
    },
    /// The worker ends.
    Death {
        /// Its channel.
        channel: ChannelId,
    },
    /// A guest thread is woken, or has waited long enough.
    Sleep {
        /// The thread's channel.
        channel: ChannelId,
        /// The area of its ring.
        area: u16,
        /// Its ring.
        ring: u32,
    },
}

/// Whether a command is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is.
    Done,
    /// Not before this has happened.
    Waits(Cause),
}

/// What channels need of their connection.
pub struct Env<'a> {
    /// What all connections share.
    pub host: &'a Host,
    /// For the log.
    pub connection: u64,
    /// Guest memory.
    pub memory: &'a GuestMemoryMmap,
    /// Where it lies in files.
    pub table: &'a MemoryTable,
    /// The connection's event set.
    pub epoll: &'a OwnedFd,
}

/// A doorbell that has found its channel.
#[derive(Clone, Copy, Debug)]
pub struct Bell {
    /// The channel.
    pub channel: ChannelId,
    /// The area.
    pub area: u16,
    /// BELL_KICK and the like.
    pub operation: u32,
    /// The ring.
    pub ring: u32,
    /// Whether its answer may be late.
    pub fenced: bool,
}

#[derive(Debug)]
struct Sleeper {
    ticket: Ticket,
    channel: ChannelId,
    area: u16,
    ring: u32,
    deadline: Instant,
}

/// All channels.
#[derive(Debug, Default)]
pub struct Channels {
    issued: u32,
    by_id: HashMap<ChannelId, Channel>,
    by_token: HashMap<u64, ChannelId>,
    /// In the order of their deadlines.
    sleepers: VecDeque<Sleeper>,
}

impl Channels {
    /// The channel that a token opens.
    pub fn of_token(&self, token: u64) -> Result<ChannelId, Refusal> {
        let id = self.by_token.get(&token).copied().ok_or(Refusal::InvalidParameter)?;
        match self.by_id.get(&id) {
            Some(channel) if channel.is_open() => Ok(id),
            _ => Err(Refusal::InvalidParameter),
        }
    }

    /// Shakes hands over a channel's pages. `None`: refused, and the guest has
    /// been told why.
    pub fn shake_hands(&mut self, backing: &Arc<Backing>, env: &Env) -> Option<ChannelId> {
        let header = GuestHeader::read(backing, env.memory)?;
        if let Err(status) = header.judge() {
            env.host.faults.guest(env.connection, mismatch(&header, status));
            write_status(backing, env.memory, status);
            return None;
        }
        let pieces = env.table.pieces(backing.entries());
        let pieces = pieces.filter(|_| backing.bytes() >= RING_AREA_BYTES as u64);
        let slot = env.host.worker_slot();
        let (Some(pieces), Some(slot)) = (pieces, slot) else {
            let fault = "a channel without pages for its rings, or one worker too many";
            env.host.faults.guest(env.connection, fault);
            write_status(backing, env.memory, Status::Refused);
            return None;
        };
        self.issued += 1;
        let id = ChannelId(self.issued);
        match self.open(id, &header, backing, pieces, slot, env) {
            Ok(()) => Some(id),
            Err(error) => {
                log::error!("connection {}: no worker: {error}", env.connection);
                write_status(backing, env.memory, Status::Refused);
                None
            }
        }
    }

    fn open(
        &mut self,
        id: ChannelId,
        header: &GuestHeader,
        backing: &Arc<Backing>,
        pieces: Vec<Piece>,
        slot: WorkerSlot,
        env: &Env,
    ) -> io::Result<()> {
        let mut process = env.host.starter.take()?;
        let (account, page) = process.take_account().ok_or_else(|| io::Error::other("no account page"))?;
        let held = Held { page, pidfd: process.pidfd().try_clone_to_owned()? };
        log::info!(
            "connection {}: process {} ({}{}) is served by worker {}",
            env.connection,
            header.pid,
            header.name,
            if header.same_kernel { ", of this host" } else { "" },
            process.pid(),
        );
        let mut link = WorkerLink::new(process, slot, id, env.epoll)?;
        link.send(env.table.message()?);
        link.send(ToWorker::AddArea { area: 0, bytes: backing.bytes(), pieces });
        let token = self.fresh_token()?;
        let worker = link.process().pid();
        let account = env.host.usage.open(header.pid, header.name.clone(), worker, account, Some(held));
        self.by_token.insert(token, id);
        self.by_id.insert(id, Channel::new(token, account, link, Arc::clone(backing), Arc::clone(&env.host.shares)));
        Ok(())
    }

    fn fresh_token(&self) -> io::Result<u64> {
        loop {
            let mut bytes = [0; 8];
            let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
            let token = u64::from_le_bytes(bytes);
            if filled? == bytes.len() && token != 0 && !self.by_token.contains_key(&token) {
                return Ok(token);
            }
        }
    }

    /// Adds an area to the channel that its token opens.
    pub fn add_area(
        &mut self,
        token: u64,
        index: u16,
        backing: &Arc<Backing>,
        env: &Env,
    ) -> Result<(), Refusal> {
        let id = self.of_token(token)?;
        let channel = self.by_id.get_mut(&id).filter(|channel| channel.has_room_for(index));
        let channel = channel.ok_or(Refusal::InvalidParameter)?;
        let pieces = env.table.pieces(backing.entries()).ok_or(Refusal::InvalidParameter)?;
        channel.add_area(index, Arc::clone(backing), pieces);
        Ok(())
    }

    /// Takes an area away from its channel, if it is still there.
    pub fn remove_area(&mut self, token: u64, index: u16) -> Progress {
        let Some(id) = self.by_token.get(&token).copied() else { return Progress::Done };
        let Some(channel) = self.by_id.get_mut(&id) else { return Progress::Done };
        if channel.remove_area(index) {
            Progress::Waits(Cause::Removal { channel: id, area: index })
        } else {
            Progress::Done
        }
    }

    /// Ends a channel: its guest takes the pages back.
    pub fn close(&mut self, id: ChannelId) -> Progress {
        match self.by_id.get_mut(&id) {
            Some(channel) if channel.lives() => {
                channel.close();
                Progress::Waits(Cause::Death { channel: id })
            }
            _ => {
                self.forget(id);
                Progress::Done
            }
        }
    }

    fn forget(&mut self, id: ChannelId) {
        if let Some(channel) = self.by_id.remove(&id) {
            self.by_token.remove(&channel.token);
        }
    }

    /// Rings a doorbell of a channel that has shaken hands.
    pub fn ring(&mut self, bell: Bell, env: &Env) -> Result<Progress, Refusal> {
        let channel = self.by_id.get_mut(&bell.channel).ok_or(Refusal::InvalidParameter)?;
        let nothing_there = Refusal::InvalidParameter;
        match bell.operation {
            BELL_ATTACH => Ok(Progress::Done),
            BELL_KICK if !channel.lives() => Ok(Progress::Done),
            BELL_KICK => {
                channel.kick(bell.area, bell.ring, env.memory).ok_or(nothing_there)?;
                Ok(Progress::Done)
            }
            BELL_WAIT => {
                let awake = channel.guest_is_awake(bell.area, bell.ring, env.memory);
                if awake.ok_or(nothing_there)? || !bell.fenced {
                    return Ok(Progress::Done);
                }
                let Bell { channel, area, ring, .. } = bell;
                Ok(Progress::Waits(Cause::Sleep { channel, area, ring }))
            }
            BELL_PING => {
                channel.pong(env.memory);
                Ok(Progress::Done)
            }
            _ => Err(nothing_there),
        }
    }

    /// Notes which command waits for `cause`.
    pub fn park(&mut self, cause: Cause, ticket: Ticket, now: Instant) {
        match cause {
            Cause::Removal { channel, area } => {
                if let Some(channel) = self.by_id.get_mut(&channel) {
                    channel.await_removal(area, ticket);
                }
            }
            Cause::Death { channel } => {
                if let Some(channel) = self.by_id.get_mut(&channel) {
                    channel.await_death(ticket);
                }
            }
            Cause::Sleep { channel, area, ring } => {
                let deadline = now + Duration::from_micros(FENCED_WAIT_US_MAX);
                self.sleepers.push_back(Sleeper { ticket, channel, area, ring, deadline });
            }
        }
    }

    /// When the next wait is over.
    pub fn deadline(&self) -> Option<Instant> {
        self.sleepers.front().map(|sleeper| sleeper.deadline)
    }

    /// Waits that are over: the thread is awake, its ring or worker is gone, or
    /// the time has passed.
    pub fn awake(&mut self, now: Instant, memory: &GuestMemoryMmap) -> Vec<Ticket> {
        let mut over = Vec::new();
        self.sleepers.retain(|sleeper| {
            let channel = self.by_id.get(&sleeper.channel);
            let awake = channel
                .and_then(|channel| channel.guest_is_awake(sleeper.area, sleeper.ring, memory));
            let stays = awake == Some(false) && now < sleeper.deadline;
            if !stays {
                over.push(sleeper.ticket);
            }
            stays
        });
        over
    }

    /// A worker's control socket has news.
    pub fn on_control(&mut self, id: ChannelId, env: &Env) -> Vec<Ticket> {
        let Some(channel) = self.by_id.get_mut(&id) else { return Vec::new() };
        let Some(link) = channel.link() else { return Vec::new() };
        link.flush();
        let messages = link.receive();
        messages.into_iter().flat_map(|message| channel.hear(message, env)).collect()
    }

    /// A worker has woken guest threads.
    pub fn on_guest_wake(&mut self, id: ChannelId) {
        if let Some(link) = self.by_id.get_mut(&id).and_then(Channel::link) {
            link.take_guest_wake();
        }
    }

    /// A worker has ended.
    pub fn on_death(&mut self, id: ChannelId, env: &Env) -> Vec<Ticket> {
        // Its last words come before its end.
        let mut tickets = self.on_control(id, env);
        let Some(channel) = self.by_id.get_mut(&id) else { return tickets };
        let Some(link) = channel.link() else { return tickets };
        let Some(how) = link.ended() else { return tickets };
        let (open, worker) = (channel.is_open(), link_pid(channel));
        let level = if open { log::Level::Error } else { log::Level::Debug };
        let of = &channel.account;
        log::log!(
            level,
            "connection {}: worker {worker} of process {} ({}) ended: {how}",
            env.connection,
            of.pid,
            of.name,
        );
        env.host.usage.close(of);
        tickets.extend(channel.die(env.memory));
        if !open {
            self.forget(id);
        }
        tickets
    }

    /// Tells the workers of a memory table that keeps what the last one had.
    pub fn set_memory(&mut self, table: &MemoryTable) {
        for channel in self.by_id.values_mut() {
            if let Some(link) = channel.link() {
                match table.message() {
                    Ok(message) => link.send(message),
                    Err(error) => log::error!("memory table: {error}"),
                }
            }
        }
    }

    /// Ends all workers and waits until they are gone; forgets all channels.
    /// The guest is not told: it, its rings or its memory are gone.
    pub fn end(&mut self, host: &Host) {
        for channel in self.by_id.values_mut() {
            if let Some(link) = channel.link() {
                link.process().kill();
            }
        }
        for (_, mut channel) in self.by_id.drain() {
            // Kills first, so that the workers end side by side; then waits.
            if channel.end() {
                host.usage.close(&channel.account);
            }
        }
        self.by_token.clear();
        self.sleepers.clear();
    }
}

fn link_pid(channel: &mut Channel) -> u32 {
    channel.link().map_or(0, |link| link.process().pid())
}

fn mismatch(header: &GuestHeader, status: Status) -> String {
    let GuestHeader { hash, pid, name, .. } = header;
    match status {
        Status::HashMismatch => format!(
            "process {pid} ({name}) has protocol hash {hash:#018x}, this host has \
             {PROTOCOL_HASH:#018x}: install the guest package of this host's version"
        ),
        _ => "a channel whose header is no header".to_string(),
    }
}
