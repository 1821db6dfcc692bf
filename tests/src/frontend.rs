//! An in-process vhost-user front end: guest memory in a memfd, the two
//! virtqueues, commands put on them as raw bytes. What a test wants to get
//! wrong it can get wrong.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use paravane_protocol::virtio_gpu::{CtrlHdr, FLAG_FENCE};
use vhost::vhost_user::message::{VhostUserConfigFlags, VhostUserHeaderFlag};
use vhost::vhost_user::{
    Frontend, VhostUserFrontend, VhostUserProtocolFeatures, VhostUserVirtioFeatures,
};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use zerocopy::{FromBytes, IntoBytes};

use crate::backend::HANG;
use crate::window::Leaves;

/// Guest memory of a test.
pub const MEMORY_BYTES: u64 = 32 << 20;
const QUEUE_SIZE: u16 = 128;
const PAGE: u64 = 4096;
/// The rings and the buffers of the queues lie before this address.
const FIRST_FREE: u64 = 4 << 20;
/// One request or response buffer of the queues.
const BUFFER_BYTES: u64 = 8192;

const DESC_NEXT: u16 = 1;
/// Descriptor flag: the device writes.
pub const DESC_WRITE: u16 = 2;

/// One descriptor as a test wants it: address, bytes, flags but NEXT.
pub type Descriptor = (u64, u32, u16);

struct Queue {
    rings: u64,
    available: u16,
    used: u16,
    kick: EventFd,
    call: EventFd,
}

impl Queue {
    fn descriptors(&self) -> u64 {
        self.rings
    }
    fn available_ring(&self) -> u64 {
        self.rings + u64::from(QUEUE_SIZE) * 16
    }
    fn used_ring(&self) -> u64 {
        self.rings + PAGE
    }
}

/// A connected front end.
pub struct FrontEnd {
    /// The vhost-user connection.
    pub vhost: Frontend,
    /// Guest memory.
    pub memory: GuestMemoryMmap,
    /// Features that were offered.
    pub offered: u64,
    file: File,
    queues: Vec<Queue>,
    free: u64,
    pub(crate) leaves: Option<Leaves>,
}

/// The answer to a command.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The response's number.
    pub kind: u32,
    /// All its bytes.
    pub bytes: Vec<u8>,
    /// The head of its chain.
    pub head: u16,
}

/// A sealed memfd of `bytes` bytes.
pub fn memory_file(bytes: u64) -> File {
    let flags = rustix::fs::MemfdFlags::CLOEXEC | rustix::fs::MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create("guest", flags).unwrap();
    rustix::fs::ftruncate(&file, bytes).unwrap();
    rustix::fs::fcntl_add_seals(&file, rustix::fs::SealFlags::SHRINK).unwrap();
    file.into()
}

fn map(file: &File, bytes: u64) -> GuestMemoryMmap {
    let place = FileOffset::new(file.try_clone().unwrap(), 0);
    let bytes = usize::try_from(bytes).unwrap();
    GuestMemoryMmap::from_ranges_with_files([(GuestAddress(0), bytes, Some(place))]).unwrap()
}

impl FrontEnd {
    /// Connects, negotiates and starts both queues.
    pub fn connect(socket: &Path) -> Self {
        Self::over(Frontend::connect(socket, 2).unwrap())
    }

    /// The same over a connection that is there already.
    pub fn over(vhost: Frontend) -> Self {
        let mut front_end = Self::negotiate(vhost);
        front_end.start_queues();
        front_end
    }

    /// Negotiates and shares memory, but starts no queue.
    pub fn negotiate(mut vhost: Frontend) -> Self {
        let file = memory_file(MEMORY_BYTES);
        let memory = map(&file, MEMORY_BYTES);
        vhost.set_owner().unwrap();
        let offered = vhost.get_features().unwrap();
        assert_ne!(offered & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits(), 0);
        vhost.set_features(offered & !(1 << 29)).unwrap();
        let protocol = vhost.get_protocol_features().unwrap();
        assert!(protocol.contains(VhostUserProtocolFeatures::CONFIG));
        vhost.set_protocol_features(protocol).unwrap();
        vhost.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        assert_eq!(vhost.get_queue_num().unwrap(), 2);
        let front_end = Self { vhost, memory, offered, file, queues: Vec::new(), free: FIRST_FREE, leaves: None };
        front_end.share(&front_end.file, MEMORY_BYTES, 0).unwrap();
        front_end
    }

    /// Sets a memory table of one region: `bytes` bytes of `file` at address 0.
    pub fn share(&self, file: &File, bytes: u64, offset: u64) -> Result<(), vhost::Error> {
        let region = VhostUserMemoryRegionInfo {
            guest_phys_addr: 0,
            memory_size: bytes,
            userspace_addr: self.user_address(0),
            mmap_offset: offset,
            mmap_handle: file.as_raw_fd(),
        };
        self.vhost.set_mem_table(&[region]).map(drop)
    }

