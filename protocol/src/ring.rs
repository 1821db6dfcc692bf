//! The command ring of one guest thread: a byte ring with one producer (the
//! guest thread) and one consumer (its host thread), and the words by which
//! each side puts the other to sleep and wakes it. The guest's `guest-shim`
//! produces, the worker consumes. Layout in docs/protocol.md.

use core::sync::atomic::Ordering;

use crate::frame::{FRAME_HEADER_BYTES, FrameHeader, OPCODE_PAD};
use crate::limits::FRAME_BYTES_MAX;
use crate::shared::Shared;

/// Offsets in a ring's control page; one cache line per writer.
pub mod word {
    /// `u32`, guest: bytes produced, free running.
    pub const TAIL: usize = 0;
    /// `u32`, host: bytes consumed, free running.
    pub const HEAD: usize = 64;
    /// `u32`: 1 while the host thread sleeps. The guest swaps it to 0 and rings.
    pub const HOST_SLEEPS: usize = 128;
    /// `u32`: 1 while the guest thread sleeps. The host swaps it to 0 and wakes.
    pub const GUEST_SLEEPS: usize = 192;
    /// `u32`, host: awaited calls answered, free running.
    pub const REPLY_SEQ: usize = 256;
    /// `u32`, host: CUresult of the last awaited call.
    pub const REPLY_RESULT: usize = 260;
    /// `u32`, host: bytes of reply data.
    pub const REPLY_BYTES: usize = 264;
    /// `u32`, host: frames finished, free running; says when a staging slot that
    /// a frame uses is free again.
    pub const DONE: usize = 268;
    /// `u32`, host: 1 while the host thread waits for its turn to run commands,
    /// for milliseconds as a rule: who awaits a reply may as well sleep.
    pub const HOST_WAITS: usize = 272;
}

/// What a consumer says of a ring whose producer broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// The tail claims more bytes than the ring has.
    #[error("ring tail {tail} is more than {capacity} bytes ahead of head {head}")]
    TailOutOfRange {
        /// The producer's claim.
        tail: u32,
        /// The consumer's own position.
        head: u32,
        /// Bytes that the ring holds.
        capacity: u32,
    },
    /// A frame's length is below its header, over the limit, not a multiple of
    /// 8, past what the tail published, or runs over the ring's end.
    #[error("frame of {bytes} bytes at ring position {position}, {published} bytes published")]
    FrameLength {
        /// The length in the frame's header.
        bytes: u32,
        /// Offset in the ring's bytes.
        position: u32,
        /// Bytes between head and tail.
        published: u32,
    },
}

/// The producing end. Private positions are the truth; the shared words only
/// tell the other side.
#[derive(Debug)]
pub struct Producer<S> {
    control: S,
    bytes: S,
    capacity: u32,
    tail: u32,
    head_seen: u32,
}

impl<S: Shared> Producer<S> {
    /// A producer over fresh (zeroed) pages. `capacity` is a power of two.
    pub fn new(control: S, bytes: S, capacity: u32) -> Self {
        debug_assert!(capacity.is_power_of_two());
        Self { control, bytes, capacity, tail: 0, head_seen: 0 }
    }

    /// The control page.
    pub fn control(&self) -> &S {
        &self.control
    }

    fn free(&self) -> u32 {
        self.capacity - self.tail.wrapping_sub(self.head_seen)
    }

    /// Whether the consumer has taken everything that was pushed.
    pub fn drained(&self) -> bool {
        self.control.load_u32(word::HEAD, Ordering::Acquire) == self.tail
    }

    /// Publishes one frame. `body` must be a multiple of 8 bytes, and with the
    /// header at most [`FRAME_BYTES_MAX`]. Returns false when the ring has no
    /// room; nothing is written then.
    #[inline]
    pub fn push(&mut self, header: FrameHeader, body: &[u8]) -> bool {
        let bytes = header.bytes;
        debug_assert_eq!(bytes as usize, FRAME_HEADER_BYTES + body.len());
        debug_assert!(bytes.is_multiple_of(8) && bytes <= FRAME_BYTES_MAX);
        let position = self.tail & (self.capacity - 1);
        let to_end = self.capacity - position;
        let pad = if bytes > to_end { to_end } else { 0 };
        if self.free() < bytes + pad {
            self.head_seen = self.control.load_u32(word::HEAD, Ordering::Acquire);
            if self.free() < bytes + pad {
                return false;
            }
        }
        let mut start = position as usize;
        if pad > 0 {
            // A frame is 8-aligned, so at least 8 bytes are left: enough for the
            // length and opcode of a padding frame.
            let filler = FrameHeader { bytes: pad, opcode: OPCODE_PAD, flags: 0, ticket: 0 };
            self.bytes.write(start, &filler.to_bytes()[..8]);
            start = 0;
        }
        self.bytes.write(start, &header.to_bytes());
        self.bytes.write(start + FRAME_HEADER_BYTES, body);
        self.tail = self.tail.wrapping_add(bytes + pad);
        self.control.store_u32(word::TAIL, self.tail, Ordering::Release);
        true
    }

