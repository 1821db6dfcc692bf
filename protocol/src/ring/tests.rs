//! The ring over real memory: what an honest producer sends arrives, and
//! nothing that a hostile one writes gets further than an error.

use proptest::prelude::*;

use super::*;
use crate::shared::SharedPages;

const CAPACITY: u32 = 256;

/// A control page and commands, zeroed, as aligned as pages are.
struct Pages(Box<[u64]>);

impl Pages {
    fn new() -> Self {
        Self(vec![0; 512 + CAPACITY as usize / 8].into_boxed_slice())
    }

    fn control(&mut self) -> SharedPages {
        self.window(0, 4096)
    }

    fn commands(&mut self) -> SharedPages {
        self.window(4096, CAPACITY as usize)
    }

    fn window(&mut self, offset: usize, bytes: usize) -> SharedPages {
        let all = self.0.len() * 8;
        // SAFETY: the box outlives every use in these tests and is aligned to 8.
        unsafe { SharedPages::new(self.0.as_mut_ptr().cast(), all) }.window(offset, bytes)
    }

    fn ends(&mut self) -> (Producer<SharedPages>, Consumer<SharedPages>) {
        let (control, commands) = (self.control(), self.commands());
        (
            Producer::new(control, commands, CAPACITY),
            Consumer::new(control, commands, CAPACITY),
        )
    }
}

fn frame(ticket: u64, body: &[u8]) -> FrameHeader {
    let bytes = u32::try_from(FRAME_HEADER_BYTES + body.len()).unwrap();
    FrameHeader { bytes, opcode: 0x0200, flags: 0, ticket }
}

/// Pushes the raw words of a frame past any check of the producer's.
fn forge(pages: &mut Pages, position: u32, bytes: u32, opcode: u16, tail: u32) {
    let header = FrameHeader { bytes, opcode, flags: 0, ticket: 1 }.to_bytes();
    let present = header.len().min((CAPACITY - position) as usize);
    pages.commands().write(position as usize, &header[..present]);
    pages.control().store_u32(word::TAIL, tail, Ordering::Release);
}

#[test]
fn a_tail_beyond_the_ring_is_an_error() {
    let mut pages = Pages::new();
    let (_, mut consumer) = pages.ends();
    pages.control().store_u32(word::TAIL, CAPACITY + 8, Ordering::Release);
    let error = consumer.pop(&mut Vec::new()).unwrap_err();
    assert_eq!(error, RingError::TailOutOfRange { tail: CAPACITY + 8, head: 0, capacity: CAPACITY });
}

#[test]
fn a_frame_must_fit_what_is_published() {
    for (bytes, tail) in [(0, 16), (8, 16), (20, 64), (32, 16), (u32::MAX, 16), (264, 256)] {
        let mut pages = Pages::new();
        let (_, mut consumer) = pages.ends();
        forge(&mut pages, 0, bytes, 1, tail);
        let error = consumer.pop(&mut Vec::new()).unwrap_err();
        assert_eq!(error, RingError::FrameLength { bytes, position: 0, published: tail });
    }
}

#[test]
fn padding_goes_to_the_end_and_never_from_the_start() {
    for (bytes, whole) in [(8, false), (CAPACITY, false)] {
        let mut pages = Pages::new();
        let (_, mut consumer) = pages.ends();
        forge(&mut pages, 0, bytes, OPCODE_PAD, CAPACITY);
        assert_eq!(consumer.pop(&mut Vec::new()).is_ok(), whole, "{bytes} bytes of padding");
    }
    for (bytes, whole) in [(16, false), (CAPACITY - 16, true)] {
        let mut pages = Pages::new();
        let (mut producer, mut consumer) = pages.ends();
        assert!(producer.push(frame(1, &[]), &[]));
        assert!(consumer.pop(&mut Vec::new()).unwrap().is_some());
        forge(&mut pages, 16, bytes, OPCODE_PAD, CAPACITY);
        assert_eq!(consumer.pop(&mut Vec::new()), if whole { Ok(None) } else {
            Err(RingError::FrameLength { bytes, position: 16, published: CAPACITY - 16 })
        });
    }
}

