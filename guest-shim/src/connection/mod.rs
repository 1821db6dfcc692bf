//! The process's connection to its backend: one channel, its rings and areas.
//! Opened by cuInit or NVML, kept until the process ends.

mod drm;
mod drm_ioctl;
mod present;
mod thread_ring;
mod transport;
mod vhost_user;
mod virtqueue;
pub(crate) mod wait;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use paravane_protocol::channel::{
    BELL_ATTACH, BELL_PING, FORMAT_MARK, GUEST_SAME_KERNEL, HEADER_BYTES, MAGIC, RING_AREA_BYTES,
    Status, bell_offset, header,
};
use paravane_protocol::codec::Encoder;
use paravane_protocol::cuda_types::*;
use paravane_protocol::limits::{AREAS_MAX, RINGS_PER_AREA};
use paravane_protocol::shared::{Shared, SharedPages};
use paravane_protocol::{PROTOCOL_HASH, internal};

use crate::boundary::Answer;
use crate::memory::Over;
use thread_ring::Slot;
use transport::{Mark, Transport};

pub(crate) use present::forget;
pub(crate) use thread_ring::{ThreadRing, with_ring};
pub(crate) use transport::Area;

/// A backend answers the handshake within this time, or is away.
const HANDSHAKE: Duration = Duration::from_millis(900);

static OPENING: Mutex<()> = Mutex::new(());

/// What calls answer when the backend does not any more.
const LOST: CUresult = CUDA_ERROR_DEVICE_UNAVAILABLE;

/// The connection.
pub(crate) struct Connection {
    transport: Box<dyn Transport>,
    channel: Area,
    header: SharedPages,
    token: u64,
    lost: AtomicBool,
    /// The channel's first rings, then those of ring areas.
    next_ring: Mutex<(Area, u32)>,
    free_rings: Mutex<Vec<ThreadRing>>,
    area_indexes: Mutex<AreaIndexes>,
    pinging: Mutex<()>,
}

struct AreaIndexes {
    free: Vec<u16>,
    next: u32,
}

/// The connection, if one was opened.
#[inline]
pub(crate) fn get() -> Answer<&'static Connection> {
    present::get().ok_or(CUDA_ERROR_NOT_INITIALIZED)
}

/// Opens the connection, once. Without a backend that answers:
/// CUDA_ERROR_NO_DEVICE. With one of another version:
/// CUDA_ERROR_SYSTEM_DRIVER_MISMATCH.
pub(crate) fn open() -> Answer<&'static Connection> {
    let _opening = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(connection) = present::get() {
        return Ok(connection);
    }
    let transport = find_transport().map_err(|error| {
        log::warn!("no Paravane device: {error}");
        CUDA_ERROR_NO_DEVICE
    })?;
    Ok(present::set(Connection::open(transport)?))
}

/// PARAVANE_SOCKET names a vhost-user socket; without it, a render node.
fn find_transport() -> io::Result<Box<dyn Transport>> {
    match std::env::var_os("PARAVANE_SOCKET") {
        Some(path) => Ok(Box::new(vhost_user::VhostUser::connect(path.as_ref())?)),
        None => Ok(Box::new(drm::RenderNode::find()?)),
    }
}

impl Connection {
    fn open(transport: Box<dyn Transport>) -> Answer<Self> {
        let mark = Mark { format: FORMAT_MARK, width: 1, height: 1 };
        let channel = transport.create_area(mark, RING_AREA_BYTES, 0).map_err(|error| {
            log::warn!("no channel: {error}");
            CUDA_ERROR_NO_DEVICE
        })?;
        let header = channel.pages.window(0, HEADER_BYTES);
        write_hello(&header, transport.same_kernel());
        transport.doorbell(&channel, bell_offset(BELL_ATTACH, 0)).map_err(|error| {
            log::warn!("the backend's doorbell: {error}");
            CUDA_ERROR_NO_DEVICE
        })?;
        wait_for_host(&header)?;
        let token = header.atomic_u64(header::TOKEN).load(Ordering::Acquire);
        transport.set_token(token);
        Ok(Self {
            transport,
            channel,
            header,
            token,
            lost: AtomicBool::new(false),
            next_ring: Mutex::new((channel, 0)),
            free_rings: Mutex::new(Vec::new()),
            area_indexes: Mutex::new(AreaIndexes { free: Vec::new(), next: 1 }),
            pinging: Mutex::new(()),
        })
    }

