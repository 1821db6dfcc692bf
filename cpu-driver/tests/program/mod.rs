//! What the tests of the C interface share: a context, a module, device arrays, launches.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::undocumented_unsafe_blocks, reason = "every call follows CUDA's contract with memory that the test owns")]
#![allow(clippy::missing_safety_doc, clippy::multiple_unsafe_ops_per_block, reason = "tests")]
#![allow(clippy::unwrap_used, reason = "a failed call is a failed test")]

use paravane_cpu::api::*;
use paravane_protocol::cuda_types::*;
use std::ffi::{CString, c_void};

/// A fresh context, current in the calling thread.
pub(crate) struct Gpu {
    pub(crate) context: CUcontext,
}

impl Gpu {
    pub(crate) fn new() -> Self {
        let mut context = CUcontext(0);
        unsafe {
            cuInit(0).unwrap();
            cuCtxCreate_v2(&raw mut context, 0, CUdevice(0)).unwrap();
        }
        Self { context }
    }

    pub(crate) fn module(&self, ptx: &str) -> CUmodule {
        let text = CString::new(format!(".version 8.0\n.target sm_80\n.address_size 64\n{ptx}")).unwrap();
        let mut module = CUmodule(0);
        let mut log = [0u8; 512];
        let mut options = [CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
        let mut values = [log.as_mut_ptr().cast::<c_void>(), std::ptr::without_provenance_mut(log.len())];
        let code = unsafe {
            cuModuleLoadDataEx(&raw mut module, text.as_ptr().cast_mut().cast(), 2, options.as_mut_ptr(), values.as_mut_ptr())
        };
        assert!(code.is_ok(), "{:?}: {}", code, String::from_utf8_lossy(&log));
        module
    }

    pub(crate) fn function(&self, ptx: &str, name: &str) -> CUfunction {
        function_of(self.module(ptx), name)
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        let _ = unsafe { cuCtxDestroy_v2(self.context) };
    }
}

pub(crate) fn function_of(module: CUmodule, name: &str) -> CUfunction {
    let name = CString::new(name).unwrap();
    let mut function = CUfunction(0);
    unsafe { cuModuleGetFunction(&raw mut function, module, name.as_ptr()) }.unwrap();
    function
}

/// A device array with these values.
pub(crate) fn upload<T: Copy>(values: &[T]) -> CUdeviceptr {
    let size = size_of_val(values);
    let mut at = CUdeviceptr(0);
    unsafe {
        cuMemAlloc_v2(&raw mut at, size).unwrap();
        cuMemcpyHtoD_v2(at, values.as_ptr().cast_mut().cast(), size).unwrap();
    }
    at
}

/// The values of a device array, once everything before is done.
pub(crate) fn download<T: Copy + Default>(at: CUdeviceptr, count: usize) -> Vec<T> {
    try_download(at, count).unwrap()
}

pub(crate) fn try_download<T: Copy + Default>(at: CUdeviceptr, count: usize) -> Result<Vec<T>, CUresult> {
    let mut values = vec![T::default(); count];
    unsafe { cuMemcpyDtoH_v2(values.as_mut_ptr().cast(), at, count * size_of::<T>()) }.map(|()| values)
}

/// Launches on `stream`; each argument is the value's bits.
pub(crate) fn launch_on(
    function: CUfunction,
    grid: [u32; 3],
    block: [u32; 3],
    shared: u32,
    stream: CUstream,
    arguments: &[u64],
) -> Result<(), CUresult> {
    let mut pointers: Vec<*mut c_void> = arguments.iter().map(|value| (&raw const *value).cast_mut().cast()).collect();
    let ([gx, gy, gz], [bx, by, bz]) = (grid, block);
    let params = pointers.as_mut_ptr();
    unsafe { cuLaunchKernel(function, gx, gy, gz, bx, by, bz, shared, stream, params, std::ptr::null_mut()) }
}

/// Launches on the NULL stream in one dimension.
pub(crate) fn launch(function: CUfunction, grid: u32, block: u32, arguments: &[u64]) {
    launch_on(function, [grid, 1, 1], [block, 1, 1], 0, CUstream(0), arguments).unwrap();
}

pub(crate) fn synchronize() -> Result<(), CUresult> {
    unsafe { cuCtxSynchronize() }
}

/// A one-CTA kernel without parameters but an output array: runs `body` and stores %r0 of each
/// thread. `%r1` is the thread's number.
pub(crate) fn run_u32(threads: u32, body: &str) -> Vec<u32> {
    let gpu = Gpu::new();
    let ptx = format!(
        ".visible .entry k(.param .u64 out)\n{{\n.reg .pred %p<10>;\n.reg .b16 %h<20>;\n.reg .b32 %r<40>;\n\
         .reg .f32 %f<20>;\n.reg .b64 %rd<20>;\n.reg .f64 %fd<20>;\nmov.u32 %r1, %tid.x;\n{body}\n\
         ld.param.u64 %rd19, [out];\ncvta.to.global.u64 %rd19, %rd19;\nmad.wide.u32 %rd19, %r1, 4, %rd19;\n\
         st.global.u32 [%rd19], %r0;\nret;\n}}"
    );
    let function = gpu.function(&ptx, "k");
    let out = upload(&vec![0u32; threads as usize]);
    launch(function, 1, threads, &[out.0]);
    download(out, threads as usize)
}
