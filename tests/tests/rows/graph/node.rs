//! Every kind of node: added, told, changed in the graph and in what was
//! instantiated of it.

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::{must, result_of, value_of};

use super::{NO_NODE, NO_STREAM, add_set, flat, graph, launch, pinned, run, word_set, words_at, zeroed};

const HOST: CUmemorytype = CU_MEMORYTYPE_HOST;
const DEVICE: CUmemorytype = CU_MEMORYTYPE_DEVICE;
const NO_EXEC: CUgraphExec = CUgraphExec(0);

/// `add` of the test module: to = left + right, count words.
struct Addition {
    to: CUdeviceptr,
    left: CUdeviceptr,
    right: CUdeviceptr,
    count: u32,
}

impl Addition {
    fn params(&mut self) -> [Pointer; 4] {
        [
            (&raw mut self.to).cast(),
            (&raw mut self.left).cast(),
            (&raw mut self.right).cast(),
            (&raw mut self.count).cast(),
        ]
    }
}

fn kernel(func: CUfunction, params: &[Pointer; 4]) -> CUDA_KERNEL_NODE_PARAMS {
    CUDA_KERNEL_NODE_PARAMS {
        func,
        gridDimX: 1,
        gridDimY: 1,
        gridDimZ: 1,
        blockDimX: 32,
        blockDimY: 1,
        blockDimZ: 1,
        kernelParams: params.as_ptr() as u64,
        ..Default::default()
    }
}

fn as_v1(of: &CUDA_KERNEL_NODE_PARAMS) -> CUDA_KERNEL_NODE_PARAMS_v1 {
    CUgraphNodeParams::new(CU_GRAPH_NODE_TYPE_KERNEL, of).get()
}

pub(crate) fn kernel_nodes(cuda: &Cuda, module: CUmodule) {
    let add = value_of!(cuda.cuModuleGetFunction(CUfunction(0), module, c"add".as_ptr()));
    let graph = graph(cuda);
    let [to, left, right] = [0; 3].map(|_| zeroed(cuda, 128));
    must!(cuda.cuMemsetD32_v2(left, 3, 32));
    must!(cuda.cuMemsetD32_v2(right, 4, 32));
    let mut of = Addition { to, left, right, count: 2 };
    let mut node = NO_NODE;
    let params = of.params();
    let first = as_v1(&kernel(add, &params));
    must!(cuda.cuGraphAddKernelNode(&raw mut node, graph, ptr::null(), 0, &raw const first));
    // The parameters were copied when the node was added.
    of = Addition { to: CUdeviceptr(to.0 + 8), left: to, ..of };
    let params = of.params();
    let (second, mut next) = (kernel(add, &params), NO_NODE);
    must!(cuda.cuGraphAddKernelNode_v2(&raw mut next, graph, &raw const node, 1, &raw const second));
    of.count = 77;
    let exec = value_of!(cuda.cuGraphInstantiateWithFlags(NO_EXEC, graph, 0));
    launch(cuda, exec);
    assert_eq!(words_at(cuda, to), [7, 7, 11, 11, 0]);
    told(cuda, node, next, add, to);
    changed(cuda, [node, next], exec, &mut of);
    attributes(cuda, [node, next]);
    must!(cuda.cuGraphExecDestroy(exec));
    must!(cuda.cuGraphDestroy(graph));
    [to, left, right].into_iter().for_each(|at| must!(cuda.cuMemFree_v2(at)));
}

fn told(cuda: &Cuda, node: CUgraphNode, next: CUgraphNode, add: CUfunction, to: CUdeviceptr) {
    let (mut first, mut second) = (CUDA_KERNEL_NODE_PARAMS_v1::default(), CUDA_KERNEL_NODE_PARAMS::default());
    must!(cuda.cuGraphKernelNodeGetParams(node, &raw mut first));
    assert_eq!((first.func, first.blockDimX, first.gridDimZ), (add, 32, 1));
    must!(cuda.cuGraphKernelNodeGetParams_v2(next, &raw mut second));
    let pointers: *const *const u64 = ptr::with_exposed_provenance(usize::from_word(second.kernelParams));
    // SAFETY: the node's own array of pointers to its parameters.
    #[allow(unsafe_code, reason = "the node's memory")]
    let pointer = unsafe { pointers.read() };
    // SAFETY: as above.
    #[allow(unsafe_code, reason = "the node's memory")]
    let value = unsafe { pointer.read_unaligned() };
    assert_eq!(value, to.0 + 8);
}

