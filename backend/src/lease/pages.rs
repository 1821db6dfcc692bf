//! What [`super::leases`] reads and writes of the VMs: their pages, or a test's.

use paravane_scheduler::{Nanos, VmId};

use super::page::{Grant, Wants};

/// Where the VMs' pages are.
pub trait Pages {
    /// What a VM's workers want and have used.
    fn wants(&mut self, vm: VmId) -> Wants;
    /// What is left of its lease's budget.
    fn budget_ns(&mut self, vm: VmId) -> i64;
    /// Grants it a lease, or takes it away.
    fn grant(&mut self, vm: VmId, grant: Grant, budget_ns: Nanos);
    /// It is held up by its own cap, or not any more.
    fn set_capped(&mut self, vm: VmId, capped: bool);
    /// So much of its predicted work may be in flight.
    fn set_flight(&mut self, vm: VmId, flight_ns: Nanos);
    /// So long, in all, others' work has had the device beside its own, as was
    /// last told. Any figure may be there.
    fn overlap_ns(&mut self, vm: VmId) -> Nanos;
    /// So long it is now.
    fn set_overlap(&mut self, vm: VmId, overlap_ns: Nanos);
}
