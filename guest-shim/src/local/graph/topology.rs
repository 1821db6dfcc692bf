//! Nodes and edges as lists, edges changed, a graph drawn.

use std::ffi::{OsStr, c_char};
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;

use paravane_protocol::cuda_types::*;
use paravane_protocol::internal::{
    GRAPH_LIST, GRAPH_LIST_AFTER, GRAPH_LIST_BEFORE, GRAPH_LIST_EDGES, GRAPH_LIST_NODES, GRAPH_LIST_ROOTS,
};
use zerocopy::FromBytes;

use super::node::connect;
use crate::boundary::Answer;
use crate::connection::with_ring;
use crate::pointer;

/// An edge, or a node in its first place.
type Listed = (CUgraphNode, CUgraphNode, CUgraphEdgeData);

/// A list of the host's, a reply at a time.
fn listed(which: u64, of: u64) -> Answer<Vec<Listed>> {
    let mut all = Vec::new();
    loop {
        let (total, page) = with_ring(|ring| {
            ring.call(
                GRAPH_LIST,
                |to| {
                    [which, of, all.len() as u64].into_iter().for_each(|word| to.word(word));
                    Ok(())
                },
                |from| {
                    let (total, count) = (from.word(), from.word());
                    let mut entry = || {
                        let (source, target) = (CUgraphNode(from.word()), CUgraphNode(from.word()));
                        let data = from.word().to_le_bytes();
                        (source, target, CUgraphEdgeData::read_from_bytes(&data).unwrap_or_default())
                    };
                    let page: Vec<Listed> = (0..count.min(4096)).map(|_| entry()).collect();
                    (total, page)
                },
            )
        })?;
        let is_last = page.is_empty();
        all.extend(page);
        if is_last || all.len() as u64 >= total {
            return Ok(all);
        }
    }
}

/// Writes as many elements as there is room for, empty ones past the last, and
/// how many there are; without an array, only their number.
fn give<T: Copy>(arrays: &[(*mut T, Vec<T>)], empty: T, count: *mut usize) -> Answer {
    let room = pointer::get(count.cast_const())?;
    let found = arrays.first().map_or(0, |(_, values)| values.len());
    let mut is_asked = false;
    for (to, values) in arrays.iter().filter(|(to, _)| !to.is_null()) {
        is_asked = true;
        for place in 0..room {
            pointer::put(to.wrapping_add(place), values.get(place).copied().unwrap_or(empty))?;
        }
    }
    pointer::put(count, if is_asked { found.min(room) } else { found })
}

fn give_nodes(which: u64, of: u64, nodes: *mut CUgraphNode, count: *mut usize) -> Answer {
    pointer::get(count.cast_const())?;
    let all = listed(which, of)?.into_iter().map(|(node, ..)| node).collect();
    give(&[(nodes, all)], CUgraphNode(0), count)
}

/// Where an answer about edges goes.
#[derive(Clone, Copy)]
struct Into {
    from: *mut CUgraphNode,
    to: *mut CUgraphNode,
    data: *mut CUgraphEdgeData,
    count: *mut usize,
}

fn give_edges(which: u64, of: u64, into: Into) -> Answer {
    let mut room = pointer::get(into.count.cast_const())?;
    let edges = listed(which, of)?;
    let is_plain = edges.iter().all(|(.., data)| *data == CUgraphEdgeData::default());
    let is_asked = !into.from.is_null() || !into.to.is_null();
    if into.data.is_null() && is_asked && !is_plain {
        return Err(CUDA_ERROR_LOSSY_QUERY);
    }
    if !into.data.is_null() {
        let data = edges.iter().map(|(.., data)| *data).collect();
        give(&[(into.data, data)], CUgraphEdgeData::default(), &raw mut room)?;
    }
    let (from, to): (Vec<_>, Vec<_>) = edges.into_iter().map(|(from, to, _)| (from, to)).unzip();
    give(&[(into.from, from), (into.to, to)], CUgraphNode(0), into.count)
}

pub(crate) fn cuGraphGetNodes(graph: CUgraph, nodes: *mut CUgraphNode, count: *mut usize) -> Answer {
    give_nodes(GRAPH_LIST_NODES, graph.0, nodes, count)
}

pub(crate) fn cuGraphGetRootNodes(graph: CUgraph, nodes: *mut CUgraphNode, count: *mut usize) -> Answer {
    give_nodes(GRAPH_LIST_ROOTS, graph.0, nodes, count)
}

const NONE: *mut CUgraphNode = std::ptr::null_mut();
const NO_DATA: *mut CUgraphEdgeData = std::ptr::null_mut();

