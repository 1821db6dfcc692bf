//! The calling thread's ring: where its commands are published and its replies
//! arrive. A thread takes a ring at its first remote call and gives it back
//! when it ends.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use paravane_protocol::channel::{RING_COMMANDS, RING_REPLY, RING_STRIDE, ring_offset};
use paravane_protocol::codec::{Decoder, Encoder};
use paravane_protocol::cuda_types::*;
use paravane_protocol::frame::{FLAG_AWAITED, FRAME_HEADER_BYTES, FrameHeader};
use paravane_protocol::internal;
use paravane_protocol::limits::{FRAME_BYTES_MAX, REPLY_BYTES_MAX, RING_BYTES};
use paravane_protocol::patience::{Patience, Step};
use paravane_protocol::ring::{Producer, word};
use paravane_protocol::shared::{Shared, SharedPages};

use super::present::generation;
use super::wait::until;
use super::{Area, Connection};
use crate::boundary::Answer;

/// The process-wide order of commands.
static NEXT_TICKET: AtomicU64 = AtomicU64::new(1);

/// How long one sleep lasts before the waiter looks at the host's health.
const SLEEP_SLICE: Duration = Duration::from_millis(100);
/// How long a wait goes on before the first question whether the host lives.
const PING_AFTER: Duration = Duration::from_millis(500);

/// Where a ring lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub(crate) area: Area,
    pub(crate) ring: u32,
}

/// A ring with its guest thread's private state.
pub(crate) struct ThreadRing {
    connection: &'static Connection,
    /// The process that took the ring.
    generation: u32,
    slot: Slot,
    control: SharedPages,
    reply: SharedPages,
    producer: Producer<SharedPages>,
    /// Awaited calls sent, free running; the reply's number when answered.
    awaited: u32,
    /// Frames sent, free running; compared with the host's DONE.
    sent: u32,
    /// The context that the host thread has current.
    host_current: u64,
    patience: Patience,
    frame: Box<[u8]>,
    reply_copy: Box<[u8]>,
}

thread_local! {
    static RING: RefCell<Option<ThreadRing>> = const { RefCell::new(None) };
}

/// Runs `call` with the calling thread's ring. CUDA_ERROR_NOT_INITIALIZED
/// before cuInit, CUDA_ERROR_DEINITIALIZED while the thread is being torn down.
#[inline]
pub(crate) fn with_ring<T>(call: impl FnOnce(&mut ThreadRing) -> Answer<T>) -> Answer<T> {
    RING.try_with(|cell| {
        let mut ring = cell.try_borrow_mut().map_err(|_| CUDA_ERROR_NOT_PERMITTED)?;
        if let Some(ring) = ring.as_mut().filter(|ring| ring.is_ours()) {
            return call(ring);
        }
        // A ring of before a fork is the parent's; dropping it does nothing.
        call(ring.insert(ThreadRing::take()?))
    })
    .map_err(|_| CUDA_ERROR_DEINITIALIZED)?
}

impl ThreadRing {
    fn take() -> Answer<Self> {
        let connection = super::get()?;
        let free = connection.take_ring()?;
        Ok(match free {
            Some(ring) => ring.reopened(connection),
            None => Self::new(connection, connection.new_slot()?),
        })
    }

    pub(super) fn new(connection: &'static Connection, slot: Slot) -> Self {
        let ring = slot.area.pages.window(ring_offset(slot.ring), RING_STRIDE);
        let control = ring.window(0, RING_REPLY);
        let reply = ring.window(RING_REPLY, REPLY_BYTES_MAX as usize);
        let commands = ring.window(RING_COMMANDS, RING_BYTES as usize);
        Self {
            connection,
            generation: generation(),
            slot,
            control,
            reply,
            producer: Producer::new(control, commands, RING_BYTES),
            awaited: 0,
            sent: 0,
            host_current: 0,
            patience: Patience::default(),
            frame: vec![0; FRAME_BYTES_MAX as usize].into_boxed_slice(),
            reply_copy: vec![0; REPLY_BYTES_MAX as usize].into_boxed_slice(),
        }
    }

    /// Whether this process took the ring, not a parent of it.
    #[inline]
    fn is_ours(&self) -> bool {
        self.generation == generation()
    }

    fn reopened(mut self, connection: &'static Connection) -> Self {
        self.connection = connection;
        self
    }

