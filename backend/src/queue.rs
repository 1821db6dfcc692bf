//! Descriptor chains: a chain's readable bytes are copied out once, its
//! writable descriptors are noted for the answer. Nothing here judges.
#![deny(clippy::indexing_slicing)]

use paravane_protocol::limits::COMMAND_BYTES_MAX;
use paravane_protocol::virtio_gpu::CtrlHdr;
use vhost_user_backend::{VringMutex, VringT};
use virtio_queue::{DescriptorChain, QueueOwnedT};
use vm_memory::{
    Bytes, GuestAddress, GuestAddressSpace, GuestMemory, GuestMemoryAtomic, GuestMemoryBackend,
    GuestMemoryMmap,
};

use crate::response::Response;

/// The guest memory of a connection, as vhost-user-backend shares it.
pub type Memory = GuestMemoryAtomic<GuestMemoryMmap>;
/// A virtqueue.
pub type Vring = VringMutex<Memory>;

/// Writable descriptors that an answer may be spread over; Linux gives one.
const WRITABLE_MAX: usize = 16;

/// Where an answer goes.
#[derive(Debug)]
pub struct Answer {
    /// Index of the queue.
    pub queue: usize,
    /// Header of the command that is answered.
    pub command: CtrlHdr,
    /// What to say.
    pub response: Response,
    head: u16,
    writable: Vec<(GuestAddress, usize)>,
}

/// One command as it came.
#[derive(Debug)]
pub struct Request {
    /// Copy of all readable bytes; empty where they are not in guest memory, or
    /// more than any command has.
    pub bytes: Vec<u8>,
    head: u16,
    writable: Vec<(GuestAddress, usize)>,
}

impl Request {
    /// Takes the next chain from a queue. `None`: there is none, or the ring is
    /// broken or stopped.
    pub fn next(vring: &Vring, memory: &Memory) -> Option<Self> {
        let memory = memory.memory();
        let mut state = vring.get_mut();
        let chain = state.get_queue_mut().iter(memory.clone()).ok()?.next()?;
        drop(state);
        Some(Self::copy(chain, &memory))
    }

    fn copy<M>(chain: DescriptorChain<M>, memory: &GuestMemoryMmap) -> Self
    where
        M: std::ops::Deref,
        M::Target: GuestMemory,
    {
        let head = chain.head_index();
        let (mut bytes, mut writable) = (Vec::new(), Vec::new());
        let mut whole = true;
        for descriptor in chain {
            let (at, length) = (descriptor.addr(), descriptor.len() as usize);
            if descriptor.is_write_only() {
                if writable.len() < WRITABLE_MAX {
                    writable.push((at, length));
                }
                continue;
            }
            whole = whole && append(&mut bytes, memory, at, length);
        }
        if !whole {
            bytes.clear();
        }
        Self { bytes, head, writable }
    }

    /// The answer to this command.
    pub fn answer(self, queue: usize, command: CtrlHdr, response: Response) -> Answer {
        Answer { queue, command, response, head: self.head, writable: self.writable }
    }
}

/// Appends guest memory to `bytes`. False: it is not guest memory, or too much.
fn append(bytes: &mut Vec<u8>, memory: &GuestMemoryMmap, at: GuestAddress, length: usize) -> bool {
    let start = bytes.len();
    if start + length > COMMAND_BYTES_MAX || !GuestMemoryBackend::check_range(memory, at, length) {
        return false;
    }
    bytes.resize(start + length, 0);
    bytes.get_mut(start..).is_some_and(|into| memory.read_slice(into, at).is_ok())
}

impl Answer {
    /// Writes the answer and gives the chain back. What does not fit is cut off.
    pub fn put(self, vring: &Vring, memory: &Memory) {
        let memory = memory.memory();
        let bytes = self.response.bytes(&self.command);
        let mut rest = &bytes[..];
        for (at, length) in self.writable {
            let (now, later) = rest.split_at(length.min(rest.len()));
            if memory.write_slice(now, at).is_err() {
                break;
            }
            rest = later;
        }
        let written = u32::try_from(bytes.len() - rest.len()).unwrap_or(0);
        // Fails only where the used ring is not in guest memory: a broken ring
        // is its guest's own loss.
        let _ = vring.add_used(self.head, written);
    }
}

/// Interrupts the guest if it wants to know of answers.
pub fn notify(vring: &Vring) {
    if vring.needs_notification().unwrap_or(true) {
        // A front end that has gone away is noticed on its socket.
        let _ = vring.signal_used_queue();
    }
}
