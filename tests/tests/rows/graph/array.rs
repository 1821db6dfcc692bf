//! Copies with arrays: as nodes, and captured.

use std::ptr;

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::{must, result_of, value_of};
use zerocopy::FromZeros;

use super::{NO_NODE, flat, graph, launch, run, zeroed};

const HOST: CUmemorytype = CU_MEMORYTYPE_HOST;
const DEVICE: CUmemorytype = CU_MEMORYTYPE_DEVICE;
const NO_EXEC: CUgraphExec = CUgraphExec(0);
const NO_STREAM: CUstream = CUstream(0);
/// Elements of one byte in a row, rows, slices.
const SIDES: [u64; 3] = [12, 5, 3];
const BYTES: usize = 12 * 5 * 3;

fn array(cuda: &Cuda) -> CUarray {
    let [Width, Height, Depth] = SIDES;
    let descriptor = CUDA_ARRAY3D_DESCRIPTOR {
        Width,
        Height,
        Depth,
        Format: CU_AD_FORMAT_UNSIGNED_INT8,
        NumChannels: 1,
        ..CUDA_ARRAY3D_DESCRIPTOR::new_zeroed()
    };
    value_of!(cuda.cuArray3DCreate_v2(CUarray(0), &raw const descriptor))
}

/// The whole volume between two ends, either of which may be in an array.
fn whole(to: (CUmemorytype, u64), from: (CUmemorytype, u64)) -> CUDA_MEMCPY3D {
    let [WidthInBytes, Height, Depth] = SIDES;
    let mut copy = CUDA_MEMCPY3D { Height, Depth, ..flat(to, from, WidthInBytes) };
    if to.0 == CU_MEMORYTYPE_ARRAY {
        (copy.dstDevice, copy.dstArray) = (CUdeviceptr(0), CUarray(to.1));
    }
    if from.0 == CU_MEMORYTYPE_ARRAY {
        (copy.srcDevice, copy.srcArray) = (CUdeviceptr(0), CUarray(from.1));
    }
    copy
}

fn of(array: CUarray) -> (CUmemorytype, u64) {
    (CU_MEMORYTYPE_ARRAY, array.0)
}

fn at(bytes: &[u8]) -> (CUmemorytype, u64) {
    (HOST, bytes.as_ptr() as u64)
}

fn add(cuda: &Cuda, graph: CUgraph, before: CUgraphNode, copy: &CUDA_MEMCPY3D) -> CUgraphNode {
    let context = value_of!(cuda.cuCtxGetCurrent(CUcontext(0)));
    let (mut node, count) = (NO_NODE, usize::from(before != NO_NODE));
    must!(cuda.cuGraphAddMemcpyNode(&raw mut node, graph, &raw const before, count, copy, context));
    node
}

pub(crate) fn arrays(cuda: &Cuda) {
    nodes(cuda);
    captured(cuda);
}

