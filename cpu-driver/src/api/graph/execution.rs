//! Graphs instantiated, updated, launched.

use super::super::{any_stream, give, stream};
use super::topology::give_node;
use super::{Answer, exec, graph, node_of, read};
use crate::capture;
use crate::graph::exec::{Exec, Refusal, step_of};
use crate::graph::params::Params;
use paravane_protocol::cuda_types::*;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const AUTO_FREE_ON_LAUNCH: u64 = 1;
const UPLOAD: u64 = 2;
const DEVICE_LAUNCH: u64 = 4;
const FLAGS_MASK: u64 = 15;

fn instantiate(handle: CUgraph, flags: u64) -> Result<Arc<Exec>, Refusal> {
    let refuse = |code| Refusal { code, node: 0, reason: 1 };
    let graph = graph(handle).map_err(refuse)?;
    let both = AUTO_FREE_ON_LAUNCH | DEVICE_LAUNCH;
    if flags & !FLAGS_MASK != 0 || flags & both == both || graph.is_embedded.load(Ordering::Relaxed) {
        return Err(refuse(CUDA_ERROR_INVALID_VALUE));
    }
    // Kernels here cannot launch anything.
    if flags & DEVICE_LAUNCH != 0 {
        return Err(refuse(CUDA_ERROR_NOT_SUPPORTED));
    }
    Exec::create(&graph, flags)
}

pub unsafe fn cuGraphInstantiate(
    phGraphExec: *mut CUgraphExec,
    hGraph: CUgraph,
    phErrorNode: *mut CUgraphNode,
    logBuffer: *mut u8,
    bufferSize: usize,
) -> Answer {
    if phGraphExec.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    if !logBuffer.is_null() && bufferSize > 0 {
        // SAFETY: the caller gives a buffer of that size.
        unsafe { logBuffer.write(0) };
    }
    match instantiate(hGraph, 0) {
        Ok(exec) => give(phGraphExec, CUgraphExec(exec.handle)),
        Err(refusal) => {
            give_node(phErrorNode, refusal.node);
            Err(refusal.code)
        }
    }
}

pub unsafe fn cuGraphInstantiate_v2(
    phGraphExec: *mut CUgraphExec,
    hGraph: CUgraph,
    phErrorNode: *mut CUgraphNode,
    logBuffer: *mut u8,
    bufferSize: usize,
) -> Answer {
    // SAFETY: the same contract.
    unsafe { cuGraphInstantiate(phGraphExec, hGraph, phErrorNode, logBuffer, bufferSize) }
}

pub unsafe fn cuGraphInstantiateWithFlags(phGraphExec: *mut CUgraphExec, hGraph: CUgraph, flags: u64) -> Answer {
    if phGraphExec.is_null() || flags & UPLOAD != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let exec = instantiate(hGraph, flags).map_err(|refusal| refusal.code)?;
    give(phGraphExec, CUgraphExec(exec.handle))
}

pub unsafe fn cuGraphInstantiateWithParams(
    phGraphExec: *mut CUgraphExec,
    hGraph: CUgraph,
    instantiateParams: *mut CUDA_GRAPH_INSTANTIATE_PARAMS,
) -> Answer {
    let asked = read(instantiateParams.cast_const())?;
    if phGraphExec.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    if asked.flags & UPLOAD != 0 {
        stream(asked.hUploadStream)?;
    }
    match instantiate(hGraph, asked.flags) {
        Ok(exec) => {
            give(instantiateParams, CUDA_GRAPH_INSTANTIATE_PARAMS { hErrNode_out: CUgraphNode(0), result_out: 0, ..asked })?;
            give(phGraphExec, CUgraphExec(exec.handle))
        }
        Err(refusal) => {
            let hErrNode_out = CUgraphNode(refusal.node);
            give(instantiateParams, CUDA_GRAPH_INSTANTIATE_PARAMS { hErrNode_out, result_out: refusal.reason, ..asked })?;
            Err(refusal.code)
        }
    }
}

pub unsafe fn cuGraphExecGetId(hGraphExec: CUgraphExec, graphId: *mut u32) -> Answer {
    give(graphId, exec(hGraphExec)?.id)
}

pub unsafe fn cuGraphExecGetFlags(hGraphExec: CUgraphExec, flags: *mut u64) -> Answer {
    give(flags, exec(hGraphExec)?.flags & !UPLOAD)
}

pub unsafe fn cuGraphExecUpdate_v2(
    hGraphExec: CUgraphExec,
    hGraph: CUgraph,
    resultInfo: *mut CUgraphExecUpdateResultInfo,
) -> Answer {
    let (of, new) = (exec(hGraphExec)?, graph(hGraph)?);
    let mut info = CUgraphExecUpdateResultInfo::default();
    match of.update(&new) {
        Ok(()) => give(resultInfo, info),
        Err((result, node)) => {
            info.result = result;
            info.errorNode = CUgraphNode(node);
            give(resultInfo, info)?;
            Err(CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE)
        }
    }
}

pub unsafe fn cuGraphExecUpdate(
    hGraphExec: CUgraphExec,
    hGraph: CUgraph,
    hErrorNode_out: *mut CUgraphNode,
    updateResult_out: *mut CUgraphExecUpdateResult,
) -> Answer {
    let mut info = CUgraphExecUpdateResultInfo::default();
    // SAFETY: the same contract; the structure is here.
    let answer = unsafe { cuGraphExecUpdate_v2(hGraphExec, hGraph, &raw mut info) };
    give_node(hErrorNode_out, info.errorNode.0);
    give(updateResult_out, info.result)?;
    answer
}

pub unsafe fn cuGraphExecDestroy(hGraphExec: CUgraphExec) -> Answer {
    exec(hGraphExec)?.end();
    Ok(())
}

/// There is nothing to bring anywhere: what a launch needs is here.
pub unsafe fn cuGraphUpload(hGraphExec: CUgraphExec, hStream: CUstream) -> Answer {
    exec(hGraphExec)?;
    stream(hStream).map(|_| ())
}

/// On a captured stream the graph becomes a node.
pub unsafe fn cuGraphLaunch(hGraphExec: CUgraphExec, hStream: CUstream) -> Answer {
    let (exec, stream) = (exec(hGraphExec)?, any_stream(hStream)?);
    if stream.capture.is_taken() {
        let child = exec.as_child()?;
        return capture::add(&stream, Params::Child(Arc::clone(&child))).map(|_| ()).inspect_err(|_| child.end());
    }
    exec.launch(&self::stream(hStream)?)
}

/// Copies, memsets and kernels can be left out.
fn with_step<T>(of: CUgraphExec, node: CUgraphNode, look: impl FnOnce(&mut bool) -> T) -> Answer<T> {
    let (of, node) = (exec(of)?, node_of(node)?);
    let mut inner = of.inner();
    let step = step_of(&mut inner.steps, node.handle).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    match step.params {
        Params::Kernel(_) | Params::Copy(_) | Params::Set(_) => Ok(look(&mut step.is_enabled)),
        _ => Err(CUDA_ERROR_INVALID_VALUE),
    }
}

pub unsafe fn cuGraphNodeSetEnabled(hGraphExec: CUgraphExec, hNode: CUgraphNode, isEnabled: u32) -> Answer {
    with_step(hGraphExec, hNode, |is_enabled| *is_enabled = isEnabled != 0)
}

pub unsafe fn cuGraphNodeGetEnabled(hGraphExec: CUgraphExec, hNode: CUgraphNode, isEnabled: *mut u32) -> Answer {
    give(isEnabled, with_step(hGraphExec, hNode, |is_enabled| u32::from(*is_enabled))?)
}
