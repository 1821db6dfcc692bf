//! Captures that begin and end: while there is one, nothing about streams is
//! answered here.

use paravane_protocol::cuda_types::*;
use paravane_protocol::internal::GRAPH_END;

use crate::boundary::Answer;
use crate::connection::with_ring;
use crate::custom::capture_info;
use crate::pointer;
use crate::remote::table;
use crate::state::{capture, stream};

/// Counts first, so that no call of another thread slips by; takes it back when
/// refused, unless the stream is captured already.
pub(crate) fn begun(of: CUstream, begin: impl FnOnce() -> Answer) -> Answer {
    capture::begin(of);
    begin().inspect_err(|error| {
        if *error != CUDA_ERROR_ILLEGAL_STATE {
            capture::end(of);
        }
    })
}

/// A capture into a graph of its own, which ends with it if it fails.
fn begun_anew(of: CUstream, begin: impl FnOnce() -> Answer) -> Answer {
    let of = stream::resolve(of);
    begun(of, begin)?;
    capture::makes(of, capture_info(of)?.graph);
    Ok(())
}

/// A capture has failed, or its stream is gone: its graph and its nodes are too.
pub(crate) fn failed(graph: CUgraph) -> Answer {
    if graph.0 == 0 {
        return Ok(());
    }
    with_ring(|ring| {
        ring.post(GRAPH_END, |to| {
            to.word(graph.0);
            Ok(())
        })
    })
}

pub(crate) fn cuStreamBeginCapture(of: CUstream) -> Answer {
    begun_anew(of, || table::cuStreamBeginCapture(of))
}

pub(crate) fn cuStreamBeginCapture_v2(of: CUstream, mode: CUstreamCaptureMode) -> Answer {
    begun_anew(of, || table::cuStreamBeginCapture_v2(of, mode))
}

/// A capture that another thread or another stream has to end goes on.
pub(crate) fn cuStreamEndCapture(of: CUstream, graph: *mut CUgraph) -> Answer {
    pointer::put(graph, CUgraph(0))?;
    let ended = table::cuStreamEndCapture(of, graph);
    let goes_on = [CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, CUDA_ERROR_STREAM_CAPTURE_UNMATCHED];
    if ended.err().is_none_or(|error| !goes_on.contains(&error)) {
        let graph = capture::end(stream::resolve(of));
        if ended.is_err() {
            failed(graph)?;
        }
    }
    ended
}
