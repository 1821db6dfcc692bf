//! Nodes: added, told and set in the one form that all kinds have; the functions for single kinds
//! come from the protocol's list of them. Also the attributes of kernel nodes.

use super::super::give;
use super::parse::parse;
use super::{Answer, exec, graph, list, node_of, read};
use crate::graph::params::{KernelNode, Params};
use crate::graph::condition::Condition;
use crate::graph::{GRAPHS, Graph, Node};
use crate::objects::EVENTS;
use paravane_protocol::cuda_types::*;
use std::sync::Arc;

fn write<T>(to: *mut T, value: T) -> Answer {
    give(to, value)
}

fn add(
    node: *mut CUgraphNode,
    of: CUgraph,
    before: *const CUgraphNode,
    data: *const CUgraphEdgeData,
    count: usize,
    asked: CUgraphNodeParams,
) -> Answer<CUgraphNodeParams> {
    let of = graph(of)?;
    if node.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let before: Vec<u64> = list(before, count)?.iter().map(|node| node.0).collect();
    let data = if data.is_null() { &[] } else { list(data, count)? };
    let params = parse(&asked, &of)?;
    let handle = of.add(&before, data, params.clone()).inspect_err(|_| params.end())?;
    give(node, CUgraphNode(handle))?;
    // What the node has made: an address, bodies.
    Ok(match params {
        Params::Alloc(_) | Params::Conditional(_) => params.tell(),
        _ => asked,
    })
}

fn tell(node: CUgraphNode, kind: Option<CUgraphNodeType>) -> Answer<CUgraphNodeParams> {
    let told = node_of(node)?.params().tell();
    if kind.is_none_or(|kind| kind == told.kind) { Ok(told) } else { Err(CUDA_ERROR_INVALID_VALUE) }
}

/// The graph of a node, which lives as long as that.
fn graph_of(node: &Node) -> Answer<Arc<Graph>> {
    GRAPHS.get(node.graph).ok_or(CUDA_ERROR_INVALID_VALUE)
}