    /// The connection behind the ring.
    pub(crate) fn connection(&self) -> &'static Connection {
        self.connection
    }

    /// Sends a command and returns at once.
    #[inline]
    pub(crate) fn post(
        &mut self,
        opcode: u16,
        encode: impl FnOnce(&mut Encoder) -> Answer,
    ) -> Answer {
        self.follow_current()?;
        self.send(opcode, 0, encode)
    }

    /// Sends a command and waits for its reply, which `decode` reads.
    pub(crate) fn call<T>(
        &mut self,
        opcode: u16,
        encode: impl FnOnce(&mut Encoder) -> Answer,
        decode: impl FnOnce(&mut Decoder) -> T,
    ) -> Answer<T> {
        self.follow_current()?;
        self.call_anywhere(opcode, encode, decode)
    }

    /// As [`Self::call`], whatever context the host thread has current.
    pub(crate) fn call_anywhere<T>(
        &mut self,
        opcode: u16,
        encode: impl FnOnce(&mut Encoder) -> Answer,
        decode: impl FnOnce(&mut Decoder) -> T,
    ) -> Answer<T> {
        let answer = self.ask(opcode, encode, decode);
        if self.connection.has_output() {
            self.take_output();
        }
        answer
    }

    /// Writes what kernels have printed to the program's standard output.
    #[cold]
    fn take_output(&mut self) {
        while self.connection.has_output() {
            let nothing = |_: &mut Encoder| Ok(());
            let printed = self.ask(internal::OUTPUT_TAKE, nothing, |from| crate::output::print(from.bytes()));
            if printed.is_err() {
                return;
            }
        }
    }

    fn ask<T>(
        &mut self,
        opcode: u16,
        encode: impl FnOnce(&mut Encoder) -> Answer,
        decode: impl FnOnce(&mut Decoder) -> T,
    ) -> Answer<T> {
        self.send(opcode, FLAG_AWAITED, encode)?;
        self.awaited = self.awaited.wrapping_add(1);
        let expected = self.awaited;
        self.wait_for_reply(expected)?;
        let result = CUresult(self.control.load_u32(word::REPLY_RESULT, Ordering::Relaxed));
        result.ok().inspect_err(|error| crate::state::mode::note(*error))?;
        let bytes = self.control.load_u32(word::REPLY_BYTES, Ordering::Relaxed) as usize;
        let copy = self.reply_copy.get_mut(..bytes).ok_or(CUDA_ERROR_UNKNOWN)?;
        self.reply.read(0, copy);
        let mut decoder = Decoder::new(copy);
        let value = decode(&mut decoder);
        if decoder.finish() { Ok(value) } else { Err(CUDA_ERROR_UNKNOWN) }
    }

    /// Brings the host thread's current context to the guest thread's.
    #[inline]
    fn follow_current(&mut self) -> Answer {
        let current = crate::state::current::number();
        if current == self.host_current {
            return Ok(());
        }
        self.send(internal::SET_CURRENT, 0, |to| {
            to.word(current);
            Ok(())
        })?;
        // The host cannot make an inactive context current; the next call tries again.
        self.host_current = if crate::state::devices::is_active(current) { current } else { u64::MAX };
        Ok(())
    }

    /// The host thread's current context has changed by a command's own effect.
    pub(crate) fn host_current_is(&mut self, context: u64) {
        self.host_current = context;
    }

    #[inline]
    fn send(
        &mut self,
        opcode: u16,
        flags: u16,
        encode: impl FnOnce(&mut Encoder) -> Answer,
    ) -> Answer {
        let mut encoder = Encoder::new(&mut self.frame[..FRAME_BYTES_MAX as usize - FRAME_HEADER_BYTES]);
        encode(&mut encoder)?;
        let body = encoder.finish().ok_or(CUDA_ERROR_INVALID_VALUE)?;
        let bytes = u32::try_from(body + FRAME_HEADER_BYTES).map_err(|_| CUDA_ERROR_INVALID_VALUE)?;
        let ticket = NEXT_TICKET.fetch_add(1, Ordering::Relaxed);
        let header = FrameHeader { bytes, opcode, flags, ticket };
        if !self.producer.push(header, &self.frame[..body]) {
            self.push_when_there_is_room(header, body)?;
        }
        self.sent = self.sent.wrapping_add(1);
        if self.producer.must_ring() {
            self.connection.kick(&self.slot)?;
        }
        Ok(())
    }

    #[cold]
    fn push_when_there_is_room(&mut self, header: FrameHeader, body: usize) -> Answer {
        let Self { connection, producer, frame, .. } = self;
        until(|| {
            connection.check()?;
            Ok(producer.push(header, &frame[..body]))
        })
    }

    /// Frames sent on this ring so far.
    pub(crate) fn sent(&self) -> u32 {
        self.sent
    }

    /// Waits until the host has finished the first `frames` frames.
    pub(crate) fn wait_done(&self, frames: u32) -> Answer {
        until(|| {
            let done = self.control.load_u32(word::DONE, Ordering::Acquire);
            if frames.wrapping_sub(done).cast_signed() <= 0 {
                return Ok(true);
            }
            self.connection.check()?;
            Ok(false)
        })
    }

    #[inline]
    fn wait_for_reply(&mut self, expected: u32) -> Answer {
        let mut wait = self.patience.wait();
        loop {
            if self.producer.answered(expected) {
                return Ok(());
            }
            if wait.step() == Step::Sleep || self.producer.host_waits() {
                return self.sleep_for_reply(expected);
            }
        }
    }

    #[cold]
    fn sleep_for_reply(&self, expected: u32) -> Answer {
        let mut asked = Instant::now();
        loop {
            if self.producer.may_sleep(expected) {
                self.connection.sleep(&self.slot, SLEEP_SLICE)?;
                self.control.swap_u32(word::GUEST_SLEEPS, 0);
            }
            if self.producer.answered(expected) {
                return Ok(());
            }
            self.connection.check()?;
            if asked.elapsed() > PING_AFTER {
                self.connection.ping()?;
                asked = Instant::now();
            }
        }
    }
}

/// Gives the ring back when its thread ends.
impl Drop for ThreadRing {
    fn drop(&mut self) {
        if self.frame.is_empty() || !self.is_ours() {
            return; // Already moved out below, or the parent's, which still uses it.
        }
        let told = self.send(internal::THREAD_END, 0, |_| Ok(()));
        if told.is_err() {
            return; // The connection is lost, the ring with it.
        }
        let connection = self.connection;
        connection.return_ring(ThreadRing {
            connection,
            generation: self.generation,
            slot: self.slot,
            control: self.control,
            reply: self.reply,
            producer: std::mem::replace(
                &mut self.producer,
                Producer::new(self.control, self.control, RING_BYTES),
            ),
            awaited: self.awaited,
            sent: self.sent,
            host_current: 0,
            patience: Patience::default(),
            frame: std::mem::take(&mut self.frame),
            reply_copy: std::mem::take(&mut self.reply_copy),
        });
    }
}
