//! Graphs: their form, their nodes, their launches, what they keep.

mod array;
mod execution;
mod keep;
mod node;
mod topology;

pub(crate) use array::arrays;
pub(crate) use execution::execution;
pub(crate) use keep::kept;
pub(crate) use node::{copies, event_nodes, kernel_nodes, memory_operation_nodes, uniform};
pub(crate) use topology::topology;

use std::ptr;

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::{must, value_of};

const NO_STREAM: CUstream = CUstream(0);
const NO_NODE: CUgraphNode = CUgraphNode(0);

/// An empty graph.
fn graph(cuda: &Cuda) -> CUgraph {
    value_of!(cuda.cuGraphCreate(CUgraph(0), 0))
}

/// Instantiates, launches once, waits.
fn run(cuda: &Cuda, graph: CUgraph) {
    let exec = value_of!(cuda.cuGraphInstantiateWithFlags(CUgraphExec(0), graph, 0));
    launch(cuda, exec);
    must!(cuda.cuGraphExecDestroy(exec));
}

fn launch(cuda: &Cuda, exec: CUgraphExec) {
    must!(cuda.cuGraphLaunch(exec, NO_STREAM));
    must!(cuda.cuStreamSynchronize(NO_STREAM));
}

/// Device memory with every byte 0.
fn zeroed(cuda: &Cuda, bytes: usize) -> CUdeviceptr {
    let at = value_of!(cuda.cuMemAlloc_v2(CUdeviceptr(0), bytes));
    must!(cuda.cuMemsetD8_v2(at, 0, bytes));
    at
}

fn words_at<const N: usize>(cuda: &Cuda, at: CUdeviceptr) -> [u32; N] {
    let mut words = [0_u32; N];
    must!(cuda.cuMemcpyDtoH_v2(words.as_mut_ptr().cast(), at, 4 * N));
    words
}

/// A memset of one word.
fn word_set(at: CUdeviceptr, value: u32) -> CUDA_MEMSET_NODE_PARAMS {
    CUDA_MEMSET_NODE_PARAMS { dst: at, pitch: 0, value, elementSize: 4, width: 1, height: 1 }
}

fn add_set(cuda: &Cuda, graph: CUgraph, before: &[CUgraphNode], at: CUdeviceptr, value: u32) -> CUgraphNode {
    let context = value_of!(cuda.cuCtxGetCurrent(CUcontext(0)));
    let (set, mut node) = (word_set(at, value), NO_NODE);
    let (from, count) = (before.as_ptr(), before.len());
    must!(cuda.cuGraphAddMemsetNode(&raw mut node, graph, from, count, &raw const set, context));
    node
}

/// A copy of some bytes between two addresses, each host or device memory.
fn flat(to: (CUmemorytype, u64), from: (CUmemorytype, u64), bytes: u64) -> CUDA_MEMCPY3D {
    let host = |(kind, at): (CUmemorytype, u64)| if kind == CU_MEMORYTYPE_HOST { at } else { 0 };
    let device = |(kind, at): (CUmemorytype, u64)| CUdeviceptr(if kind == CU_MEMORYTYPE_HOST { 0 } else { at });
    CUDA_MEMCPY3D {
        srcMemoryType: from.0,
        srcHost: host(from),
        srcDevice: device(from),
        dstMemoryType: to.0,
        dstHost: host(to),
        dstDevice: device(to),
        WidthInBytes: bytes,
        Height: 1,
        Depth: 1,
        ..CUDA_MEMCPY3D::default()
    }
}

/// Memory that kernels, copies and the program reach.
fn pinned(cuda: &Cuda, bytes: usize) -> Pointer {
    let mut at = ptr::null_mut();
    must!(cuda.cuMemHostAlloc(&raw mut at, bytes, 0));
    at
}
