//! Captures: what is put on a stream becomes a graph; what a capture forbids is
//! an error, and ends it.

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::{must, result_of, value_of};

const NULL: CUstream = CUstream(0);
const NO_GRAPH: CUgraph = CUgraph(0);
const GLOBAL: CUstreamCaptureMode = CU_STREAM_CAPTURE_MODE_GLOBAL;
const RELAXED: CUstreamCaptureMode = CU_STREAM_CAPTURE_MODE_RELAXED;

fn stream(cuda: &Cuda, flags: u32) -> CUstream {
    value_of!(cuda.cuStreamCreate(NULL, flags))
}

fn end(cuda: &Cuda, stream: CUstream) -> CUgraph {
    let mut graph = NO_GRAPH;
    must!(cuda.cuStreamEndCapture(stream, &raw mut graph));
    assert_ne!(graph, NO_GRAPH);
    graph
}

/// The error that a capture ends with.
fn ends_with(cuda: &Cuda, stream: CUstream) -> CUresult {
    let mut graph = CUgraph(1);
    let error = result_of!(cuda.cuStreamEndCapture(stream, &raw mut graph));
    assert_eq!(graph, NO_GRAPH);
    let mut status = CU_STREAM_CAPTURE_STATUS_ACTIVE;
    must!(cuda.cuStreamIsCapturing(stream, &raw mut status));
    assert_eq!(status, CU_STREAM_CAPTURE_STATUS_NONE);
    error
}

fn count_of(cuda: &Cuda, graph: CUgraph) -> usize {
    let mut count = 0;
    must!(cuda.cuGraphGetNodes(graph, ptr::null_mut(), &raw mut count));
    count
}

extern "C" fn count(data: *mut c_void) {
    // SAFETY: the counter of the test, which outlives its graphs.
    #[allow(unsafe_code, reason = "the callback's data")]
    let counter = unsafe { &*data.cast::<AtomicU32>() };
    counter.fetch_add(1, Ordering::SeqCst);
}

/// Copies of pageable memory, a memset, a kernel, a host function; launched
/// twice with other bytes.
pub(crate) fn captured(cuda: &Cuda, module: CUmodule) {
    let nothing = value_of!(cuda.cuModuleGetFunction(CUfunction(0), module, c"nothing".as_ptr()));
    let at = value_of!(cuda.cuMemAlloc_v2(CUdeviceptr(0), 20_000));
    let (mut source, mut target) = (vec![1_u8; 20_000], vec![0_u8; 20_000]);
    let counter = AtomicU32::new(0);
    let data: Pointer = (&raw const counter).cast_mut().cast();
    let (from, to) = (source.as_mut_ptr().cast(), target.as_mut_ptr().cast());
    let on = stream(cuda, 1);
    must!(cuda.cuStreamBeginCapture_v2(on, GLOBAL));
    must!(cuda.cuMemcpyHtoDAsync_v2(at, from, 20_000, on));
    must!(cuda.cuMemsetD8Async(at, 9, 10, on));
    let none = ptr::null_mut();
    must!(cuda.cuLaunchKernel(nothing, 1, 1, 1, 1, 1, 1, 0, on, none, none));
    must!(cuda.cuLaunchHostFunc(on, Some(count), data));
    must!(cuda.cuMemcpyDtoHAsync_v2(to, at, 20_000, on));
    let graph = end(cuda, on);
    assert_eq!(counter.load(Ordering::SeqCst), 0, "nothing has run yet");
    assert_eq!((count_of(cuda, graph), target[0]), (5, 0));
    let exec = value_of!(cuda.cuGraphInstantiateWithFlags(CUgraphExec(0), graph, 0));
    for turn in [3, 4] {
        source.fill(turn);
        must!(cuda.cuGraphLaunch(exec, on));
        must!(cuda.cuStreamSynchronize(on));
        assert!(target[..10] == [9; 10] && target[10..].iter().all(|byte| *byte == turn), "turn {turn}");
    }
    assert_eq!(counter.load(Ordering::SeqCst), 2);
    must!(cuda.cuGraphExecDestroy(exec));
    must!(cuda.cuGraphDestroy(graph));
    planes(cuda, on, at);
    memory(cuda, on, at);
    must!(cuda.cuStreamDestroy_v2(on));
    must!(cuda.cuMemFree_v2(at));
}

