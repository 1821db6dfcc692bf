//! Copies of graphs between the device and pageable memory: a node with a
//! graph in it, of a host function that moves the rows between the program's
//! memory and shared pages, and a copy between these and the device.

use paravane_protocol::cuda_types::*;
use paravane_protocol::internal::OPERAND_AREA;

use super::node::{Packed, send};
use crate::boundary::Answer;
use crate::custom::add_bounce;
use crate::pointer;
use crate::remote::table;
use crate::state::bounce::{self, Bounce, Extent, Rows};
use crate::state::{current, graph_nodes, host_memory, ranges};
use zerocopy::IntoBytes;

/// What lies at one end of a copy.
enum End {
    Device,
    /// Area and offset of the program's base address.
    Area(u16, u64),
    Pageable,
}

/// One side, whichever it is.
struct Side {
    kind: CUmemorytype,
    base: u64,
    skip: [u64; 3],
    pitch: u64,
    height: u64,
}

fn size(value: u64) -> Answer<usize> {
    usize::try_from(value).map_err(|_| CUDA_ERROR_INVALID_VALUE)
}

fn source(copy: &CUDA_MEMCPY3D) -> Side {
    let is_host = copy.srcMemoryType == CU_MEMORYTYPE_HOST;
    Side {
        kind: copy.srcMemoryType,
        base: if is_host { copy.srcHost } else { copy.srcDevice.0 },
        skip: [copy.srcXInBytes, copy.srcY, copy.srcZ],
        pitch: copy.srcPitch,
        height: copy.srcHeight,
    }
}

fn target(copy: &CUDA_MEMCPY3D) -> Side {
    let is_host = copy.dstMemoryType == CU_MEMORYTYPE_HOST;
    Side {
        kind: copy.dstMemoryType,
        base: if is_host { copy.dstHost } else { copy.dstDevice.0 },
        skip: [copy.dstXInBytes, copy.dstY, copy.dstZ],
        pitch: copy.dstPitch,
        height: copy.dstHeight,
    }
}

impl Side {
    /// The side's rows in the program's memory.
    fn rows(&self, copy: &CUDA_MEMCPY3D) -> Answer<Rows> {
        let pitch = size(if self.pitch == 0 { copy.WidthInBytes } else { self.pitch })?;
        let height = size(if self.height == 0 { copy.Height } else { self.height })?;
        let plane = pitch.checked_mul(height).ok_or(CUDA_ERROR_INVALID_VALUE)?;
        let [x, y, z] = [size(self.skip[0])?, size(self.skip[1])?, size(self.skip[2])?];
        let skipped = z.checked_mul(plane).zip(y.checked_mul(pitch)).and_then(|(z, y)| z.checked_add(y)?.checked_add(x));
        let first = skipped.and_then(|skipped| size(self.base).ok()?.checked_add(skipped));
        Ok(Rows { first: first.ok_or(CUDA_ERROR_INVALID_VALUE)?, pitch, plane })
    }

