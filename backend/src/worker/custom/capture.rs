//! Captures as far as a row alone does not do it: nodes of the graph that is
//! being made, whose ids the worker gives.
#![allow(unsafe_code, reason = "libcuda's own arrays")]

use paravane_protocol::cuda_types::*;

use crate::worker::dispatch::Command;
use crate::worker::internal::{edge_data, nodes};
use crate::worker::libcuda::{Answer, cuda};

/// What comes after the nodes that a stream's next one comes behind: a frame's.
const NODES_MAX: usize = 480;

fn data_or_null(data: &[CUgraphEdgeData]) -> *const CUgraphEdgeData {
    if data.is_empty() { std::ptr::null() } else { data.as_ptr() }
}

/// In: stream, graph, nodes, edge data, mode.
pub(in crate::worker) fn cuStreamBeginCaptureToGraph(command: &mut Command) -> Answer {
    let stream = CUstream(command.from.word());
    let graph = CUgraph(command.from.word());
    let (before, data) = (command.from.bytes(), command.from.bytes());
    let mode = CUstreamCaptureMode::from_word(command.from.word());
    command.read_all()?;
    let process = command.thread.process();
    let (lib, handles) = (&process.lib, &process.handles);
    let (stream, graph) = (handles.resolve(stream)?, handles.resolve(graph)?);
    let before = nodes(&process, before)?;
    let data = edge_data(data, before.len())?;
    let (first, count) = (before.as_ptr(), before.len());
    cuda!(lib.cuStreamBeginCaptureToGraph(stream, graph, first, data_or_null(&data), count, mode))
}

/// In: stream. Reply: status, id, graph, count of nodes, the nodes.
pub(in crate::worker) fn cuStreamGetCaptureInfo_v2(command: &mut Command) -> Answer {
    let stream = CUstream(command.from.word());
    command.read_all()?;
    let process = command.thread.process();
    let (lib, handles) = (&process.lib, &process.handles);
    let stream = handles.resolve(stream)?;
    let (mut status, mut id) = (CU_STREAM_CAPTURE_STATUS_NONE, 0);
    let (mut graph, mut nodes, mut count) = (CUgraph(0), std::ptr::null(), 0);
    let (status_at, id_at, graph_at) = (&raw mut status, &raw mut id, &raw mut graph);
    let (nodes_at, count_at) = (&raw mut nodes, &raw mut count);
    cuda!(lib.cuStreamGetCaptureInfo_v2(stream, status_at, id_at, graph_at, nodes_at, count_at))?;
    command.to.word(status.to_word());
    command.to.word(id);
    let is_active = status == CU_STREAM_CAPTURE_STATUS_ACTIVE;
    let graph = if is_active { handles.tell(graph, 0)? } else { CUgraph(0) };
    command.to.word(graph.0);
    let last = if is_active && !nodes.is_null() && count > 0 {
        // SAFETY: libcuda's array, valid until the stream is used again, which
        // only this thread's guest thread does now.
        unsafe { std::slice::from_raw_parts(nodes, count) }
    } else {
        &[]
    };
    if last.len() > NODES_MAX {
        return Err(CUDA_ERROR_NOT_SUPPORTED);
    }
    command.to.word(last.len() as u64);
    for node in last {
        command.to.word(handles.tell(*node, graph.0)?.0);
    }
    Ok(())
}

/// In: stream, nodes, edge data, flags.
pub(in crate::worker) fn cuStreamUpdateCaptureDependencies_v2(command: &mut Command) -> Answer {
    let stream = CUstream(command.from.word());
    let (new, data) = (command.from.bytes(), command.from.bytes());
    let flags = u32::from_word(command.from.word());
    command.read_all()?;
    let process = command.thread.process();
    let (lib, stream) = (&process.lib, process.handles.resolve(stream)?);
    let mut new = nodes(&process, new)?;
    let data = edge_data(data, new.len())?;
    let (first, count) = (new.as_mut_ptr(), new.len());
    if data.is_empty() {
        return cuda!(lib.cuStreamUpdateCaptureDependencies(stream, first, count, flags));
    }
    cuda!(lib.cuStreamUpdateCaptureDependencies_v2(stream, first, data.as_ptr(), count, flags))
}
