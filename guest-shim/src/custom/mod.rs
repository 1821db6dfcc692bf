//! Calls whose two sides are both written by hand: contexts, images, functions,
//! launches and host functions.

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

pub(crate) use callback::*;
pub(crate) use capture::*;
pub(crate) use context::*;
pub(crate) use enumerate::*;
pub(crate) use function::*;
pub(crate) use graph::*;
pub(crate) use green::*;
pub(crate) use image::*;
pub(crate) use ipc::*;
pub(crate) use launch::*;
pub(crate) use link::*;
pub(crate) use pool::*;
pub(crate) use texture::*;
pub(crate) use virtual_memory::*;
