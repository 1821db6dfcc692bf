//! The rows that are written by hand on both sides, one file for each family.

mod callback;
mod capture;
mod context;
mod enumerate;
mod function;
mod graph;
mod green;
mod image;
mod ipc;
mod launch;
mod link;
mod pool;
mod texture;
mod virtual_memory;

pub(super) use callback::*;
pub(super) use capture::*;
pub(super) use context::*;
pub(super) use enumerate::*;
pub(super) use function::*;
pub(super) use graph::*;
pub(super) use green::*;
pub(super) use image::*;
pub(super) use ipc::*;
pub(super) use launch::*;
pub(super) use link::*;
pub(super) use pool::*;
pub(super) use texture::*;
pub(super) use virtual_memory::*;
