//! Parts of a device to which a context may be bound.

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::{must, result_of, value_of};

const SM_COUNT: CUexecAffinityType = CUexecAffinityType(0);

/// Where there is no support, no context has an affinity.
pub(crate) fn affinity(cuda: &Cuda) {
    let supported = value_of!(cuda.cuDeviceGetExecAffinitySupport(9, SM_COUNT, CUdevice(0)));
    let mut affinity = CUexecAffinityParam::default();
    let asked = result_of!(cuda.cuCtxGetExecAffinity(&raw mut affinity, SM_COUNT));
    assert_eq!(asked == CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY, supported == 0);
    let unknown = result_of!(cuda.cuCtxGetExecAffinity(&raw mut affinity, CUexecAffinityType(9)));
    assert_eq!(unknown, CUDA_ERROR_INVALID_VALUE);
    must!(cuda.cuCtxResetPersistingL2Cache());
}
