//! What CUDA has kept from its first versions.

use std::ptr;

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::{must, result_of, value_of};

const DEV: CUdevice = CUdevice(0);
const NONE: CUcontext = CUcontext(0);

/// Shape and parameters set on the function, then launched.
pub(crate) fn launches(cuda: &Cuda, module: CUmodule) {
    const COUNT: usize = 200;
    let add = value_of!(cuda.cuModuleGetFunction(CUfunction(0), module, c"add".as_ptr()));
    let [to, left, right] = [0; 3].map(|_| value_of!(cuda.cuMemAlloc_v2(CUdeviceptr(0), COUNT * 4)));
    must!(cuda.cuMemsetD32_v2(left, 3, COUNT));
    must!(cuda.cuMemsetD32_v2(right, 4, COUNT));
    let check = |expected: u32| {
        must!(cuda.cuCtxSynchronize());
        let mut sums = [0_u32; COUNT];
        must!(cuda.cuMemcpyDtoH_v2(sums.as_mut_ptr().cast(), to, COUNT * 4));
        let written = sums.iter().filter(|sum| **sum == 7).count();
        assert_eq!(written, expected as usize);
        must!(cuda.cuMemsetD32_v2(to, 0, COUNT));
    };
    must!(cuda.cuMemsetD32_v2(to, 0, COUNT));
    let mut unset = [to, left, right];
    assert_eq!(result_of!(cuda.cuLaunch(add)), CUDA_ERROR_INVALID_VALUE, "nothing is set");
    must!(cuda.cuFuncSetBlockShape(add, 50, 1, 1));
    must!(cuda.cuFuncSetSharedSize(add, 0));
    must!(cuda.cuParamSetv(add, 0, unset.as_mut_ptr().cast(), 24));
    must!(cuda.cuParamSeti(add, 24, 200));
    must!(cuda.cuParamSetSize(add, 28));
    must!(cuda.cuLaunch(add));
    check(50);
    must!(cuda.cuLaunchGrid(add, 3, 1));
    check(150);
    must!(cuda.cuLaunchGridAsync(add, 4, 1, CUstream(0)));
    check(200);
    // The same bits as the number 70.
    must!(cuda.cuParamSetf(add, 24, f32::from_bits(70)));
    must!(cuda.cuLaunchGrid(add, 2, 2));
    check(70);
    let beyond = result_of!(cuda.cuParamSeti(add, 1 << 20, 1));
    assert_eq!(beyond, CUDA_ERROR_INVALID_VALUE);
    assert_eq!(result_of!(cuda.cuLaunchGrid(add, -1, 1)), CUDA_ERROR_INVALID_VALUE);
    for memory in [to, left, right] {
        must!(cuda.cuMemFree_v2(memory));
    }
}

/// The device has no clusters, and nobody profiles.
pub(crate) fn clusters_and_profiler(cuda: &Cuda, module: CUmodule) {
    let add = value_of!(cuda.cuModuleGetFunction(CUfunction(0), module, c"add".as_ptr()));
    let config = CUlaunchConfig {
        gridDimX: 2,
        gridDimY: 1,
        gridDimZ: 1,
        blockDimX: 32,
        blockDimY: 1,
        blockDimZ: 1,
        sharedMemBytes: 0,
        hStream: CUstream(0),
        attrs: ptr::null_mut(),
        numAttrs: 0,
    };
    let mut number = 0;
    let (into, at) = (&raw mut number, &raw const config);
    let size = result_of!(cuda.cuOccupancyMaxPotentialClusterSize(into, add, at));
    let count = result_of!(cuda.cuOccupancyMaxActiveClusters(into, add, at));
    assert_eq!((size, count), (CUDA_ERROR_INVALID_CLUSTER_SIZE, CUDA_ERROR_INVALID_CLUSTER_SIZE));
    must!(cuda.cuProfilerStart());
    must!(cuda.cuProfilerStop());
    must!(cuda.cuFuncSetSharedMemConfig(add, CUsharedconfig(1)));
    must!(cuda.cuCtxSetSharedMemConfig(CUsharedconfig(1)));
    assert_eq!(value_of!(cuda.cuCtxGetSharedMemConfig(CUsharedconfig(9))), CUsharedconfig(1));
    let odd = result_of!(cuda.cuFuncSetSharedMemConfig(add, CUsharedconfig(7)));
    assert_eq!(odd, CUDA_ERROR_INVALID_VALUE);
}

/// A context lasts until its last user detaches.
fn attached(cuda: &Cuda, own: CUcontext) {
    assert_eq!(value_of!(cuda.cuCtxAttach(NONE, 0)), own);
    must!(cuda.cuCtxDetach(own));
    assert_eq!(value_of!(cuda.cuCtxGetCurrent(NONE)), own);
    let mut none = NONE;
    let flagged = result_of!(cuda.cuCtxAttach(&raw mut none, 1));
    assert_eq!(flagged, CUDA_ERROR_INVALID_VALUE);
    let other = value_of!(cuda.cuCtxCreate(NONE, 0, DEV));
    assert_eq!(result_of!(cuda.cuCtxDetach(own)), CUDA_ERROR_INVALID_CONTEXT, "it is not current");
    must!(cuda.cuCtxDetach(other));
    assert_eq!(value_of!(cuda.cuCtxGetCurrent(NONE)), own);
}

pub(crate) fn first_versions(cuda: &Cuda) {
    let mut whole = 0_usize;
    must!(cuda.cuDeviceTotalMem_v2(&raw mut whole, DEV));
    let short = value_of!(cuda.cuDeviceTotalMem(0, DEV));
    assert_eq!(short, u32::try_from(whole).unwrap_or(u32::MAX));
    let own = value_of!(cuda.cuCtxCreate(NONE, 0, DEV));
    attached(cuda, own);
    let stream = value_of!(cuda.cuStreamCreate(CUstream(0), 0));
    let event = value_of!(cuda.cuEventCreate(CUevent(0), 0));
    must!(cuda.cuEventDestroy(event));
    assert_ne!(result_of!(cuda.cuEventQuery(event)), CUDA_SUCCESS);
    must!(cuda.cuStreamDestroy(stream));
    let other = value_of!(cuda.cuCtxCreate_v3(NONE, ptr::null_mut(), 0, 0, DEV));
    assert_eq!(value_of!(cuda.cuCtxPopCurrent(NONE)), other);
    must!(cuda.cuCtxPushCurrent(other));
    must!(cuda.cuCtxDestroy(other));
    assert_eq!(value_of!(cuda.cuCtxGetCurrent(NONE)), own);
    must!(cuda.cuCtxDestroy(own));
    // The primary context: retained once more, so that it outlives this.
    let primary = value_of!(cuda.cuDevicePrimaryCtxRetain(NONE, DEV));
    assert_eq!(value_of!(cuda.cuCtxGetCurrent(NONE)), primary);
    must!(cuda.cuDevicePrimaryCtxSetFlags(DEV, 4));
    must!(cuda.cuDevicePrimaryCtxReset(DEV));
    must!(cuda.cuDevicePrimaryCtxRelease(DEV));
    let (mut flags, mut active) = (0, 0);
    must!(cuda.cuDevicePrimaryCtxGetState(DEV, &raw mut flags, &raw mut active));
    assert_eq!((flags, active), (4, 1));
}
