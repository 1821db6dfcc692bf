//! Launches in every form, by the sums they leave, and occupancy.

use std::ptr;

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::{must, result_of, value_of};

const COUNT: u32 = 1000;
const BYTES: usize = COUNT as usize * 4;

/// Device vectors and the host's copies of their contents.
struct Vectors {
    to: CUdeviceptr,
    left: CUdeviceptr,
    right: CUdeviceptr,
    count: u32,
}

impl Vectors {
    fn new(cuda: &Cuda) -> Self {
        let [to, left, right] = [0; 3].map(|_| value_of!(cuda.cuMemAlloc_v2(CUdeviceptr(0), BYTES)));
        let values: Vec<u32> = (0..COUNT).collect();
        must!(cuda.cuMemcpyHtoD_v2(left, values.as_ptr() as Pointer, BYTES));
        must!(cuda.cuMemsetD32_v2(right, 5, COUNT as usize));
        Self { to, left, right, count: COUNT }
    }

    fn params(&mut self) -> [Pointer; 4] {
        [
            (&raw mut self.to).cast(),
            (&raw mut self.left).cast(),
            (&raw mut self.right).cast(),
            (&raw mut self.count).cast(),
        ]
    }

    /// Checks the sums and clears them.
    fn check(&self, cuda: &Cuda) {
        must!(cuda.cuCtxSynchronize());
        let mut sums = vec![0_u32; COUNT as usize];
        must!(cuda.cuMemcpyDtoH_v2(sums.as_mut_ptr().cast(), self.to, BYTES));
        assert!(sums.iter().zip(5..).all(|(sum, expected)| *sum == expected));
        must!(cuda.cuMemsetD32_v2(self.to, 0, COUNT as usize));
    }
}

pub(crate) fn launches(cuda: &Cuda, module: CUmodule) {
    let add = value_of!(cuda.cuModuleGetFunction(CUfunction(0), module, c"add".as_ptr()));
    let nothing = value_of!(cuda.cuModuleGetFunction(CUfunction(0), module, c"nothing".as_ptr()));
    let stream = CUstream(0);
    let mut vectors = Vectors::new(cuda);
    let mut params = vectors.params();
    let (params, none) = (params.as_mut_ptr(), ptr::null_mut());
    must!(cuda.cuLaunchKernel(add, 8, 1, 1, 128, 1, 1, 0, stream, params, none));
    vectors.check(cuda);
    must!(cuda.cuLaunchKernel_ptsz(add, 8, 1, 1, 128, 1, 1, 0, stream, params, none));
    vectors.check(cuda);
    must!(cuda.cuLaunchCooperativeKernel(add, 1, 1, 1, 1000, 1, 1, 0, stream, params));
    vectors.check(cuda);
    must!(cuda.cuLaunchCooperativeKernel_ptsz(add, 1, 1, 1, 1000, 1, 1, 0, stream, params));
    vectors.check(cuda);
    must!(cuda.cuLaunchKernel(nothing, 1, 1, 1, 1, 1, 1, 0, stream, none, none));
    with_config(cuda, add, params, &vectors);
    packed(cuda, add, &vectors);
    refused(cuda, add, params);
    for memory in [vectors.to, vectors.left, vectors.right] {
        must!(cuda.cuMemFree_v2(memory));
    }
}

fn with_config(cuda: &Cuda, add: CUfunction, params: Pointers, vectors: &Vectors) {
    let mut attribute =
        CUlaunchAttribute { id: CU_LAUNCH_ATTRIBUTE_COOPERATIVE, pad: 0, value: [0; 8] };
    let config = CUlaunchConfig {
        gridDimX: 8,
        gridDimY: 1,
        gridDimZ: 1,
        blockDimX: 128,
        blockDimY: 1,
        blockDimZ: 1,
        sharedMemBytes: 0,
        hStream: CUstream(0),
        attrs: &raw mut attribute,
        numAttrs: 1,
    };
    must!(cuda.cuLaunchKernelEx(&raw const config, add, params, ptr::null_mut()));
    vectors.check(cuda);
    with_events(cuda, add, params, vectors, config);
    let plain = CUlaunchConfig { numAttrs: 0, attrs: ptr::null_mut(), ..config };
    must!(cuda.cuLaunchKernelEx_ptsz(&raw const plain, add, params, ptr::null_mut()));
    vectors.check(cuda);
}

