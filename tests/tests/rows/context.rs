//! Primary and created contexts, and the calling thread's stack of them.

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::{must, result_of, value_of};

const DEV: CUdevice = CUdevice(0);
const NONE: CUcontext = CUcontext(0);

/// Leaves the primary context current.
pub(crate) fn primary(cuda: &Cuda) -> CUcontext {
    assert_eq!(value_of!(cuda.cuCtxGetCurrent(CUcontext(1))), NONE);
    let mut dev = DEV;
    let none_current = result_of!(cuda.cuCtxGetDevice(&raw mut dev));
    assert_eq!(none_current, CUDA_ERROR_INVALID_CONTEXT);
    must!(cuda.cuDevicePrimaryCtxSetFlags_v2(DEV, 4));
    let context = value_of!(cuda.cuDevicePrimaryCtxRetain(NONE, DEV));
    let (mut flags, mut active) = (0, 0);
    must!(cuda.cuDevicePrimaryCtxGetState(DEV, &raw mut flags, &raw mut active));
    assert_eq!((flags, active), (4, 1));
    must!(cuda.cuDevicePrimaryCtxGetState(DEV, &raw mut flags, &raw mut active));
    assert_eq!((flags, active), (4, 1), "asked a second time");
    let nowhere = result_of!(cuda.cuDevicePrimaryCtxGetState(DEV, &raw mut flags, std::ptr::null_mut()));
    assert_eq!(nowhere, CUDA_ERROR_INVALID_VALUE);
    for wanted in [2, 4] {
        must!(cuda.cuDevicePrimaryCtxSetFlags_v2(DEV, wanted));
        must!(cuda.cuDevicePrimaryCtxGetState(DEV, &raw mut flags, &raw mut active));
        assert_eq!((flags, active), (wanted, 1), "after a change");
    }
    must!(cuda.cuCtxSetCurrent(context));
    assert_eq!(value_of!(cuda.cuCtxGetCurrent(NONE)), context);
    assert_eq!(value_of!(cuda.cuCtxGetDevice(CUdevice(9))), DEV);
    assert_eq!(value_of!(cuda.cuCtxGetDevice_v2(CUdevice(9), context)), DEV);
    state(cuda, context);
    context
}

fn state(cuda: &Cuda, context: CUcontext) {
    must!(cuda.cuCtxSynchronize());
    must!(cuda.cuCtxSynchronize_v2(context));
    let version = {
        let mut version = 0;
        must!(cuda.cuCtxGetApiVersion(context, &raw mut version));
        version
    };
    assert!(version > 3_000);
    let mut id = 0;
    must!(cuda.cuCtxGetId(context, &raw mut id));
    assert_ne!(id, 0);
    let stack = CUlimit(0);
    must!(cuda.cuCtxSetLimit(stack, 4096));
    assert!(value_of!(cuda.cuCtxGetLimit(0, stack)) >= 4096);
    let cig_enabled = CUlimit(8);
    match result_of!(cuda.cuCtxSetLimit(cig_enabled, 1)) {
        CUDA_ERROR_UNSUPPORTED_LIMIT | CUDA_ERROR_INVALID_VALUE => {}
        other => panic!("a limit that can only be asked for: {other}"),
    }
    assert_eq!(value_of!(cuda.cuCtxGetLimit(9, cig_enabled)), 0);
    must!(cuda.cuCtxSetCacheConfig(CUfunc_cache(2)));
    assert_eq!(value_of!(cuda.cuCtxGetCacheConfig(CUfunc_cache(0))), CUfunc_cache(2));
    let (mut least, mut greatest) = (-9, 9);
    must!(cuda.cuCtxGetStreamPriorityRange(&raw mut least, &raw mut greatest));
    assert!(greatest <= least);
    must!(cuda.cuCtxGetStreamPriorityRange(std::ptr::null_mut(), &raw mut greatest));
    must!(cuda.cuCtxSetFlags(4));
    assert_eq!(value_of!(cuda.cuCtxGetFlags(0)) & 7, 4);
}

/// A context of its own above the primary one: what is made in it ends with it.
pub(crate) fn created(cuda: &Cuda, primary: CUcontext) {
    let own = value_of!(cuda.cuCtxCreate_v2(NONE, 0, DEV));
    assert_eq!(value_of!(cuda.cuCtxGetCurrent(NONE)), own);
    let stream = value_of!(cuda.cuStreamCreate(CUstream(0), 0));
    let mut of_stream = NONE;
    must!(cuda.cuStreamGetCtx(stream, &raw mut of_stream));
    assert_eq!(of_stream, own);
    must!(cuda.cuCtxPushCurrent_v2(primary));
    assert_eq!(value_of!(cuda.cuCtxPopCurrent_v2(NONE)), primary);
    assert_eq!(value_of!(cuda.cuCtxGetCurrent(NONE)), own);
    must!(cuda.cuCtxDestroy_v2(own));
    assert_eq!(value_of!(cuda.cuCtxGetCurrent(NONE)), primary);
    assert_eq!(result_of!(cuda.cuCtxSetCurrent(own)), CUDA_ERROR_INVALID_CONTEXT);
    let newer = value_of!(cuda.cuCtxCreate_v4(NONE, std::ptr::null_mut(), 0, DEV));
    must!(cuda.cuCtxDestroy_v2(newer));
}

pub(crate) fn end(cuda: &Cuda) {
    must!(cuda.cuDevicePrimaryCtxReset_v2(DEV));
    must!(cuda.cuDevicePrimaryCtxRelease_v2(DEV));
    let (mut flags, mut active) = (0, 1);
    must!(cuda.cuDevicePrimaryCtxGetState(DEV, &raw mut flags, &raw mut active));
    assert_eq!(active, 0, "nobody retains it");
    must!(cuda.cuCtxSetCurrent(NONE));
    assert_eq!(result_of!(cuda.cuCtxSynchronize()), CUDA_ERROR_INVALID_CONTEXT);
}
