//! Older forms of the calls that make and update executable graphs.

use paravane_protocol::cuda_types::*;

use crate::boundary::Answer;
use crate::custom;
use crate::pointer;

/// Without flags; the log is empty, as the host's libcuda has nothing to say.
pub(crate) fn cuGraphInstantiate(
    exec: *mut CUgraphExec,
    graph: CUgraph,
    error_node: *mut CUgraphNode,
    log: *mut u8,
    log_bytes: usize,
) -> Answer {
    if log_bytes > 0 {
        pointer::put_opt(log, 0);
    }
    let mut params = CUDA_GRAPH_INSTANTIATE_PARAMS::default();
    let made = custom::cuGraphInstantiateWithParams(exec, graph, &raw mut params);
    if made.is_err() {
        pointer::put_opt(error_node, params.hErrNode_out);
    }
    made
}

pub(crate) fn cuGraphInstantiate_v2(
    exec: *mut CUgraphExec,
    graph: CUgraph,
    error_node: *mut CUgraphNode,
    log: *mut u8,
    log_bytes: usize,
) -> Answer {
    cuGraphInstantiate(exec, graph, error_node, log, log_bytes)
}

pub(crate) fn cuGraphExecUpdate(
    exec: CUgraphExec,
    graph: CUgraph,
    error_node: *mut CUgraphNode,
    result: *mut CUgraphExecUpdateResult,
) -> Answer {
    let mut info = CUgraphExecUpdateResultInfo::default();
    let updated = custom::cuGraphExecUpdate_v2(exec, graph, &raw mut info);
    pointer::put_opt(error_node, info.errorNode);
    pointer::put(result, info.result)?;
    updated
}
