//! The ring under loom, which tries every order in which two threads can see
//! each other's writes. Run with `RUSTFLAGS="--cfg loom"`; xtask does.

use std::sync::Arc;

use loom::cell::Cell;
use loom::sync::Notify;
use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, fence};
use loom::thread;

use super::*;

/// Bytes of a ring in shared memory.
enum Bytes {
    /// Only one side at a time may touch a byte: loom reports a race.
    Exclusive(Vec<Cell<u64>>),
    /// Somebody peeks: reads may race and tear between words.
    Peeked(Vec<AtomicU64>),
}

struct Pages {
    words: [AtomicU32; 5],
    bytes: Bytes,
}

// SAFETY: loom runs one thread at a time, and checks every access to a Cell
// for a race; finding one is what the model is for.
unsafe impl Sync for Pages {}
// SAFETY: as above.
unsafe impl Send for Pages {}

/// A ring's shared memory, control page and commands.
#[derive(Clone)]
struct Model(Arc<Pages>);

impl Model {
    fn new(capacity: u32) -> Self {
        let cells = (0..capacity / 8).map(|_| Cell::new(0)).collect();
        Self::over(Bytes::Exclusive(cells))
    }

    fn peeked(capacity: u32) -> Self {
        let cells = (0..capacity / 8).map(|_| AtomicU64::new(0)).collect();
        Self::over(Bytes::Peeked(cells))
    }

    fn over(bytes: Bytes) -> Self {
        Self(Arc::new(Pages { words: [(); 5].map(|()| AtomicU32::new(0)), bytes }))
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        &self.0.words[offset / 64]
    }
}

impl Shared for Model {
    fn load_u32(&self, offset: usize, order: Ordering) -> u32 {
        self.word(offset).load(order)
    }
    fn store_u32(&self, offset: usize, value: u32, order: Ordering) {
        self.word(offset).store(value, order);
    }
    fn swap_u32(&self, offset: usize, value: u32) -> u32 {
        self.word(offset).swap(value, Ordering::SeqCst)
    }
    fn read(&self, offset: usize, into: &mut [u8]) {
        for (at, chunk) in into.chunks_exact_mut(8).enumerate() {
            let value = match &self.0.bytes {
                Bytes::Exclusive(cells) => cells[offset / 8 + at].get(),
                Bytes::Peeked(cells) => cells[offset / 8 + at].load(Ordering::Relaxed),
            };
            chunk.copy_from_slice(&value.to_le_bytes());
        }
    }
    fn write(&self, offset: usize, from: &[u8]) {
        for (at, chunk) in from.chunks_exact(8).enumerate() {
            let value = u64::from_le_bytes(chunk.try_into().unwrap());
            match &self.0.bytes {
                Bytes::Exclusive(cells) => cells[offset / 8 + at].set(value),
                // Who sees these bytes sees the head that made room for them:
                // x86-64 and AArch64 keep that order for plain stores too.
                Bytes::Peeked(cells) => cells[offset / 8 + at].store(value, Ordering::Release),
            }
        }
    }
    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
    fn fence_acquire(&self) {
        fence(Ordering::Acquire);
    }
}

/// A frame whose every body word repeats its ticket.
fn frame(ticket: u64, words: u32) -> (FrameHeader, Vec<u8>) {
    let bytes = 16 + words * 8;
    let body = ticket.to_le_bytes().repeat(words as usize);
    (FrameHeader { bytes, opcode: 1, flags: 0, ticket }, body)
}

fn push(producer: &mut Producer<Model>, ticket: u64, words: u32) -> bool {
    let (header, body) = frame(ticket, words);
    producer.push(header, &body)
}

/// Takes one frame if there is one, and checks that it is this one, whole.
fn pop(consumer: &mut Consumer<Model>, ticket: u64, words: u32) -> bool {
    let mut body = Vec::new();
    let popped = consumer.pop(&mut body).unwrap();
    consumer.release();
    if let Some(header) = popped {
        assert_eq!((header, body), frame(ticket, words));
    }
    popped.is_some()
}

