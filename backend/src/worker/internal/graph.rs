//! Graphs: nodes added, changed and told, nodes and edges listed, edges changed.
//! Nodes and graphs have ids that the worker gives when the guest first hears
//! of them, because captures and copies make them without naming them.
#![allow(unsafe_code, reason = "what user objects end")]

use std::ffi::c_void;

use paravane_protocol::cuda_types::*;
use paravane_protocol::internal::{
    GRAPH_LIST_AFTER, GRAPH_LIST_BEFORE, GRAPH_LIST_EDGES, GRAPH_LIST_NODES, GRAPH_LIST_ROOTS,
};
use zerocopy::{FromBytes, IntoBytes};

use super::graph_node::{Native, told};
use crate::worker::custom::end_kept;
use crate::worker::dispatch::Command;
use crate::worker::libcuda::{Answer, Libcuda, cuda, has};
use crate::worker::process::Process;

const NO_DESTRUCTOR_SYNC: u32 = 1;
const MOVE: u32 = 1;
/// Entries of one reply: three words each, after the count.
const LISTED_MAX: usize = 160;

/// Resolves ids that travel as bytes.
pub(in crate::worker) fn nodes(process: &Process, bytes: &[u8]) -> Answer<Vec<CUgraphNode>> {
    let ids = bytes.as_chunks::<8>();
    if !ids.1.is_empty() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    ids.0.iter().map(|id| process.handles.resolve(CUgraphNode(u64::from_le_bytes(*id)))).collect()
}

/// Edge data for so many nodes, or none.
pub(in crate::worker) fn edge_data(bytes: &[u8], count: usize) -> Answer<Vec<CUgraphEdgeData>> {
    if !bytes.is_empty() && bytes.len() != count * size_of::<CUgraphEdgeData>() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let read = |raw| CUgraphEdgeData::read_from_bytes(raw).map_err(|_| CUDA_ERROR_INVALID_VALUE);
    bytes.chunks(size_of::<CUgraphEdgeData>()).map(read).collect()
}

unsafe extern "C" fn drop_mappings(data: *mut c_void) {
    // SAFETY: the box that keep() leaked; libcuda calls once.
    drop(unsafe { Box::from_raw(data.cast::<Vec<std::sync::Arc<crate::worker::area::Mapping>>>()) });
}

/// Makes a graph keep something until it and all that came of it have ended.
fn keep(lib: &Libcuda, graph: CUgraph, data: Pointer, end: unsafe extern "C" fn(*mut c_void)) -> Answer {
    let mut object = CUuserObject(0);
    cuda!(lib.cuUserObjectCreate(&raw mut object, data, Some(end), 1, NO_DESTRUCTOR_SYNC))?;
    cuda!(lib.cuGraphRetainUserObject(graph, object, 1, MOVE))
}

/// The graph keeps what its new node reaches.
fn keep_all(lib: &Libcuda, graph: CUgraph, native: Native) -> Answer {
    if let Some(kept) = native.kept {
        keep(lib, graph, kept.data(), end_kept)?;
    }
    if !native.mappings.is_empty() {
        let mappings = Box::into_raw(Box::new(native.mappings));
        keep(lib, graph, mappings.cast(), drop_mappings)?;
    }
    Ok(())
}

/// In: graph, nodes before, edge data, parameters, what they point to.
pub(super) fn add(command: &mut Command) -> Answer {
    let graph = CUgraph(command.from.word());
    let (before, data) = (command.from.bytes(), command.from.bytes());
    let (params, side) = (command.from.bytes(), command.from.bytes());
    command.read_all()?;
    let process = command.thread.process();
    let of = process.handles.resolve(graph)?;
    let before = nodes(&process, before)?;
    let data = edge_data(data, before.len())?;
    let mut native = Native::new(&process, params, side)?;
    let lib = &process.lib;
    let mut node = CUgraphNode(0);
    let into: *mut CUgraphNodeParams = &raw mut native.params;
    let added = if data.is_empty() {
        cuda!(lib.cuGraphAddNode(&raw mut node, of, before.as_ptr(), before.len(), into))
    } else {
        cuda!(lib.cuGraphAddNode_v2(&raw mut node, of, before.as_ptr(), data.as_ptr(), before.len(), into))
    };
    if let Err(error) = added {
        native.kept.into_iter().for_each(crate::worker::custom::Kept::drop_unused);
        return Err(error);
    }
    let params = native.params;
    keep_all(lib, of, native)?;
    let node = process.handles.tell(node, graph.0)?;
    command.to.word(node.0);
    let made = match params.kind {
        CU_GRAPH_NODE_TYPE_MEM_ALLOC => params.get::<CUDA_MEM_ALLOC_NODE_PARAMS>().dptr.0,
        _ => 0,
    };
    command.to.word(made);
    let bodies = if params.kind == CU_GRAPH_NODE_TYPE_CONDITIONAL { bodies(&params) } else { Vec::new() };
    command.to.word(bodies.len() as u64);
    for body in bodies {
        command.to.word(process.handles.tell(body, node.0)?.0);
    }
    Ok(())
}

