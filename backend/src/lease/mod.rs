//! GPU time, leased where calls are issued. A worker (`worker/lease`) reads in
//! the VM's page (`page`) whether it may make the device work, and writes there
//! what it has used; the arbiter (`arbiter`) gives leases to the VMs of a GPU
//! in turn, as the scheduler decides (`leases`, which knows no clock; `hearing`: how often a VM is listened to). `gate` is
//! what workers and renderers have of it in common. Copies from and to the host
//! are shared apart, by bytes (`copies`). Memory is apart too: `room` is
//! its part of the page, `holdings` a worker's side, `residence` says whose is on the device.

pub mod arbiter;
mod claim;
pub mod copies;
pub mod device;
mod entitled;
pub mod gate;
mod hearing;
pub mod holdings;
pub mod leases;
pub mod page;
pub mod pages;
mod pauses;
pub mod residence;
pub mod room;
pub mod side;
pub mod vm;

pub use arbiter::{Arbiter, VmFigures};
pub use device::DeviceLease;
pub use gate::Gate;
pub use holdings::Holdings;
pub use page::VmPage;
pub use paravane_scheduler::{Mode, Priority, Settings, SettingsError, VmId};
pub use side::LeaseSide;
pub use vm::{Shares, VmLease};

#[cfg(test)]
mod leases_tests;
#[cfg(test)]
mod residence_tests;
