//! Instantiated, updated, launched, in part switched off, chosen by a handle.

use std::ffi::CStr;
use std::ptr;

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::{must, result_of, value_of};

use super::{NO_NODE, NO_STREAM, add_set, graph, launch, words_at, zeroed};

const NO_EXEC: CUgraphExec = CUgraphExec(0);

pub(crate) fn execution(cuda: &Cuda) {
    let at = zeroed(cuda, 16);
    let of = |value| {
        let graph = graph(cuda);
        let first = add_set(cuda, graph, &[], at, value);
        let second = add_set(cuda, graph, &[first], CUdeviceptr(at.0 + 4), value + 1);
        (graph, first, second)
    };
    let (one, first, second) = of(1);
    let exec = instantiated(cuda, one);
    launch(cuda, exec);
    assert_eq!(words_at(cuda, at), [1, 2]);
    let (other, other_first, _) = of(10);
    let mut info = CUgraphExecUpdateResultInfo::default();
    must!(cuda.cuGraphExecUpdate_v2(exec, other, &raw mut info));
    assert_eq!(info.result, CU_GRAPH_EXEC_UPDATE_SUCCESS);
    launch(cuda, exec);
    assert_eq!(words_at(cuda, at), [10, 11]);
    refused_update(cuda, exec, other, other_first);
    let mut is_on = 9;
    must!(cuda.cuGraphNodeGetEnabled(exec, second, &raw mut is_on));
    assert_eq!(is_on, 1);
    must!(cuda.cuGraphNodeSetEnabled(exec, second, 0));
    must!(cuda.cuMemsetD8_v2(at, 0, 16));
    launch(cuda, exec);
    assert_eq!(words_at(cuda, at), [10, 0]);
    must!(cuda.cuGraphUpload(exec, NO_STREAM));
    must!(cuda.cuGraphUpload_ptsz(exec, NO_STREAM));
    must!(cuda.cuGraphNodeSetEnabled(exec, second, 1));
    must!(cuda.cuGraphLaunch_ptsz(exec, NO_STREAM));
    must!(cuda.cuStreamSynchronize_ptsz(NO_STREAM));
    assert_eq!(words_at(cuda, at), [10, 11]);
    must!(cuda.cuGraphExecDestroy(exec));
    assert_ne!(result_of!(cuda.cuGraphNodeSetEnabled(exec, first, 1)), CUDA_SUCCESS);
    [one, other].into_iter().for_each(|graph| must!(cuda.cuGraphDestroy(graph)));
    order(cuda, at);
    conditional(cuda, at);
    must!(cuda.cuMemsetD8_v2(at, 0, 16));
    looped(cuda, at);
    must!(cuda.cuMemFree_v2(at));
}

/// In every form; the last is left.
fn instantiated(cuda: &Cuda, graph: CUgraph) -> CUgraphExec {
    let (mut node, mut log) = (NO_NODE, [7_u8; 8]);
    let (to, text) = (&raw mut node, log.as_mut_ptr());
    let first = value_of!(cuda.cuGraphInstantiate(NO_EXEC, graph, to, text, 8));
    let second = value_of!(cuda.cuGraphInstantiate_v2(NO_EXEC, graph, to, text, 8));
    assert_eq!(log[0], 0);
    let mut params = CUDA_GRAPH_INSTANTIATE_PARAMS { flags: 2, result_out: 9, ..Default::default() };
    let into = &raw mut params;
    let third = value_of!(cuda.cuGraphInstantiateWithParams(NO_EXEC, graph, into));
    assert_eq!(params.result_out, 0);
    let fourth = value_of!(cuda.cuGraphInstantiateWithParams_ptsz(NO_EXEC, graph, into));
    let [mut id, mut other] = [0; 2];
    must!(cuda.cuGraphExecGetId(third, &raw mut id));
    must!(cuda.cuGraphExecGetId(fourth, &raw mut other));
    assert_ne!(id, other);
    [first, second, third, fourth].into_iter().for_each(|exec| must!(cuda.cuGraphExecDestroy(exec)));
    let mut none = NO_EXEC;
    let both = result_of!(cuda.cuGraphInstantiateWithFlags(&raw mut none, graph, 1 | 4));
    assert_eq!(both, CUDA_ERROR_INVALID_VALUE, "freed at its launch, and launched by the device");
    let prioritised = value_of!(cuda.cuGraphInstantiateWithFlags(NO_EXEC, graph, 8));
    let mut flags = 0;
    must!(cuda.cuGraphExecGetFlags(prioritised, &raw mut flags));
    assert_eq!(flags, 8);
    prioritised
}