fn changed(cuda: &Cuda, [node, next]: [CUgraphNode; 2], exec: CUgraphExec, of: &mut Addition) {
    let to = CUdeviceptr(of.to.0 - 8);
    *of = Addition { to, left: of.right, right: of.right, count: 1 };
    let params = of.params();
    let of_exec = kernel(function_of(cuda, node), &params);
    must!(cuda.cuGraphExecKernelNodeSetParams_v2(exec, node, &raw const of_exec));
    launch(cuda, exec);
    assert_eq!(words_at(cuda, to), [8, 7, 12, 11, 0]);
    of.to = CUdeviceptr(to.0 + 16);
    let params = of.params();
    let older = as_v1(&kernel(function_of(cuda, node), &params));
    must!(cuda.cuGraphExecKernelNodeSetParams(exec, next, &raw const older));
    launch(cuda, exec);
    assert_eq!(words_at(cuda, to), [8, 7, 12, 11, 8]);
    must!(cuda.cuGraphKernelNodeSetParams(node, &raw const older));
    must!(cuda.cuGraphKernelNodeSetParams_v2(next, &raw const of_exec));
    let null = result_of!(cuda.cuGraphKernelNodeSetParams(node, ptr::null()));
    assert_eq!(null, CUDA_ERROR_INVALID_VALUE);
}

fn function_of(cuda: &Cuda, node: CUgraphNode) -> CUfunction {
    let mut params = CUDA_KERNEL_NODE_PARAMS::default();
    must!(cuda.cuGraphKernelNodeGetParams_v2(node, &raw mut params));
    params.func
}

fn attributes(cuda: &Cuda, [node, next]: [CUgraphNode; 2]) {
    let priority = CUlaunchAttributeID(8);
    let mut value = CUlaunchAttributeValue { words: [3, 0, 0, 0, 0, 0, 0, 0] };
    must!(cuda.cuGraphKernelNodeSetAttribute(node, priority, &raw const value));
    must!(cuda.cuGraphKernelNodeCopyAttributes(next, node));
    value.words[0] = 0;
    must!(cuda.cuGraphKernelNodeGetAttribute(next, priority, &raw mut value));
    assert_eq!(value.words[0], 3);
    must!(cuda.cuGraphKernelNodeGetAttribute(next, CU_LAUNCH_ATTRIBUTE_COOPERATIVE, &raw mut value));
    assert_eq!(value.words[0], 0);
}

/// Copies between device, pinned and pageable memory, in this order: the bytes
/// are those of the time of the launch.
pub(crate) fn copies(cuda: &Cuda) {
    let context = value_of!(cuda.cuCtxGetCurrent(CUcontext(0)));
    let graph = graph(cuda);
    let device = zeroed(cuda, 4096);
    let shared = pinned(cuda, 4096);
    let mut source = vec![1_u8; 3000];
    let target = vec![0_u8; 3000];
    let from_pageable = flat((DEVICE, device.0), (HOST, source.as_ptr() as u64), 3000);
    let to_pinned = flat((HOST, shared as u64), (DEVICE, device.0), 3000);
    let to_pageable = flat((HOST, target.as_ptr() as u64), (HOST, shared as u64), 3000);
    let [mut a, mut b, mut c] = [NO_NODE; 3];
    must!(cuda.cuGraphAddMemcpyNode(&raw mut a, graph, ptr::null(), 0, &raw const from_pageable, context));
    must!(cuda.cuGraphAddMemcpyNode(&raw mut b, graph, &raw const a, 1, &raw const to_pinned, context));
    must!(cuda.cuGraphAddMemcpyNode(&raw mut c, graph, &raw const b, 1, &raw const to_pageable, context));
    for node in [a, b, c] {
        let mut kind = CU_GRAPH_NODE_TYPE_EMPTY;
        must!(cuda.cuGraphNodeGetType(node, &raw mut kind));
        assert_eq!(kind, CU_GRAPH_NODE_TYPE_MEMCPY);
    }
    let mut told = CUDA_MEMCPY3D::default();
    must!(cuda.cuGraphMemcpyNodeGetParams(a, &raw mut told));
    assert_eq!((told.srcHost, told.WidthInBytes), (source.as_ptr() as u64, 3000));
    must!(cuda.cuGraphMemcpyNodeGetParams(b, &raw mut told));
    assert_eq!((told.dstHost, told.srcDevice), (shared as u64, device));
    let exec = value_of!(cuda.cuGraphInstantiateWithFlags(NO_EXEC, graph, 0));
    source.fill(5);
    launch(cuda, exec);
    assert_eq!(target, vec![5; 3000]);
    source.fill(6);
    launch(cuda, exec);
    assert_eq!(target, vec![6; 3000]);
    let shorter = flat((HOST, shared as u64), (DEVICE, device.0), 10);
    source.fill(7);
    must!(cuda.cuGraphExecMemcpyNodeSetParams(exec, b, &raw const shorter, context));
    launch(cuda, exec);
    assert_eq!((target[9], target[10]), (7, 6));
    let other = vec![9_u8; 3000];
    let from_other = flat((DEVICE, device.0), (HOST, other.as_ptr() as u64), 3000);
    must!(cuda.cuGraphExecMemcpyNodeSetParams(exec, a, &raw const from_other, context));
    launch(cuda, exec);
    assert_eq!((target[9], target[10]), (9, 6));
    must!(cuda.cuGraphMemcpyNodeSetParams(b, &raw const shorter));
    must!(cuda.cuGraphExecDestroy(exec));
    must!(cuda.cuGraphDestroy(graph));
    must!(cuda.cuMemFreeHost(shared));
    must!(cuda.cuMemFree_v2(device));
    planes(cuda, context);
    sets(cuda, context);
}

