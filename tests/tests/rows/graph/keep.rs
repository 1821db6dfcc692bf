//! What graphs keep: user objects until nobody holds them, memory of
//! allocation nodes from one launch to what frees it.

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::{must, result_of, value_of};

use super::{NO_NODE, add_set, graph, launch, words_at};

const DEV: CUdevice = CUdevice(0);
const NO_EXEC: CUgraphExec = CUgraphExec(0);

pub(crate) fn kept(cuda: &Cuda) {
    objects(cuda);
    memory(cuda);
}

extern "C" fn ended(data: *mut c_void) {
    // SAFETY: the counter of the test, which waits for it.
    #[allow(unsafe_code, reason = "the callback's data")]
    let counter = unsafe { &*data.cast::<AtomicU32>() };
    counter.fetch_add(1, Ordering::SeqCst);
}

/// Destructors are called some time after nothing holds their object.
fn until(what: impl Fn() -> bool) {
    let began = Instant::now();
    while !what() {
        assert!(began.elapsed() < Duration::from_secs(20), "a destructor was not called");
        std::thread::yield_now();
    }
}

fn objects(cuda: &Cuda) {
    let counter = AtomicU32::new(0);
    let data: Pointer = (&raw const counter).cast_mut().cast();
    let count = || counter.load(Ordering::SeqCst);
    let first = value_of!(cuda.cuUserObjectCreate(CUuserObject(0), data, Some(ended), 1, 1));
    must!(cuda.cuUserObjectRetain(first, 2));
    must!(cuda.cuUserObjectRelease(first, 2));
    assert_eq!(count(), 0);
    must!(cuda.cuUserObjectRelease(first, 1));
    until(|| count() == 1);
    let graph = graph(cuda);
    let second = value_of!(cuda.cuUserObjectCreate(CUuserObject(0), data, Some(ended), 1, 1));
    must!(cuda.cuGraphRetainUserObject(graph, second, 1, 1));
    must!(cuda.cuGraphRetainUserObject(graph, second, 2, 0));
    must!(cuda.cuGraphReleaseUserObject(graph, second, 2));
    let exec = value_of!(cuda.cuGraphInstantiateWithFlags(NO_EXEC, graph, 0));
    must!(cuda.cuGraphDestroy(graph));
    launch(cuda, exec);
    assert_eq!(count(), 1, "what was instantiated holds it");
    must!(cuda.cuGraphExecDestroy(exec));
    until(|| count() == 2);
    let mut none = CUuserObject(0);
    let refused = result_of!(cuda.cuUserObjectCreate(&raw mut none, data, None, 1, 1));
    assert_eq!(refused, CUDA_ERROR_INVALID_VALUE);
}

fn gauge(cuda: &Cuda, attribute: CUgraphMem_attribute) -> u64 {
    let mut bytes = 0_u64;
    let into: *mut u64 = &raw mut bytes;
    must!(cuda.cuDeviceGetGraphMemAttribute(DEV, attribute, into.cast()));
    bytes
}

fn memory(cuda: &Cuda) {
    const BYTES: u64 = 4096;
    let graph = graph(cuda);
    let mut poolProps = [0_u64; 11];
    // Pinned memory, no handle types, on device 0.
    (poolProps[0], poolProps[1]) = (1, 1);
    let mut params = CUDA_MEM_ALLOC_NODE_PARAMS { poolProps, bytesize: BYTES, ..Default::default() };
    let [mut alloc, mut free] = [NO_NODE; 2];
    must!(cuda.cuGraphAddMemAllocNode(&raw mut alloc, graph, ptr::null(), 0, &raw mut params));
    let at = params.dptr;
    assert_ne!(at, CUdeviceptr(0));
    let set = add_set(cuda, graph, &[alloc], at, 12);
    let mut told = CUDA_MEM_ALLOC_NODE_PARAMS::default();
    must!(cuda.cuGraphMemAllocNodeGetParams(alloc, &raw mut told));
    assert_eq!((told.dptr, told.bytesize), (at, BYTES));
    let exec = value_of!(cuda.cuGraphInstantiateWithFlags(NO_EXEC, graph, 0));
    launch(cuda, exec);
    assert_eq!(words_at(cuda, at), [12]);
    assert!(gauge(cuda, CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT) >= BYTES);
    must!(cuda.cuMemFree_v2(at));
    assert_eq!(gauge(cuda, CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT), 0);
    must!(cuda.cuGraphExecDestroy(exec));
    must!(cuda.cuGraphAddMemFreeNode(&raw mut free, graph, &raw const set, 1, at));
    let mut freed = CUdeviceptr(0);
    must!(cuda.cuGraphMemFreeNodeGetParams(free, &raw mut freed));
    assert_eq!(freed, at);
    let exec = value_of!(cuda.cuGraphInstantiateWithFlags(NO_EXEC, graph, 0));
    (0..3).for_each(|_| launch(cuda, exec));
    must!(cuda.cuGraphExecDestroy(exec));
    assert!(gauge(cuda, CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT) >= BYTES);
    must!(cuda.cuDeviceGraphMemTrim(DEV));
    assert_eq!(gauge(cuda, CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT), 0);
    assert!(gauge(cuda, CU_GRAPH_MEM_ATTR_USED_MEM_HIGH) >= BYTES);
    let mut zero = 0_u64;
    let from: *mut u64 = &raw mut zero;
    must!(cuda.cuDeviceSetGraphMemAttribute(DEV, CU_GRAPH_MEM_ATTR_USED_MEM_HIGH, from.cast()));
    assert_eq!(gauge(cuda, CU_GRAPH_MEM_ATTR_USED_MEM_HIGH), 0);
    must!(cuda.cuGraphDestroy(graph));
}