/// Pushes frames of these body lengths through a ring of this capacity, from
/// this position on: none is torn, lost or overtaken. Neither side spins: who
/// finds the ring full or empty leaves the rest for when both have stopped.
fn pass_through(capacity: u32, position: u32, words: &'static [u32]) {
    loom::model(move || {
        let model = Model::new(capacity);
        let mut producer = Producer::new(model.clone(), model.clone(), capacity);
        let mut consumer = Consumer::new(model.clone(), model, capacity);
        let odd = position % 16 / 8;
        if odd > 0 {
            assert!(push(&mut producer, 0, 1) && pop(&mut consumer, 0, 1));
        }
        for _ in 0..(position - odd * 24) / 16 {
            assert!(push(&mut producer, 0, 0) && pop(&mut consumer, 0, 0));
        }
        let frames: Vec<(u64, u32)> = (1..).zip(words.iter().copied()).collect();
        let mut to_push = frames.clone().into_iter().peekable();
        let guest = thread::spawn(move || {
            while let Some((ticket, words)) = to_push.peek() {
                if !push(&mut producer, *ticket, *words) {
                    break;
                }
                to_push.next();
            }
            (producer, to_push)
        });
        let mut to_pop = frames.into_iter().peekable();
        for _ in words {
            if to_pop.peek().is_some_and(|(ticket, words)| pop(&mut consumer, *ticket, *words)) {
                to_pop.next();
            }
        }
        let (mut producer, to_push) = guest.join().unwrap();
        for (ticket, words) in to_push {
            while !push(&mut producer, ticket, words) {
                let (ticket, words) = to_pop.next().unwrap();
                assert!(pop(&mut consumer, ticket, words));
            }
        }
        for (ticket, words) in to_pop {
            assert!(pop(&mut consumer, ticket, words));
        }
        assert!(consumer.is_empty() && producer.drained());
    });
}

#[test]
fn frames_pass_whole_and_in_order() {
    pass_through(64, 0, &[1, 0]);
}

#[test]
fn frames_pass_whole_around_the_end_with_padding() {
    // 16 bytes are left, then 8: the shortest padding there is.
    pass_through(64, 48, &[1, 0]);
    pass_through(64, 56, &[1, 0]);
}

#[test]
fn a_full_ring_refuses_until_there_is_room() {
    pass_through(32, 0, &[0, 0, 0]);
}

#[test]
fn no_wake_up_of_the_host_is_lost() {
    loom::model(|| {
        let model = Model::new(64);
        let doorbell = Arc::new(Notify::new());
        let (pages, bell) = (model.clone(), doorbell.clone());
        let guest = thread::spawn(move || {
            let mut producer = Producer::new(pages.clone(), pages, 64);
            for ticket in 1..=2 {
                assert!(push(&mut producer, ticket, 0));
                if producer.must_ring() {
                    bell.notify();
                }
            }
        });
        let mut consumer = Consumer::new(model.clone(), model.clone(), 64);
        let mut ticket = 1;
        while ticket <= 2 {
            if pop(&mut consumer, ticket, 0) {
                ticket += 1;
            } else if consumer.may_sleep() {
                // A lost wake-up leaves this waiting: loom reports a deadlock.
                while model.load_u32(word::HOST_SLEEPS, Ordering::Acquire) != 0 {
                    doorbell.wait();
                }
            }
        }
        guest.join().unwrap();
    });
}

