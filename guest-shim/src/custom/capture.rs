//! Captures as far as a row alone does not do it: what a capture has come to,
//! and what is added to its graph from here.

use std::cell::RefCell;

use paravane_protocol::cuda_types::*;
use paravane_protocol::opcode;

use crate::boundary::Answer;
use crate::connection::with_ring;
use crate::state::stream;
use crate::{pointer, wrap};

/// What a capture has come to on one stream.
pub(crate) struct Info {
    pub(crate) status: CUstreamCaptureStatus,
    pub(crate) id: u64,
    pub(crate) graph: CUgraph,
    /// The nodes that the next one comes behind.
    pub(crate) last: Vec<CUgraphNode>,
}

/// Asks about a resolved stream.
pub(crate) fn capture_info(of: CUstream) -> Answer<Info> {
    with_ring(|ring| {
        ring.call(
            opcode::cuStreamGetCaptureInfo_v2,
            |to| {
                to.word(of.0);
                Ok(())
            },
            |from| {
                let (status, id, graph) = (from.word(), from.word(), CUgraph(from.word()));
                let count = from.word().min(1 << 12);
                let last = (0..count).map(|_| CUgraphNode(from.word())).collect();
                Info { status: CUstreamCaptureStatus::from_word(status), id, graph, last }
            },
        )
    })
}

/// What is put on a captured stream becomes the node that `add` adds.
pub(crate) fn captured(of: CUstream, add: impl FnOnce(CUgraph, &[CUgraphNode]) -> Answer<CUgraphNode>) -> Answer {
    const SET: u32 = 1;
    let info = capture_info(of)?;
    let node = add(info.graph, &info.last)?;
    update(of, zerocopy::IntoBytes::as_bytes(&node), &[], SET)
}

fn update(of: CUstream, nodes: &[u8], data: &[u8], flags: u32) -> Answer {
    with_ring(|ring| {
        ring.call(
            opcode::cuStreamUpdateCaptureDependencies_v2,
            |to| {
                to.word(of.0);
                to.bytes(nodes);
                to.bytes(data);
                to.word(u64::from(flags));
                Ok(())
            },
            |_| (),
        )
    })
}

/// The program's arrays as bytes.
fn arrays<'a>(
    nodes: *const CUgraphNode,
    data: *const CUgraphEdgeData,
    count: usize,
) -> Answer<(&'a [u8], &'a [u8])> {
    let bytes = count.checked_mul(size_of::<CUgraphNode>()).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    let data = if data.is_null() { &[] } else { pointer::bytes(data.cast(), bytes)? };
    Ok((pointer::bytes(nodes.cast(), bytes)?, data))
}

pub(crate) fn cuStreamBeginCaptureToGraph(
    of: CUstream,
    graph: CUgraph,
    nodes: *const CUgraphNode,
    data: *const CUgraphEdgeData,
    count: usize,
    mode: CUstreamCaptureMode,
) -> Answer {
    let of = stream::resolve(of);
    let (nodes, data) = arrays(nodes, data, count)?;
    wrap::begun(of, || {
        with_ring(|ring| {
            ring.call(
                opcode::cuStreamBeginCaptureToGraph,
                |to| {
                    to.word(of.0);
                    to.word(graph.0);
                    to.bytes(nodes);
                    to.bytes(data);
                    to.word(mode.to_word());
                    Ok(())
                },
                |_| (),
            )
        })
    })
}

thread_local! {
    /// What this thread was told last; CUDA promises it until the stream is used.
    static TOLD: RefCell<(Vec<CUgraphNode>, Vec<CUgraphEdgeData>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

pub(crate) fn cuStreamGetCaptureInfo_v2(
    of: CUstream,
    status: *mut CUstreamCaptureStatus,
    id: *mut u64,
    graph: *mut CUgraph,
    nodes: *mut *const CUgraphNode,
    count: *mut usize,
) -> Answer {
    cuStreamGetCaptureInfo_v3(of, status, id, graph, nodes, std::ptr::null_mut(), count)
}

/// Edges of captures are full dependencies, so their data are zeros.
pub(crate) fn cuStreamGetCaptureInfo_v3(
    of: CUstream,
    status: *mut CUstreamCaptureStatus,
    id: *mut u64,
    graph: *mut CUgraph,
    nodes: *mut *const CUgraphNode,
    data: *mut *const CUgraphEdgeData,
    count: *mut usize,
) -> Answer {
    let info = capture_info(stream::resolve(of))?;
    pointer::put(status, info.status)?;
    if info.status != CU_STREAM_CAPTURE_STATUS_ACTIVE {
        return Ok(());
    }
    pointer::put_opt(id, info.id);
    pointer::put_opt(graph, info.graph);
    pointer::put_opt(count, info.last.len());
    TOLD.with_borrow_mut(|told| {
        told.1 = vec![CUgraphEdgeData::default(); info.last.len()];
        told.0 = info.last;
        pointer::put_opt(nodes, told.0.as_ptr());
        pointer::put_opt(data, told.1.as_ptr());
    });
    Ok(())
}

pub(crate) fn cuStreamUpdateCaptureDependencies(
    of: CUstream,
    nodes: *mut CUgraphNode,
    count: usize,
    flags: u32,
) -> Answer {
    cuStreamUpdateCaptureDependencies_v2(of, nodes, std::ptr::null(), count, flags)
}

pub(crate) fn cuStreamUpdateCaptureDependencies_v2(
    of: CUstream,
    nodes: *mut CUgraphNode,
    data: *const CUgraphEdgeData,
    count: usize,
    flags: u32,
) -> Answer {
    let (nodes, data) = arrays(nodes, data, count)?;
    update(stream::resolve(of), nodes, data, flags)
}