/// New parameters for a node of the same kind.
fn changed(node: &Node, asked: &CUgraphNodeParams) -> Answer<Params> {
    let old = node.params();
    let is_fixed = matches!(old, Params::Child(_) | Params::Alloc(_) | Params::Free(_) | Params::Conditional(_));
    if old.kind() != asked.kind || is_fixed {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    parse(asked, &*graph_of(node)?)
}

fn set(node: CUgraphNode, asked: CUgraphNodeParams) -> Answer {
    let node = node_of(node)?;
    let new = changed(&node, &asked)?;
    node.change(|params| {
        *params = match (&*params, new) {
            // Attributes stay.
            (Params::Kernel(old), Params::Kernel(new)) => {
                let shape = super::super::Shape { cooperative: old.shape.cooperative, ..new.shape };
                Params::Kernel(KernelNode { attributes: old.attributes.clone(), shape, ..new })
            }
            (_, new) => new,
        };
    });
    Ok(())
}

fn set_exec(of: CUgraphExec, node: CUgraphNode, asked: CUgraphNodeParams) -> Answer {
    let (of, node) = (exec(of)?, node_of(node)?);
    if asked.kind == CU_GRAPH_NODE_TYPE_GRAPH {
        let child: CUDA_CHILD_GRAPH_NODE_PARAMS = asked.get();
        return of.set_child(node.handle, &*graph(child.graph)?);
    }
    of.set(node.handle, changed(&node, &asked)?)
}

paravane_protocol::graph_node_functions!(pub unsafe);

pub unsafe fn cuGraphChildGraphNodeGetGraph(hNode: CUgraphNode, phGraph: *mut CUgraph) -> Answer {
    match node_of(hNode)?.params() {
        Params::Child(child) => give(phGraph, CUgraph(child.handle)),
        _ => Err(CUDA_ERROR_INVALID_VALUE),
    }
}

pub unsafe fn cuGraphExecChildGraphNodeSetParams(hGraphExec: CUgraphExec, hNode: CUgraphNode, childGraph: CUgraph) -> Answer {
    exec(hGraphExec)?.set_child(node_of(hNode)?.handle, &*graph(childGraph)?)
}

pub unsafe fn cuGraphMemFreeNodeGetParams(hNode: CUgraphNode, dptr_out: *mut CUdeviceptr) -> Answer {
    match node_of(hNode)?.params() {
        Params::Free(dptr) => give(dptr_out, dptr),
        _ => Err(CUDA_ERROR_INVALID_VALUE),
    }
}

macro_rules! event_nodes {
    ($($kind:ident $type:ident $get:ident $set:ident $exec:ident;)*) => {$(
        pub unsafe fn $get(hNode: CUgraphNode, event_out: *mut CUevent) -> Answer {
            match node_of(hNode)?.params() {
                Params::$kind(asked) => give(event_out, asked.event),
                _ => Err(CUDA_ERROR_INVALID_VALUE),
            }
        }

        pub unsafe fn $set(hNode: CUgraphNode, event: CUevent) -> Answer {
            EVENTS.get(event.0).ok_or(CUDA_ERROR_INVALID_VALUE)?;
            set(hNode, event_node($type, event))
        }

        pub unsafe fn $exec(hGraphExec: CUgraphExec, hNode: CUgraphNode, event: CUevent) -> Answer {
            EVENTS.get(event.0).ok_or(CUDA_ERROR_INVALID_VALUE)?;
            set_exec(hGraphExec, hNode, event_node($type, event))
        }
    )*};
}
event_nodes! {
    Record CU_GRAPH_NODE_TYPE_EVENT_RECORD
        cuGraphEventRecordNodeGetEvent cuGraphEventRecordNodeSetEvent cuGraphExecEventRecordNodeSetEvent;
    Wait CU_GRAPH_NODE_TYPE_WAIT_EVENT
        cuGraphEventWaitNodeGetEvent cuGraphEventWaitNodeSetEvent cuGraphExecEventWaitNodeSetEvent;
}

pub unsafe fn cuGraphConditionalHandleCreate(
    pHandle_out: *mut u64,
    hGraph: CUgraph,
    _ctx: CUcontext,
    defaultLaunchValue: u32,
    flags: u32,
) -> Answer {
    const ASSIGN_DEFAULT: u32 = 1;
    let of = graph(hGraph)?;
    if flags & !ASSIGN_DEFAULT != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // Without the flag the value is what the last launch left, and begins as 0.
    let condition = Condition::create((flags == ASSIGN_DEFAULT).then_some(defaultLaunchValue));
    give(pHandle_out, condition.handle)?;
    of.state().conditions.push(condition);
    Ok(())
}

const COOPERATIVE: u32 = 2;
const CLUSTER_DIMENSION: u32 = 4;

/// The kernel node that a handle names.
fn with_kernel<T>(handle: CUgraphNode, look: impl FnOnce(&mut KernelNode) -> Answer<T>) -> Answer<T> {
    node_of(handle)?.change(|params| match params {
        Params::Kernel(node) => look(node),
        _ => Err(CUDA_ERROR_INVALID_VALUE),
    })
}

fn set_attribute(node: &mut KernelNode, attribute: u32, value: CUlaunchAttributeValue) -> Answer {
    let [first, second, ..] = value.words;
    match attribute {
        COOPERATIVE => node.shape.cooperative = u32::from_word(first) != 0,
        // Clusters of one block are what there is.
        CLUSTER_DIMENSION if first == 1 << 32 | 1 && u32::from_word(second) == 1 => {}
        CLUSTER_DIMENSION => return Err(CUDA_ERROR_NOT_SUPPORTED),
        // Window, scheduling preference, priority, domains, carve-out: remembered; priority is used.
        1 | 5 | 8 | 9 | 10 | 14 => {}
        _ => return Err(CUDA_ERROR_INVALID_VALUE),
    }
    node.attributes.insert(attribute, value);
    Ok(())
}

pub unsafe fn cuGraphKernelNodeSetAttribute(
    hNode: CUgraphNode,
    attr: CUlaunchAttributeID,
    value: *const CUlaunchAttributeValue,
) -> Answer {
    let value = read(value)?;
    with_kernel(hNode, |node| set_attribute(node, attr.0, value))
}

pub unsafe fn cuGraphKernelNodeGetAttribute(
    hNode: CUgraphNode,
    attr: CUlaunchAttributeID,
    value_out: *mut CUlaunchAttributeValue,
) -> Answer {
    let value = with_kernel(hNode, |node| {
        let mut value = node.attributes.get(&attr.0).copied().unwrap_or_default();
        match attr.0 {
            COOPERATIVE => value.words[0] = node.shape.cooperative.into(),
            1 | CLUSTER_DIMENSION | 5 | 8 | 9 | 10 | 14 => {}
            _ => return Err(CUDA_ERROR_INVALID_VALUE),
        }
        Ok(value)
    })?;
    give(value_out, value)
}

pub unsafe fn cuGraphKernelNodeCopyAttributes(dst: CUgraphNode, src: CUgraphNode) -> Answer {
    let (attributes, cooperative) = with_kernel(src, |node| Ok((node.attributes.clone(), node.shape.cooperative)))?;
    with_kernel(dst, |node| {
        node.attributes = attributes;
        node.shape.cooperative = cooperative;
        Ok(())
    })
}
