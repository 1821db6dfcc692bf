//! What the threads of a worker share: the library, the areas, the rings, the
//! guest's handles, the account, and the failures of posted calls that no
//! awaited call has told yet.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use paravane_protocol::channel::{
    GUEST_SAME_KERNEL, HEADER_BYTES, RING_AREA_BYTES, header, ring_offset,
};
use paravane_protocol::cuda_types::*;
use paravane_protocol::limits::{RING_AREAS_MAX, RINGS_PER_AREA};
use paravane_protocol::shared::{Shared, SharedPages};

use super::area::{Areas, Mapping};
use super::custom::{Callbacks, Links, Textures};
use super::exchange::Exchange;
use super::handles::Handles;
use super::host_memory::HostMemory;
use super::layout::Images;
use super::lease::{self, Leases};
use super::libcuda::Libcuda;
use super::memory::Memory;
use super::nvml::Nvml;
use super::order::RingState;
use super::output::Output;
use super::parts::Parts;
use super::primary::Primaries;
use super::swap::{self, Swap};
use super::thread::Thread;
use super::turn::ProcessTurn;
use crate::account::AccountPage;
use crate::control::FromWorker;

/// One guest process, as its worker knows it.
pub(super) struct Process {
    pub(super) lib: Libcuda,
    pub(super) areas: Areas,
    pub(super) handles: Handles,
    pub(super) account: AccountPage,
    pub(super) memory: Memory,
    pub(super) turn: ProcessTurn,
    pub(super) leases: Leases,
    pub(super) parts: Parts,
    pub(super) primaries: Primaries,
    /// Set before the first command, where the VM's memory may lie on the host.
    swap: OnceLock<Swap>,
    /// Filled where the library cannot tell kernels' parameters.
    pub(super) images: Images,
    pub(super) callbacks: Arc<Callbacks>,
    pub(super) links: Links,
    pub(super) output: Output,
    pub(super) textures: Textures,
    pub(super) exchange: Exchange,
    nvml: OnceLock<Option<Nvml>>,
    /// Host memory registered with the library, by its area.
    pub(super) host_memory: Mutex<HashMap<u16, HostMemory>>,
    rings: RwLock<Vec<Arc<RingState>>>,
    ring_count: AtomicUsize,
    /// Keeps areas with rings mapped as long as the process lives.
    ring_areas: Mutex<HashMap<u16, Arc<Mapping>>>,
    header: OnceLock<SharedPages>,
    deferred: Mutex<HashMap<u64, CUresult>>,
    any_deferred: AtomicBool,
    same_kernel: AtomicBool,
    backend: ToBackend,
}

/// The ways to the backend.
pub(super) struct ToBackend {
    /// The eventfd that says that a guest thread can go on.
    pub(super) wake: OwnedFd,
    /// The control socket.
    pub(super) control: Arc<OwnedFd>,
}

impl Process {
    pub(super) fn new(
        lib: Libcuda,
        account: AccountPage,
        memory: Memory,
        turn: ProcessTurn,
        leases: Leases,
        backend: ToBackend,
        output: Output,
    ) -> Self {
        Self {
            lib,
            areas: Areas::new(),
            handles: Handles::new(),
            account,
            memory,
            turn,
            leases,
            parts: Parts::inherited(),
            primaries: Primaries::default(),
            swap: OnceLock::new(),
            images: Images::default(),
            callbacks: Arc::new(Callbacks::new()),
            links: Links::default(),
            output,
            textures: Textures::default(),
            exchange: Exchange::default(),
            nvml: OnceLock::new(),
            host_memory: Mutex::new(HashMap::new()),
            rings: RwLock::new(Vec::new()),
            ring_count: AtomicUsize::new(0),
            ring_areas: Mutex::new(HashMap::new()),
            header: OnceLock::new(),
            deferred: Mutex::new(HashMap::new()),
            any_deferred: AtomicBool::new(false),
            same_kernel: AtomicBool::new(false),
            backend,
        }
    }

    /// The host's NVML, if it has one: loaded when it is first asked for.
    pub(super) fn nvml(&self) -> Option<&Nvml> {
        self.nvml.get_or_init(Nvml::load).as_ref()
    }

    /// What moves this process's memory, where it moves.
    #[inline]
    pub(super) fn swap(&self) -> Option<&Swap> {
        self.swap.get()
    }

