//! A kernel that takes as long as it is told and counts that it was there, on a
//! device of the test's choice.
#![allow(unsafe_code, reason = "calls CUDA")]

use std::ptr;

use paravane_protocol::cuda_types::*;

use crate::cuda::Cuda;
use crate::{must, value_of};

const PTX: &str = concat!(include_str!("spin.ptx"), "\0");

/// The kernel in a device's primary context, which is current where it was made.
pub struct Spin {
    /// The context.
    pub context: CUcontext,
    /// Counts the kernels that have ended; a page, all zero at first.
    pub word: CUdeviceptr,
    /// A stream that waits for no other.
    pub stream: CUstream,
    function: CUfunction,
}

impl Spin {
    /// Makes it all on a device of this number.
    pub fn new(cuda: &Cuda, device: i32) -> Self {
        let context = value_of!(cuda.cuDevicePrimaryCtxRetain(CUcontext(0), CUdevice(device)));
        must!(cuda.cuCtxSetCurrent(context));
        let module = value_of!(cuda.cuModuleLoadData(CUmodule(0), PTX.as_ptr() as Pointer));
        let function = value_of!(cuda.cuModuleGetFunction(CUfunction(0), module, c"spin".as_ptr()));
        let word = value_of!(cuda.cuMemAlloc_v2(CUdeviceptr(0), 4096));
        must!(cuda.cuMemsetD32_v2(word, 0, 1024));
        let stream = value_of!(cuda.cuStreamCreate(CUstream(0), 1));
        Self { context, word, stream, function }
    }

    /// Counts to `turns`, on a stream of the current context, which is its own.
    pub fn launch(&self, cuda: &Cuda, turns: u32, stream: CUstream) {
        let (mut word, mut turns) = (self.word, turns);
        let mut params: [Pointer; 2] = [(&raw mut word).cast(), (&raw mut turns).cast()];
        let params = params.as_mut_ptr();
        must!(cuda.cuLaunchKernel(self.function, 1, 1, 1, 1, 1, 1, 0, stream, params, ptr::null_mut()));
    }

    /// A word of the device's, when all of the current context's work is done.
    pub fn read(cuda: &Cuda, at: CUdeviceptr) -> u32 {
        let mut value = 0_u32;
        must!(cuda.cuCtxSynchronize());
        must!(cuda.cuMemcpyDtoH_v2((&raw mut value).cast(), at, 4));
        value
    }
}