/// Allocations and frees become nodes, and so does a graph that is launched.
fn memory(cuda: &Cuda, on: CUstream, at: CUdeviceptr) {
    must!(cuda.cuStreamBeginCapture_v2(on, GLOBAL));
    let inner = value_of!(cuda.cuMemAllocAsync(CUdeviceptr(0), 4096, on));
    must!(cuda.cuMemsetD8Async(inner, 7, 4096, on));
    must!(cuda.cuMemcpyDtoDAsync_v2(at, inner, 64, on));
    must!(cuda.cuMemFreeAsync(inner, on));
    let graph = end(cuda, on);
    assert_eq!(count_of(cuda, graph), 4);
    let exec = value_of!(cuda.cuGraphInstantiateWithFlags(CUgraphExec(0), graph, 0));
    for _ in 0..2 {
        must!(cuda.cuMemsetD8_v2(at, 0, 64));
        must!(cuda.cuGraphLaunch(exec, on));
        must!(cuda.cuStreamSynchronize(on));
        let mut back = [0_u8; 64];
        must!(cuda.cuMemcpyDtoH_v2(back.as_mut_ptr().cast(), at, 64));
        assert_eq!(back, [7; 64]);
    }
    must!(cuda.cuGraphExecDestroy(exec));
    must!(cuda.cuGraphDestroy(graph));
    child(cuda, on, at);
}

fn child(cuda: &Cuda, on: CUstream, at: CUdeviceptr) {
    must!(cuda.cuStreamBeginCapture_v2(on, GLOBAL));
    must!(cuda.cuMemsetD8Async(at, 3, 64, on));
    let inner = end(cuda, on);
    let inner_exec = value_of!(cuda.cuGraphInstantiateWithFlags(CUgraphExec(0), inner, 0));
    must!(cuda.cuStreamBeginCapture_v2(on, GLOBAL));
    must!(cuda.cuGraphLaunch(inner_exec, on));
    must!(cuda.cuMemsetD8Async(at, 4, 32, on));
    let outer = end(cuda, on);
    assert_eq!(count_of(cuda, outer), 2, "the launch is a node");
    must!(cuda.cuGraphExecDestroy(inner_exec));
    must!(cuda.cuGraphDestroy(inner));
    let exec = value_of!(cuda.cuGraphInstantiateWithFlags(CUgraphExec(0), outer, 0));
    must!(cuda.cuGraphLaunch(exec, on));
    must!(cuda.cuStreamSynchronize(on));
    let mut back = [0_u8; 64];
    must!(cuda.cuMemcpyDtoH_v2(back.as_mut_ptr().cast(), at, 64));
    assert!(back[..32] == [4; 32] && back[32..] == [3; 32], "the child runs first");
    must!(cuda.cuGraphExecDestroy(exec));
    must!(cuda.cuGraphDestroy(outer));
}

fn planes(cuda: &Cuda, on: CUstream, at: CUdeviceptr) {
    let (source, target) = ([5_u8; 64], [0_u8; 64]);
    let plane = |host: Option<u64>| (if host.is_some() { CU_MEMORYTYPE_HOST } else { CU_MEMORYTYPE_DEVICE }, host.unwrap_or(0));
    let copy = |from: Option<u64>, to: Option<u64>| {
        let ((srcMemoryType, srcHost), (dstMemoryType, dstHost)) = (plane(from), plane(to));
        CUDA_MEMCPY2D {
            srcXInBytes: 0,
            srcY: 0,
            srcMemoryType,
            pad0: 0,
            srcHost,
            srcDevice: if from.is_some() { CUdeviceptr(0) } else { at },
            srcArray: CUarray(0),
            srcPitch: 8,
            dstXInBytes: 0,
            dstY: 0,
            dstMemoryType,
            pad1: 0,
            dstHost,
            dstDevice: if to.is_some() { CUdeviceptr(0) } else { at },
            dstArray: CUarray(0),
            dstPitch: 8,
            WidthInBytes: 4,
            Height: 3,
        }
    };
    let up = copy(Some(source.as_ptr() as u64), None);
    let down = copy(None, Some(target.as_ptr() as u64));
    must!(cuda.cuStreamBeginCapture(on));
    must!(cuda.cuMemcpy2DAsync_v2(&raw const up, on));
    must!(cuda.cuMemcpy2DAsync_v2(&raw const down, on));
    let graph = end(cuda, on);
    let exec = value_of!(cuda.cuGraphInstantiateWithFlags(CUgraphExec(0), graph, 0));
    must!(cuda.cuGraphLaunch(exec, on));
    must!(cuda.cuStreamSynchronize(on));
    assert_eq!(target[..24], [[5, 5, 5, 5, 0, 0, 0, 0]; 3].concat());
    must!(cuda.cuGraphExecDestroy(exec));
    must!(cuda.cuGraphDestroy(graph));
}