fn refused_update(cuda: &Cuda, exec: CUgraphExec, graph: CUgraph, first: CUgraphNode) {
    let (mut node, mut result) = (NO_NODE, CU_GRAPH_EXEC_UPDATE_SUCCESS);
    must!(cuda.cuGraphExecUpdate(exec, graph, &raw mut node, &raw mut result));
    let mut more = NO_NODE;
    must!(cuda.cuGraphAddEmptyNode(&raw mut more, graph, &raw const first, 1));
    let refused = result_of!(cuda.cuGraphExecUpdate(exec, graph, &raw mut node, &raw mut result));
    assert_eq!((refused, result), (CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE, CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED));
}

/// Two branches that wait for each other's word: only side by side they end.
fn order(cuda: &Cuda, at: CUdeviceptr) {
    must!(cuda.cuMemsetD8_v2(at, 0, 16));
    let graph = graph(cuda);
    let ctx = value_of!(cuda.cuCtxGetCurrent(CUcontext(0)));
    let of = CUstreamBatchMemOpParams::of;
    let next = CUdeviceptr(at.0 + 4);
    let branches = [
        [of(CU_STREAM_MEM_OP_WRITE_VALUE_32, at, 1, 0), of(CU_STREAM_MEM_OP_WAIT_VALUE_32, next, 1, 1)],
        [of(CU_STREAM_MEM_OP_WAIT_VALUE_32, at, 1, 1), of(CU_STREAM_MEM_OP_WRITE_VALUE_32, next, 1, 0)],
    ];
    let nodes = branches.map(|ops| {
        let paramArray = ops.as_ptr() as u64;
        let params = CUDA_BATCH_MEM_OP_NODE_PARAMS { ctx, count: 2, paramArray, ..Default::default() };
        let mut node = NO_NODE;
        must!(cuda.cuGraphAddBatchMemOpNode(&raw mut node, graph, ptr::null(), 0, &raw const params));
        node
    });
    add_set(cuda, graph, &nodes, at, 33);
    super::run(cuda, graph);
    assert_eq!(words_at(cuda, at), [33, 1]);
    must!(cuda.cuGraphDestroy(graph));
}

/// `count` takes one from a word and sets a handle to what is left; `add` adds one to the next word.
const LOOP: &CStr = c"
.version 8.0
.target sm_70
.address_size 64
.extern .func cudaGraphSetConditional(.param .b64 handle, .param .b32 value);
.visible .entry count(.param .u64 at, .param .u64 handle)
{
    .reg .b32 %r<2>;
    .reg .b64 %rd<3>;
    ld.param.u64 %rd1, [at];
    ld.param.u64 %rd2, [handle];
    ld.global.u32 %r1, [%rd1];
    sub.u32 %r1, %r1, 1;
    st.global.u32 [%rd1], %r1;
    {
        .param .b64 first;
        .param .b32 second;
        st.param.b64 [first], %rd2;
        st.param.b32 [second], %r1;
        call.uni cudaGraphSetConditional, (first, second);
    }
    ret;
}
.visible .entry add(.param .u64 at)
{
    .reg .b32 %r<2>;
    .reg .b64 %rd<2>;
    ld.param.u64 %rd1, [at];
    ld.global.u32 %r1, [%rd1+4];
    add.u32 %r1, %r1, 1;
    st.global.u32 [%rd1+4], %r1;
    ret;
}
";

/// The only body of a new conditional node.
fn body_of(cuda: &Cuda, graph: CUgraph, kind: CUgraphConditionalNodeType, handle: u64) -> CUgraph {
    let ctx = value_of!(cuda.cuCtxGetCurrent(CUcontext(0)));
    let of = CUDA_CONDITIONAL_NODE_PARAMS { handle, kind, size: 1, phGraph_out: 0, ctx };
    let mut params = CUgraphNodeParams::new(CU_GRAPH_NODE_TYPE_CONDITIONAL, &of);
    let mut node = NO_NODE;
    must!(cuda.cuGraphAddNode(&raw mut node, graph, ptr::null(), 0, &raw mut params));
    let of: CUDA_CONDITIONAL_NODE_PARAMS = params.get();
    let bodies: *const CUgraph = ptr::with_exposed_provenance(usize::from_word(of.phGraph_out));
    // SAFETY: the node's own array of one graph.
    #[allow(unsafe_code, reason = "the node's memory")]
    unsafe {
        bodies.read_unaligned()
    }
}

