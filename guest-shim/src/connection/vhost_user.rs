//! The transport of a process on the host: it connects to the backend's
//! vhost-user socket as a front end would, is its own virtio driver, and gives
//! a memfd as its guest memory. Both sides run on one kernel, so they wake
//! each other by futex.
#![allow(unsafe_code, reason = "mmap and futex")]

use std::ffi::c_void;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

use paravane_protocol::channel::{RING_STRIDE, ring_offset};
use paravane_protocol::ring::word;
use paravane_protocol::shared::SharedPages;
use paravane_protocol::virtio_gpu::{
    CtrlHdr, MemEntry, ResourceAttachBacking, ResourceCreate2d, ResourceRef, TransferToHost2d, ctrl,
};
use vhost::VhostBackend;
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostUserMemoryRegionInfo, VringConfigData};
use zerocopy::IntoBytes;

use super::transport::{Area, Mark, Transport};
use super::virtqueue::{AVAILABLE, DESCRIPTORS, QUEUE_BYTES, QUEUE_SIZE, USED, VirtQueue};
use crate::memory::{self, Over, Ranges};

/// The guest memory's size: address space only, pages come as they are used.
const MEMORY_BYTES: u64 = 64 << 30;
/// VIRTIO_F_VERSION_1 (virtio 1.3, 6).
const VERSION_1: u64 = 1 << 32;
/// Longest backing entry: its length field has 32 bits, entries are pages.
const ENTRY_BYTES_MAX: u64 = 1 << 30;
/// A backend that takes longer for a command is away.
const COMMAND: Duration = Duration::from_millis(900);
/// Taking pages back may wait for the worker to finish a copy in them.
const RELEASE: Duration = Duration::from_secs(30);

/// The connection to a vhost-user socket.
pub(super) struct VhostUser {
    _frontend: Frontend,
    /// The socket's descriptor, for noticing that the backend hung up.
    peer: OwnedFd,
    memory: OwnedFd,
    state: Mutex<State>,
}

struct State {
    queue: VirtQueue,
    free: Ranges,
    next_resource: u32,
}

impl VhostUser {
    /// Connects, negotiates and starts the control queue.
    pub(super) fn connect(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?;
        let peer = OwnedFd::from(stream.try_clone()?);
        let _watched = Watch::over(stream.try_clone()?)?;
        let memory = memory_file()?;
        let queue_pages = memory::map_shared(&memory, 0, 2 * QUEUE_BYTES, None)?;
        let mut frontend = Frontend::from_stream(stream, 2);
        negotiate(&mut frontend, memory.as_raw_fd()).map_err(io::Error::other)?;
        let queue = VirtQueue::new(queue_pages.window(0, QUEUE_BYTES), 0)?;
        let cursor = VirtQueue::new(queue_pages.window(QUEUE_BYTES, QUEUE_BYTES), QUEUE_BYTES as u64)?;
        for (index, queue) in [&queue, &cursor].into_iter().enumerate() {
            start_queue(&mut frontend, index, queue).map_err(io::Error::other)?;
        }
        let first_free = 2 * QUEUE_BYTES as u64;
        Ok(Self {
            _frontend: frontend,
            peer,
            memory,
            state: Mutex::new(State {
                queue,
                free: Ranges::new(first_free, MEMORY_BYTES - first_free),
                next_resource: 1,
            }),
        })
    }

