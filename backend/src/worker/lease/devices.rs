//! A process's side of all its VM's leases: one of each device, and which of
//! them a context, and so a command, is a matter of.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use paravane_protocol::cuda_types::*;
use paravane_protocol::visible::uuid_text;
use paravane_scheduler::Nanos;

use super::ProcessLease;
use super::slice::within;
use crate::account::Counter;
use crate::lease::gate::Gate;
use crate::worker::libcuda::{Answer, Libcuda, cuda};
use crate::worker::process::Process;

/// What the leases of a process have in common.
#[derive(Default)]
pub(super) struct Common {
    /// Captures that have begun and may not have ended.
    captures: AtomicU32,
    /// Held while ends are recorded, and while a stream or context ends.
    edge: Mutex<()>,
}

impl Common {
    pub(super) fn captures(&self, ordering: Ordering) -> bool {
        self.captures.load(ordering) > 0
    }

    pub(super) fn edge(&self) -> MutexGuard<'_, ()> {
        self.edge.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All of them.
pub(in crate::worker) struct Leases {
    first: ProcessLease,
    others: Vec<ProcessLease>,
    /// The devices' UUIDs, in the order of the leases.
    uuids: Vec<String>,
    common: Arc<Common>,
    /// By a context's id, which device's it is; filled where there are several.
    contexts: Mutex<HashMap<u64, usize>>,
}

impl Leases {
    /// By the gates of all devices, and their UUIDs.
    pub(in crate::worker) fn new(first: Gate, others: Vec<Gate>, uuids: Vec<String>) -> Self {
        let common = Arc::<Common>::default();
        let lease = |number, gate| ProcessLease::new(Arc::new(gate), number, Arc::clone(&common));
        let others: Vec<_> = (1..).zip(others).map(|(number, gate)| lease(number, gate)).collect();
        let first = lease(0, first);
        if others.is_empty() {
            first.is_of(CUdevice(0));
        }
        Self { first, others, uuids, common, contexts: Mutex::default() }
    }

    /// All, in the devices' order.
    pub(in crate::worker) fn all(&self) -> impl Iterator<Item = &ProcessLease> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// That of the device of this number.
    #[inline]
    pub(in crate::worker) fn at(&self, number: usize) -> &ProcessLease {
        self.others.get(number.wrapping_sub(1)).unwrap_or(&self.first)
    }

    /// The first device's.
    pub(in crate::worker) fn first(&self) -> &ProcessLease {
        &self.first
    }

    /// The number of the device that a context is on. `current` is the thread's.
    #[inline]
    pub(in crate::worker) fn number_of(&self, process: &Process, context: u64, current: u64) -> usize {
        if self.others.is_empty() { 0 } else { self.look_up(process, context, current) }
    }

    /// The lease of the device that the thread's current context is on.
    #[inline]
    pub(in crate::worker) fn of_current(&self, process: &Process, current: u64) -> &ProcessLease {
        self.at(self.number_of(process, current, current))
    }

    fn contexts(&self) -> MutexGuard<'_, HashMap<u64, usize>> {
        self.contexts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cold]
    fn look_up(&self, process: &Process, context: u64, current: u64) -> usize {
        if let Some(number) = self.contexts().get(&context) {
            return *number;
        }
        let lib = &process.lib;
        let ask = || {
            let mut device = CUdevice(0);
            cuda!(lib.cuCtxGetDevice(&raw mut device)).ok().map(|()| device)
        };
        // Without a context there is no work either.
        let Some(device) = within(process, context, current, ask).flatten() else { return 0 };
        let number = self.of_device(lib, device);
        self.contexts().insert(context, number);
        number
    }

    /// How many there are.
    #[inline]
    pub(in crate::worker) fn count(&self) -> usize {
        self.others.len() + 1
    }

    /// The number of the device that the calling thread's own current context is on.
    pub(in crate::worker) fn here(&self, lib: &Libcuda) -> usize {
        let mut device = CUdevice(0);
        if self.others.is_empty() || cuda!(lib.cuCtxGetDevice(&raw mut device)).is_err() {
            return 0;
        }
        self.of_device(lib, device)
    }

    /// The number of a device of the library's: it sees some of all, in an order of its own.
    pub(in crate::worker) fn of_device(&self, lib: &Libcuda, device: CUdevice) -> usize {
        if let Some(known) = self.all().position(|lease| lease.device() == Some(device)) {
            return known;
        }
        let uuid = uuid(lib, device).map(uuid_text);
        let number = uuid.ok().and_then(|uuid| self.uuids.iter().position(|known| *known == uuid));
        let Some(number) = number else {
            log::warn!("device {} has no lease of its own: the first one's counts", device.0);
            return 0;
        };
        self.at(number).is_of(device);
        number
    }

    /// How long all devices together have worked, where the library has clocks.
    pub(in crate::worker) fn busy_ns(&self, lib: &Libcuda) -> Option<Nanos> {
        lib.busy_ns?;
        Some(self.all().filter_map(|lease| lease.clock_ns(lib)).sum())
    }

    /// Tells the account what the clocks say: of each device, and of all together. Without clocks what is
    /// measured is told slice by slice.
    pub(in crate::worker) fn settle_time(&self, process: &Process) {
        if process.lib.busy_ns.is_none() {
            return;
        }
        let mut all = 0;
        for lease in self.all() {
            let Some(now) = lease.clock_ns(&process.lib) else { continue };
            process.account.gpu_time_on(lease.number).fetch_max(now, Ordering::Relaxed);
            all += now;
        }
        process.account.counter(Counter::GpuTimeNs).fetch_max(all, Ordering::Relaxed);
    }

    /// Whether the VM's kernels have a limit, which is the same on all devices.
    pub(in crate::worker) fn has_limit(&self) -> bool {
        self.first.has_limit()
    }

    /// A capture has begun, or one has ended.
    pub(in crate::worker) fn capture_changed(&self, begins: bool) {
        let change = |count: u32| if begins { count.checked_add(1) } else { count.checked_sub(1) };
        let _ = self.common.captures.fetch_update(Ordering::SeqCst, Ordering::Relaxed, change);
    }

    /// Whether a capture has begun that may not have ended.
    pub(in crate::worker) fn captures(&self) -> bool {
        self.common.captures(Ordering::SeqCst)
    }

    /// Streams or contexts may end while this is held.
    pub(in crate::worker) fn hold_edge(&self) -> MutexGuard<'_, ()> {
        self.common.edge()
    }

    /// A context may end: what is measured is waited for, and events are given back.
    pub(in crate::worker) fn context_may_end(&self, process: &Process) {
        self.all().for_each(|lease| lease.context_may_end(process));
        self.contexts().clear();
    }
}

fn uuid(lib: &Libcuda, device: CUdevice) -> Answer<[u8; 16]> {
    let mut uuid = CUuuid { bytes: [0; 16] };
    let asked = cuda!(lib.cuDeviceGetUuid_v2(&raw mut uuid, device));
    asked.or_else(|_| cuda!(lib.cuDeviceGetUuid(&raw mut uuid, device)))?;
    Ok(uuid.bytes)
}