/// One stream splits in two and they join; asked on the way.
pub(crate) fn forked(cuda: &Cuda) {
    let at = value_of!(cuda.cuMemAlloc_v2(CUdeviceptr(0), 16));
    let [one, two] = [0; 2].map(|_| stream(cuda, 1));
    let [fork, join] = [0; 2].map(|_| value_of!(cuda.cuEventCreate(CUevent(0), 2)));
    must!(cuda.cuStreamBeginCapture_v2(one, GLOBAL));
    must!(cuda.cuMemsetD32Async(at, 1, 1, one));
    must!(cuda.cuEventRecord(fork, one));
    must!(cuda.cuStreamWaitEvent(two, fork, 0));
    must!(cuda.cuMemsetD32Async(CUdeviceptr(at.0 + 4), 2, 1, two));
    must!(cuda.cuMemsetD32Async(CUdeviceptr(at.0 + 8), 3, 1, one));
    asked(cuda, one, two);
    must!(cuda.cuEventRecord(join, two));
    must!(cuda.cuStreamWaitEvent(one, join, 0));
    must!(cuda.cuMemsetD32Async(CUdeviceptr(at.0 + 12), 4, 1, one));
    let graph = end(cuda, one);
    let mut edges = 0;
    must!(cuda.cuGraphGetEdges(graph, ptr::null_mut(), ptr::null_mut(), &raw mut edges));
    assert_eq!((count_of(cuda, graph), edges), (4, 4));
    let exec = value_of!(cuda.cuGraphInstantiateWithFlags(CUgraphExec(0), graph, 0));
    must!(cuda.cuGraphLaunch(exec, two));
    must!(cuda.cuStreamSynchronize(two));
    let mut words = [0_u32; 4];
    must!(cuda.cuMemcpyDtoH_v2(words.as_mut_ptr().cast(), at, 16));
    assert_eq!(words, [1, 2, 3, 4]);
    must!(cuda.cuGraphExecDestroy(exec));
    into_graph(cuda, one, graph, at);
    must!(cuda.cuGraphDestroy(graph));
    // Without the join the capture is not whole.
    must!(cuda.cuStreamBeginCapture_v2(one, GLOBAL));
    must!(cuda.cuEventRecord(fork, one));
    must!(cuda.cuStreamWaitEvent(two, fork, 0));
    must!(cuda.cuMemsetD32Async(at, 2, 1, two));
    assert_eq!(ends_with(cuda, one), CUDA_ERROR_STREAM_CAPTURE_UNJOINED);
    forgotten(cuda, one, [fork, join], at);
    [fork, join].into_iter().for_each(|event| must!(cuda.cuEventDestroy_v2(event)));
    [one, two].into_iter().for_each(|stream| must!(cuda.cuStreamDestroy_v2(stream)));
    must!(cuda.cuMemFree_v2(at));
}

/// A stream that is destroyed while it is captured: what it had counts, joined or not.
fn forgotten(cuda: &Cuda, one: CUstream, [fork, join]: [CUevent; 2], at: CUdeviceptr) {
    for is_joined in [true, false] {
        let two = stream(cuda, 1);
        must!(cuda.cuStreamBeginCapture_v2(one, GLOBAL));
        must!(cuda.cuEventRecord(fork, one));
        must!(cuda.cuStreamWaitEvent(two, fork, 0));
        must!(cuda.cuMemsetD32Async(at, 2, 1, two));
        if is_joined {
            must!(cuda.cuEventRecord(join, two));
            must!(cuda.cuStreamWaitEvent(one, join, 0));
        }
        must!(cuda.cuStreamDestroy_v2(two));
        if is_joined {
            must!(cuda.cuMemsetD32Async(at, 3, 1, one));
            let graph = end(cuda, one);
            assert_eq!(count_of(cuda, graph), 2);
            must!(cuda.cuGraphDestroy(graph));
        } else {
            assert_eq!(ends_with(cuda, one), CUDA_ERROR_STREAM_CAPTURE_UNJOINED);
        }
    }
}

