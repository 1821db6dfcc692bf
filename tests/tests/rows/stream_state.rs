//! What streams carry: attributes, memory operations, waits between contexts.

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::{must, result_of, value_of};

const NULL: CUstream = CUstream(0);
const SYNC_POLICY: CUlaunchAttributeID = CUlaunchAttributeID(3);
const PRIORITY: CUlaunchAttributeID = CUlaunchAttributeID(8);

fn valued(first: u64) -> CUlaunchAttributeValue {
    let mut value = CUlaunchAttributeValue::default();
    value.words[0] = first;
    value
}

pub(crate) fn attributes(cuda: &Cuda) {
    let [one, two] = [0; 2].map(|_| value_of!(cuda.cuStreamCreate(NULL, 1)));
    let mut device = CUdevice(9);
    must!(cuda.cuStreamGetDevice(one, &raw mut device));
    assert_eq!(device, CUdevice(0));
    must!(cuda.cuStreamGetDevice_ptsz(NULL, &raw mut device));
    let mut got = valued(99);
    must!(cuda.cuStreamGetAttribute(one, SYNC_POLICY, &raw mut got));
    assert_eq!(got, valued(1), "CU_SYNC_POLICY_AUTO");
    let (yields, urgent) = (valued(3), valued(u64::from((-1_i32).cast_unsigned())));
    must!(cuda.cuStreamSetAttribute(one, SYNC_POLICY, &raw const yields));
    must!(cuda.cuStreamSetAttribute(one, PRIORITY, &raw const urgent));
    must!(cuda.cuStreamCopyAttributes(two, one));
    must!(cuda.cuStreamGetAttribute(two, SYNC_POLICY, &raw mut got));
    assert_eq!(got, yields);
    let mut priority = 0;
    must!(cuda.cuStreamGetPriority(two, &raw mut priority));
    assert_eq!(priority, -1);
    let unknown = valued(77);
    let refused = result_of!(cuda.cuStreamSetAttribute(one, SYNC_POLICY, &raw const unknown));
    assert_eq!(refused, CUDA_ERROR_INVALID_VALUE);
    let null = result_of!(cuda.cuStreamGetAttribute(one, SYNC_POLICY, std::ptr::null_mut()));
    assert_eq!(null, CUDA_ERROR_INVALID_VALUE);
    must!(cuda.cuStreamSetAttribute_ptsz(NULL, SYNC_POLICY, &raw const yields));
    must!(cuda.cuStreamGetAttribute_ptsz(NULL, SYNC_POLICY, &raw mut got));
    assert_eq!(got, yields);
    must!(cuda.cuStreamGetAttribute(NULL, SYNC_POLICY, &raw mut got));
    assert_eq!(got, valued(1), "the legacy stream is another one");
    must!(cuda.cuStreamCopyAttributes_ptsz(NULL, NULL));
    let mut mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    must!(cuda.cuThreadExchangeStreamCaptureMode(&raw mut mode));
    assert_eq!(mode, CU_STREAM_CAPTURE_MODE_GLOBAL);
    must!(cuda.cuThreadExchangeStreamCaptureMode(&raw mut mode));
    assert_eq!(mode, CU_STREAM_CAPTURE_MODE_RELAXED);
    for stream in [one, two] {
        must!(cuda.cuStreamDestroy_v2(stream));
    }
}

fn word_of(cuda: &Cuda, at: CUdeviceptr) -> u64 {
    let mut word = 0_u64;
    must!(cuda.cuMemcpyDtoH_v2((&raw mut word).cast(), at, 8));
    word
}

/// Two streams hand a word to each other; each side works only when the other
/// has written.
pub(crate) fn memory_operations(cuda: &Cuda) {
    let at = value_of!(cuda.cuMemAlloc_v2(CUdeviceptr(0), 64));
    must!(cuda.cuMemsetD8_v2(at, 0, 64));
    let next = CUdeviceptr(at.0 + 8);
    let [one, two] = [0; 2].map(|_| value_of!(cuda.cuStreamCreate(NULL, 1)));
    must!(cuda.cuStreamWaitValue32(one, at, 5, 1));
    must!(cuda.cuStreamWriteValue64_v2(one, next, 1 << 40, 0));
    must!(cuda.cuStreamWaitValue64_v2(two, next, 1 << 40, 0));
    must!(cuda.cuStreamWriteValue32_v2(two, CUdeviceptr(at.0 + 16), 9, 0));
    assert_eq!(result_of!(cuda.cuStreamQuery(two)), CUDA_ERROR_NOT_READY);
    let third = value_of!(cuda.cuStreamCreate(NULL, 1));
    must!(cuda.cuStreamWriteValue32(third, at, 5, 1));
    must!(cuda.cuStreamSynchronize(two));
    assert_eq!([word_of(cuda, at), word_of(cuda, next)], [5, 1 << 40]);
    assert_eq!(word_of(cuda, CUdeviceptr(at.0 + 16)), 9);
    must!(cuda.cuStreamWaitValue32_v2(one, at, 4, 2));
    must!(cuda.cuStreamWaitValue64(one, at, 5, 1));
    must!(cuda.cuStreamWriteValue64(one, at, 6, 0));
    must!(cuda.cuStreamSynchronize(one));
    assert_eq!(word_of(cuda, at), 6);
    batches(cuda, one, at);
    per_thread(cuda, at);
    for stream in [one, two, third] {
        must!(cuda.cuStreamDestroy_v2(stream));
    }
    must!(cuda.cuMemFree_v2(at));
}

