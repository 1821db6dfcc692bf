//! Contexts, streams and kernels of two devices, side by side.

use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::{must, result_of, value_of};

/// `meet` says that it is there and waits for another that says so; `add` adds one to a word.
const PTX: &std::ffi::CStr = c"
.version 6.0
.target sm_70
.address_size 64
.visible .entry meet(.param .u64 own, .param .u64 other)
{
    .reg .pred %p<2>;
    .reg .b32 %r<3>;
    .reg .b64 %rd<3>;
    ld.param.u64 %rd1, [own];
    ld.param.u64 %rd2, [other];
    mov.u32 %r1, 1;
    st.volatile.global.u32 [%rd1], %r1;
AGAIN:
    ld.volatile.global.u32 %r2, [%rd2];
    setp.eq.u32 %p1, %r2, 0;
    @%p1 bra AGAIN;
    ret;
}
.visible .entry add(.param .u64 word)
{
    .reg .b32 %r<3>;
    .reg .b64 %rd<2>;
    ld.param.u64 %rd1, [word];
    ld.global.u32 %r1, [%rd1];
    add.u32 %r2, %r1, 1;
    st.global.u32 [%rd1], %r2;
    ret;
}
";

/// A device's primary context with a stream and the kernels.
pub(crate) struct Side {
    pub(crate) device: CUdevice,
    pub(crate) context: CUcontext,
    pub(crate) stream: CUstream,
    pub(crate) meet: CUfunction,
    pub(crate) add: CUfunction,
}

impl Side {
    pub(crate) fn new(cuda: &Cuda, ordinal: i32) -> Self {
        let device = CUdevice(ordinal);
        let context = value_of!(cuda.cuDevicePrimaryCtxRetain(CUcontext(0), device));
        must!(cuda.cuCtxSetCurrent(context));
        let stream = value_of!(cuda.cuStreamCreate(CUstream(0), 1));
        let module = value_of!(cuda.cuModuleLoadData(CUmodule(0), PTX.as_ptr() as Pointer));
        let [meet, add] =
            [c"meet", c"add"].map(|name| value_of!(cuda.cuModuleGetFunction(CUfunction(0), module, name.as_ptr())));
        Self { device, context, stream, meet, add }
    }

    pub(crate) fn enter(&self, cuda: &Cuda) {
        must!(cuda.cuCtxSetCurrent(self.context));
    }

    /// A word of the device's memory.
    pub(crate) fn word(&self, cuda: &Cuda, value: u32) -> CUdeviceptr {
        self.enter(cuda);
        let at = value_of!(cuda.cuMemAlloc_v2(CUdeviceptr(0), 4));
        must!(cuda.cuMemsetD32_v2(at, value, 1));
        at
    }

    pub(crate) fn launch_add(&self, cuda: &Cuda, word: CUdeviceptr) -> CUresult {
        let mut params: [Pointer; 1] = [(&raw const word).cast_mut().cast()];
        launch(cuda, self.add, self.stream, &mut params)
    }

    pub(crate) fn launch_meet(&self, cuda: &Cuda, [own, other]: [CUdeviceptr; 2]) -> CUresult {
        let mut params: [Pointer; 2] = [(&raw const own).cast_mut().cast(), (&raw const other).cast_mut().cast()];
        launch(cuda, self.meet, self.stream, &mut params)
    }

    pub(crate) fn end(self, cuda: &Cuda) {
        must!(cuda.cuDevicePrimaryCtxRelease_v2(self.device));
    }
}

fn launch(cuda: &Cuda, function: CUfunction, stream: CUstream, params: &mut [Pointer]) -> CUresult {
    let (params, none) = (params.as_mut_ptr(), ptr::null_mut());
    result_of!(cuda.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, params, none))
}

pub(crate) fn read(cuda: &Cuda, word: CUdeviceptr) -> u32 {
    let mut value = 0_u32;
    must!(cuda.cuMemcpyDtoH_v2((&raw mut value).cast(), word, 4));
    value
}

/// Pinned words that both devices and the program reach, all 0.
pub(crate) struct Words(Pointer);

impl Words {
    pub(crate) fn new(cuda: &Cuda) -> Self {
        let words = Self(value_of!(cuda.cuMemHostAlloc(ptr::null_mut(), 4096, 0)));
        (0..2).for_each(|at| words.set(at, 0));
        words
    }

    fn word(&self, at: usize) -> &AtomicU32 {
        // SAFETY: the allocation holds it, and is freed when nobody uses it any more.
        #[allow(unsafe_code, reason = "pinned memory is shared with the device")]
        unsafe {
            AtomicU32::from_ptr(self.0.cast::<u32>().wrapping_add(at))
        }
    }