/// Two planes of three rows out of wider ones.
fn planes(cuda: &Cuda, context: CUcontext) {
    let (graph, device) = (graph(cuda), zeroed(cuda, 64));
    let source: Vec<u8> = (0..60).collect();
    let mut copy = flat((DEVICE, device.0), (HOST, source.as_ptr() as u64), 4);
    copy = CUDA_MEMCPY3D { srcXInBytes: 2, srcY: 1, srcPitch: 6, srcHeight: 5, Height: 3, Depth: 2, ..copy };
    copy = CUDA_MEMCPY3D { dstPitch: 4, dstHeight: 3, ..copy };
    let mut node = NO_NODE;
    must!(cuda.cuGraphAddMemcpyNode(&raw mut node, graph, ptr::null(), 0, &raw const copy, context));
    run(cuda, graph);
    let mut got = [0_u8; 24];
    must!(cuda.cuMemcpyDtoH_v2(got.as_mut_ptr().cast(), device, 24));
    let expected = [0, 1].map(|plane| [0, 1, 2].map(|row| [0, 1, 2, 3].map(|x| plane * 30 + 6 * (row + 1) + 2 + x)));
    assert_eq!(got.as_slice(), expected.as_flattened().as_flattened());
    must!(cuda.cuGraphDestroy(graph));
    must!(cuda.cuMemFree_v2(device));
}

fn sets(cuda: &Cuda, context: CUcontext) {
    let (graph, at) = (graph(cuda), zeroed(cuda, 16));
    let node = add_set(cuda, graph, &[], at, 5);
    let exec = value_of!(cuda.cuGraphInstantiateWithFlags(NO_EXEC, graph, 0));
    launch(cuda, exec);
    assert_eq!(words_at(cuda, at), [5, 0]);
    let mut told = CUDA_MEMSET_NODE_PARAMS::default();
    must!(cuda.cuGraphMemsetNodeGetParams(node, &raw mut told));
    assert_eq!(told, word_set(at, 5));
    let other = word_set(CUdeviceptr(at.0 + 4), 6);
    must!(cuda.cuGraphExecMemsetNodeSetParams(exec, node, &raw const other, context));
    launch(cuda, exec);
    assert_eq!(words_at(cuda, at), [5, 6]);
    must!(cuda.cuGraphMemsetNodeSetParams(node, &raw const other));
    must!(cuda.cuGraphMemsetNodeGetParams(node, &raw mut told));
    assert_eq!(told.value, 6);
    must!(cuda.cuGraphExecDestroy(exec));
    must!(cuda.cuGraphDestroy(graph));
    must!(cuda.cuMemFree_v2(at));
}

