//! Copies between devices, and kernels that reach another device's memory.

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::{must, result_of, value_of};

use super::contexts::{Side, read};

/// Copies need no leave.
pub(crate) fn copies(cuda: &Cuda, sides: &[Side; 2]) {
    let [first, second] = sides;
    let (from, to) = (first.word(cuda, 21), second.word(cuda, 0));
    must!(cuda.cuMemcpyPeer(to, second.context, from, first.context, 4));
    assert_eq!(read(cuda, to), 21);
    must!(cuda.cuMemsetD32_v2(from, 22, 1));
    must!(cuda.cuMemcpyPeerAsync(to, second.context, from, first.context, 4, second.stream));
    must!(cuda.cuStreamSynchronize(second.stream));
    assert_eq!(read(cuda, to), 22);
    must!(cuda.cuMemsetD32_v2(to, 23, 1));
    must!(cuda.cuMemcpy(from, to, 4));
    assert_eq!(read(cuda, from), 23);
    must!(cuda.cuMemsetD32_v2(from, 24, 1));
    must!(cuda.cuMemcpyDtoD_v2(to, from, 4));
    assert_eq!(read(cuda, to), 24);
    for at in [from, to] {
        must!(cuda.cuMemFree_v2(at));
    }
}

/// A kernel reaches another device's memory when it may, and then alone.
pub(crate) fn access(cuda: &Cuda, sides: &[Side; 2]) {
    let [first, second] = sides;
    for (side, other) in [(first, second), (second, first)] {
        assert_eq!(value_of!(cuda.cuDeviceCanAccessPeer(9, side.device, other.device)), 1);
        assert_eq!(value_of!(cuda.cuDeviceCanAccessPeer(9, side.device, side.device)), 0);
        let supported = CUdevice_P2PAttribute(2);
        assert_eq!(value_of!(cuda.cuDeviceGetP2PAttribute(9, supported, side.device, other.device)), 1);
    }
    let foreign = first.word(cuda, 30);
    second.enter(cuda);
    let off = result_of!(cuda.cuCtxDisablePeerAccess(first.context));
    assert_eq!(off, CUDA_ERROR_PEER_ACCESS_NOT_ENABLED);
    assert_eq!(result_of!(cuda.cuCtxEnablePeerAccess(first.context, 1)), CUDA_ERROR_INVALID_VALUE);
    must!(cuda.cuCtxEnablePeerAccess(first.context, 0));
    let again = result_of!(cuda.cuCtxEnablePeerAccess(first.context, 0));
    assert_eq!(again, CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED);
    // What was there before, and what comes after.
    let later = first.word(cuda, 40);
    for (word, expected) in [(foreign, 31), (later, 41)] {
        second.enter(cuda);
        assert_eq!(second.launch_add(cuda, word), CUDA_SUCCESS);
        must!(cuda.cuStreamSynchronize(second.stream));
        assert_eq!(read(cuda, word), expected);
    }
    must!(cuda.cuCtxDisablePeerAccess(first.context));
    assert_eq!(second.launch_add(cuda, foreign), CUDA_SUCCESS);
    assert_eq!(result_of!(cuda.cuStreamSynchronize(second.stream)), CUDA_ERROR_ILLEGAL_ADDRESS);
    // The other device's context goes on.
    first.enter(cuda);
    assert_eq!(first.launch_add(cuda, foreign), CUDA_SUCCESS);
    must!(cuda.cuStreamSynchronize(first.stream));
    assert_eq!(read(cuda, foreign), 32);
}