#[test]
fn a_full_ring_takes_nothing_and_changes_nothing() {
    let mut pages = Pages::new();
    let (mut producer, mut consumer) = pages.ends();
    let body = [7; 48];
    for ticket in 0..4 {
        assert!(producer.push(frame(ticket, &body), &body));
    }
    assert!(!producer.push(frame(4, &[]), &[]));
    let mut got = Vec::new();
    for ticket in 0..4 {
        assert_eq!(consumer.pop(&mut got), Ok(Some(frame(ticket, &body))));
        consumer.release();
        assert_eq!(got, body);
    }
    assert_eq!(consumer.pop(&mut got), Ok(None));
    assert!(producer.drained());
    assert!(producer.push(frame(4, &[]), &[]));
}

#[test]
fn a_frame_popped_but_not_released_holds_back_later_tickets() {
    let mut pages = Pages::new();
    let (mut producer, mut consumer) = pages.ends();
    let (control, commands) = (pages.control(), pages.commands());
    let free = |ticket| {
        nothing_before(ticket, &control, &commands, CAPACITY, || control.load_u32(word::HEAD, Ordering::Acquire))
    };
    assert!(free(9));
    assert!(producer.push(frame(5, &[]), &[]));
    assert!(consumer.pop(&mut Vec::new()).unwrap().is_some());
    assert!(!free(6));
    assert!(free(5));
    consumer.release();
    assert!(free(6));
}

#[test]
fn a_ring_that_moves_meanwhile_is_looked_at_again() {
    let mut pages = Pages::new();
    let (mut producer, _) = pages.ends();
    assert!(producer.push(frame(1, &[]), &[]) && producer.push(frame(2, &[]), &[]));
    let reads = std::cell::Cell::new(0);
    let moves = || {
        reads.set(reads.get() + 16);
        reads.get() - 16
    };
    // Frame 1 is issued between the two reads; frame 2 is not.
    assert!(!nothing_before(3, &pages.control(), &pages.commands(), CAPACITY, moves));
}

/// A body whose length is a multiple of 8 and fits the ring beside padding.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    (0..=12_usize).prop_flat_map(|words| prop::collection::vec(any::<u8>(), words * 8))
}

proptest! {
    #[test]
    fn what_is_pushed_is_popped(bodies in prop::collection::vec(bodies(), 1..60), ahead in 0..4_usize) {
        let mut pages = Pages::new();
        let (mut producer, mut consumer) = pages.ends();
        let mut sent = std::collections::VecDeque::new();
        let mut got = Vec::new();
        for (ticket, body) in (0..).zip(bodies) {
            while sent.len() > ahead || !producer.push(frame(ticket, &body), &body) {
                let (header, body): (FrameHeader, Vec<u8>) = sent.pop_front().unwrap();
                prop_assert_eq!(consumer.pop(&mut got).unwrap(), Some(header));
                consumer.release();
                prop_assert_eq!(&got, &body);
            }
            sent.push_back((frame(ticket, &body), body));
        }
        for (header, body) in sent {
            prop_assert_eq!(consumer.pop(&mut got).unwrap(), Some(header));
            consumer.release();
            prop_assert_eq!(&got, &body);
        }
        prop_assert_eq!(consumer.pop(&mut got), Ok(None));
    }

    #[test]
    fn hostile_words_give_a_valid_frame_or_an_error(
        commands in prop::collection::vec(any::<u8>(), CAPACITY as usize),
        lengths in prop::collection::vec((0..CAPACITY / 8, 0..80_u32, any::<bool>()), 0..24),
        tails in prop::collection::vec(prop_oneof![any::<u32>(), 0..2 * CAPACITY], 1..12),
        heads in any::<u32>(),
    ) {
        let mut pages = Pages::new();
        let (_, mut consumer) = pages.ends();
        pages.commands().write(0, &commands);
        for (at, bytes, pad) in lengths {
            let opcode = if pad { OPCODE_PAD } else { 1 };
            forge(&mut pages, at * 8, bytes, opcode, 0);
        }
        pages.control().store_u32(word::HEAD, heads, Ordering::Relaxed);
        let mut body = Vec::new();
        for tail in tails {
            pages.control().store_u32(word::TAIL, tail, Ordering::Relaxed);
            let before = consumer.head();
            let _ = visible_ticket(&pages.control(), &pages.commands(), CAPACITY, heads);
            let _ = nothing_before(3, &pages.control(), &pages.commands(), CAPACITY, || heads);
            if let Ok(Some(header)) = consumer.pop(&mut body) {
                prop_assert_eq!(header.bytes as usize, FRAME_HEADER_BYTES + body.len());
                prop_assert!(consumer.head().wrapping_sub(before) <= tail.wrapping_sub(before));
            }
            let _ = consumer.may_sleep();
        }
    }
}