fn batches(cuda: &Cuda, stream: CUstream, at: CUdeviceptr) {
    let of = CUstreamBatchMemOpParams::of;
    let ops = [
        of(CU_STREAM_MEM_OP_WAIT_VALUE_32, at, 6, 1),
        of(CU_STREAM_MEM_OP_WRITE_VALUE_64, at, 1 << 33, 0),
        of(CU_STREAM_MEM_OP_WAIT_VALUE_64, at, 1 << 33, 1),
        of(CU_STREAM_MEM_OP_WRITE_VALUE_32, at, 7, 0),
    ];
    must!(cuda.cuStreamBatchMemOp(stream, 4, ops.as_ptr(), 0));
    must!(cuda.cuStreamSynchronize(stream));
    assert_eq!(word_of(cuda, at), 1 << 33 | 7);
    // Add 3 to a 32-bit word, behind a barrier.
    let barrier = CUstreamBatchMemOpParams { words: [u64::from(CU_STREAM_MEM_OP_BARRIER.0), 0, 0, 0, 0, 0] };
    let add = u64::from(CU_STREAM_MEM_OP_ATOMIC_REDUCTION.0);
    let add = CUstreamBatchMemOpParams { words: [add, 14 << 32, at.0, 3, 0, 0] };
    must!(cuda.cuStreamBatchMemOp_v2(stream, 2, [barrier, add].as_ptr(), 0));
    must!(cuda.cuStreamSynchronize(stream));
    assert_eq!(word_of(cuda, at), 1 << 33 | 10);
}

fn per_thread(cuda: &Cuda, at: CUdeviceptr) {
    must!(cuda.cuStreamWriteValue32_ptsz(NULL, at, 1, 0));
    must!(cuda.cuStreamWaitValue32_ptsz(NULL, at, 1, 0));
    must!(cuda.cuStreamWriteValue64_ptsz(NULL, at, 2, 0));
    must!(cuda.cuStreamWaitValue64_ptsz(NULL, at, 2, 0));
    must!(cuda.cuStreamWriteValue32_v2_ptsz(NULL, at, 3, 0));
    must!(cuda.cuStreamWaitValue32_v2_ptsz(NULL, at, 3, 0));
    must!(cuda.cuStreamWriteValue64_v2_ptsz(NULL, at, 4, 0));
    must!(cuda.cuStreamWaitValue64_v2_ptsz(NULL, at, 4, 0));
    let write = [CUstreamBatchMemOpParams::of(CU_STREAM_MEM_OP_WRITE_VALUE_32, at, 5, 0)];
    must!(cuda.cuStreamBatchMemOp_ptsz(NULL, 1, write.as_ptr(), 0));
    must!(cuda.cuStreamBatchMemOp_v2_ptsz(NULL, 1, write.as_ptr(), 0));
    must!(cuda.cuStreamSynchronize_ptsz(NULL));
    assert_eq!(word_of(cuda, at), 5);
}

/// A context's whole work in one event, and a context that waits for one.
pub(crate) fn between_contexts(cuda: &Cuda) {
    let context = value_of!(cuda.cuCtxGetCurrent(CUcontext(0)));
    let at = value_of!(cuda.cuMemAlloc_v2(CUdeviceptr(0), 16));
    must!(cuda.cuMemsetD8_v2(at, 0, 16));
    let [one, two] = [0; 2].map(|_| value_of!(cuda.cuStreamCreate(NULL, 1)));
    let [held, event] = [0; 2].map(|_| value_of!(cuda.cuEventCreate(CUevent(0), 2)));
    must!(cuda.cuStreamWaitValue32(one, at, 1, 1));
    must!(cuda.cuEventRecord(held, one));
    must!(cuda.cuCtxRecordEvent(context, event));
    assert_eq!(result_of!(cuda.cuEventQuery(event)), CUDA_ERROR_NOT_READY);
    must!(cuda.cuCtxWaitEvent(context, held));
    must!(cuda.cuStreamWriteValue32(two, CUdeviceptr(at.0 + 8), 4, 0));
    assert_eq!(result_of!(cuda.cuStreamQuery(two)), CUDA_ERROR_NOT_READY);
    release(cuda, at);
    must!(cuda.cuStreamSynchronize(two));
    must!(cuda.cuEventSynchronize(event));
    assert_eq!(word_of(cuda, CUdeviceptr(at.0 + 8)), 4);
    for event in [held, event] {
        must!(cuda.cuEventDestroy_v2(event));
    }
    for stream in [one, two] {
        must!(cuda.cuStreamDestroy_v2(stream));
    }
    must!(cuda.cuMemFree_v2(at));
}

/// From a context that does not wait.
fn release(cuda: &Cuda, at: CUdeviceptr) {
    let other = value_of!(cuda.cuCtxCreate_v2(CUcontext(0), 0, CUdevice(0)));
    let stream = value_of!(cuda.cuStreamCreate(NULL, 1));
    must!(cuda.cuStreamWriteValue32(stream, at, 1, 0));
    must!(cuda.cuStreamSynchronize(stream));
    must!(cuda.cuCtxDestroy_v2(other));
}
