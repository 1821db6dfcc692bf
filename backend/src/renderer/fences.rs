//! Replies, and which of them wait for a fence; what was drawn is over with its
//! fence too. The library signals from a thread of its own; it may leave out
//! older fences of the same timeline, which are there too.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use zerocopy::IntoBytes;

use super::Executed;
use super::lease::{RendererLease, Work};
use crate::gl::wire::{self, Reply};

/// A fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// Its number; they count up. virglrenderer's have 32 bits.
    pub id: u32,
    /// The context and which of its timelines it is on; `None`: the timeline
    /// that all share.
    pub timeline: Option<(u32, u8)>,
}

/// What a fence is for.
struct Waiting {
    timeline: Option<(u32, u8)>,
    /// The message that it answers.
    seq: Option<u64>,
    /// What is over with it.
    work: Option<Work>,
}

struct State {
    socket: UnixStream,
    last: u32,
    waiting: BTreeMap<u32, Waiting>,
}

/// The socket, and what waits.
pub struct Fences {
    state: Mutex<State>,
    lease: Arc<RendererLease>,
}

impl Fences {
    pub(super) fn new(socket: UnixStream, lease: RendererLease) -> Self {
        Self { state: Mutex::new(State { socket, last: 0, waiting: BTreeMap::new() }), lease: Arc::new(lease) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lease(&self) -> &Arc<RendererLease> {
        &self.lease
    }

    /// A fence of a context, on the timeline that a message's head asks for.
    /// When it is signalled, the message of that number is answered and the work
    /// is over.
    pub(super) fn begin(&self, seq: Option<u64>, (context, wanted): (u32, u32), work: Option<Work>) -> Fence {
        let ring = wanted.checked_sub(wire::OF_CONTEXT);
        let timeline = ring.map(|ring| (context, u8::try_from(ring).unwrap_or(u8::MAX)));
        let mut state = self.lock();
        state.last = state.last.wrapping_add(1);
        let id = state.last;
        state.waiting.insert(id, Waiting { timeline, seq, work });
        Fence { id, timeline }
    }

    /// There is no such fence after all: it is as if it were signalled.
    pub(super) fn give_up(&self, fence: Fence) {
        let waiting = self.lock().waiting.remove(&fence.id);
        self.end(waiting);
    }

    /// A fence and all before it on its timeline are there.
    pub fn signalled(&self, fence: Fence) {
        self.end_all(|id, waiting| id <= fence.id && waiting.timeline == fence.timeline);
    }

    /// A context's fences are never signalled after its end.
    pub(super) fn context_ended(&self, context: u32) {
        self.end_all(|_, waiting| waiting.timeline.is_some_and(|(of, _)| of == context));
    }

    fn end_all(&self, which: impl Fn(u32, &Waiting) -> bool) {
        let mut state = self.lock();
        let ids: Vec<u32> = state.waiting.iter().filter(|(id, of)| which(**id, of)).map(|(id, _)| *id).collect();
        let there: Vec<Waiting> = ids.iter().filter_map(|id| state.waiting.remove(id)).collect();
        drop(state);
        self.end(there);
    }

    fn end(&self, waiting: impl IntoIterator<Item = Waiting>) {
        for Waiting { seq, work, .. } in waiting {
            // Before the answer: who has that may look at the account.
            work.into_iter().for_each(|work| self.lease.over(work));
            seq.into_iter().for_each(|seq| self.reply(seq, true, Executed::default()));
        }
    }

    /// Replies. A device that does not listen any more is noticed where it speaks.
    pub(super) fn reply(&self, seq: u64, done: bool, Executed { body, file }: Executed) {
        let bytes = u32::try_from(body.len()).unwrap_or(0);
        let refused = u32::from(!done).into();
        let files = u32::from(file.is_some()).into();
        let reply = Reply { bytes: bytes.into(), refused, seq: seq.into(), files, ..Reply::default() };
        let socket = &mut self.lock().socket;
        let _: io::Result<()> = send_head(socket, &reply, file).and_then(|()| socket.write_all(&body));
    }

    /// Whether anything waits.
    pub(super) fn any(&self) -> bool {
        !self.lock().waiting.is_empty()
    }
}

/// Sends a reply's head; its descriptor goes with the first byte.
fn send_head(socket: &mut UnixStream, reply: &Reply, file: Option<OwnedFd>) -> io::Result<()> {
    let Some(file) = file else { return socket.write_all(reply.as_bytes()) };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(wire::REPLY_FILES_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let files = [file.as_fd()];
    if !ancillary.push(SendAncillaryMessage::ScmRights(&files)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    let bytes = reply.as_bytes();
    let sent = loop {
        match sendmsg(&*socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => {}
            sent => break sent?,
        }
    };
    socket.write_all(bytes.get(sent..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::renderer::lease::Whose;

    fn fences() -> (Fences, UnixStream) {
        let (here, there) = UnixStream::pair().unwrap();
        there.set_nonblocking(true).unwrap();
        (Fences::new(here, RendererLease::open()), there)
    }

    fn replies(socket: &mut UnixStream) -> Vec<u64> {
        let mut seqs = Vec::new();
        let mut bytes = [0; size_of::<Reply>()];
        while socket.read_exact(&mut bytes).is_ok() {
            seqs.push(u64::from_le_bytes(bytes[8..16].try_into().unwrap()));
        }
        seqs
    }

    #[test]
    fn a_fence_answers_for_the_older_ones_of_its_timeline() {
        let (fences, mut device) = fences();
        let first = fences.begin(Some(10), (1, wire::GLOBAL), None);
        let other = fences.begin(Some(11), (1, wire::OF_CONTEXT + 3), None);
        let second = fences.begin(Some(12), (2, wire::GLOBAL), None);
        assert_eq!((first.timeline, other.timeline), (None, Some((1, 3))));
        fences.signalled(second);
        assert_eq!(replies(&mut device), [10, 12]);
        fences.signalled(first);
        assert!(replies(&mut device).is_empty() && fences.any());
        fences.signalled(other);
        assert_eq!(replies(&mut device), [11]);
        assert!(!fences.any());
    }

    #[test]
    fn nobody_waits_for_a_context_that_has_ended() {
        let (fences, mut device) = fences();
        fences.begin(Some(1), (5, wire::OF_CONTEXT), None);
        fences.begin(Some(2), (6, wire::OF_CONTEXT), None);
        fences.begin(Some(3), (5, wire::GLOBAL), None);
        fences.context_ended(5);
        assert_eq!(replies(&mut device), [1]);
        assert!(fences.any());
    }

    #[test]
    fn work_is_over_with_its_fence() {
        let (fences, mut device) = fences();
        let shape = paravane_scheduler::Shape { kind: 1, size: 1 };
        let admit = || Some(fences.lease().admit(shape, Whose::OpenGl(1), || ()));
        let drawn = fences.begin(None, (1, wire::GLOBAL), admit());
        let refused = fences.begin(Some(4), (1, wire::GLOBAL), admit());
        fences.give_up(refused);
        assert_eq!(replies(&mut device), [4]);
        assert_eq!(fences.lease().in_flight(), 1);
        fences.signalled(drawn);
        assert_eq!(fences.lease().in_flight(), 0);
    }
}