pub(crate) fn cuGraphGetEdges(graph: CUgraph, from: *mut CUgraphNode, to: *mut CUgraphNode, count: *mut usize) -> Answer {
    give_edges(GRAPH_LIST_EDGES, graph.0, Into { from, to, data: NO_DATA, count })
}

pub(crate) fn cuGraphGetEdges_v2(
    graph: CUgraph,
    from: *mut CUgraphNode,
    to: *mut CUgraphNode,
    data: *mut CUgraphEdgeData,
    count: *mut usize,
) -> Answer {
    give_edges(GRAPH_LIST_EDGES, graph.0, Into { from, to, data, count })
}

pub(crate) fn cuGraphNodeGetDependencies(node: CUgraphNode, from: *mut CUgraphNode, count: *mut usize) -> Answer {
    give_edges(GRAPH_LIST_BEFORE, node.0, Into { from, to: NONE, data: NO_DATA, count })
}

pub(crate) fn cuGraphNodeGetDependencies_v2(
    node: CUgraphNode,
    from: *mut CUgraphNode,
    data: *mut CUgraphEdgeData,
    count: *mut usize,
) -> Answer {
    give_edges(GRAPH_LIST_BEFORE, node.0, Into { from, to: NONE, data, count })
}

pub(crate) fn cuGraphNodeGetDependentNodes(node: CUgraphNode, to: *mut CUgraphNode, count: *mut usize) -> Answer {
    give_edges(GRAPH_LIST_AFTER, node.0, Into { from: NONE, to, data: NO_DATA, count })
}

pub(crate) fn cuGraphNodeGetDependentNodes_v2(
    node: CUgraphNode,
    to: *mut CUgraphNode,
    data: *mut CUgraphEdgeData,
    count: *mut usize,
) -> Answer {
    give_edges(GRAPH_LIST_AFTER, node.0, Into { from: NONE, to, data, count })
}

fn change(
    graph: CUgraph,
    removes: bool,
    [from, to]: [*const CUgraphNode; 2],
    data: *const CUgraphEdgeData,
    count: usize,
) -> Answer {
    let bytes = count.checked_mul(size_of::<CUgraphNode>()).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    let (from, to) = (pointer::bytes(from.cast(), bytes)?, pointer::bytes(to.cast(), bytes)?);
    let data = if data.is_null() { &[] } else { pointer::bytes(data.cast(), bytes)? };
    connect(graph, removes, from, to, data)
}

pub(crate) fn cuGraphAddDependencies(graph: CUgraph, from: *const CUgraphNode, to: *const CUgraphNode, count: usize) -> Answer {
    change(graph, false, [from, to], NO_DATA, count)
}

pub(crate) fn cuGraphAddDependencies_v2(
    graph: CUgraph,
    from: *const CUgraphNode,
    to: *const CUgraphNode,
    data: *const CUgraphEdgeData,
    count: usize,
) -> Answer {
    change(graph, false, [from, to], data, count)
}

pub(crate) fn cuGraphRemoveDependencies(graph: CUgraph, from: *const CUgraphNode, to: *const CUgraphNode, count: usize) -> Answer {
    change(graph, true, [from, to], NO_DATA, count)
}

pub(crate) fn cuGraphRemoveDependencies_v2(
    graph: CUgraph,
    from: *const CUgraphNode,
    to: *const CUgraphNode,
    data: *const CUgraphEdgeData,
    count: usize,
) -> Answer {
    change(graph, true, [from, to], data, count)
}

/// The file is the program's, so it is written here, from what can be asked;
/// the flags ask for more detail than that.
pub(crate) fn cuGraphDebugDotPrint(graph: CUgraph, path: *const c_char, _flags: u32) -> Answer {
    let path = OsStr::from_bytes(pointer::string(path)?.to_bytes());
    let nodes = listed(GRAPH_LIST_NODES, graph.0)?;
    let mut text = String::from("digraph paravane {\n");
    for (node, ..) in &nodes {
        let mut kind = CU_GRAPH_NODE_TYPE_EMPTY;
        super::pageable::kind(*node, &raw mut kind)?;
        let _ = writeln!(text, "n{:x} [label=\"type {}\"];", node.0, kind.0);
    }
    for (from, to, _) in listed(GRAPH_LIST_EDGES, graph.0)? {
        let _ = writeln!(text, "n{:x} -> n{:x};", from.0, to.0);
    }
    text.push_str("}\n");
    std::fs::write(path, text).map_err(|_| CUDA_ERROR_OPERATING_SYSTEM)
}