pub(crate) fn event_nodes(cuda: &Cuda) {
    let (graph, at) = (graph(cuda), zeroed(cuda, 16));
    let [event, other] = [0; 2].map(|_| value_of!(cuda.cuEventCreate(CUevent(0), 2)));
    let [mut wait, mut record] = [NO_NODE; 2];
    must!(cuda.cuGraphAddEventWaitNode(&raw mut wait, graph, ptr::null(), 0, event));
    let set = add_set(cuda, graph, &[wait], CUdeviceptr(at.0 + 8), 1);
    must!(cuda.cuGraphAddEventRecordNode(&raw mut record, graph, &raw const set, 1, other));
    assert_eq!(value_of_event(cuda, wait, record), [event, other]);
    let exec = value_of!(cuda.cuGraphInstantiateWithFlags(NO_EXEC, graph, 0));
    let [holder, runner] = [0; 2].map(|_| value_of!(cuda.cuStreamCreate(NO_STREAM, 1)));
    must!(cuda.cuStreamWaitValue32_v2(holder, at, 1, 1));
    must!(cuda.cuEventRecord(event, holder));
    must!(cuda.cuGraphLaunch(exec, runner));
    assert_eq!(result_of!(cuda.cuEventQuery(other)), CUDA_ERROR_NOT_READY, "the launch has recorded it");
    let third = value_of!(cuda.cuStreamCreate(NO_STREAM, 1));
    must!(cuda.cuStreamWriteValue32_v2(third, at, 1, 0));
    must!(cuda.cuEventSynchronize(other));
    must!(cuda.cuStreamSynchronize(runner));
    must!(cuda.cuGraphExecEventRecordNodeSetEvent(exec, record, event));
    must!(cuda.cuGraphExecEventWaitNodeSetEvent(exec, wait, other));
    must!(cuda.cuGraphEventRecordNodeSetEvent(record, event));
    must!(cuda.cuGraphEventWaitNodeSetEvent(wait, other));
    assert_eq!(value_of_event(cuda, wait, record), [other, event]);
    launch(cuda, exec);
    [holder, runner, third].into_iter().for_each(|stream| must!(cuda.cuStreamDestroy_v2(stream)));
    must!(cuda.cuGraphExecDestroy(exec));
    must!(cuda.cuGraphDestroy(graph));
    [event, other].into_iter().for_each(|event| must!(cuda.cuEventDestroy_v2(event)));
    must!(cuda.cuMemFree_v2(at));
}

fn value_of_event(cuda: &Cuda, wait: CUgraphNode, record: CUgraphNode) -> [CUevent; 2] {
    let [mut of_wait, mut of_record] = [CUevent(0); 2];
    must!(cuda.cuGraphEventWaitNodeGetEvent(wait, &raw mut of_wait));
    must!(cuda.cuGraphEventRecordNodeGetEvent(record, &raw mut of_record));
    [of_wait, of_record]
}

pub(crate) fn memory_operation_nodes(cuda: &Cuda) {
    let (graph, at) = (graph(cuda), zeroed(cuda, 16));
    let ctx = value_of!(cuda.cuCtxGetCurrent(CUcontext(0)));
    let write = |value| [CUstreamBatchMemOpParams::of(CU_STREAM_MEM_OP_WRITE_VALUE_32, at, value, 0)];
    let params = |ops: &[CUstreamBatchMemOpParams; 1]| CUDA_BATCH_MEM_OP_NODE_PARAMS {
        ctx,
        count: 1,
        paramArray: ops.as_ptr() as u64,
        ..Default::default()
    };
    let (ops, mut node) = (write(3), NO_NODE);
    let of = params(&ops);
    must!(cuda.cuGraphAddBatchMemOpNode(&raw mut node, graph, ptr::null(), 0, &raw const of));
    let exec = value_of!(cuda.cuGraphInstantiateWithFlags(NO_EXEC, graph, 0));
    launch(cuda, exec);
    assert_eq!(words_at(cuda, at), [3]);
    let mut told = CUDA_BATCH_MEM_OP_NODE_PARAMS::default();
    must!(cuda.cuGraphBatchMemOpNodeGetParams(node, &raw mut told));
    assert_eq!((told.count, told.flags), (1, 0));
    let other = write(4);
    let of = params(&other);
    must!(cuda.cuGraphExecBatchMemOpNodeSetParams(exec, node, &raw const of));
    launch(cuda, exec);
    assert_eq!(words_at(cuda, at), [4]);
    must!(cuda.cuGraphBatchMemOpNodeSetParams(node, &raw const of));
    must!(cuda.cuGraphExecDestroy(exec));
    must!(cuda.cuGraphDestroy(graph));
    must!(cuda.cuMemFree_v2(at));
}

extern "C" fn count(data: *mut c_void) {
    // SAFETY: the counter of the test, which outlives its graphs.
    #[allow(unsafe_code, reason = "the callback's data")]
    let counter = unsafe { &*data.cast::<AtomicU32>() };
    counter.fetch_add(1, Ordering::SeqCst);
}

extern "C" fn count_ten(data: *mut c_void) {
    (0..10).for_each(|_| count(data));
}