fn asked(cuda: &Cuda, one: CUstream, two: CUstream) {
    let mut status = CU_STREAM_CAPTURE_STATUS_NONE;
    let [mut id, mut of_two] = [0; 2];
    must!(cuda.cuStreamGetCaptureInfo(one, &raw mut status, &raw mut id));
    must!(cuda.cuStreamGetCaptureInfo(two, &raw mut status, &raw mut of_two));
    assert_eq!((status, id), (CU_STREAM_CAPTURE_STATUS_ACTIVE, of_two));
    let (mut graph, mut nodes, mut count) = (NO_GRAPH, ptr::null(), 0);
    let (s, i, g) = (&raw mut status, &raw mut id, &raw mut graph);
    must!(cuda.cuStreamGetCaptureInfo_v2(one, s, i, g, &raw mut nodes, &raw mut count));
    assert_eq!((count, count_of(cuda, graph)), (1, 3));
    let mut data = ptr::null();
    must!(cuda.cuStreamGetCaptureInfo_v3(one, s, i, g, &raw mut nodes, &raw mut data, &raw mut count));
    assert!(count == 1 && !data.is_null());
    // SAFETY: the array of one node that the call has told.
    #[allow(unsafe_code, reason = "what the call has told")]
    let mut node = unsafe { nodes.read() };
    must!(cuda.cuStreamUpdateCaptureDependencies(one, &raw mut node, 1, 1));
    must!(cuda.cuStreamUpdateCaptureDependencies_v2(one, &raw mut node, ptr::null(), 1, 0));
    let foreign = result_of!(cuda.cuStreamUpdateCaptureDependencies(one, &raw mut node, 1, 7));
    assert_eq!(foreign, CUDA_ERROR_INVALID_VALUE);
}

/// More of a graph that there is.
fn into_graph(cuda: &Cuda, one: CUstream, graph: CUgraph, at: CUdeviceptr) {
    let mut nodes = [CUgraphNode(0); 4];
    let mut count = 4;
    must!(cuda.cuGraphGetNodes(graph, nodes.as_mut_ptr(), &raw mut count));
    must!(cuda.cuStreamBeginCaptureToGraph(one, graph, nodes.as_ptr(), ptr::null(), 4, RELAXED));
    must!(cuda.cuMemsetD32Async(at, 7, 1, one));
    assert_eq!(end(cuda, one), graph);
    assert_eq!(count_of(cuda, graph), 5);
}