    pub(crate) fn set(&self, at: usize, value: u32) {
        self.word(at).store(value, Ordering::SeqCst);
    }

    pub(crate) fn get(&self, at: usize) -> u32 {
        self.word(at).load(Ordering::SeqCst)
    }

    pub(crate) fn on_device(&self, cuda: &Cuda, at: usize) -> CUdeviceptr {
        let start = value_of!(cuda.cuMemHostGetDevicePointer_v2(CUdeviceptr(0), self.0, 0));
        CUdeviceptr(start.0 + at as u64 * 4)
    }

    pub(crate) fn end(self, cuda: &Cuda) {
        must!(cuda.cuMemFreeHost(self.0));
    }
}

/// Each device has threads of its own: a kernel on each waits for the other.
pub(crate) fn both(cuda: &Cuda, sides: &[Side; 2]) {
    sides[0].enter(cuda);
    let words = Words::new(cuda);
    for (side, order) in sides.iter().zip([[0, 1], [1, 0]]) {
        side.enter(cuda);
        let order = order.map(|at| words.on_device(cuda, at));
        assert_eq!(side.launch_meet(cuda, order), CUDA_SUCCESS);
    }
    for side in sides {
        side.enter(cuda);
        must!(cuda.cuStreamSynchronize(side.stream));
    }
    assert_eq!([0, 1].map(|at| words.get(at)), [1, 1]);
    words.end(cuda);
}

/// What a context has is its device's, and no other's.
pub(crate) fn of_one(cuda: &Cuda, sides: &[Side; 2]) {
    for side in sides {
        side.enter(cuda);
        assert_eq!(value_of!(cuda.cuCtxGetDevice(CUdevice(9))), side.device);
        let mut device = CUdevice(9);
        must!(cuda.cuStreamGetDevice(side.stream, &raw mut device));
        assert_eq!(device, side.device);
        let mut context = CUcontext(0);
        must!(cuda.cuStreamGetCtx(side.stream, &raw mut context));
        assert_eq!(context, side.context);
        let own = value_of!(cuda.cuCtxCreate_v2(CUcontext(0), 0, side.device));
        assert_eq!(value_of!(cuda.cuCtxGetDevice(CUdevice(9))), side.device);
        let mut device = CUdevice(9);
        must!(cuda.cuCtxGetDevice_v2(&raw mut device, side.context));
        assert_eq!(device, side.device);
        must!(cuda.cuCtxDestroy_v2(own));
        let (mut flags, mut active) = (9, 9);
        must!(cuda.cuDevicePrimaryCtxGetState(side.device, &raw mut flags, &raw mut active));
        assert_eq!(active, 1);
    }
    let [first, second] = sides;
    let word = second.word(cuda, 6);
    // A kernel runs in its own context alone. Through the shim the next call that is awaited says so.
    let mut params: [Pointer; 1] = [(&raw const word).cast_mut().cast()];
    let refused = match launch(cuda, first.add, second.stream, &mut params) {
        CUDA_SUCCESS => result_of!(cuda.cuStreamSynchronize(second.stream)),
        at_once => at_once,
    };
    assert_eq!(refused, CUDA_ERROR_INVALID_HANDLE);
    assert_eq!(second.launch_add(cuda, word), CUDA_SUCCESS);
    must!(cuda.cuStreamSynchronize(second.stream));
    assert_eq!(read(cuda, word), 7);
    must!(cuda.cuMemFree_v2(word));
}

/// What is done on one device is counted there.
pub(crate) fn clocks(cuda: &Cuda, path: &Path) {
    must!(cuda.cuInit(0));
    let busy_ns = || {
        // SAFETY: the library is loaded already.
        #[allow(unsafe_code, reason = "foreign function")]
        let library = unsafe { libloading::Library::new(path) }.unwrap();
        [0, 1, 2].map(|ordinal| {
            // SAFETY: cpu-driver's contract for its clock.
            #[allow(unsafe_code, reason = "foreign function")]
            let tell = unsafe { library.get::<unsafe extern "C" fn(i32) -> u64>(b"paravane_cpu_busy_ns") }.unwrap();
            // SAFETY: as above.
            #[allow(unsafe_code, reason = "foreign function")]
            unsafe {
                tell(ordinal)
            }
        })
    };
    let sides = [0, 1].map(|ordinal| Side::new(cuda, ordinal));
    assert_eq!(busy_ns(), [0; 3]);
    for (side, worked) in sides.iter().zip([[true, false, false], [true, true, false]]) {
        let word = side.word(cuda, 0);
        assert_eq!(side.launch_add(cuda, word), CUDA_SUCCESS);
        must!(cuda.cuStreamSynchronize(side.stream));
        assert_eq!(busy_ns().map(|ns| ns > 0), worked);
    }
}
