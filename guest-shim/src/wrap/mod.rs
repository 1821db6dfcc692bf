//! Calls that are sent as they are, with something done in the guest before or
//! after: memory is remembered, work marked, a synchronise spared.

mod capture;
mod context;
mod function;
mod graph;
mod memory;
mod memset;
mod stream;

pub(crate) use capture::*;
pub(crate) use context::*;
pub(crate) use function::*;
pub(crate) use graph::*;
pub(crate) use memory::*;
pub(crate) use memset::*;
pub(crate) use stream::*;
