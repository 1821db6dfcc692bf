//! Graphs as far as a row alone does not do it: results beside an error, values
//! behind untyped pointers.

use paravane_protocol::cuda_types::*;
use paravane_protocol::opcode;

use crate::boundary::Answer;
use crate::connection::with_ring;
use crate::state::stream;
use crate::{handles, pointer};

/// Sends words, and reads as many back.
fn ask<const N: usize>(opcode: u16, words: &[u64]) -> Answer<[u64; N]> {
    with_ring(|ring| {
        ring.call(
            opcode,
            |to| {
                words.iter().for_each(|word| to.word(*word));
                Ok(())
            },
            |from| std::array::from_fn(|_| from.word()),
        )
    })
}

pub(crate) fn cuGraphInstantiateWithParams(
    into: *mut CUgraphExec,
    graph: CUgraph,
    params: *mut CUDA_GRAPH_INSTANTIATE_PARAMS,
) -> Answer {
    let asked = pointer::get(params.cast_const())?;
    if into.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let id: CUgraphExec = handles::mint()?;
    let stream = stream::resolve(asked.hUploadStream);
    let words = [id.0, graph.0, asked.flags, stream.0];
    let made = ask(opcode::cuGraphInstantiateWithParams, &words).and_then(|[code, node, reason]| {
        let (node, reason) = (CUgraphNode(node), u32::from_word(reason));
        pointer::put(params, CUDA_GRAPH_INSTANTIATE_PARAMS { hErrNode_out: node, result_out: reason, ..asked })?;
        CUresult::from_word(code).ok()
    });
    if let Err(error) = made {
        handles::release(id);
        return Err(error);
    }
    pointer::put(into, id)
}

pub(crate) fn cuGraphExecUpdate_v2(
    exec: CUgraphExec,
    graph: CUgraph,
    info: *mut CUgraphExecUpdateResultInfo,
) -> Answer {
    let [code, result, node, from] = ask(opcode::cuGraphExecUpdate_v2, &[exec.0, graph.0])?;
    let result = CUgraphExecUpdateResult::from_word(result);
    let (errorNode, errorFromNode) = (CUgraphNode(node), CUgraphNode(from));
    pointer::put(info, CUgraphExecUpdateResultInfo { result, pad: 0, errorNode, errorFromNode })?;
    CUresult::from_word(code).ok()
}

pub(crate) fn cuGraphChildGraphNodeGetGraph(node: CUgraphNode, into: *mut CUgraph) -> Answer {
    let [graph] = ask(opcode::cuGraphChildGraphNodeGetGraph, &[node.0])?;
    pointer::put(into, CUgraph(graph))
}

pub(crate) fn cuGraphNodeFindInClone(into: *mut CUgraphNode, node: CUgraphNode, graph: CUgraph) -> Answer {
    let [twin] = ask(opcode::cuGraphNodeFindInClone, &[node.0, graph.0])?;
    pointer::put(into, CUgraphNode(twin))
}

pub(crate) fn cuDeviceGetGraphMemAttribute(dev: CUdevice, attribute: CUgraphMem_attribute, value: Pointer) -> Answer {
    let [bytes] = ask(opcode::cuDeviceGetGraphMemAttribute, &[dev.to_word(), attribute.to_word()])?;
    pointer::put(value.cast::<u64>(), bytes)
}

pub(crate) fn cuDeviceSetGraphMemAttribute(dev: CUdevice, attribute: CUgraphMem_attribute, value: Pointer) -> Answer {
    let value: u64 = pointer::get(value.cast::<u64>().cast_const())?;
    let [] = ask(opcode::cuDeviceSetGraphMemAttribute, &[dev.to_word(), attribute.to_word(), value])?;
    Ok(())
}