/// The body graphs that libcuda made for a conditional node.
fn bodies(params: &CUgraphNodeParams) -> Vec<CUgraph> {
    let of: CUDA_CONDITIONAL_NODE_PARAMS = params.get();
    if of.phGraph_out == 0 {
        return Vec::new();
    }
    let from = std::ptr::with_exposed_provenance::<CUgraph>(usize::from_word(of.phGraph_out));
    // SAFETY: libcuda's array, which lives as long as the node.
    unsafe { std::slice::from_raw_parts(from, of.size as usize) }.to_vec()
}

/// In: node, executable graph or 0, parameters, what they point to.
pub(super) fn set(command: &mut Command) -> Answer {
    let node = CUgraphNode(command.from.word());
    let exec = CUgraphExec(command.from.word());
    let (params, side) = (command.from.bytes(), command.from.bytes());
    command.read_all()?;
    let process = command.thread.process();
    let of = process.handles.resolve(node)?;
    let mut native = Native::new(&process, params, side)?;
    let lib = &process.lib;
    let into: *mut CUgraphNodeParams = &raw mut native.params;
    let changed = if exec.0 == 0 {
        cuda!(lib.cuGraphNodeSetParams(of, into))
    } else {
        process.handles.resolve(exec).and_then(|exec| cuda!(lib.cuGraphExecNodeSetParams(exec, of, into)))
    };
    if let Err(error) = changed {
        native.kept.into_iter().for_each(crate::worker::custom::Kept::drop_unused);
        return Err(error);
    }
    if exec.0 != 0 {
        // An executable graph takes user objects only as it is instantiated: what
        // it reaches now is kept as long as the process.
        std::mem::forget(native);
        return Ok(());
    }
    let graph = process.handles.resolve(CUgraph(process.handles.parent(node.0)))?;
    keep_all(lib, graph, native)
}

/// In: node.
pub(super) fn get(command: &mut Command) -> Answer {
    let node = CUgraphNode(command.from.word());
    command.read_all()?;
    let process = command.thread.process();
    let (params, side) = told(&process, process.handles.resolve(node)?)?;
    command.to.bytes(params.as_bytes());
    command.to.bytes(&side);
    Ok(())
}

/// One entry of a list: an edge, or a node in its first place.
type Listed = (CUgraphNode, CUgraphNode, CUgraphEdgeData);

/// All nodes that one of libcuda's lists has.
fn all_nodes(
    call: unsafe extern "C" fn(CUgraph, *mut CUgraphNode, *mut usize) -> CUresult,
    graph: CUgraph,
) -> Answer<Vec<Listed>> {
    let mut count = 0;
    // SAFETY: libcuda's prototype; without an array only the number is written.
    unsafe { call(graph, std::ptr::null_mut(), &raw mut count) }.ok()?;
    let mut nodes = vec![CUgraphNode(0); count];
    if count > 0 {
        // SAFETY: as above; the array has that many elements.
        unsafe { call(graph, nodes.as_mut_ptr(), &raw mut count) }.ok()?;
    }
    nodes.truncate(count);
    Ok(nodes.into_iter().map(|node| (node, CUgraphNode(0), CUgraphEdgeData::default())).collect())
}

fn all_edges(lib: &Libcuda, graph: CUgraph) -> Answer<Vec<Listed>> {
    let (mut count, none) = (0, std::ptr::null_mut());
    cuda!(lib.cuGraphGetEdges_v2(graph, none, none, std::ptr::null_mut(), &raw mut count))?;
    let (mut from, mut to) = (vec![CUgraphNode(0); count], vec![CUgraphNode(0); count]);
    let mut data = vec![CUgraphEdgeData::default(); count];
    if count > 0 {
        let data = data.as_mut_ptr();
        cuda!(lib.cuGraphGetEdges_v2(graph, from.as_mut_ptr(), to.as_mut_ptr(), data, &raw mut count))?;
    }
    Ok(from.into_iter().zip(to).zip(data).take(count).map(|((from, to), data)| (from, to, data)).collect())
}

