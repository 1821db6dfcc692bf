//! Calls that are sent as they are, with something done in the guest before or
//! after: memory is remembered, work marked, a synchronise spared.

mod capture;
mod array;
mod context;
mod event;
mod function;
mod graph;
mod green;
mod memory;
mod memset;
mod pool;
mod primary;
mod stream;
mod virtual_memory;

pub(crate) use capture::*;
pub(crate) use array::*;
pub(crate) use context::*;
pub(crate) use event::*;
pub(crate) use function::*;
pub(crate) use graph::*;
pub(crate) use green::*;
pub(crate) use memory::*;
pub(crate) use memset::*;
pub(crate) use pool::*;
pub(crate) use primary::*;
pub(crate) use stream::*;
pub(crate) use virtual_memory::*;
