//! A hostile program: frames of every opcode with no arguments, with too few,
//! and with numbers that mean nothing. Each is answered with an error, or ends
//! its own worker; the backend and the next channel live.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::Instant;

use paravane_protocol::channel::{BELL_KICK, RING_COMMANDS, Status, ring_offset};
use paravane_protocol::frame::{FLAG_AWAITED, FRAME_HEADER_BYTES, FrameHeader};
use paravane_protocol::ring::word;
use paravane_protocol::{internal, limits, opcode};
use paravane_tests::backend::{Backend, HANG};
use paravane_tests::frontend::FrontEnd;
use paravane_tests::guest::{self, Channel, bell};
use paravane_tests::nvml::host_with_nvml;

/// A channel whose first ring is written by hand.
struct Ring {
    resource: u32,
    channel: Channel,
    tail: u32,
    frames: u32,
}

impl Ring {
    fn open(guest: &mut FrontEnd, resource: u32) -> Self {
        let channel = guest::ready_channel(guest, resource);
        Self { resource, channel, tail: 0, frames: 0 }
    }

    /// Publishes a frame and waits until it is finished, or the worker dead.
    /// True: the worker lives.
    fn send(&mut self, guest: &mut FrontEnd, opcode: u16, body: &[u64]) -> bool {
        let body: Vec<u8> = body.iter().flat_map(|word| word.to_le_bytes()).collect();
        let bytes = u32::try_from(FRAME_HEADER_BYTES + body.len()).unwrap();
        let header = FrameHeader {
            bytes,
            opcode,
            flags: FLAG_AWAITED,
            ticket: u64::from(self.frames) + 1,
        };
        let ring = ring_offset(0);
        let at = ring + RING_COMMANDS + self.tail as usize;
        self.channel.write(guest, at, &header.to_bytes());
        self.channel.write(guest, at + FRAME_HEADER_BYTES, &body);
        self.tail += bytes;
        self.frames += 1;
        assert!(self.tail < limits::RING_BYTES, "this test does not wrap");
        self.channel.write(guest, ring + word::TAIL, &self.tail.to_le_bytes());
        self.channel.write(guest, ring + word::HOST_SLEEPS, &0_u32.to_le_bytes());
        bell(guest, self.resource, BELL_KICK, 0);
        let sent = Instant::now();
        loop {
            if self.channel.status(guest) == Status::Dead {
                return false;
            }
            if self.channel.word(guest, ring + word::DONE) == self.frames {
                return true;
            }
            assert!(sent.elapsed() < HANG, "opcode {opcode:#06x} is never finished");
            std::thread::yield_now();
        }
    }
}

/// Numbers that look like nothing: different in every run of words.
fn noise(seed: &mut u64, words: usize) -> Vec<u64> {
    (0..words)
        .map(|_| {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // Small numbers pass more checks than large ones.
            *seed >> (*seed >> 60 << 2)
        })
        .collect()
}

/// Every opcode but the one that rightly waits until a host function is due.
fn opcodes() -> impl Iterator<Item = u16> {
    let internal = (internal::HELLO..internal::HELLO + 0x100).filter(|&op| op != internal::CALLBACK_NEXT);
    opcode::ALL.iter().map(|(opcode, _)| *opcode).chain(internal).chain([0, 0x7777, 0xfffe])
}

#[test]
fn frames_that_mean_nothing_cost_at_most_their_own_worker() {
    let backend = Backend::start(&[]);
    let before = backend.settled();
    // A connection for each channel: the front end's memory holds a few.
    let open = || {
        let mut guest = FrontEnd::connect(&backend.socket());
        let ring = Ring::open(&mut guest, 1);
        (guest, ring)
    };
    let (mut guest, mut ring) = open();
    let (mut seed, mut deaths) = (7, 0);
    for opcode in opcodes() {
        for words in [0, 1, 3, 10] {
            let lives = ring.send(&mut guest, opcode, &noise(&mut seed, words));
            deaths += u32::from(!lives);
            // Room for the frames that follow.
            if !lives || ring.tail > limits::RING_BYTES - 1024 {
                (guest, ring) = open();
            }
        }
    }
    assert!(deaths > 0, "an unknown opcode ends its worker");
    // The last channel still serves.
    assert!(ring.send(&mut guest, internal::HELLO, &[0, 0, 0]));
    drop(guest);
    backend.assert_nothing_leaked(&before);
}

#[test]
fn readings_that_mean_nothing_cost_at_most_their_own_worker() {
    let host = host_with_nvml();
    let backend = Backend::start_with(&[], |command| {
        command.env("LD_LIBRARY_PATH", host.path());
    });
    let before = backend.settled();
    let mut seed = 11;
    let mut open: Option<(FrontEnd, Ring)> = None;
    let (mut lived, mut died) = (0, 0);
    for number in 0..0x180 {
        let (mut guest, mut ring) = open.take().unwrap_or_else(|| {
            let mut guest = FrontEnd::connect(&backend.socket());
            let ring = Ring::open(&mut guest, 1);
            (guest, ring)
        });
        let words = usize::try_from(number % 5).unwrap();
        let body = [vec![number, 0], noise(&mut seed, words)].concat();
        if ring.send(&mut guest, internal::NVML_READ, &body) {
            lived += 1;
            open = Some((guest, ring)).filter(|(_, ring)| ring.tail < limits::RING_BYTES - 1024);
        } else {
            died += 1;
        }
    }
    // Rows whose arguments are as many words as were sent are read; others, and numbers that are none, are no frames.
    assert!(lived > 0 && died > 0, "{lived} and {died}");
    drop(open);
    backend.assert_nothing_leaked(&before);
}

#[test]
fn a_tail_beyond_the_ring_ends_its_worker() {
    let backend = Backend::start(&[]);
    let mut guest = FrontEnd::connect(&backend.socket());
    let ring = Ring::open(&mut guest, 1);
    let tail = limits::RING_BYTES + 8;
    ring.channel.write(&guest, ring_offset(0) + word::TAIL, &tail.to_le_bytes());
    ring.channel.write(&guest, ring_offset(0) + word::HOST_SLEEPS, &0_u32.to_le_bytes());
    bell(&mut guest, 1, BELL_KICK, 0);
    ring.channel.wait_status(&guest, Status::Dead);
    let mut other = Ring::open(&mut guest, 2);
    assert!(other.send(&mut guest, internal::HELLO, &[0, 0, 0]));
}