/// What a capture forbids.
pub(crate) fn refused(cuda: &Cuda) {
    let on = stream(cuda, 1);
    let begin = |mode| must!(cuda.cuStreamBeginCapture_v2(on, mode));
    begin(GLOBAL);
    assert_eq!(result_of!(cuda.cuStreamBeginCapture_v2(on, GLOBAL)), CUDA_ERROR_ILLEGAL_STATE);
    assert_eq!(result_of!(cuda.cuStreamSynchronize(on)), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    let mut status = CU_STREAM_CAPTURE_STATUS_NONE;
    must!(cuda.cuStreamIsCapturing(on, &raw mut status));
    assert_eq!(status, CU_STREAM_CAPTURE_STATUS_INVALIDATED);
    assert_eq!(ends_with(cuda, on), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    begin(GLOBAL);
    assert_eq!(result_of!(cuda.cuStreamQuery(on)), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    assert_eq!(ends_with(cuda, on), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    begin(GLOBAL);
    assert_eq!(result_of!(cuda.cuCtxSynchronize()), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    assert_eq!(ends_with(cuda, on), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    begin(GLOBAL);
    let mut memory = CUdeviceptr(0);
    let unsafe_call = result_of!(cuda.cuMemAlloc_v2(&raw mut memory, 16));
    assert_eq!(unsafe_call, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    assert_eq!(ends_with(cuda, on), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    begin(RELAXED);
    must!(cuda.cuMemAlloc_v2(&raw mut memory, 16));
    must!(cuda.cuGraphDestroy(end(cuda, on)));
    by_event(cuda, on);
    by_default_stream(cuda, memory);
    by_thread(cuda, on);
    let nothing = result_of!(cuda.cuStreamBeginCapture(NULL));
    assert_eq!(nothing, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "the legacy stream");
    let mut graph = NO_GRAPH;
    assert_eq!(result_of!(cuda.cuStreamEndCapture(on, &raw mut graph)), CUDA_ERROR_ILLEGAL_STATE);
    must!(cuda.cuMemFree_v2(memory));
    leave_nothing(cuda, on);
    must!(cuda.cuStreamDestroy_v2(on));
    per_thread(cuda);
}

/// Graph and node of a capture that fails, or whose stream is destroyed, have their places given again.
fn leave_nothing(cuda: &Cuda, on: CUstream) {
    let at = value_of!(cuda.cuMemAlloc_v2(CUdeviceptr(0), 16));
    let place = |id: u64| id & 0xff_ffff;
    let begun = |on| {
        must!(cuda.cuStreamBeginCapture_v2(on, GLOBAL));
        must!(cuda.cuMemsetD32Async(at, 1, 4, on));
        let (mut status, mut graph, mut count) = (CU_STREAM_CAPTURE_STATUS_NONE, NO_GRAPH, 0);
        let (mut nodes, none) = (std::ptr::null(), std::ptr::null_mut());
        let (graph_at, nodes_at) = (&raw mut graph, &raw mut nodes);
        must!(cuda.cuStreamGetCaptureInfo_v2(on, &raw mut status, none, graph_at, nodes_at, &raw mut count));
        assert_eq!(count, 1);
        // SAFETY: the array of one node that the call has told.
        #[allow(unsafe_code, reason = "the library's array")]
        let node: CUgraphNode = unsafe { *nodes };
        (graph, node)
    };
    let failed = |_| {
        let (graph, node) = begun(on);
        assert_eq!(result_of!(cuda.cuStreamQuery(on)), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
        assert_eq!(ends_with(cuda, on), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
        (graph, node)
    };
    let all = [0; 3].map(failed);
    assert!(all.iter().all(|(graph, _)| place(graph.0) == place(all[0].0.0)), "{all:?}");
    assert!(all.iter().all(|(_, node)| place(node.0) == place(all[0].1.0)), "{all:?}");
    assert!(all[0].0 != all[1].0 && all[0].1 != all[1].1, "not the same ones");
    let mut count = 0;
    let gone = result_of!(cuda.cuGraphGetNodes(all[2].0, std::ptr::null_mut(), &raw mut count));
    assert!([CUDA_ERROR_INVALID_HANDLE, CUDA_ERROR_INVALID_VALUE].contains(&gone), "{gone}");
    let destroyed = |_| {
        let on = stream(cuda, 1);
        let (graph, _) = begun(on);
        must!(cuda.cuStreamDestroy_v2(on));
        graph
    };
    let graphs = [0; 3].map(destroyed);
    assert!(graphs.iter().all(|graph| place(graph.0) == place(graphs[0].0)), "{graphs:?}");
    must!(cuda.cuMemFree_v2(at));
}

fn by_event(cuda: &Cuda, on: CUstream) {
    let other = stream(cuda, 1);
    let event = value_of!(cuda.cuEventCreate(CUevent(0), 2));
    must!(cuda.cuEventRecord(event, other));
    must!(cuda.cuStreamBeginCapture_v2(on, GLOBAL));
    let outside = result_of!(cuda.cuStreamWaitEvent(on, event, 0));
    assert_eq!(outside, CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
    assert_eq!(ends_with(cuda, on), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    must!(cuda.cuStreamBeginCapture_v2(on, GLOBAL));
    must!(cuda.cuEventRecord(event, on));
    assert_eq!(result_of!(cuda.cuEventQuery(event)), CUDA_ERROR_CAPTURED_EVENT);
    assert_eq!(ends_with(cuda, on), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    must!(cuda.cuStreamBeginCapture_v2(on, GLOBAL));
    must!(cuda.cuStreamBeginCapture_v2(other, GLOBAL));
    must!(cuda.cuEventRecord(event, on));
    let merged = result_of!(cuda.cuStreamWaitEvent(other, event, 0));
    assert_eq!(merged, CUDA_ERROR_STREAM_CAPTURE_MERGE);
    [on, other].into_iter().for_each(|stream| assert_eq!(ends_with(cuda, stream), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED));
    must!(cuda.cuStreamBeginCapture_v2(on, GLOBAL));
    must!(cuda.cuEventRecord(event, on));
    must!(cuda.cuStreamWaitEvent(other, event, 0));
    let mut graph = NO_GRAPH;
    let unmatched = result_of!(cuda.cuStreamEndCapture(other, &raw mut graph));
    assert_eq!(unmatched, CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
    must!(cuda.cuGraphDestroy(end(cuda, on)));
    must!(cuda.cuEventDestroy_v2(event));
    must!(cuda.cuStreamDestroy_v2(other));
}

/// The legacy default stream would wait for a blocking stream that is captured.
fn by_default_stream(cuda: &Cuda, at: CUdeviceptr) {
    let blocking = stream(cuda, 0);
    must!(cuda.cuStreamBeginCapture_v2(blocking, GLOBAL));
    let implicit = result_of!(cuda.cuMemsetD8Async(at, 1, 4, NULL));
    assert_eq!(implicit, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
    assert_eq!(ends_with(cuda, blocking), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    must!(cuda.cuStreamDestroy_v2(blocking));
}

/// Another thread's end, its own mode, its unsafe calls.
fn by_thread(cuda: &Cuda, on: CUstream) {
    let context = value_of!(cuda.cuCtxGetCurrent(CUcontext(0)));
    // Two functions of the library as another thread calls them.
    let (end_capture, set_current) = (cuda.cuStreamEndCapture, cuda.cuCtxSetCurrent);
    must!(cuda.cuStreamBeginCapture_v2(on, GLOBAL));
    let elsewhere = std::thread::spawn(move || {
        let mut graph = NO_GRAPH;
        // SAFETY: the table's prototypes; the pointer is to a local.
        #[allow(unsafe_code, reason = "foreign function")]
        let set = unsafe { set_current(context) };
        // SAFETY: as above.
        #[allow(unsafe_code, reason = "foreign function")]
        let ended = unsafe { end_capture(on, &raw mut graph) };
        (set, ended)
    });
    assert_eq!(elsewhere.join().unwrap(), (CUDA_SUCCESS, CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD));
    must!(cuda.cuGraphDestroy(end(cuda, on)));
}

fn per_thread(cuda: &Cuda) {
    let mut status = CU_STREAM_CAPTURE_STATUS_NONE;
    let mut graph = NO_GRAPH;
    must!(cuda.cuStreamBeginCapture_ptsz(NULL));
    must!(cuda.cuStreamIsCapturing_ptsz(NULL, &raw mut status));
    assert_eq!(status, CU_STREAM_CAPTURE_STATUS_ACTIVE);
    let mut id = 0;
    must!(cuda.cuStreamGetCaptureInfo_ptsz(NULL, &raw mut status, &raw mut id));
    let (mut of, mut nodes, mut count, mut data) = (NO_GRAPH, ptr::null(), 0, ptr::null());
    let (s, i, g) = (&raw mut status, &raw mut id, &raw mut of);
    must!(cuda.cuStreamGetCaptureInfo_v2_ptsz(NULL, s, i, g, &raw mut nodes, &raw mut count));
    must!(cuda.cuStreamGetCaptureInfo_v3_ptsz(NULL, s, i, g, &raw mut nodes, &raw mut data, &raw mut count));
    must!(cuda.cuStreamUpdateCaptureDependencies_ptsz(NULL, ptr::null_mut(), 0, 1));
    must!(cuda.cuStreamUpdateCaptureDependencies_v2_ptsz(NULL, ptr::null_mut(), ptr::null(), 0, 1));
    must!(cuda.cuStreamEndCapture_ptsz(NULL, &raw mut graph));
    assert_eq!(of, graph);
    must!(cuda.cuStreamBeginCaptureToGraph_ptsz(NULL, graph, ptr::null(), ptr::null(), 0, RELAXED));
    must!(cuda.cuStreamEndCapture_ptsz(NULL, &raw mut graph));
    must!(cuda.cuGraphDestroy(graph));
    must!(cuda.cuStreamBeginCapture_v2_ptsz(NULL, RELAXED));
    must!(cuda.cuStreamEndCapture_ptsz(NULL, &raw mut graph));
    must!(cuda.cuGraphDestroy(graph));
}
