//! Replies, and which of them wait for a fence. virglrenderer calls from a
//! thread of its own when a fence is there; it may leave out older ones of the
//! same timeline, which are there too.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rutabaga_gfx::{RUTABAGA_FLAG_FENCE, RUTABAGA_FLAG_INFO_RING_IDX, RutabagaFence};
use zerocopy::IntoBytes;

use crate::gl::wire::{self, Reply};

/// The timeline that all contexts share, or a context's own.
type Timeline = Option<(u32, u8)>;

/// The socket, and what waits.
pub(super) struct Fences {
    socket: UnixStream,
    /// virglrenderer's fences have 32 bits.
    last: u32,
    waiting: BTreeMap<u32, (Timeline, u64)>,
}

pub(super) fn lock(fences: &Mutex<Fences>) -> MutexGuard<'_, Fences> {
    fences.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fences {
    pub(super) fn new(socket: UnixStream) -> Self {
        Self { socket, last: 0, waiting: BTreeMap::new() }
    }

    /// The fence for a message whose head asks for one. Its reply is sent when
    /// the fence is signalled.
    pub(super) fn begin(&mut self, seq: u64, context: u32, fence: u32) -> Option<RutabagaFence> {
        let ring = match fence {
            wire::NO_FENCE => return None,
            wire::GLOBAL => None,
            ring => Some(u8::try_from(ring - wire::OF_CONTEXT).unwrap_or(u8::MAX)),
        };
        self.last = self.last.wrapping_add(1);
        self.waiting.insert(self.last, (ring.map(|ring| (context, ring)), seq));
        let flags = RUTABAGA_FLAG_FENCE | ring.map_or(0, |_| RUTABAGA_FLAG_INFO_RING_IDX);
        Some(RutabagaFence { flags, fence_id: self.last.into(), ctx_id: context, ring_idx: ring.unwrap_or(0) })
    }

    /// There was no such fence after all: the reply goes out now.
    pub(super) fn give_up(&mut self, fence: &RutabagaFence) {
        let id = u32::try_from(fence.fence_id).unwrap_or(0);
        if let Some((_, seq)) = self.waiting.remove(&id) {
            self.reply(seq, true, &[]);
        }
    }

    /// A fence and all before it on its timeline are there.
    pub(super) fn signalled(&mut self, fence: &RutabagaFence) {
        let of_ring = fence.flags & RUTABAGA_FLAG_INFO_RING_IDX != 0;
        let timeline = of_ring.then_some((fence.ctx_id, fence.ring_idx));
        let until = u32::try_from(fence.fence_id).unwrap_or(u32::MAX);
        let there: Vec<u32> =
            self.waiting.range(..=until).filter(|(_, (of, _))| *of == timeline).map(|(id, _)| *id).collect();
        for id in there {
            if let Some((_, seq)) = self.waiting.remove(&id) {
                self.reply(seq, true, &[]);
            }
        }
    }

    /// Replies. A device that does not listen any more is noticed where it speaks.
    pub(super) fn reply(&mut self, seq: u64, done: bool, body: &[u8]) {
        let bytes = u32::try_from(body.len()).unwrap_or(0);
        let reply = Reply { bytes: bytes.into(), refused: u32::from(!done).into(), seq: seq.into() };
        let _: io::Result<()> =
            self.socket.write_all(reply.as_bytes()).and_then(|()| self.socket.write_all(body));
    }

    /// Whether anything waits.
    pub(super) fn any(&self) -> bool {
        !self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn fences() -> (Fences, UnixStream) {
        let (here, there) = UnixStream::pair().unwrap();
        there.set_nonblocking(true).unwrap();
        (Fences::new(here), there)
    }

    fn replies(socket: &mut UnixStream) -> Vec<u64> {
        let mut seqs = Vec::new();
        let mut bytes = [0; 16];
        while socket.read_exact(&mut bytes).is_ok() {
            seqs.push(u64::from_le_bytes(bytes[8..].try_into().unwrap()));
        }
        seqs
    }

    #[test]
    fn a_fence_answers_for_the_older_ones_of_its_timeline() {
        let (mut fences, mut device) = fences();
        let first = fences.begin(10, 1, wire::GLOBAL).unwrap();
        let other = fences.begin(11, 1, wire::OF_CONTEXT + 3).unwrap();
        let second = fences.begin(12, 2, wire::GLOBAL).unwrap();
        assert!(fences.begin(13, 2, wire::NO_FENCE).is_none());
        assert_eq!((other.ring_idx, other.ctx_id), (3, 1));
        fences.signalled(&second);
        assert_eq!(replies(&mut device), [10, 12]);
        fences.signalled(&first);
        assert!(replies(&mut device).is_empty() && fences.any());
        fences.signalled(&other);
        assert_eq!(replies(&mut device), [11]);
        assert!(!fences.any());
    }
}