/// From the program into an array, to another, to the device, and back.
fn nodes(cuda: &Cuda) {
    let (graph, device) = (graph(cuda), zeroed(cuda, 256));
    let [one, two] = [0; 2].map(|_| array(cuda));
    let (mut source, target) = (vec![1_u8; BYTES], vec![0_u8; BYTES]);
    let up = add(cuda, graph, NO_NODE, &whole(of(one), at(&source)));
    let over = add(cuda, graph, up, &whole(of(two), of(one)));
    let out = add(cuda, graph, over, &whole((DEVICE, device.0), of(two)));
    let back = add(cuda, graph, out, &whole(at(&target), (DEVICE, device.0)));
    let mut told = CUDA_MEMCPY3D::default();
    must!(cuda.cuGraphMemcpyNodeGetParams(over, &raw mut told));
    assert_eq!((told.srcArray, told.dstArray), (one, two));
    assert_eq!((told.srcMemoryType, told.Depth), (CU_MEMORYTYPE_ARRAY, SIDES[2]));
    let exec = value_of!(cuda.cuGraphInstantiateWithFlags(NO_EXEC, graph, 0));
    for value in [3, 4] {
        source.fill(value);
        launch(cuda, exec);
        assert_eq!(target, vec![value; BYTES]);
    }
    // From here on the second array's copy leaves out a row, a slice and four elements.
    let context = value_of!(cuda.cuCtxGetCurrent(CUcontext(0)));
    let part = CUDA_MEMCPY3D { srcXInBytes: 4, dstXInBytes: 4, srcY: 1, dstY: 1, srcZ: 1, dstZ: 1, ..told };
    let part = CUDA_MEMCPY3D { WidthInBytes: 8, Height: 4, Depth: 2, ..part };
    must!(cuda.cuGraphExecMemcpyNodeSetParams(exec, over, &raw const part, context));
    source.fill(9);
    launch(cuda, exec);
    let is_in = |place: usize| place % 12 >= 4 && place / 12 % 5 >= 1 && place / 60 >= 1;
    assert!(target.iter().enumerate().all(|(place, byte)| *byte == if is_in(place) { 9 } else { 4 }));
    let outside = CUDA_MEMCPY3D { dstXInBytes: 5, ..part };
    let refused = result_of!(cuda.cuGraphExecMemcpyNodeSetParams(exec, over, &raw const outside, context));
    assert_eq!(refused, CUDA_ERROR_INVALID_VALUE, "beyond the array");
    let mut node = NO_NODE;
    let none = whole((DEVICE, device.0), (CU_MEMORYTYPE_ARRAY, 77));
    let refused = result_of!(cuda.cuGraphAddMemcpyNode(&raw mut node, graph, ptr::null(), 0, &raw const none, context));
    assert_eq!(refused, CUDA_ERROR_INVALID_HANDLE, "no array");
    must!(cuda.cuGraphDestroyNode(back));
    must!(cuda.cuGraphExecDestroy(exec));
    must!(cuda.cuGraphDestroy(graph));
    must!(cuda.cuArrayDestroy(one));
    must!(cuda.cuArrayDestroy(two));
    must!(cuda.cuMemFree_v2(device));
}

fn captured(cuda: &Cuda) {
    let stream = value_of!(cuda.cuStreamCreate(NO_STREAM, 1));
    let device = zeroed(cuda, 256);
    let [one, two] = [0; 2].map(|_| array(cuda));
    let line = CUDA_ARRAY_DESCRIPTOR { Width: 64, Height: 0, Format: CU_AD_FORMAT_UNSIGNED_INT8, NumChannels: 1 };
    let line = value_of!(cuda.cuArrayCreate_v2(CUarray(0), &raw const line));
    let (source, target, short) = (vec![6_u8; BYTES], vec![0_u8; BYTES], vec![0_u8; 64]);
    must!(cuda.cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    for copy in [
        whole(of(one), at(&source)),
        whole(of(two), of(one)),
        whole((DEVICE, device.0), of(two)),
        whole(at(&target), of(two)),
    ] {
        must!(cuda.cuMemcpy3DAsync_v2(&raw const copy, stream));
    }
    must!(cuda.cuMemcpyHtoAAsync_v2(line, 0, source.as_ptr() as Pointer, 64, stream));
    must!(cuda.cuMemcpyAtoHAsync_v2(short.as_ptr() as Pointer, line, 0, 64, stream));
    let mut graph = CUgraph(0);
    must!(cuda.cuStreamEndCapture(stream, &raw mut graph));
    assert!(target.iter().chain(&short).all(|byte| *byte == 0), "nothing has run");
    run(cuda, graph);
    assert_eq!((target, short), (vec![6; BYTES], vec![6; 64]));
    let mut bytes = vec![0_u8; BYTES];
    must!(cuda.cuMemcpyDtoH_v2(bytes.as_mut_ptr().cast(), device, BYTES));
    assert_eq!(bytes, vec![6; BYTES]);
    must!(cuda.cuGraphDestroy(graph));
    must!(cuda.cuStreamDestroy_v2(stream));
    for array in [one, two, line] {
        must!(cuda.cuArrayDestroy(array));
    }
    must!(cuda.cuMemFree_v2(device));
}