/// Edges at one end of a node.
fn edges_at(lib: &Libcuda, node: CUgraphNode, is_before: bool) -> Answer<Vec<Listed>> {
    let call = has(if is_before { lib.cuGraphNodeGetDependencies_v2 } else { lib.cuGraphNodeGetDependentNodes_v2 })?;
    let mut count = 0;
    // SAFETY: libcuda's prototype; without arrays only the number is written.
    unsafe { call(node, std::ptr::null_mut(), std::ptr::null_mut(), &raw mut count) }.ok()?;
    let mut nodes = vec![CUgraphNode(0); count];
    let mut data = vec![CUgraphEdgeData::default(); count];
    if count > 0 {
        // SAFETY: as above; the arrays have that many elements.
        unsafe { call(node, nodes.as_mut_ptr(), data.as_mut_ptr(), &raw mut count) }.ok()?;
    }
    let of = |(other, data)| if is_before { (other, node, data) } else { (node, other, data) };
    Ok(nodes.into_iter().zip(data).take(count).map(of).collect())
}

/// In: which, graph or node, how many were told before.
pub(super) fn list(command: &mut Command) -> Answer {
    let (which, id, skipped) = (command.from.word(), command.from.word(), command.from.word());
    command.read_all()?;
    let process = command.thread.process();
    let (lib, handles) = (&process.lib, &process.handles);
    let (found, parent) = match which {
        GRAPH_LIST_NODES => (all_nodes(has(lib.cuGraphGetNodes)?, handles.resolve(CUgraph(id))?)?, id),
        GRAPH_LIST_ROOTS => (all_nodes(has(lib.cuGraphGetRootNodes)?, handles.resolve(CUgraph(id))?)?, id),
        GRAPH_LIST_EDGES => (all_edges(lib, handles.resolve(CUgraph(id))?)?, id),
        GRAPH_LIST_BEFORE | GRAPH_LIST_AFTER => {
            let node = handles.resolve(CUgraphNode(id))?;
            (edges_at(lib, node, which == GRAPH_LIST_BEFORE)?, handles.parent(id))
        }
        _ => return Err(CUDA_ERROR_INVALID_VALUE),
    };
    command.to.word(found.len() as u64);
    let rest = found.into_iter().skip(usize::from_word(skipped)).take(LISTED_MAX);
    let rest: Vec<Listed> = rest.collect();
    command.to.word(rest.len() as u64);
    for (from, to, data) in rest {
        command.to.word(handles.tell(from, parent)?.0);
        command.to.word(handles.tell(to, parent)?.0);
        command.to.raw(data.as_bytes());
    }
    Ok(())
}

/// In: graph, 1 to remove, from, to, edge data.
pub(super) fn connect(command: &mut Command) -> Answer {
    let graph = CUgraph(command.from.word());
    let removes = command.from.word() == 1;
    let (from, to, data) = (command.from.bytes(), command.from.bytes(), command.from.bytes());
    command.read_all()?;
    let process = command.thread.process();
    let lib = &process.lib;
    let graph = process.handles.resolve(graph)?;
    let (from, to) = (nodes(&process, from)?, nodes(&process, to)?);
    if from.len() != to.len() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let data = edge_data(data, from.len())?;
    let (sources, targets, count) = (from.as_ptr(), to.as_ptr(), from.len());
    match (removes, data.is_empty()) {
        (false, true) => cuda!(lib.cuGraphAddDependencies(graph, sources, targets, count)),
        (false, false) => cuda!(lib.cuGraphAddDependencies_v2(graph, sources, targets, data.as_ptr(), count)),
        (true, true) => cuda!(lib.cuGraphRemoveDependencies(graph, sources, targets, count)),
        (true, false) => cuda!(lib.cuGraphRemoveDependencies_v2(graph, sources, targets, data.as_ptr(), count)),
    }
}

/// In: a graph that libcuda has ended.
pub(super) fn end(command: &mut Command) -> Answer {
    let graph = CUgraph(command.from.word());
    command.read_all()?;
    let process = command.thread.process();
    process.handles.remove(graph);
    process.handles.forget_parent(graph.0);
    Ok(())
}
