//! Calls that the guest answers itself, or composes from other calls: one file
//! for each family of CUDA's.

mod context;
mod copy;
mod copy_2d;
mod device;
mod error;
mod export_table;
mod graph;
mod init;
mod memory;
mod module;
mod occupancy;
mod old;
mod proc_address;

pub(crate) use crate::custom::{
    cuLaunchHostFunc_v2, cuStreamGetCaptureInfo_v3, cuStreamUpdateCaptureDependencies,
};
pub(crate) use context::*;
pub(crate) use copy::*;
pub(crate) use device::*;
pub(crate) use error::*;
pub(crate) use graph::*;
pub(crate) use init::*;
pub(crate) use memory::*;
pub(crate) use module::*;
pub(crate) use occupancy::*;
pub(crate) use old::*;
pub(crate) use proc_address::*;