    fn command(&self, state: &mut State, kind: u32, body: &[u8], limit: Duration) -> io::Result<()> {
        let header = CtrlHdr { kind: kind.into(), ..CtrlHdr::default() };
        let request = [header.as_bytes(), body].concat();
        let mut response = CtrlHdr::default();
        state.queue.submit(&request, response.as_mut_bytes(), self.peer.as_raw_fd(), limit)?;
        match response.kind.get() {
            ctrl::OK_NODATA => Ok(()),
            other => Err(io::Error::other(format!(
                "virtio-gpu command {kind:#06x} was answered {other:#06x}"
            ))),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attach(&self, state: &mut State, mark: Mark, resource: u32, at: u64, bytes: u64) -> io::Result<()> {
        let create = ResourceCreate2d {
            resource_id: resource.into(),
            format: mark.format.into(),
            width: mark.width.into(),
            height: mark.height.into(),
        };
        self.command(state, ctrl::RESOURCE_CREATE_2D, create.as_bytes(), COMMAND)?;
        let entries: Vec<MemEntry> = (0..bytes.div_ceil(ENTRY_BYTES_MAX))
            .map(|number| number * ENTRY_BYTES_MAX)
            .map(|done| MemEntry {
                addr: (at + done).into(),
                length: low(ENTRY_BYTES_MAX.min(bytes - done)).into(),
                padding: 0.into(),
            })
            .collect();
        let attach = ResourceAttachBacking {
            resource_id: resource.into(),
            nr_entries: low(entries.len() as u64).into(),
        };
        let body = [attach.as_bytes(), entries.as_bytes()].concat();
        self.command(state, ctrl::RESOURCE_ATTACH_BACKING, &body, COMMAND)
    }
}

/// Hangs up when the negotiation takes longer than [`COMMAND`], since its reads
/// have no time limit of their own. Dropped when it is over.
struct Watch(#[allow(dead_code, reason = "its end is what tells")] mpsc::Sender<()>);

impl Watch {
    fn over(stream: UnixStream) -> io::Result<Self> {
        let (over, told) = mpsc::channel();
        std::thread::Builder::new().name("paravane-watch".into()).spawn(move || {
            if told.recv_timeout(COMMAND) == Err(mpsc::RecvTimeoutError::Timeout) {
                // The connecting thread then fails with the reason.
                let _ = stream.shutdown(Shutdown::Both);
            }
        })?;
        Ok(Self(over))
    }
}

fn low(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}

fn memory_file() -> io::Result<OwnedFd> {
    // SAFETY: a NUL-terminated name.
    let fd = unsafe { libc::memfd_create(c"paravane-guest".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just made and is owned by nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: a valid descriptor.
    let sized = unsafe { libc::ftruncate(fd.as_raw_fd(), MEMORY_BYTES.cast_signed()) };
    if sized < 0 { Err(io::Error::last_os_error()) } else { Ok(fd) }
}

fn negotiate(frontend: &mut Frontend, memory: RawFd) -> Result<(), vhost::Error> {
    frontend.set_owner()?;
    let offered = frontend.get_features()?;
    let protocol = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
    frontend.set_features(offered & (VERSION_1 | protocol))?;
    if offered & protocol != 0 {
        let offered = frontend.get_protocol_features()?;
        frontend.set_protocol_features(offered & VhostUserProtocolFeatures::MQ)?;
    }
    frontend.set_mem_table(&[VhostUserMemoryRegionInfo {
        guest_phys_addr: 0,
        memory_size: MEMORY_BYTES,
        userspace_addr: USER_BASE,
        mmap_offset: 0,
        mmap_handle: memory,
    }])?;
    Ok(())
}

/// The front end's own address of its memory: names ring parts in messages,
/// and is nowhere dereferenced.
const USER_BASE: u64 = 0x10_0000_0000;

fn start_queue(frontend: &mut Frontend, index: usize, queue: &VirtQueue) -> Result<(), vhost::Error> {
    let base = USER_BASE + (index * QUEUE_BYTES) as u64;
    frontend.set_vring_num(index, QUEUE_SIZE)?;
    frontend.set_vring_addr(
        index,
        &VringConfigData {
            queue_max_size: QUEUE_SIZE,
            queue_size: QUEUE_SIZE,
            flags: 0,
            desc_table_addr: base + DESCRIPTORS as u64,
            used_ring_addr: base + USED as u64,
            avail_ring_addr: base + AVAILABLE as u64,
            log_addr: None,
        },
    )?;
    frontend.set_vring_base(index, 0)?;
    frontend.set_vring_call(index, queue.call_fd())?;
    frontend.set_vring_kick(index, queue.kick_fd())?;
    frontend.set_vring_enable(index, true)
}

/// The pages of a ring's control words.
fn control(area: &Area, ring: u32) -> SharedPages {
    area.pages.window(ring_offset(ring), RING_STRIDE)
}

impl Transport for VhostUser {
    fn create_area(&self, mark: Mark, bytes: usize, index: u16) -> io::Result<Area> {
        let mut state = self.lock();
        let at = state.free.take(bytes as u64).ok_or(io::ErrorKind::OutOfMemory)?;
        let resource = state.next_resource;
        let attached = self.attach(&mut state, mark, resource, at, bytes as u64);
        if let Err(error) = attached {
            state.free.give_back(at, bytes as u64);
            return Err(error);
        }
        state.next_resource += 1;
        let pages = memory::map_shared(&self.memory, at, bytes, memory::window(bytes))?;
        Ok(Area { pages, index, resource, offset: at })
    }

    fn map_at(&self, area: &Area, address: usize, over: Over) -> io::Result<()> {
        memory::map_at(&self.memory, area.offset, area.pages.bytes(), address, over)
    }

    fn free_area(&self, area: Area) -> io::Result<()> {
        let bytes = area.pages.bytes();
        memory::unmap(area.pages);
        let mut state = self.lock();
        let unref = ResourceRef { resource_id: area.resource.into(), padding: 0.into() };
        self.command(&mut state, ctrl::RESOURCE_UNREF, unref.as_bytes(), RELEASE)?;
        let hole = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        let (at, len) = (area.offset.cast_signed(), bytes.cast_signed() as i64);
        // SAFETY: a valid descriptor; the range belongs to the area, whose pages
        // neither side uses any more.
        if unsafe { libc::fallocate(self.memory.as_raw_fd(), hole, at, len) } < 0 {
            return Err(io::Error::last_os_error());
        }
        state.free.give_back(area.offset, bytes as u64);
        Ok(())
    }

    fn doorbell(&self, area: &Area, bell: u32) -> io::Result<()> {
        let ring = TransferToHost2d {
            offset: u64::from(bell).into(),
            resource_id: area.resource.into(),
            ..TransferToHost2d::default()
        };
        self.command(&mut self.lock(), ctrl::TRANSFER_TO_HOST_2D, ring.as_bytes(), COMMAND)
    }

    fn kick(&self, area: &Area, ring: u32) -> io::Result<()> {
        let sleeps = control(area, ring).at(word::HOST_SLEEPS, 4);
        // SAFETY: FUTEX_WAKE only uses the address as a key.
        unsafe { libc::syscall(libc::SYS_futex, sleeps.cast::<c_void>(), libc::FUTEX_WAKE, 1) };
        Ok(())
    }

    fn sleep(&self, area: &Area, ring: u32, limit: Duration) -> io::Result<()> {
        let sleeps = control(area, ring).at(word::GUEST_SLEEPS, 4);
        let limit = libc::timespec {
            tv_sec: limit.as_secs().cast_signed(),
            tv_nsec: i64::from(limit.subsec_nanos()),
        };
        // SAFETY: a mapped, aligned word and a timespec that lives through the call.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                sleeps.cast::<c_void>(),
                libc::FUTEX_WAIT,
                1,
                std::ptr::from_ref(&limit),
            )
        };
        Ok(())
    }

    fn same_kernel(&self) -> bool {
        true
    }

    fn set_token(&self, _: u64) {}
}
