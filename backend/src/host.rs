//! What all connections of a back end share: how workers are started, the
//! accounts, the bounds.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use paravane_protocol::limits::WORKERS_MAX;

use crate::budget::Budget;
use crate::exchange::Shares;
use crate::fault_log::FaultLog;
use crate::gl::{Capset, Renderer};
use crate::lease::{DeviceLease, VmLease};
use crate::usage::Usage;
use crate::visible::Visible;
use crate::worker_process::Starter;

/// Shared by all connections.
pub struct Host {
    /// The VM's name in reports.
    pub name: String,
    /// Whether 3D features are offered.
    pub with_3d: bool,
    /// Bytes of the window in which guests see the host's memory; 0: there is none.
    pub window_bytes: u64,
    /// Whether front ends get what scanouts show as dma-bufs.
    pub dmabuf_scanout: bool,
    /// What draws OpenGL, where there is something.
    pub renderer: Option<Renderer>,
    /// Where the usage report goes.
    pub usage_json: Option<PathBuf>,
    /// Starts workers.
    pub starter: Starter,
    /// What the VM may have of memory, and has.
    pub budget: Arc<Budget>,
    /// Accounts.
    pub usage: Arc<Usage>,
    /// Bounded log of guests' faults.
    pub faults: FaultLog,
    /// The VM's leases of the devices.
    pub lease: Arc<VmLease>,
    /// What the VM's processes see.
    pub visible: Arc<Visible>,
    /// The device that draws, by UUID, where that is known.
    pub draws: Option<String>,
    /// What workers hand to each other.
    pub shares: Arc<Shares>,
    /// Workers in use.
    pub workers: Arc<AtomicUsize>,
}

impl Host {
    /// Writes the usage report, where one is wanted.
    pub fn report_usage(&self) {
        let Some(path) = &self.usage_json else { return };
        if let Err(error) = self.usage.write(&self.name, &self.budget.figures(), path) {
            log::error!("{}: the usage report cannot be written: {error}", path.display());
        }
    }

    /// The number and the lease of the device that draws; where that is not known, of
    /// the first that the VM sees.
    pub fn drawing_lease(&self) -> (usize, Arc<DeviceLease>) {
        let (number, lease) = match &self.draws {
            Some(uuid) => self.lease.first_of(std::slice::from_ref(uuid)),
            None => self.lease.first_of(&self.visible.seen().devices),
        };
        (number, Arc::clone(lease))
    }

    /// The capsets of OpenGL.
    pub fn capsets(&self) -> &[Capset] {
        self.renderer.as_ref().map(|renderer| &renderer.capsets[..]).unwrap_or_default()
    }

    /// Whether textures can be dma-bufs.
    pub fn exports(&self) -> bool {
        self.renderer.as_ref().is_some_and(|renderer| renderer.dmabuf)
    }

    /// Room for one more worker, until the slot is dropped.
    pub fn worker_slot(&self) -> Option<WorkerSlot> {
        let slot = WorkerSlot(Arc::clone(&self.workers));
        let others = self.workers.fetch_add(1, Ordering::Relaxed);
        (others < WORKERS_MAX).then_some(slot)
    }
}

/// One of the WORKERS_MAX.
#[derive(Debug)]
pub struct WorkerSlot(Arc<AtomicUsize>);

impl Drop for WorkerSlot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
