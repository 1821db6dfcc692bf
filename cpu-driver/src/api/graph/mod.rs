//! Graphs through the C interface: `parse` reads what a node is to do, `node` adds, tells and sets
//! nodes, `topology` asks and changes what is connected, `execution` instantiates and launches.

mod execution;
mod keep;
mod node;
mod parse;
mod topology;

pub use execution::*;
pub use keep::*;
pub use node::*;
pub(super) use parse::{captured_alloc, captured_free};
pub use topology::*;

use super::{Answer, initialised};
use crate::graph::exec::Exec;
use crate::graph::{EXECS, GRAPHS, Graph, NODES, Node};
use paravane_protocol::cuda_types::{CUDA_ERROR_INVALID_VALUE, CUgraph, CUgraphExec, CUgraphNode};
use std::sync::Arc;

/// The graph that a handle names. What is no graph is an invalid value, as everywhere in this family.
pub(super) fn graph(handle: CUgraph) -> Answer<Arc<Graph>> {
    initialised()?;
    GRAPHS.get(handle.0).ok_or(CUDA_ERROR_INVALID_VALUE)
}

fn node_of(handle: CUgraphNode) -> Answer<Arc<Node>> {
    initialised()?;
    NODES.get(handle.0).ok_or(CUDA_ERROR_INVALID_VALUE)
}

fn exec(handle: CUgraphExec) -> Answer<Arc<Exec>> {
    initialised()?;
    EXECS.get(handle.0).ok_or(CUDA_ERROR_INVALID_VALUE)
}

/// Reads one structure of the program's.
fn read<T: Copy>(from: *const T) -> Answer<T> {
    if from.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller of the CUDA function passes a pointer to the structure.
    Ok(unsafe { from.read() })
}

/// An array of the program's; NULL is an empty one where `count` is 0.
fn list<'a, T>(from: *const T, count: usize) -> Answer<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    if from.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller of the CUDA function passes an array of that length.
    Ok(unsafe { std::slice::from_raw_parts(from, count) })
}