    fn end(&self, copy: &CUDA_MEMCPY3D) -> Answer<End> {
        if self.kind == CU_MEMORYTYPE_ARRAY {
            return Ok(End::Device);
        }
        let rows = self.rows(copy)?;
        match self.kind {
            CU_MEMORYTYPE_DEVICE => return Ok(End::Device),
            CU_MEMORYTYPE_UNIFIED if ranges::is_device(rows.first as u64) => return Ok(End::Device),
            CU_MEMORYTYPE_HOST | CU_MEMORYTYPE_UNIFIED => {}
            _ => return Err(CUDA_ERROR_INVALID_VALUE),
        }
        if self.base == 0 {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        let [width, height, depth] = extent(copy)?;
        let span = (depth - 1) * rows.plane + (height - 1) * rows.pitch + width;
        // The area is named by the base, which may lie before what is copied.
        let base = host_memory::find(size(self.base)?, 1);
        let first = host_memory::find(rows.first, span);
        Ok(match (base, first) {
            (Some((area, offset)), Some((also, _))) if area == also => End::Area(area, offset),
            _ => End::Pageable,
        })
    }
}

fn extent(copy: &CUDA_MEMCPY3D) -> Answer<Extent> {
    let extent = [size(copy.WidthInBytes)?, size(copy.Height)?, size(copy.Depth)?];
    if extent.contains(&0) { Err(CUDA_ERROR_INVALID_VALUE) } else { Ok(extent) }
}

/// Whether an end of the copy is the program's own memory.
pub(super) fn is_pageable(of: &CUDA_MEMCPY_NODE_PARAMS) -> Answer<bool> {
    let copy = &of.copyParams;
    let ends = [source(copy).end(copy)?, target(copy).end(copy)?];
    Ok(ends.iter().any(|end| matches!(end, End::Pageable)))
}

/// A copy between what the host reaches: host memory by area and offset.
pub(super) fn reachable(of: CUDA_MEMCPY_NODE_PARAMS) -> Answer<CUDA_MEMCPY_NODE_PARAMS> {
    let mut copy = of.copyParams;
    if let End::Area(area, offset) = source(&copy).end(&copy)? {
        copy.srcMemoryType = CU_MEMORYTYPE_HOST;
        (copy.reserved0, copy.srcHost) = (OPERAND_AREA | u64::from(area), offset);
    } else if is_pageable(&of)? {
        return Err(CUDA_ERROR_NOT_SUPPORTED);
    }
    if let End::Area(area, offset) = target(&of.copyParams).end(&of.copyParams)? {
        copy.dstMemoryType = CU_MEMORYTYPE_HOST;
        (copy.reserved1, copy.dstHost) = (OPERAND_AREA | u64::from(area), offset);
    }
    Ok(CUDA_MEMCPY_NODE_PARAMS { copyParams: copy, ..of })
}

/// A node for `send` of a moved copy.
fn host_node(bounce: Bounce) -> Answer<Packed> {
    let number = add_bounce(bounce)?;
    let host = CUDA_HOST_NODE_PARAMS { func: 0, userData: number };
    Ok(Packed { params: CUgraphNodeParams::new(CU_GRAPH_NODE_TYPE_HOST, &host), side: Vec::new(), number: Some(number) })
}

fn copy_node(of: CUDA_MEMCPY_NODE_PARAMS) -> Answer<Packed> {
    let params = CUgraphNodeParams::new(CU_GRAPH_NODE_TYPE_MEMCPY, &reachable(of)?);
    Ok(Packed { params, side: Vec::new(), number: None })
}

/// Fills a graph with what the copy comes to.
fn fill(graph: CUgraph, of: CUDA_MEMCPY_NODE_PARAMS) -> Answer {
    let copy = of.copyParams;
    let (from, to) = (source(&copy), target(&copy));
    let extent = extent(&copy)?;
    let is_from = matches!(from.end(&copy)?, End::Pageable);
    let is_to = matches!(to.end(&copy)?, End::Pageable);
    let context = current::context()?.0;
    if is_from && is_to {
        let bounce = Bounce { to: to.rows(&copy)?, from: from.rows(&copy)?, extent, pages: 0, context };
        return send(graph, &[], &[], host_node(bounce)?).map(|_| ());
    }
    let (pages, packed) = bounce::pages(extent)?;
    let free = |_: &CUresult| {
        let _ = host_memory::free(pages);
    };
    if is_from {
        let bounce = Bounce { to: packed, from: from.rows(&copy).inspect_err(free)?, extent, pages, context };
        let (host, ..) = send(graph, &[], &[], host_node(bounce)?)?;
        let copy = CUDA_MEMCPY3D {
            srcMemoryType: CU_MEMORYTYPE_HOST,
            srcHost: pages as u64,
            srcXInBytes: 0,
            srcY: 0,
            srcZ: 0,
            srcPitch: copy.WidthInBytes,
            srcHeight: copy.Height,
            ..copy
        };
        let copy = copy_node(CUDA_MEMCPY_NODE_PARAMS { copyParams: copy, ..of })?;
        return send(graph, host.0.as_bytes(), &[], copy).map(|_| ());
    }
    let copy_out = CUDA_MEMCPY3D {
        dstMemoryType: CU_MEMORYTYPE_HOST,
        dstHost: pages as u64,
        dstXInBytes: 0,
        dstY: 0,
        dstZ: 0,
        dstPitch: copy.WidthInBytes,
        dstHeight: copy.Height,
        ..copy
    };
    let copied = copy_node(CUDA_MEMCPY_NODE_PARAMS { copyParams: copy_out, ..of });
    let (copied, ..) = send(graph, &[], &[], copied.inspect_err(free)?).inspect_err(free)?;
    let bounce = Bounce { to: to.rows(&copy)?, from: packed, extent, pages, context };
    send(graph, copied.0.as_bytes(), &[], host_node(bounce)?).map(|_| ())
}

/// A graph of its own with the copy in it, for as long as `with` takes.
fn with_graph<T>(of: CUDA_MEMCPY_NODE_PARAMS, with: impl FnOnce(CUgraph) -> Answer<T>) -> Answer<T> {
    let mut graph = CUgraph(0);
    table::cuGraphCreate(&raw mut graph, 0)?;
    let done = fill(graph, of).and_then(|()| with(graph));
    table::cuGraphDestroy(graph)?;
    done
}

/// Adds the copy to a graph.
pub(super) fn add(graph: CUgraph, before: &[u8], data: &[u8], of: CUDA_MEMCPY_NODE_PARAMS) -> Answer<CUgraphNode> {
    let node = with_graph(of, |child| {
        let child = CUDA_CHILD_GRAPH_NODE_PARAMS { graph: child, ownership: 0, pad: 0 };
        let params = CUgraphNodeParams::new(CU_GRAPH_NODE_TYPE_GRAPH, &child);
        send(graph, before, data, Packed { params, side: Vec::new(), number: None })
    })?;
    graph_nodes::set_copy(graph, node.0, of);
    Ok(node.0)
}

/// Adds a copy that a captured stream has come to, if an end of it is pageable.
pub(crate) fn capture_copy(of: CUstream, copy: CUDA_MEMCPY3D) -> Answer {
    let of_copy = CUDA_MEMCPY_NODE_PARAMS { copyParams: copy, ..Default::default() };
    crate::custom::captured(of, |graph, before| add(graph, before.as_bytes(), &[], of_copy))
}

/// Adds a host function that a captured stream has come to.
pub(crate) fn add_host(graph: CUgraph, before: &[CUgraphNode], func: CUhostFn, data: Pointer) -> Answer<CUgraphNode> {
    let number = crate::custom::add_repeated(func, data)?;
    let host = CUDA_HOST_NODE_PARAMS { func: 0, userData: number };
    let params = CUgraphNodeParams::new(CU_GRAPH_NODE_TYPE_HOST, &host);
    Ok(send(graph, before.as_bytes(), &[], Packed { params, side: Vec::new(), number: Some(number) })?.0)
}

/// Replaces the copy in an executable graph by another of pageable memory with
/// the same direction. In the graph itself it stays: CUDA has no call that
/// replaces a graph within a node.
pub(super) fn set(exec: CUgraphExec, node: CUgraphNode, asked: &CUgraphNodeParams) -> Answer {
    if asked.kind != CU_GRAPH_NODE_TYPE_MEMCPY {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    if exec.0 == 0 || !is_pageable(&asked.get())? {
        log::warn!("a graph's copy of pageable memory cannot be changed but in an executable graph");
        return Err(CUDA_ERROR_NOT_SUPPORTED);
    }
    with_graph(asked.get(), |child| table::cuGraphExecChildGraphNodeSetParams(exec, node, child))
}

/// The type of a node as the program knows it.
pub(crate) fn kind(node: CUgraphNode, into: *mut CUgraphNodeType) -> Answer {
    if graph_nodes::copy(node).is_some() {
        return pointer::put(into, CU_GRAPH_NODE_TYPE_MEMCPY);
    }
    table::cuGraphNodeGetType(node, into)
}
