//! Streams, events and host functions.

use std::ffi::c_void;
use std::ptr;
use std::sync::Mutex;

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::{must, result_of, value_of};

const NULL: CUstream = CUstream(0);

pub(crate) fn streams(cuda: &Cuda) {
    let stream = value_of!(cuda.cuStreamCreate(NULL, 1));
    must!(cuda.cuStreamQuery(stream));
    must!(cuda.cuStreamQuery_ptsz(NULL));
    must!(cuda.cuStreamSynchronize(stream));
    let mut flags = 0;
    must!(cuda.cuStreamGetFlags(stream, &raw mut flags));
    assert_eq!(flags, 1);
    must!(cuda.cuStreamGetFlags_ptsz(stream, &raw mut flags));
    let mut context = CUcontext(0);
    must!(cuda.cuStreamGetCtx(stream, &raw mut context));
    assert_eq!(value_of!(cuda.cuCtxGetCurrent(CUcontext(0))), context);
    must!(cuda.cuStreamGetCtx_ptsz(NULL, &raw mut context));
    let (mut id, mut of_default) = (0, 0);
    must!(cuda.cuStreamGetId(stream, &raw mut id));
    must!(cuda.cuStreamGetId_ptsz(NULL, &raw mut of_default));
    assert_ne!(id, of_default);
    must!(cuda.cuStreamDestroy_v2(stream));
    assert_eq!(result_of!(cuda.cuStreamSynchronize(stream)), CUDA_ERROR_INVALID_HANDLE);
    let (mut least, mut greatest, mut given) = (0, 0, 9);
    must!(cuda.cuCtxGetStreamPriorityRange(&raw mut least, &raw mut greatest));
    let urgent = value_of!(cuda.cuStreamCreateWithPriority(NULL, 1, greatest));
    must!(cuda.cuStreamGetPriority(urgent, &raw mut given));
    assert_eq!(given, greatest);
    must!(cuda.cuStreamGetPriority_ptsz(urgent, &raw mut given));
    must!(cuda.cuStreamDestroy_v2(urgent));
}

pub(crate) fn events(cuda: &Cuda, module: CUmodule) {
    let nothing = value_of!(cuda.cuModuleGetFunction(CUfunction(0), module, c"nothing".as_ptr()));
    let stream = value_of!(cuda.cuStreamCreate(NULL, 1));
    let start = value_of!(cuda.cuEventCreate(CUevent(0), 0));
    let end = value_of!(cuda.cuEventCreate(CUevent(0), 0));
    must!(cuda.cuEventRecord(start, stream));
    let none = ptr::null_mut();
    must!(cuda.cuLaunchKernel(nothing, 1, 1, 1, 1, 1, 1, 0, stream, none, none));
    must!(cuda.cuEventRecordWithFlags(end, stream, 0));
    must!(cuda.cuStreamWaitEvent(NULL, end, 0));
    must!(cuda.cuStreamWaitEvent_ptsz(NULL, end, 0));
    must!(cuda.cuEventSynchronize(end));
    must!(cuda.cuEventQuery(end));
    assert!(value_of!(cuda.cuEventElapsedTime(-1.0, start, end)) >= 0.0);
    assert!(value_of!(cuda.cuEventElapsedTime_v2(-1.0, start, end)) >= 0.0);
    must!(cuda.cuEventRecord_ptsz(start, NULL));
    must!(cuda.cuEventRecordWithFlags_ptsz(start, NULL, 0));
    must!(cuda.cuEventSynchronize(start));
    must!(cuda.cuEventDestroy_v2(start));
    must!(cuda.cuEventDestroy_v2(end));
    assert_eq!(result_of!(cuda.cuEventDestroy_v2(end)), CUDA_ERROR_INVALID_HANDLE);
    must!(cuda.cuStreamDestroy_v2(stream));
}

type Seen = Mutex<Vec<u32>>;

extern "C" fn host_function(data: *mut c_void) {
    push(data, 1);
}

extern "C" fn stream_callback(_: CUstream, status: CUresult, data: *mut c_void) {
    push(data, 100 + status.0);
}

fn push(data: *mut c_void, what: u32) {
    // SAFETY: the list below, which outlives the streams' work.
    #[allow(unsafe_code, reason = "the callback's data")]
    let seen = unsafe { &*data.cast::<Seen>() };
    seen.lock().unwrap().push(what);
}

pub(crate) fn host_functions(cuda: &Cuda) {
    let seen = Seen::default();
    let data = (&raw const seen).cast_mut().cast();
    must!(cuda.cuLaunchHostFunc(NULL, Some(host_function), data));
    must!(cuda.cuStreamAddCallback(NULL, Some(stream_callback), data, 0));
    must!(cuda.cuStreamSynchronize(NULL));
    assert_eq!(*seen.lock().unwrap(), [1, 100]);
    must!(cuda.cuLaunchHostFunc_ptsz(NULL, Some(host_function), data));
    must!(cuda.cuStreamAddCallback_ptsz(NULL, Some(stream_callback), data, 0));
    must!(cuda.cuStreamSynchronize_ptsz(NULL));
    assert_eq!(*seen.lock().unwrap(), [1, 100, 1, 100]);
    must!(cuda.cuLaunchHostFunc_v2(NULL, Some(host_function), data, 1));
    must!(cuda.cuLaunchHostFunc_v2_ptsz(NULL, Some(host_function), data, 0));
    must!(cuda.cuCtxSynchronize());
    assert_eq!(*seen.lock().unwrap(), [1, 100, 1, 100, 1, 1]);
    refused(cuda, data);
    assert_eq!(*seen.lock().unwrap(), [1, 100, 1, 100, 1, 1, 1], "a refused function has run");
    let missing = result_of!(cuda.cuLaunchHostFunc(NULL, None, data));
    assert_eq!(missing, CUDA_ERROR_INVALID_VALUE);
}

/// On a stream that has ended: told at once or by the next awaited call, never
/// run, and the next host function runs as ever.
fn refused(cuda: &Cuda, data: *mut c_void) {
    let ended = value_of!(cuda.cuStreamCreate(NULL, 1));
    must!(cuda.cuStreamDestroy_v2(ended));
    let at_once = result_of!(cuda.cuLaunchHostFunc(ended, Some(host_function), data));
    let told = if at_once == CUDA_SUCCESS { result_of!(cuda.cuCtxSynchronize()) } else { at_once };
    assert_eq!(told, CUDA_ERROR_INVALID_HANDLE);
    must!(cuda.cuLaunchHostFunc(NULL, Some(host_function), data));
    must!(cuda.cuStreamSynchronize(NULL));
}
