//! What the guest answers itself: one file for each family of NVML's.

mod identity;
mod library;
mod processes;
pub(crate) mod wrap;

pub(crate) use identity::*;
pub(crate) use library::*;
pub(crate) use processes::*;