    pub(super) fn control(&self) -> BorrowedFd<'_> {
        self.backend.control.as_fd()
    }

    pub(super) fn wake_fd(&self) -> BorrowedFd<'_> {
        self.backend.wake.as_fd()
    }

    /// Whether the guest's threads sleep on futexes that this process reaches.
    pub(super) fn same_kernel(&self) -> bool {
        self.same_kernel.load(Ordering::Relaxed)
    }

    /// How many rings there are.
    #[inline]
    pub(super) fn ring_count(&self) -> usize {
        self.ring_count.load(Ordering::Acquire)
    }

    /// The rings that there are, in no order.
    pub(super) fn rings(&self) -> Vec<Arc<RingState>> {
        self.rings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Maps an area that holds rings and starts a thread for each.
    pub(super) fn open_rings(self: &Arc<Self>, area: u16) -> io::Result<()> {
        let mapping = self.areas.map(area, None)?;
        let pages = mapping.pages();
        if pages.bytes() < RING_AREA_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too short for its rings"));
        }
        if area == 0 {
            let page = pages.window(0, HEADER_BYTES);
            let flags = page.load_u32(header::GUEST_FLAGS, Ordering::Relaxed);
            self.same_kernel.store(flags & GUEST_SAME_KERNEL != 0, Ordering::Relaxed);
            let _ = self.header.set(page);
            lease::start(self)?;
            if self.leases.first().gate.page().swap_bytes() > 0 {
                // The first area comes once.
                let _ = self.swap.set(Swap::new(self.leases.count()));
                swap::start(self)?;
            }
        }
        let first_time = {
            let mut kept = self.ring_areas.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() >= RING_AREAS_MAX as usize {
                return Err(io::Error::other("more rings than a process may have"));
            }
            kept.insert(area, mapping).is_none()
        };
        if !first_time {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "its rings are open"));
        }
        let states: Vec<_> = (0..RINGS_PER_AREA)
            .map(|ring| Arc::new(RingState::new(pages, ring_offset(ring))))
            .collect();
        let mut rings = self.rings.write().unwrap_or_else(PoisonError::into_inner);
        rings.extend(states.iter().cloned());
        self.ring_count.store(rings.len(), Ordering::Release);
        drop(rings);
        for (ring, state) in states.into_iter().enumerate() {
            let thread = Thread::new(Arc::clone(self), state);
            std::thread::Builder::new()
                .name(format!("ring {area}.{ring}"))
                .stack_size(1 << 20)
                .spawn(move || thread.serve())?;
        }
        Ok(())
    }

    /// The guest takes an area back. What the device may still reach in it is
    /// unregistered first.
    pub(super) fn remove_area(&self, area: u16) -> io::Result<()> {
        let ring_area = self.ring_areas.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&area);
        if ring_area {
            return Err(io::Error::other("an area whose rings are in use"));
        }
        let registered = self.host_memory.lock().unwrap_or_else(PoisonError::into_inner).remove(&area);
        if let Some(memory) = registered {
            memory.end(self, area).map_err(|error| io::Error::other(format!("host memory: {error}")))?;
            self.memory.end_area(area);
        }
        self.areas.remove(area)
    }

    /// A posted call has failed: the next awaited call on its context tells.
    pub(super) fn defer(&self, context: u64, error: CUresult) {
        let mut deferred = self.deferred.lock().unwrap_or_else(PoisonError::into_inner);
        deferred.entry(context).or_insert(error);
        self.any_deferred.store(true, Ordering::Release);
        self.show_deferred(1);
    }

    /// The failure that an awaited call on `context` has to tell.
    #[inline]
    pub(super) fn take_deferred(&self, context: u64) -> Option<CUresult> {
        if !self.any_deferred.load(Ordering::Acquire) {
            return None;
        }
        let mut deferred = self.deferred.lock().unwrap_or_else(PoisonError::into_inner);
        let error = deferred.remove(&context);
        if deferred.is_empty() {
            self.any_deferred.store(false, Ordering::Release);
            self.show_deferred(0);
        }
        error
    }

    fn show_deferred(&self, value: u32) {
        if let Some(header) = self.header.get() {
            header.store_u32(header::DEFERRED, value, Ordering::Release);
        }
    }

    /// Tells the guest whether kernels have printed something to take.
    pub(super) fn show_output(&self, value: u32) {
        if let Some(header) = self.header.get() {
            header.store_u32(header::OUTPUT, value, Ordering::Release);
        }
    }

    /// The guest broke the protocol: its context dies, which is this process.
    pub(super) fn die(&self, why: &str) -> ! {
        log::warn!("worker: the guest broke the protocol: {why}");
        let result = CUDA_ERROR_ILLEGAL_STATE.0;
        // The backend notices the exit in any case.
        let _ = FromWorker::Failed { result }.send(self.control());
        std::process::exit(1)
    }
}