    /// Whether the host has answered the awaited call with this number. What
    /// it wrote as the reply can be read then.
    #[inline]
    pub fn answered(&self, seq: u32) -> bool {
        self.control.load_u32(word::REPLY_SEQ, Ordering::Acquire) == seq
    }

    /// Whether the host thread waits for its turn: no reply comes soon.
    #[inline]
    pub fn host_waits(&self) -> bool {
        self.control.load_u32(word::HOST_WAITS, Ordering::Relaxed) != 0
    }

    /// Announces that the guest thread is about to sleep until the call `seq`
    /// is answered. True: it may sleep until [`word::GUEST_SLEEPS`] turns 0.
    /// False: the answer is there, and the announcement is taken back.
    pub fn may_sleep(&self, seq: u32) -> bool {
        self.control.swap_u32(word::GUEST_SLEEPS, 1);
        self.control.fence();
        if !self.answered(seq) {
            return true;
        }
        self.control.swap_u32(word::GUEST_SLEEPS, 0);
        false
    }

    /// To be called after every push: true when the consumer sleeps and this
    /// caller has to ring its doorbell.
    #[inline]
    pub fn must_ring(&self) -> bool {
        self.control.fence();
        self.control.load_u32(word::HOST_SLEEPS, Ordering::Relaxed) != 0
            && self.control.swap_u32(word::HOST_SLEEPS, 0) != 0
    }
}

/// The consuming end.
#[derive(Debug)]
pub struct Consumer<S> {
    control: S,
    bytes: S,
    capacity: u32,
    head: u32,
    tail_seen: u32,
}

impl<S: Shared> Consumer<S> {
    /// A consumer that starts at position 0.
    pub fn new(control: S, bytes: S, capacity: u32) -> Self {
        debug_assert!(capacity.is_power_of_two());
        Self { control, bytes, capacity, head: 0, tail_seen: 0 }
    }

    /// The control page.
    pub fn control(&self) -> &S {
        &self.control
    }

    /// Bytes consumed, free running.
    pub fn head(&self) -> u32 {
        self.head
    }

    /// Whether nothing is published past the head.
    pub fn is_empty(&self) -> bool {
        self.control.load_u32(word::TAIL, Ordering::Acquire) == self.head
    }

    /// Copies the next frame's body into `body` and returns its header, or
    /// `None` when the ring is empty. The copy is private. The frame's room
    /// goes back to the producer by [`Consumer::release`]: until then other
    /// host threads can still read the frame's ticket in the ring.
    #[inline]
    pub fn pop(&mut self, body: &mut Vec<u8>) -> Result<Option<FrameHeader>, RingError> {
        // At most one padding frame goes before a frame.
        for _ in 0..2 {
            let published = self.published()?;
            if published == 0 {
                return Ok(None);
            }
            let header = self.header_at(self.head, published)?;
            if header.opcode != OPCODE_PAD {
                let start = (self.head & (self.capacity - 1)) as usize;
                body.resize(header.bytes as usize - FRAME_HEADER_BYTES, 0);
                self.bytes.read(start + FRAME_HEADER_BYTES, body);
            }
            self.head = self.head.wrapping_add(header.bytes);
            if header.opcode != OPCODE_PAD {
                return Ok(Some(header));
            }
        }
        Ok(None)
    }

    /// Bytes past the head that may be read. The tail is looked at only when
    /// all that was seen is taken: each look takes its cache line from the
    /// producer, who writes it with every frame.
    #[inline]
    fn published(&mut self) -> Result<u32, RingError> {
        if self.tail_seen == self.head {
            self.tail_seen = self.control.load_u32(word::TAIL, Ordering::Acquire);
        }
        let published = self.tail_seen.wrapping_sub(self.head);
        if published > self.capacity {
            let (tail, head, capacity) = (self.tail_seen, self.head, self.capacity);
            return Err(RingError::TailOutOfRange { tail, head, capacity });
        }
        Ok(published)
    }