#[test]
fn no_wake_up_of_the_guest_is_lost() {
    loom::model(|| {
        let model = Model::new(64);
        let futex = Arc::new(Notify::new());
        let (pages, host_futex) = (model.clone(), futex.clone());
        let host = thread::spawn(move || {
            for seq in 1..=2 {
                pages.write(seq as usize * 8, &7_u64.to_le_bytes());
                if answer(&pages, seq) {
                    host_futex.notify();
                }
            }
        });
        let producer = Producer::new(model.clone(), model.clone(), 64);
        while !producer.answered(2) {
            if producer.may_sleep(2) {
                while model.load_u32(word::GUEST_SLEEPS, Ordering::Acquire) != 0 {
                    futex.wait();
                }
            }
        }
        // What the host wrote before it answered is there.
        let mut reply = [0; 8];
        model.read(16, &mut reply);
        assert_eq!(u64::from_le_bytes(reply), 7);
        host.join().unwrap();
    });
}

/// A guest publishes tickets in ring B, and then, on the same thread or on one
/// that it told, a later one in ring A. Ring A's host thread must not issue
/// its own before all the earlier ones. Who has nothing to do gives up: loom
/// tries the orders in which there is.
fn earlier_tickets_are_issued_first(early: u64, on_another_thread: bool) {
    const CAPACITY: u32 = 32;
    let late = early + 1;
    // Not loom's: it outlives one order.
    let decided = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let reached = decided.clone();
    let mut explore = loom::model::Builder::new();
    explore.preemption_bound = Some(5);
    explore.check(move || {
        let (a, b) = (Model::peeked(CAPACITY), Model::peeked(CAPACITY));
        let last_issued = Arc::new(AtomicU64::new(0));
        let issued = Arc::new(AtomicU32::new(0));

        let (pages, b_last, b_issued) = (b.clone(), last_issued.clone(), issued.clone());
        let host_b = thread::spawn(move || {
            let mut consumer = Consumer::new(pages.clone(), pages, CAPACITY);
            while let Some(header) = consumer.pop(&mut Vec::new()).unwrap() {
                b_last.store(header.ticket, Ordering::Relaxed);
                b_issued.store(consumer.head(), Ordering::Release);
                consumer.release();
            }
        });

        let told = Arc::new(AtomicBool::new(false));
        let (pages, tell) = (b.clone(), told.clone());
        let push_early = move || {
            let mut producer = Producer::new(pages.clone(), pages, CAPACITY);
            let all = (1..=early).all(|ticket| push(&mut producer, ticket, 0));
            tell.store(all, Ordering::Release);
            producer
        };
        let pages = a.clone();
        let push_late = move || {
            if told.load(Ordering::Acquire) {
                let mut producer = Producer::new(pages.clone(), pages, CAPACITY);
                assert!(push(&mut producer, late, 0));
            }
        };
        let reached = reached.clone();
        let host_a = move || {
            let mut consumer = Consumer::new(a.clone(), a, CAPACITY);
            if consumer.pop(&mut Vec::new()).unwrap().is_some()
                && nothing_before(late, &b, &b, CAPACITY, || issued.load(Ordering::Acquire))
            {
                assert!(last_issued.load(Ordering::Relaxed) >= early);
                reached.store(true, std::sync::atomic::Ordering::Relaxed);
            }
        };
        if on_another_thread {
            let guest = thread::spawn(push_early);
            let host_a = thread::spawn(host_a);
            push_late();
            guest.join().unwrap();
            host_a.join().unwrap();
        } else {
            let guest = thread::spawn(move || {
                let mut producer = push_early();
                push_late();
                // May replace an early frame that is issued.
                push(&mut producer, late + 1, 0);
            });
            host_a();
            guest.join().unwrap();
        }
        host_b.join().unwrap();
    });
    assert!(decided.load(std::sync::atomic::Ordering::Relaxed), "no order let ring A issue");
}

#[test]
fn a_ticket_waits_for_an_earlier_one_of_the_same_thread() {
    earlier_tickets_are_issued_first(1, false);
}

#[test]
fn a_ticket_waits_for_an_earlier_one_of_a_thread_that_told() {
    earlier_tickets_are_issued_first(1, true);
}

#[test]
fn a_ticket_waits_although_earlier_frames_are_overwritten() {
    // A ring of 32 bytes holds two frames: the next one replaces the first.
    earlier_tickets_are_issued_first(2, false);
}
