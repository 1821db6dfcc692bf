//! Calls that the guest answers itself, or composes from other calls: one file
//! for each family of CUDA's.

mod context;
mod copy;
mod copy_2d;
mod copy_3d;
mod copy_array;
mod copy_batch;
mod device;
mod error;
mod error_log;
mod export_table;
mod graph;
mod init;
mod managed;
mod memory;
mod module;
mod occupancy;
mod old;
mod pointer_attribute;
mod pool;
mod proc_address;
mod texture;

pub(crate) use crate::custom::{
    cuLaunchCooperativeKernelMultiDevice, cuLaunchHostFunc_v2, cuStreamGetCaptureInfo_v3, cuStreamUpdateCaptureDependencies,
};
pub(crate) use context::*;
pub(crate) use copy::*;
pub(crate) use copy_3d::*;
pub(crate) use copy_array::*;
pub(crate) use copy_batch::*;
pub(crate) use device::*;
pub(crate) use error::*;
pub(crate) use error_log::*;
pub(crate) use graph::*;
pub(crate) use init::*;
pub(crate) use managed::*;
pub(crate) use memory::*;
pub(crate) use module::*;
pub(crate) use occupancy::*;
pub(crate) use old::*;
pub(crate) use pointer_attribute::*;
pub(crate) use pool::*;
pub(crate) use proc_address::*;
pub(crate) use texture::*;