    /// The channel's random number, which no other has; never 0.
    pub(crate) fn token(&self) -> u64 {
        self.token
    }

    /// Whether the host still serves this channel; what it died of if not.
    #[inline]
    pub(crate) fn check(&self) -> Answer {
        if self.lost.load(Ordering::Relaxed) {
            return Err(LOST);
        }
        let status = self.header.load_u32(header::STATUS, Ordering::Acquire);
        if Status::from_word(status) == Status::Ready {
            return Ok(());
        }
        let reason = CUresult(self.header.load_u32(header::REASON, Ordering::Relaxed));
        Err(if reason == CUDA_SUCCESS { LOST } else { reason })
    }

    /// Whether a posted call has failed and no awaited call has told yet.
    #[inline]
    pub(crate) fn has_deferred(&self) -> bool {
        self.header.load_u32(header::DEFERRED, Ordering::Acquire) != 0
    }

    /// Whether kernels have printed what was not taken yet.
    #[inline]
    pub(crate) fn has_output(&self) -> bool {
        self.header.load_u32(header::OUTPUT, Ordering::Acquire) != 0
    }

    /// Asks the backend whether it lives and waits up to a second for its
    /// answer. One thread asks at a time; the others take its word.
    fn ping(&self) -> Answer {
        let Ok(_pinging) = self.pinging.try_lock() else { return Ok(()) };
        let before = self.header.load_u32(header::PONG, Ordering::Acquire);
        let asked = Instant::now();
        let sent = self.transport.doorbell(&self.channel, bell_offset(BELL_PING, 0));
        while sent.is_ok() && asked.elapsed() < Duration::from_secs(1) {
            if self.header.load_u32(header::PONG, Ordering::Acquire) != before {
                return self.check();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        log::error!("the backend does not answer: the connection is lost");
        self.lost.store(true, Ordering::Relaxed);
        Err(LOST)
    }

    fn kick(&self, slot: &Slot) -> Answer {
        self.transport.kick(&slot.area, slot.ring).map_err(|error| self.lose(&error))
    }

    fn sleep(&self, slot: &Slot, limit: Duration) -> Answer {
        self.transport.sleep(&slot.area, slot.ring, limit).map_err(|error| self.lose(&error))
    }

    fn lose(&self, error: &io::Error) -> CUresult {
        log::error!("the connection is lost: {error}");
        self.lost.store(true, Ordering::Relaxed);
        LOST
    }

    fn take_ring(&self) -> Answer<Option<ThreadRing>> {
        self.check()?;
        Ok(self.free_rings.lock().unwrap_or_else(PoisonError::into_inner).pop())
    }

    fn return_ring(&self, ring: ThreadRing) {
        self.free_rings.lock().unwrap_or_else(PoisonError::into_inner).push(ring);
    }

    /// A ring that no thread has used; makes a ring area when the last one is
    /// used up.
    fn new_slot(&'static self) -> Answer<Slot> {
        let mut next = self.next_ring.lock().unwrap_or_else(PoisonError::into_inner);
        // The last ring of an area stays free until the next area is there: it
        // is the one that announces it.
        if next.1 + 1 == RINGS_PER_AREA {
            let area = self.create_area(RING_AREA_BYTES)?;
            let slot = Slot { area: next.0, ring: next.1 };
            let mut last = ThreadRing::new(self, slot);
            let index = u64::from(area.index);
            last.call_anywhere(internal::ADD_RINGS, word_encoder(index), |_| ())?;
            self.return_ring(last);
            *next = (area, 0);
        }
        let (area, ring) = *next;
        next.1 += 1;
        Ok(Slot { area, ring })
    }

    /// Pages shared with this channel's worker, `bytes` rounded up to pages.
    pub(crate) fn create_area(&self, bytes: usize) -> Answer<Area> {
        let index = {
            let mut indexes = self.area_indexes.lock().unwrap_or_else(PoisonError::into_inner);
            match indexes.free.pop() {
                Some(index) => index,
                None => {
                    let index = u16::try_from(indexes.next.min(AREAS_MAX + 1))
                        .map_err(|_| CUDA_ERROR_OUT_OF_MEMORY)?;
                    indexes.next += 1;
                    index
                }
            }
        };
        let mark = Mark {
            format: FORMAT_MARK | u32::from(index),
            width: (self.token & 0xffff_ffff) as u32,
            height: (self.token >> 32) as u32,
        };
        let bytes = bytes.checked_next_multiple_of(4096).ok_or(CUDA_ERROR_OUT_OF_MEMORY)?;
        self.transport.create_area(mark, bytes, index).map_err(|error| {
            log::warn!("no area of {bytes} bytes: {error}");
            self.give_back_index(index);
            CUDA_ERROR_OUT_OF_MEMORY
        })
    }

    fn give_back_index(&self, index: u16) {
        self.area_indexes.lock().unwrap_or_else(PoisonError::into_inner).free.push(index);
    }

    /// Maps an area's pages a second time, at `address`.
    pub(crate) fn map_at(&self, area: &Area, address: usize, over: Over) -> Answer {
        self.transport.map_at(area, address, over).map_err(|error| {
            log::warn!("mapping an area at {address:#x}: {error}");
            CUDA_ERROR_MAP_FAILED
        })
    }

    /// Gives an area's pages back.
    pub(crate) fn free_area(&self, area: Area) -> Answer {
        self.transport.free_area(area).map_err(|error| self.lose(&error))?;
        self.give_back_index(area.index);
        Ok(())
    }
}

fn word_encoder(word: u64) -> impl FnOnce(&mut Encoder) -> Answer {
    move |to| {
        to.word(word);
        Ok(())
    }
}

/// The guest's half of the handshake.
fn write_hello(page: &SharedPages, same_kernel: bool) {
    page.atomic_u64(header::GUEST_HASH).store(PROTOCOL_HASH, Ordering::Relaxed);
    let flags = if same_kernel { GUEST_SAME_KERNEL } else { 0 };
    page.store_u32(header::GUEST_FLAGS, flags, Ordering::Relaxed);
    page.store_u32(header::GUEST_PID, std::process::id(), Ordering::Relaxed);
    let path = std::env::current_exe().unwrap_or_default();
    let name = path.file_name().map(|name| name.as_encoded_bytes()).unwrap_or_default();
    page.write(header::GUEST_NAME, &name[..name.len().min(header::GUEST_NAME_BYTES)]);
    page.atomic_u64(header::MAGIC).store(MAGIC, Ordering::Release);
}

/// The host's half.
fn wait_for_host(page: &SharedPages) -> Answer {
    let asked = Instant::now();
    loop {
        match Status::from_word(page.load_u32(header::STATUS, Ordering::Acquire)) {
            Status::Ready => return Ok(()),
            Status::Pending if asked.elapsed() < HANDSHAKE => {
                std::thread::sleep(Duration::from_micros(50));
            }
            Status::Pending => {
                log::warn!("the backend did not answer the handshake within {HANDSHAKE:?}");
                return Err(CUDA_ERROR_NO_DEVICE);
            }
            Status::HashMismatch => {
                let host = page.atomic_u64(header::HOST_HASH).load(Ordering::Relaxed);
                log::error!(
                    "the guest package does not fit the host's Paravane: protocol \
                     {PROTOCOL_HASH:016x} here, {host:016x} there; install the host's version"
                );
                return Err(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH);
            }
            Status::Refused => {
                log::warn!("the backend refused the channel");
                return Err(CUDA_ERROR_NO_DEVICE);
            }
            Status::Dead => {
                let reason = page.load_u32(header::REASON, Ordering::Relaxed);
                log::warn!("the worker ended at start: {}", CUresult(reason));
                return Err(CUDA_ERROR_NO_DEVICE);
            }
        }
    }
}