    /// Sets a memory table of the guest's memory and another file at `address` behind it.
    pub fn share_with(&self, file: &File, address: u64, bytes: u64) -> Result<(), vhost::Error> {
        let region = |address, bytes, user_address, file: &File| VhostUserMemoryRegionInfo {
            guest_phys_addr: address,
            memory_size: bytes,
            userspace_addr: user_address,
            mmap_offset: 0,
            mmap_handle: file.as_raw_fd(),
        };
        // In the order of their addresses: vhost-user-backend takes no other.
        let regions = [
            region(0, MEMORY_BYTES, self.user_address(0), &self.file),
            // No ring lies in it, so its address here is never used.
            region(address, bytes, 1 << 46, file),
        ];
        self.vhost.set_mem_table(&regions).map(drop)
    }

    fn user_address(&self, address: u64) -> u64 {
        self.memory.get_host_address(GuestAddress(address)).unwrap() as u64
    }

    /// Starts both queues at index 0.
    pub fn start_queues(&mut self) {
        self.queues.clear();
        for index in 0..2_u64 {
            let rings = PAGE + index * 2 * PAGE;
            let zero = vec![0; usize::try_from(2 * PAGE).unwrap()];
            self.memory.write_slice(&zero, GuestAddress(rings)).unwrap();
            let (kick, call) =
                (EventFd::new(EFD_NONBLOCK).unwrap(), EventFd::new(EFD_NONBLOCK).unwrap());
            let queue = Queue { rings, available: 0, used: 0, kick, call };
            let index = usize::try_from(index).unwrap();
            self.vhost.set_vring_num(index, QUEUE_SIZE).unwrap();
            let config = VringConfigData {
                queue_max_size: QUEUE_SIZE,
                queue_size: QUEUE_SIZE,
                flags: 0,
                desc_table_addr: self.user_address(queue.descriptors()),
                used_ring_addr: self.user_address(queue.used_ring()),
                avail_ring_addr: self.user_address(queue.available_ring()),
                log_addr: None,
            };
            self.vhost.set_vring_addr(index, &config).unwrap();
            self.vhost.set_vring_base(index, 0).unwrap();
            self.vhost.set_vring_call(index, &queue.call).unwrap();
            self.vhost.set_vring_kick(index, &queue.kick).unwrap();
            self.vhost.set_vring_enable(index, true).unwrap();
            self.queues.push(queue);
        }
    }

    /// Stops both queues, as a guest's reset does.
    pub fn stop_queues(&mut self) {
        for index in 0..2 {
            self.vhost.get_vring_base(index).unwrap();
        }
    }

    /// Reads the configuration space.
    pub fn config(&mut self, bytes: u32) -> Vec<u8> {
        let buffer = vec![0; usize::try_from(bytes).unwrap()];
        let flags = VhostUserConfigFlags::empty();
        self.vhost.get_config(0, bytes, flags, &buffer).unwrap().1
    }

    /// Fresh zeroed guest pages.
    pub fn pages(&mut self, bytes: u64) -> u64 {
        let at = self.free;
        self.free += bytes.next_multiple_of(PAGE);
        assert!(self.free <= MEMORY_BYTES, "the test's guest memory is used up");
        at
    }

    /// Puts a chain on a queue without kicking. Returns its head.
    pub fn put_chain(&mut self, queue: usize, chain: &[Descriptor]) -> u16 {
        let queue = &mut self.queues[queue];
        // Every chain has its own eight descriptors, so none is overwritten
        // while fewer than 16 are out.
        let head = queue.available % (QUEUE_SIZE / 8) * 8;
        for (n, &(address, bytes, flags)) in chain.iter().enumerate() {
            let index = head + u16::try_from(n).unwrap();
            let next = if n + 1 < chain.len() { DESC_NEXT } else { 0 };
            let at = GuestAddress(queue.descriptors() + u64::from(index) * 16);
            let mut raw = [0; 16];
            raw[..8].copy_from_slice(&address.to_le_bytes());
            raw[8..12].copy_from_slice(&bytes.to_le_bytes());
            raw[12..14].copy_from_slice(&(flags | next).to_le_bytes());
            raw[14..].copy_from_slice(&(index + 1).to_le_bytes());
            self.memory.write_slice(&raw, at).unwrap();
        }
        let slot = u64::from(queue.available % QUEUE_SIZE);
        let ring = queue.available_ring();
        self.memory.write_obj(head, GuestAddress(ring + 4 + slot * 2)).unwrap();
        queue.available = queue.available.wrapping_add(1);
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        self.memory.write_obj(queue.available, GuestAddress(ring + 2)).unwrap();
        head
    }

