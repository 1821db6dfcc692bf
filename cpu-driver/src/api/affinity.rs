//! Parts of a device to which work could be bound: there are none here, and nothing is kept in a cache
//! on purpose. A launch on several devices is one on this one.

use super::{Answer, current, device, give, launch};
use paravane_protocol::cuda_types::*;

pub unsafe fn cuCtxResetPersistingL2Cache() -> Answer {
    current().map(|_| ())
}

const SM_COUNT: CUexecAffinityType = CUexecAffinityType(0);

pub unsafe fn cuDeviceGetExecAffinitySupport(pi: *mut i32, kind: CUexecAffinityType, dev: CUdevice) -> Answer {
    device(dev)?;
    if kind != SM_COUNT {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    give(pi, 0)
}

pub unsafe fn cuCtxGetExecAffinity(pExecAffinity: *mut CUexecAffinityParam, kind: CUexecAffinityType) -> Answer {
    current()?;
    if kind != SM_COUNT || pExecAffinity.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    Err(CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY)
}

pub unsafe fn cuLaunchCooperativeKernelMultiDevice(launchParamsList: *mut CUDA_LAUNCH_PARAMS, numDevices: u32, flags: u32) -> Answer {
    const FLAGS: u32 = 3;
    current()?;
    if launchParamsList.is_null() || numDevices == 0 || flags & !FLAGS != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    if numDevices > 1 {
        return Err(CUDA_ERROR_NOT_SUPPORTED);
    }
    // SAFETY: the caller passes a list of that many launches.
    let of = unsafe { *launchParamsList };
    if of.hStream.0 <= CU_STREAM_PER_THREAD.0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let ([gx, gy, gz], [bx, by, bz]) =
        ([of.gridDimX, of.gridDimY, of.gridDimZ], [of.blockDimX, of.blockDimY, of.blockDimZ]);
    let (shared, params) = (of.sharedMemBytes, of.kernelParams);
    // SAFETY: the same contract.
    unsafe { launch::cuLaunchCooperativeKernel(of.function, gx, gy, gz, bx, by, bz, shared, of.hStream, params) }
}
