//! Graphs as wholes: made, copied, ended, asked for their nodes and edges, connected, drawn.

use super::super::{give, give_optional, string};
use super::{Answer, graph, list, node_of};
use crate::graph::params::Params;
use crate::graph::{Edge, GRAPHS, Graph};
use paravane_protocol::cuda_types::*;
use std::collections::HashSet;
use std::ffi::c_char;
use std::fmt::Write;
use std::sync::atomic::Ordering;

pub unsafe fn cuGraphCreate(phGraph: *mut CUgraph, flags: u32) -> Answer {
    super::super::initialised()?;
    if flags != 0 || phGraph.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    give(phGraph, CUgraph(Graph::create().handle))
}

pub unsafe fn cuGraphDestroy(hGraph: CUgraph) -> Answer {
    let graph = graph(hGraph)?;
    if graph.is_embedded.load(Ordering::Relaxed) {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    graph.end();
    Ok(())
}

pub unsafe fn cuGraphClone(phGraphClone: *mut CUgraph, originalGraph: CUgraph) -> Answer {
    let original = graph(originalGraph)?;
    if phGraphClone.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    give(phGraphClone, CUgraph(original.copy()?.handle))
}

pub unsafe fn cuGraphNodeFindInClone(phNode: *mut CUgraphNode, hOriginalNode: CUgraphNode, hClonedGraph: CUgraph) -> Answer {
    let (original, clone) = (node_of(hOriginalNode)?, graph(hClonedGraph)?);
    let twin = clone.state().nodes.iter().find(|node| node.origin == original.handle).map(|node| node.handle);
    give(phNode, CUgraphNode(twin.ok_or(CUDA_ERROR_INVALID_VALUE)?))
}

pub unsafe fn cuGraphNodeGetType(hNode: CUgraphNode, kind: *mut CUgraphNodeType) -> Answer {
    give(kind, node_of(hNode)?.params().kind())
}

pub unsafe fn cuGraphNodeGetContainingGraph(hNode: CUgraphNode, phGraph: *mut CUgraph) -> Answer {
    give(phGraph, CUgraph(node_of(hNode)?.graph))
}

pub unsafe fn cuGraphNodeGetLocalId(hNode: CUgraphNode, nodeId: *mut u32) -> Answer {
    give(nodeId, node_of(hNode)?.local_id)
}

pub unsafe fn cuGraphNodeGetToolsId(hNode: CUgraphNode, toolsNodeId: *mut u64) -> Answer {
    give(toolsNodeId, node_of(hNode)?.tools_id)
}

pub unsafe fn cuGraphGetId(hGraph: CUgraph, graphId: *mut u32) -> Answer {
    give(graphId, graph(hGraph)?.id)
}

/// Writes as many elements as there is room for, NULL past the last, and how many there are; without
/// an array, only their number.
fn give_list<T: Copy>(arrays: &[(*mut T, &[T])], empty: T, count: *mut usize) -> Answer {
    if count.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller passes a pointer to the number of elements that its arrays have.
    let room = unsafe { *count };
    let found = arrays.first().map_or(0, |(_, values)| values.len());
    let mut is_asked = false;
    for (to, values) in arrays.iter().filter(|(to, _)| !to.is_null()) {
        is_asked = true;
        for place in 0..room {
            // SAFETY: as above.
            unsafe { to.add(place).write(values.get(place).copied().unwrap_or(empty)) };
        }
    }
    give(count, if is_asked { found.min(room) } else { found })
}

pub unsafe fn cuGraphGetNodes(hGraph: CUgraph, nodes: *mut CUgraphNode, numNodes: *mut usize) -> Answer {
    let all: Vec<_> = graph(hGraph)?.state().nodes.iter().map(|node| CUgraphNode(node.handle)).collect();
    give_list(&[(nodes, &all)], CUgraphNode(0), numNodes)
}

pub unsafe fn cuGraphGetRootNodes(hGraph: CUgraph, rootNodes: *mut CUgraphNode, numRootNodes: *mut usize) -> Answer {
    let graph = graph(hGraph)?;
    let state = graph.state();
    let led_to: HashSet<u64> = state.edges.iter().map(|edge| edge.to).collect();
    let roots = state.nodes.iter().map(|node| node.handle).filter(|node| !led_to.contains(node));
    let roots: Vec<_> = roots.map(CUgraphNode).collect();
    give_list(&[(rootNodes, &roots)], CUgraphNode(0), numRootNodes)
}

/// Whether an answer without edge data would leave something out.
fn is_plain(edges: &[Edge]) -> Answer {
    let is_lossy = edges.iter().any(|edge| edge.data != CUgraphEdgeData::default());
    if is_lossy { Err(CUDA_ERROR_LOSSY_QUERY) } else { Ok(()) }
}

fn give_edges(
    edges: &[Edge],
    from: *mut CUgraphNode,
    to: *mut CUgraphNode,
    data: Option<*mut CUgraphEdgeData>,
    count: *mut usize,
) -> Answer {
    let of = |end: fn(&Edge) -> u64| edges.iter().map(|edge| CUgraphNode(end(edge))).collect::<Vec<_>>();
    let (sources, targets) = (of(|edge| edge.from), of(|edge| edge.to));
    if data.is_none_or(|data| data.is_null()) && !(from.is_null() && to.is_null()) {
        is_plain(edges)?;
    }
    if let Some(data) = data.filter(|data| !data.is_null() && !count.is_null()) {
        // SAFETY: the caller passes a pointer to the number of elements that its arrays have.
        let mut room = unsafe { *count };
        let of_edges: Vec<_> = edges.iter().map(|edge| edge.data).collect();
        give_list(&[(data, &of_edges)], CUgraphEdgeData::default(), &raw mut room)?;
    }
    give_list(&[(from, &sources), (to, &targets)], CUgraphNode(0), count)
}

pub unsafe fn cuGraphGetEdges(hGraph: CUgraph, from: *mut CUgraphNode, to: *mut CUgraphNode, numEdges: *mut usize) -> Answer {
    let edges = graph(hGraph)?.state().edges.clone();
    give_edges(&edges, from, to, None, numEdges)
}

pub unsafe fn cuGraphGetEdges_v2(
    hGraph: CUgraph,
    from: *mut CUgraphNode,
    to: *mut CUgraphNode,
    edgeData: *mut CUgraphEdgeData,
    numEdges: *mut usize,
) -> Answer {
    let edges = graph(hGraph)?.state().edges.clone();
    give_edges(&edges, from, to, Some(edgeData), numEdges)
}

/// Edges at one end of a node.
fn edges_at(handle: CUgraphNode, end: fn(&Edge) -> u64) -> Answer<Vec<Edge>> {
    let node = node_of(handle)?;
    let graph = GRAPHS.get(node.graph).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    Ok(graph.state().edges.iter().copied().filter(|edge| end(edge) == handle.0).collect())
}

const NONE: *mut CUgraphNode = std::ptr::null_mut();

pub unsafe fn cuGraphNodeGetDependencies(hNode: CUgraphNode, dependencies: *mut CUgraphNode, numDependencies: *mut usize) -> Answer {
    give_edges(&edges_at(hNode, |edge| edge.to)?, dependencies, NONE, None, numDependencies)
}

pub unsafe fn cuGraphNodeGetDependencies_v2(
    hNode: CUgraphNode,
    dependencies: *mut CUgraphNode,
    edgeData: *mut CUgraphEdgeData,
    numDependencies: *mut usize,
) -> Answer {
    give_edges(&edges_at(hNode, |edge| edge.to)?, dependencies, NONE, Some(edgeData), numDependencies)
}

pub unsafe fn cuGraphNodeGetDependentNodes(hNode: CUgraphNode, dependentNodes: *mut CUgraphNode, numDependentNodes: *mut usize) -> Answer {
    give_edges(&edges_at(hNode, |edge| edge.from)?, NONE, dependentNodes, None, numDependentNodes)
}

pub unsafe fn cuGraphNodeGetDependentNodes_v2(
    hNode: CUgraphNode,
    dependentNodes: *mut CUgraphNode,
    edgeData: *mut CUgraphEdgeData,
    numDependentNodes: *mut usize,
) -> Answer {
    give_edges(&edges_at(hNode, |edge| edge.from)?, NONE, dependentNodes, Some(edgeData), numDependentNodes)
}

fn edges(from: *const CUgraphNode, to: *const CUgraphNode, data: *const CUgraphEdgeData, count: usize) -> Answer<Vec<Edge>> {
    let (from, to) = (list(from, count)?, list(to, count)?);
    let data = if data.is_null() { &[] } else { list(data, count)? };
    let edge = |(number, (from, to)): (usize, (&CUgraphNode, &CUgraphNode))| Edge {
        from: from.0,
        to: to.0,
        data: data.get(number).copied().unwrap_or_default(),
    };
    Ok(from.iter().zip(to).enumerate().map(edge).collect())
}

const NO_DATA: *const CUgraphEdgeData = std::ptr::null();

pub unsafe fn cuGraphAddDependencies(hGraph: CUgraph, from: *const CUgraphNode, to: *const CUgraphNode, numDependencies: usize) -> Answer {
    graph(hGraph)?.connect(&edges(from, to, NO_DATA, numDependencies)?)
}

pub unsafe fn cuGraphAddDependencies_v2(
    hGraph: CUgraph,
    from: *const CUgraphNode,
    to: *const CUgraphNode,
    edgeData: *const CUgraphEdgeData,
    numDependencies: usize,
) -> Answer {
    graph(hGraph)?.connect(&edges(from, to, edgeData, numDependencies)?)
}

pub unsafe fn cuGraphRemoveDependencies(hGraph: CUgraph, from: *const CUgraphNode, to: *const CUgraphNode, numDependencies: usize) -> Answer {
    graph(hGraph)?.disconnect(&edges(from, to, NO_DATA, numDependencies)?)
}

pub unsafe fn cuGraphRemoveDependencies_v2(
    hGraph: CUgraph,
    from: *const CUgraphNode,
    to: *const CUgraphNode,
    edgeData: *const CUgraphEdgeData,
    numDependencies: usize,
) -> Answer {
    graph(hGraph)?.disconnect(&edges(from, to, edgeData, numDependencies)?)
}

pub unsafe fn cuGraphDestroyNode(hNode: CUgraphNode) -> Answer {
    let node = node_of(hNode)?;
    GRAPHS.get(node.graph).ok_or(CUDA_ERROR_INVALID_VALUE)?.remove(hNode.0)
}

/// The graph in DOT, child graphs as clusters.
fn draw(graph: &Graph, into: &mut String) -> std::fmt::Result {
    let state = graph.state();
    for node in &state.nodes {
        let params = node.params();
        let what = match &params {
            Params::Kernel(kernel) => kernel.kernel.name.to_string_lossy().into_owned(),
            other => format!("type {}", other.kind().0),
        };
        writeln!(into, "n{} [label=\"{}: {what}\"];", node.tools_id, node.local_id)?;
        if let Params::Child(child) = params {
            writeln!(into, "subgraph cluster_{} {{", node.tools_id)?;
            draw(&child, into)?;
            writeln!(into, "}}")?;
        }
    }
    for edge in &state.edges {
        let number = |handle| state.nodes.iter().find(|node| node.handle == handle).map_or(0, |node| node.tools_id);
        writeln!(into, "n{} -> n{};", number(edge.from), number(edge.to))?;
    }
    Ok(())
}

pub unsafe fn cuGraphDebugDotPrint(hGraph: CUgraph, path: *const c_char, _flags: u32) -> Answer {
    let graph = graph(hGraph)?;
    // SAFETY: the caller passes a C string.
    let path = unsafe { string(path) }?;
    let mut text = format!("digraph graph_{} {{\n", graph.id);
    draw(&graph, &mut text).map_err(|_| CUDA_ERROR_OPERATING_SYSTEM)?;
    text.push_str("}\n");
    std::fs::write(path, text).map_err(|_| CUDA_ERROR_OPERATING_SYSTEM)
}

/// A result that not every caller asks for.
pub(super) fn give_node(to: *mut CUgraphNode, node: u64) {
    give_optional(to, CUgraphNode(node));
}