fn add_kernel(cuda: &Cuda, graph: CUgraph, after: &[CUgraphNode], func: CUfunction, parameters: &mut [Pointer]) -> CUgraphNode {
    let of = CUDA_KERNEL_NODE_PARAMS {
        func,
        gridDimX: 1,
        gridDimY: 1,
        gridDimZ: 1,
        blockDimX: 1,
        blockDimY: 1,
        blockDimZ: 1,
        kernelParams: parameters.as_mut_ptr() as u64,
        ..CUDA_KERNEL_NODE_PARAMS::default()
    };
    let mut params = CUgraphNodeParams::new(CU_GRAPH_NODE_TYPE_KERNEL, &of);
    let mut node = NO_NODE;
    must!(cuda.cuGraphAddNode(&raw mut node, graph, after.as_ptr(), after.len(), &raw mut params));
    node
}

/// A kernel ends the loop that it is in; a second launch starts the count again where it was left.
fn looped(cuda: &Cuda, at: CUdeviceptr) {
    let module = value_of!(cuda.cuModuleLoadData(CUmodule(0), LOOP.as_ptr() as Pointer));
    let count = value_of!(cuda.cuModuleGetFunction(CUfunction(0), module, c"count".as_ptr()));
    let add = value_of!(cuda.cuModuleGetFunction(CUfunction(0), module, c"add".as_ptr()));
    let graph = graph(cuda);
    let ctx = value_of!(cuda.cuCtxGetCurrent(CUcontext(0)));
    let mut handle = value_of!(cuda.cuGraphConditionalHandleCreate(0, graph, ctx, 1, 1));
    let body = body_of(cuda, graph, CU_GRAPH_COND_TYPE_WHILE, handle);
    let mut word = at.0;
    let (at_word, at_handle) = ((&raw mut word).cast(), (&raw mut handle).cast());
    let counted = add_kernel(cuda, body, &[], count, &mut [at_word, at_handle]);
    add_kernel(cuda, body, &[counted], add, &mut [at_word]);
    for (turns, sum) in [(5, 5), (3, 8)] {
        must!(cuda.cuMemsetD32_v2(at, turns, 1));
        super::run(cuda, graph);
        assert_eq!(words_at(cuda, at), [0, sum]);
    }
    must!(cuda.cuGraphDestroy(graph));
    must!(cuda.cuModuleUnload(module));
}

/// One body of two runs, or none, as the handle's default says.
fn conditional(cuda: &Cuda, at: CUdeviceptr) {
    const IF: CUgraphConditionalNodeType = CU_GRAPH_COND_TYPE_IF;
    const SWITCH: CUgraphConditionalNodeType = CU_GRAPH_COND_TYPE_SWITCH;
    let ctx = value_of!(cuda.cuCtxGetCurrent(CUcontext(0)));
    let ways = [(IF, 1, [5, 0]), (IF, 0, [0, 6]), (SWITCH, 0, [5, 0]), (SWITCH, 1, [0, 6]), (SWITCH, 2, [0, 0])];
    for (kind, default, expected) in ways {
        must!(cuda.cuMemsetD8_v2(at, 0, 16));
        let graph = graph(cuda);
        let handle = value_of!(cuda.cuGraphConditionalHandleCreate(0, graph, ctx, default, 1));
        let of = CUDA_CONDITIONAL_NODE_PARAMS { handle, kind, size: 2, phGraph_out: 0, ctx };
        let mut params = CUgraphNodeParams::new(CU_GRAPH_NODE_TYPE_CONDITIONAL, &of);
        let mut node = NO_NODE;
        must!(cuda.cuGraphAddNode(&raw mut node, graph, ptr::null(), 0, &raw mut params));
        let of: CUDA_CONDITIONAL_NODE_PARAMS = params.get();
        let bodies: *const [CUgraph; 2] = ptr::with_exposed_provenance(usize::from_word(of.phGraph_out));
        // SAFETY: the node's own array of as many graphs as were asked for.
        #[allow(unsafe_code, reason = "the node's memory")]
        let bodies = unsafe { bodies.read_unaligned() };
        add_set(cuda, bodies[0], &[], at, 5);
        add_set(cuda, bodies[1], &[], CUdeviceptr(at.0 + 4), 6);
        super::run(cuda, graph);
        assert_eq!(words_at(cuda, at), expected);
        must!(cuda.cuGraphDestroy(graph));
    }
}