    /// Puts a command with room for the longest response. Returns its head.
    pub fn put(&mut self, queue: usize, command: &[u8]) -> u16 {
        let slot = u64::from(self.queues[queue].available % (QUEUE_SIZE / 8));
        let base = 0x10_0000 + (queue as u64) * 0x10_0000 + slot * 2 * BUFFER_BYTES;
        assert!(command.len() as u64 <= BUFFER_BYTES, "longer than the test's buffers");
        self.memory.write_slice(command, GuestAddress(base)).unwrap();
        let bytes = u32::try_from(command.len()).unwrap();
        let response = u32::try_from(BUFFER_BYTES).unwrap();
        self.put_chain(queue, &[(base, bytes, 0), (base + BUFFER_BYTES, response, DESC_WRITE)])
    }

    /// Rings a queue's bell.
    pub fn kick(&self, queue: usize) {
        self.queues[queue].kick.write(1).unwrap();
    }

    /// Claims more available chains than the ring has.
    pub fn break_available_ring(&mut self, queue: usize) {
        let queue = &self.queues[queue];
        let index = queue.available.wrapping_add(QUEUE_SIZE + 7);
        self.memory.write_obj(index, GuestAddress(queue.available_ring() + 2)).unwrap();
        queue.kick.write(1).unwrap();
    }

    /// The next used element of a queue, head and bytes, when it is there.
    fn poll_used(&mut self, queue: usize) -> Option<(u16, u32)> {
        let queue = &mut self.queues[queue];
        let ring = queue.used_ring();
        let index: u16 = self.memory.read_obj(GuestAddress(ring + 2)).unwrap();
        if index == queue.used {
            return None;
        }
        let slot = u64::from(queue.used % QUEUE_SIZE);
        queue.used = queue.used.wrapping_add(1);
        let head: u32 = self.memory.read_obj(GuestAddress(ring + 4 + slot * 8)).unwrap();
        let bytes: u32 = self.memory.read_obj(GuestAddress(ring + 8 + slot * 8)).unwrap();
        Some((u16::try_from(head).unwrap(), bytes))
    }

    /// Waits for the next used element of a queue: head and bytes written.
    pub fn wait_used(&mut self, queue: usize) -> (u16, u32) {
        let start = Instant::now();
        loop {
            if let Some(used) = self.poll_used(queue) {
                return used;
            }
            assert!(start.elapsed() < HANG, "no answer");
            std::thread::yield_now();
        }
    }

    /// Waits for the next answer of a queue.
    pub fn wait(&mut self, queue: usize) -> Answer {
        let (head, bytes) = self.wait_used(queue);
        let queue = &self.queues[queue];
        // The response lies in the chain's last descriptor.
        let mut descriptor = GuestAddress(queue.descriptors() + u64::from(head) * 16);
        loop {
            let flags: u16 = self.memory.read_obj(descriptor.unchecked_add_u64(12)).unwrap();
            if flags & DESC_NEXT == 0 {
                break;
            }
            descriptor = descriptor.unchecked_add_u64(16);
        }
        let at: u64 = self.memory.read_obj(descriptor).unwrap();
        let mut response = vec![0; usize::try_from(bytes).unwrap()];
        self.memory.read_slice(&mut response, GuestAddress(at)).unwrap();
        let kind = CtrlHdr::read_from_prefix(&response).map_or(0, |(header, _)| header.kind.get());
        Answer { kind, bytes: response, head }
    }

    /// Sends a command on the control queue and waits for its answer.
    pub fn command(&mut self, kind: u32, body: &[u8]) -> Answer {
        let bytes = command(kind, 0, body);
        let head = self.put(0, &bytes);
        self.kick(0);
        let answer = self.wait(0);
        assert_eq!(answer.head, head);
        answer
    }

    /// Sends a structure as a command; only the answer's number matters.
    pub fn send<T: IntoBytes + zerocopy::Immutable>(&mut self, kind: u32, body: &T) -> u32 {
        self.command(kind, body.as_bytes()).kind
    }

    /// The file behind guest memory.
    pub fn memory_file(&self) -> OwnedFd {
        self.file.try_clone().unwrap().into()
    }
}

/// The bytes of a command; with a fence number other than 0, fenced.
pub fn command(kind: u32, fence: u64, body: &[u8]) -> Vec<u8> {
    let flags = if fence == 0 { 0 } else { FLAG_FENCE };
    let header = CtrlHdr {
        kind: kind.into(),
        flags: flags.into(),
        fence_id: fence.into(),
        ctx_id: 1.into(),
        ..CtrlHdr::default()
    };
    [header.as_bytes(), body].concat()
}

trait AddU64 {
    fn unchecked_add_u64(self, bytes: u64) -> Self;
}

impl AddU64 for GuestAddress {
    fn unchecked_add_u64(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }
}
