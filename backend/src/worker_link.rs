//! A channel's hold on its worker: messages that do not fit the socket wait
//! here, so that the control queue never waits for a worker.
#![deny(clippy::indexing_slicing)]

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, EventData, EventFlags};

use crate::channels::ChannelId;
use crate::control::{ControlError, FromWorker, Packet, ToWorker};
use crate::events::Source;
use crate::host::WorkerSlot;
use crate::worker_process::WorkerProcess;

/// Messages that a worker may send at one go; it has no reason to send more
/// than one per area, and guests remove areas one by one.
const BURST_MAX: usize = 4096;

/// A worker and what is still to be sent to it.
#[derive(Debug)]
pub struct WorkerLink {
    process: WorkerProcess,
    outbox: VecDeque<Packet>,
    _slot: WorkerSlot,
}

impl WorkerLink {
    /// Takes a worker and has its events reported as `channel`'s.
    pub fn new(
        process: WorkerProcess,
        slot: WorkerSlot,
        channel: ChannelId,
        epoll: &OwnedFd,
    ) -> io::Result<Self> {
        // Edge-triggered, so that a socket with room does not report for ever;
        // receive() and flush() go on until it would block.
        let both = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        let sources = [
            (process.control(), Source::Control(channel), both),
            (process.guest_wake(), Source::GuestWake(channel), EventFlags::IN),
            (process.pidfd(), Source::Death(channel), EventFlags::IN),
        ];
        for (fd, source, flags) in sources {
            epoll::add(epoll, fd, EventData::new_u64(source.encode()), flags)?;
        }
        Ok(Self { process, outbox: VecDeque::new(), _slot: slot })
    }

    /// The process.
    pub fn process(&self) -> &WorkerProcess {
        &self.process
    }

    /// How it has ended, in words; `None`: it runs.
    pub fn ended(&mut self) -> Option<String> {
        self.process.ended()
    }

    /// Sends a message, now or when there is room. A worker that cannot be
    /// told is ended: its death then says the rest.
    pub fn send(&mut self, message: ToWorker) {
        match message.into_packet() {
            Ok(packet) => {
                self.outbox.push_back(packet);
                self.flush();
            }
            Err(error) => self.give_up(&error),
        }
    }

    /// Sends what waits, as far as there is room.
    pub fn flush(&mut self) {
        while let Some(packet) = self.outbox.front() {
            match packet.send(self.process.control()) {
                Ok(()) => {
                    self.outbox.pop_front();
                }
                Err(error) if error.would_block() => return,
                // Its end is on its way through the pidfd.
                Err(ControlError::Closed) => return self.outbox.clear(),
                Err(error) => return self.give_up(&error),
            }
        }
    }

    /// What the worker has said since.
    pub fn receive(&mut self) -> Vec<FromWorker> {
        let mut messages = Vec::new();
        while messages.len() < BURST_MAX {
            match FromWorker::receive(self.process.control()) {
                Ok(message) => messages.push(message),
                Err(error) if error.would_block() => return messages,
                // It ends, or it must: its death says the rest.
                Err(ControlError::Closed) => {
                    self.process.kill();
                    return messages;
                }
                Err(error) => {
                    self.give_up(&error);
                    return messages;
                }
            }
        }
        self.give_up(&ControlError::Malformed("more messages than areas"));
        messages
    }

    /// Resets the eventfd.
    pub fn take_guest_wake(&self) {
        // WouldBlock: somebody was woken for nothing.
        let _ = rustix::io::read(self.process.guest_wake(), &mut [0; 8]);
    }

    fn give_up(&mut self, error: &ControlError) {
        log::error!("worker {}: {error}", self.process.pid());
        self.outbox.clear();
        self.process.kill();
    }
}