/// Attributes that order and tell: a priority, an event behind the launch.
fn with_events(cuda: &Cuda, add: CUfunction, params: Pointers, vectors: &Vectors, config: CUlaunchConfig) {
    let stream = value_of!(cuda.cuStreamCreate(CUstream(0), 0));
    let event = value_of!(cuda.cuEventCreate(CUevent(0), 2));
    let timed = value_of!(cuda.cuEventCreate(CUevent(0), 0));
    let of = |id, value| CUlaunchAttribute { id, pad: 0, value: [value, 0, 0, 0, 0, 0, 0, 0] };
    let urgent = u64::from((-1_i32).cast_unsigned());
    let mut attributes = [
        of(CUlaunchAttributeID(8), urgent),
        of(CUlaunchAttributeID(6), 1),
        of(CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT, event.0),
    ];
    let config = CUlaunchConfig { hStream: stream, attrs: attributes.as_mut_ptr(), numAttrs: 3, ..config };
    must!(cuda.cuLaunchKernelEx(&raw const config, add, params, ptr::null_mut()));
    must!(cuda.cuEventSynchronize(event));
    vectors.check(cuda);
    let mut refused = [of(CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT, timed.0)];
    let config = CUlaunchConfig { attrs: refused.as_mut_ptr(), numAttrs: 1, ..config };
    let at_once = result_of!(cuda.cuLaunchKernelEx(&raw const config, add, params, ptr::null_mut()));
    let told = if at_once == CUDA_SUCCESS { result_of!(cuda.cuCtxSynchronize()) } else { at_once };
    assert_eq!(told, CUDA_ERROR_INVALID_VALUE, "an event that measures time");
    [event, timed].into_iter().for_each(|event| must!(cuda.cuEventDestroy_v2(event)));
    several_devices(cuda, add, params, vectors, stream);
    must!(cuda.cuStreamDestroy_v2(stream));
}

fn several_devices(cuda: &Cuda, function: CUfunction, kernelParams: Pointers, vectors: &Vectors, hStream: CUstream) {
    let mut one = CUDA_LAUNCH_PARAMS {
        function,
        gridDimX: 1,
        gridDimY: 1,
        gridDimZ: 1,
        blockDimX: 1000,
        blockDimY: 1,
        blockDimZ: 1,
        sharedMemBytes: 0,
        hStream,
        kernelParams,
    };
    must!(cuda.cuLaunchCooperativeKernelMultiDevice(&raw mut one, 1, 0));
    vectors.check(cuda);
    one.hStream = CUstream(0);
    let refused = result_of!(cuda.cuLaunchCooperativeKernelMultiDevice(&raw mut one, 1, 0));
    assert_eq!(refused, CUDA_ERROR_INVALID_VALUE, "the default stream");
}

/// Parameters in one buffer that the program packed.
fn packed(cuda: &Cuda, add: CUfunction, vectors: &Vectors) {
    let mut buffer = [vectors.to.0, vectors.left.0, vectors.right.0, u64::from(COUNT)];
    let mut size = 28_usize;
    let tag = ptr::without_provenance_mut::<std::ffi::c_void>;
    let mut extra: [Pointer; 5] =
        [tag(1), buffer.as_mut_ptr().cast(), tag(2), (&raw mut size).cast(), tag(0)];
    let (none, extra) = (ptr::null_mut(), extra.as_mut_ptr());
    must!(cuda.cuLaunchKernel(add, 8, 1, 1, 128, 1, 1, 0, CUstream(0), none, extra));
    vectors.check(cuda);
}

fn refused(cuda: &Cuda, add: CUfunction, params: Pointers) {
    let none = ptr::null_mut();
    let launch = |function, grid, block, params| {
        let stream = CUstream(0);
        result_of!(cuda.cuLaunchKernel(function, grid, 1, 1, block, 1, 1, 0, stream, params, none))
    };
    assert_eq!(launch(add, 0, 1, params), CUDA_ERROR_INVALID_VALUE, "empty grid");
    assert_eq!(launch(add, 1, 2048, params), CUDA_ERROR_INVALID_VALUE, "block too large");
    assert_eq!(launch(add, 1, 1, none), CUDA_ERROR_INVALID_VALUE, "no parameters");
    assert_eq!(launch(CUfunction(0), 1, 1, params), CUDA_ERROR_INVALID_HANDLE, "NULL function");
}

pub(crate) fn occupancy(cuda: &Cuda, module: CUmodule) {
    let add = value_of!(cuda.cuModuleGetFunction(CUfunction(0), module, c"add".as_ptr()));
    let blocks = value_of!(cuda.cuOccupancyMaxActiveBlocksPerMultiprocessor(0, add, 128, 0));
    assert!(blocks >= 1);
    let flagged =
        value_of!(cuda.cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(0, add, 128, 0, 0));
    assert_eq!(flagged, blocks);
    assert!(value_of!(cuda.cuOccupancyAvailableDynamicSMemPerBlock(0, add, 1, 128)) > 0);
    let (mut grid, mut block) = (0, 0);
    let (g, b) = (&raw mut grid, &raw mut block);
    must!(cuda.cuOccupancyMaxPotentialBlockSize(g, b, add, None, 0, 0));
    assert!(grid > 0 && (1..=1024).contains(&block));
    extern "C" fn four_bytes_a_thread(block: i32) -> usize {
        usize::try_from(block).unwrap_or(0) * 4
    }
    let callback: CUoccupancyB2DSize = Some(four_bytes_a_thread);
    must!(cuda.cuOccupancyMaxPotentialBlockSizeWithFlags(g, b, add, callback, 0, 256, 0));
    assert!(grid > 0 && (1..=256).contains(&block));
}
