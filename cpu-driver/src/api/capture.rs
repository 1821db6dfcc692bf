//! Captures begun, ended, asked for.

use super::graph::graph;
use super::{Answer, any_stream, give, give_optional};
use crate::capture;
use crate::graph::NODES;
use crate::stream::Stream;
use paravane_protocol::cuda_types::*;
use std::sync::Arc;

/// A stream that is asked about captures: not the legacy one beside captures that it would wait for.
fn asked(handle: CUstream) -> Answer<Arc<Stream>> {
    let stream = any_stream(handle)?;
    capture::refuse_implicit(&stream)?;
    Ok(stream)
}

pub unsafe fn cuStreamBeginCapture(hStream: CUstream) -> Answer {
    capture::begin(&any_stream(hStream)?, CU_STREAM_CAPTURE_MODE_GLOBAL, None)
}

pub unsafe fn cuStreamBeginCapture_v2(hStream: CUstream, mode: CUstreamCaptureMode) -> Answer {
    capture::begin(&any_stream(hStream)?, mode, None)
}

/// Nodes of the program's, all of one graph.
fn nodes(of: u64, list: *const CUgraphNode, count: usize) -> Answer<Vec<u64>> {
    if count > 0 && list.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let read = |place| {
        // SAFETY: the caller passes an array of that length.
        let node = unsafe { *list.add(place) };
        let is_of = NODES.with(node.0, |node| node.graph == of).unwrap_or(false);
        if is_of { Ok(node.0) } else { Err(CUDA_ERROR_INVALID_VALUE) }
    };
    (0..count).map(read).collect()
}

/// Edges of captures are full dependencies.
fn no_data(data: *const CUgraphEdgeData, count: usize) -> Answer {
    let is_plain = |place| {
        // SAFETY: the caller passes an array of that length.
        unsafe { *data.add(place) == CUgraphEdgeData::default() }
    };
    if data.is_null() || (0..count).all(is_plain) { Ok(()) } else { Err(CUDA_ERROR_NOT_SUPPORTED) }
}

pub unsafe fn cuStreamBeginCaptureToGraph(
    hStream: CUstream,
    hGraph: CUgraph,
    dependencies: *const CUgraphNode,
    dependencyData: *const CUgraphEdgeData,
    numDependencies: usize,
    mode: CUstreamCaptureMode,
) -> Answer {
    let (stream, graph) = (any_stream(hStream)?, graph(hGraph)?);
    no_data(dependencyData, numDependencies)?;
    let last = nodes(graph.handle, dependencies, numDependencies)?;
    capture::begin(&stream, mode, Some((graph, last)))
}

pub unsafe fn cuStreamEndCapture(hStream: CUstream, phGraph: *mut CUgraph) -> Answer {
    give_optional(phGraph, CUgraph(0));
    let graph = capture::end(&*any_stream(hStream)?)?;
    give(phGraph, CUgraph(graph.handle))
}

/// Status and id.
fn status(stream: &Stream) -> (CUstreamCaptureStatus, u64) {
    match stream.capture.lock().as_ref() {
        Some(part) if part.capture.is_valid() => (CU_STREAM_CAPTURE_STATUS_ACTIVE, part.capture.id),
        Some(part) => (CU_STREAM_CAPTURE_STATUS_INVALIDATED, part.capture.id),
        None => (CU_STREAM_CAPTURE_STATUS_NONE, 0),
    }
}

pub unsafe fn cuStreamIsCapturing(hStream: CUstream, captureStatus: *mut CUstreamCaptureStatus) -> Answer {
    give(captureStatus, status(&*asked(hStream)?).0)
}

pub unsafe fn cuStreamGetCaptureInfo(hStream: CUstream, captureStatus_out: *mut CUstreamCaptureStatus, id_out: *mut u64) -> Answer {
    let (status, id) = status(&*asked(hStream)?);
    give(captureStatus_out, status)?;
    give_optional(id_out, id);
    Ok(())
}

pub unsafe fn cuStreamGetCaptureInfo_v2(
    hStream: CUstream,
    captureStatus_out: *mut CUstreamCaptureStatus,
    id_out: *mut u64,
    graph_out: *mut CUgraph,
    dependencies_out: *mut *const CUgraphNode,
    numDependencies_out: *mut usize,
) -> Answer {
    let no_data = std::ptr::null_mut();
    // SAFETY: the same contract.
    unsafe {
        cuStreamGetCaptureInfo_v3(hStream, captureStatus_out, id_out, graph_out, dependencies_out, no_data, numDependencies_out)
    }
}

pub unsafe fn cuStreamGetCaptureInfo_v3(
    hStream: CUstream,
    captureStatus_out: *mut CUstreamCaptureStatus,
    id_out: *mut u64,
    graph_out: *mut CUgraph,
    dependencies_out: *mut *const CUgraphNode,
    edgeData_out: *mut *const CUgraphEdgeData,
    numDependencies_out: *mut usize,
) -> Answer {
    let stream = asked(hStream)?;
    let (status, id) = status(&stream);
    give(captureStatus_out, status)?;
    if status != CU_STREAM_CAPTURE_STATUS_ACTIVE {
        return Ok(());
    }
    give_optional(id_out, id);
    if let Some(part) = stream.capture.lock().as_mut() {
        part.told = part.last.iter().copied().map(CUgraphNode).collect();
        part.told_data = vec![CUgraphEdgeData::default(); part.last.len()];
        give_optional(graph_out, CUgraph(part.capture.graph.handle));
        give_optional(dependencies_out, part.told.as_ptr());
        give_optional(edgeData_out, part.told_data.as_ptr());
        give_optional(numDependencies_out, part.last.len());
    }
    Ok(())
}

pub unsafe fn cuStreamUpdateCaptureDependencies(
    hStream: CUstream,
    dependencies: *mut CUgraphNode,
    numDependencies: usize,
    flags: u32,
) -> Answer {
    let no_data = std::ptr::null();
    // SAFETY: the same contract.
    unsafe { cuStreamUpdateCaptureDependencies_v2(hStream, dependencies, no_data, numDependencies, flags) }
}

pub unsafe fn cuStreamUpdateCaptureDependencies_v2(
    hStream: CUstream,
    dependencies: *mut CUgraphNode,
    dependencyData: *const CUgraphEdgeData,
    numDependencies: usize,
    flags: u32,
) -> Answer {
    const SET: u32 = 1;
    let stream = any_stream(hStream)?;
    let mut part = stream.capture.lock();
    let part = part.as_mut().ok_or(CUDA_ERROR_ILLEGAL_STATE)?;
    if !part.capture.is_valid() {
        return Err(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    }
    no_data(dependencyData, numDependencies)?;
    let new = nodes(part.capture.graph.handle, dependencies, numDependencies)?;
    match flags {
        0 => {
            let more: Vec<u64> = new.into_iter().filter(|node| !part.last.contains(node)).collect();
            part.last.extend(more);
        }
        SET => part.last = new,
        _ => return Err(CUDA_ERROR_INVALID_VALUE),
    }
    Ok(())
}