    /// Gives the room of all popped frames back to the producer.
    #[inline]
    pub fn release(&self) {
        self.control.store_u32(word::HEAD, self.head, Ordering::Release);
    }

    /// Copies and validates the header at ring position `head`.
    fn header_at(&self, head: u32, published: u32) -> Result<FrameHeader, RingError> {
        let position = head & (self.capacity - 1);
        let to_end = self.capacity - position;
        let mut raw = [0; FRAME_HEADER_BYTES];
        // A padding frame may be as short as 8 bytes at the ring's very end.
        let present = FRAME_HEADER_BYTES.min(to_end as usize);
        self.bytes.read(position as usize, &mut raw[..present]);
        let header = FrameHeader::from_bytes(raw);
        let bytes = header.bytes;
        let fits = bytes <= FRAME_BYTES_MAX
            && bytes.is_multiple_of(8)
            && bytes <= published
            && match header.opcode {
                // Up to the end exactly and never from the start, so that no
                // chain of padding keeps a host thread busy.
                OPCODE_PAD => bytes == to_end && position != 0,
                _ => bytes >= FRAME_BYTES_MIN && bytes <= to_end,
            };
        if fits { Ok(header) } else { Err(RingError::FrameLength { bytes, position, published }) }
    }

    /// Announces that the consumer is about to sleep. True: nothing was
    /// published meanwhile, so it may sleep until [`word::HOST_SLEEPS`] turns
    /// 0. False: there is work, and the announcement is taken back.
    pub fn may_sleep(&self) -> bool {
        self.control.swap_u32(word::HOST_SLEEPS, 1);
        self.control.fence();
        if self.is_empty() {
            return true;
        }
        self.control.swap_u32(word::HOST_SLEEPS, 0);
        false
    }
}

const FRAME_BYTES_MIN: u32 = 16;
const _: () = assert!(FRAME_BYTES_MIN as usize == FRAME_HEADER_BYTES);

/// The host's half of a reply: publishes that the awaited call with this
/// number is answered; result and data must be written. True when the guest
/// thread sleeps and this caller has to wake it.
#[inline]
pub fn answer<S: Shared>(control: &S, seq: u32) -> bool {
    control.store_u32(word::REPLY_SEQ, seq, Ordering::Release);
    control.fence();
    control.load_u32(word::GUEST_SLEEPS, Ordering::Relaxed) != 0
        && control.swap_u32(word::GUEST_SLEEPS, 0) != 0
}

/// Whether a ring shows no command below `ticket` that its own host thread has
/// still to issue: the ordering rule between rings (docs/protocol.md,
/// "Tickets"). `issued` reads how many bytes are issued, free running. False may
/// also mean that the ring moved meanwhile: what lies behind a frame that was
/// issued under our eyes may be smaller too, so the caller looks again.
///
/// The ring's own thread must [`Consumer::pop`], issue, move `issued`, then
/// [`Consumer::release`]: a frame that is released earlier may be overwritten
/// while this function looks at it, and its ticket would be missed.
#[inline]
pub fn nothing_before<S: Shared>(
    ticket: u64,
    control: &S,
    bytes: &S,
    capacity: u32,
    issued: impl Fn() -> u32,
) -> bool {
    let position = issued();
    let oldest = visible_ticket(control, bytes, capacity, position);
    // Seen not to have moved, so nobody has overwritten what was looked at.
    control.fence_acquire();
    issued() == position && oldest.is_none_or(|oldest| oldest >= ticket)
}

/// The ticket of the first frame at or past `position` that `tail` has made
/// visible. `None` when nothing is visible, or when what is there is no frame:
/// the ring's own thread will say so. The answer holds only if the bytes from
/// `position` on were not released meanwhile.
pub fn visible_ticket<S: Shared>(
    control: &S,
    bytes: &S,
    capacity: u32,
    mut position: u32,
) -> Option<u64> {
    let tail = control.load_u32(word::TAIL, Ordering::Acquire);
    for _ in 0..2 {
        let published = tail.wrapping_sub(position);
        if published == 0 || published > capacity {
            return None;
        }
        let start = position & (capacity - 1);
        let mut raw = [0; FRAME_HEADER_BYTES];
        let present = FRAME_HEADER_BYTES.min((capacity - start) as usize);
        bytes.read(start as usize, &mut raw[..present]);
        let header = FrameHeader::from_bytes(raw);
        if header.opcode != OPCODE_PAD {
            return Some(header.ticket);
        }
        position = position.wrapping_add(header.bytes);
    }
    None
}

#[cfg(test)]
#[cfg(loom)]
mod loom_model;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;