/// The one form that all kinds have; host nodes and child graphs with it.
pub(crate) fn uniform(cuda: &Cuda) {
    let (graph, at) = (graph(cuda), zeroed(cuda, 16));
    let counter = AtomicU32::new(0);
    let host = |func: extern "C" fn(*mut c_void)| CUDA_HOST_NODE_PARAMS {
        func: func as *const () as u64,
        userData: (&raw const counter) as u64,
    };
    let [mut set, mut called, mut also, mut third] = [NO_NODE; 4];
    let mut params = CUgraphNodeParams::new(CU_GRAPH_NODE_TYPE_MEMSET, &word_set(at, 8));
    must!(cuda.cuGraphAddNode(&raw mut set, graph, ptr::null(), 0, &raw mut params));
    params = CUgraphNodeParams::new(CU_GRAPH_NODE_TYPE_HOST, &host(count));
    must!(cuda.cuGraphAddNode_v2(&raw mut called, graph, &raw const set, ptr::null(), 1, &raw mut params));
    let data = CUgraphEdgeData::default();
    must!(cuda.cuGraphAddNode_v3(&raw mut third, graph, &raw const set, &raw const data, 1, &raw mut params));
    let plain = host(count);
    must!(cuda.cuGraphAddHostNode(&raw mut also, graph, &raw const called, 1, &raw const plain));
    let parent = super::graph(cuda);
    let mut child = NO_NODE;
    must!(cuda.cuGraphAddChildGraphNode(&raw mut child, parent, ptr::null(), 0, graph));
    let exec = value_of!(cuda.cuGraphInstantiateWithFlags(NO_EXEC, parent, 0));
    launch(cuda, exec);
    assert_eq!((words_at(cuda, at), counter.load(Ordering::SeqCst)), ([8], 3));
    let mut told = CUDA_HOST_NODE_PARAMS::default();
    must!(cuda.cuGraphHostNodeGetParams(called, &raw mut told));
    assert_eq!(told, host(count));
    let ten = host(count_ten);
    must!(cuda.cuGraphHostNodeSetParams(called, &raw const ten));
    must!(cuda.cuGraphNodeGetParams(called, &raw mut params));
    assert_eq!((params.kind, params.get::<CUDA_HOST_NODE_PARAMS>().func), (CU_GRAPH_NODE_TYPE_HOST, ten.func));
    launch(cuda, exec);
    assert_eq!(counter.load(Ordering::SeqCst), 6, "what was instantiated is as it was");
    must!(cuda.cuGraphExecChildGraphNodeSetParams(exec, child, graph));
    launch(cuda, exec);
    assert_eq!(counter.load(Ordering::SeqCst), 18);
    inside(cuda, exec, child, &host(count));
    assert_eq!(counter.load(Ordering::SeqCst), 21);
    params = CUgraphNodeParams::new(CU_GRAPH_NODE_TYPE_MEMSET, &word_set(at, 9));
    must!(cuda.cuGraphNodeSetParams(set, &raw mut params));
    must!(cuda.cuGraphNodeSetParams_v2(set, &raw mut params));
    params.kind = CU_GRAPH_NODE_TYPE_EMPTY;
    let other_kind = result_of!(cuda.cuGraphNodeSetParams(set, &raw mut params));
    assert_eq!(other_kind, CUDA_ERROR_INVALID_VALUE);
    must!(cuda.cuGraphExecDestroy(exec));
    [graph, parent].into_iter().for_each(|graph| must!(cuda.cuGraphDestroy(graph)));
    must!(cuda.cuMemFree_v2(at));
}

/// Nodes of the graph within the node.
fn inside(cuda: &Cuda, exec: CUgraphExec, child: CUgraphNode, plain: &CUDA_HOST_NODE_PARAMS) {
    let mut within = CUgraph(0);
    must!(cuda.cuGraphChildGraphNodeGetGraph(child, &raw mut within));
    let (mut nodes, mut found) = ([NO_NODE; 8], 8);
    must!(cuda.cuGraphGetNodes(within, nodes.as_mut_ptr(), &raw mut found));
    assert_eq!(found, 4);
    must!(cuda.cuGraphExecHostNodeSetParams(exec, nodes[1], ptr::from_ref(plain)));
    let mut params = CUgraphNodeParams::new(CU_GRAPH_NODE_TYPE_HOST, plain);
    must!(cuda.cuGraphExecNodeSetParams(exec, nodes[1], &raw mut params));
    launch(cuda, exec);
    let mut refused = CUgraphExec(0);
    let embedded = result_of!(cuda.cuGraphInstantiateWithFlags(&raw mut refused, within, 0));
    assert_eq!(embedded, CUDA_ERROR_INVALID_VALUE);
}
