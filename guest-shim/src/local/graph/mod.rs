//! Graphs, composed from the internal operations on nodes and edges. `node`
//! has a node's parameters, `pageable` the copies that the host cannot do
//! alone, `topology` nodes and edges as lists, `execution` what runs.

mod execution;
mod node;
mod pageable;
mod topology;

pub(crate) use execution::*;
pub(crate) use node::*;
pub(crate) use pageable::{add_host, capture_copy, kind as node_kind};
pub(crate) use topology::*;
