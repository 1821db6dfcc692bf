//! Every memset, by what it leaves in memory around the part it sets.

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::{must, value_of};

const NULL: CUdeviceptr = CUdeviceptr(0);
const STREAM: CUstream = CUstream(0);
const BYTES: usize = 4096;
const PITCH: usize = 256;

/// Clears the memory, sets part of it, and checks every byte of it.
macro_rules! check {
    ($cuda:ident, $memory:ident, $expected:expr, $($set:tt)*) => {{
        must!($cuda.cuMemsetD8_v2($memory, 0, BYTES));
        must!($cuda.$($set)*);
        must!($cuda.cuCtxSynchronize());
        let mut back = vec![0_u8; BYTES];
        must!($cuda.cuMemcpyDtoH_v2(back.as_mut_ptr().cast(), $memory, BYTES));
        let expected: fn(usize) -> u8 = $expected;
        for (at, byte) in back.iter().enumerate() {
            assert_eq!(*byte, expected(at), "byte {at} after {}", stringify!($($set)*));
        }
    }};
}

pub(crate) fn all(cuda: &Cuda) {
    let memory = value_of!(cuda.cuMemAlloc_v2(NULL, BYTES));
    let at = CUdeviceptr(memory.0 + 64);
    check!(cuda, memory, bytes, cuMemsetD8_v2(at, 0xab, 100));
    check!(cuda, memory, bytes, cuMemsetD8_v2_ptds(at, 0xab, 100));
    check!(cuda, memory, bytes, cuMemsetD8Async(at, 0xab, 100, STREAM));
    check!(cuda, memory, bytes, cuMemsetD8Async_ptsz(at, 0xab, 100, STREAM));
    check!(cuda, memory, halves, cuMemsetD16_v2(at, 0xabcd, 50));
    check!(cuda, memory, halves, cuMemsetD16_v2_ptds(at, 0xabcd, 50));
    check!(cuda, memory, halves, cuMemsetD16Async(at, 0xabcd, 50, STREAM));
    check!(cuda, memory, halves, cuMemsetD16Async_ptsz(at, 0xabcd, 50, STREAM));
    check!(cuda, memory, words, cuMemsetD32_v2(at, 0x0102_0304, 25));
    check!(cuda, memory, words, cuMemsetD32_v2_ptds(at, 0x0102_0304, 25));
    check!(cuda, memory, words, cuMemsetD32Async(at, 0x0102_0304, 25, STREAM));
    check!(cuda, memory, words, cuMemsetD32Async_ptsz(at, 0x0102_0304, 25, STREAM));
    planes(cuda, memory);
    must!(cuda.cuMemFree_v2(memory));
}

fn planes(cuda: &Cuda, memory: CUdeviceptr) {
    check!(cuda, memory, plane, cuMemsetD2D8_v2(memory, PITCH, 0xab, 40, 8));
    check!(cuda, memory, plane, cuMemsetD2D8_v2_ptds(memory, PITCH, 0xab, 40, 8));
    check!(cuda, memory, plane, cuMemsetD2D8Async(memory, PITCH, 0xab, 40, 8, STREAM));
    check!(cuda, memory, plane, cuMemsetD2D8Async_ptsz(memory, PITCH, 0xab, 40, 8, STREAM));
    check!(cuda, memory, plane, cuMemsetD2D16_v2(memory, PITCH, 0xabab, 20, 8));
    check!(cuda, memory, plane, cuMemsetD2D16_v2_ptds(memory, PITCH, 0xabab, 20, 8));
    check!(cuda, memory, plane, cuMemsetD2D16Async(memory, PITCH, 0xabab, 20, 8, STREAM));
    check!(cuda, memory, plane, cuMemsetD2D16Async_ptsz(memory, PITCH, 0xabab, 20, 8, STREAM));
    check!(cuda, memory, plane, cuMemsetD2D32_v2(memory, PITCH, 0xabab_abab, 10, 8));
    check!(cuda, memory, plane, cuMemsetD2D32_v2_ptds(memory, PITCH, 0xabab_abab, 10, 8));
    check!(cuda, memory, plane, cuMemsetD2D32Async(memory, PITCH, 0xabab_abab, 10, 8, STREAM));
    check!(cuda, memory, plane, cuMemsetD2D32Async_ptsz(memory, PITCH, 0xabab_abab, 10, 8, STREAM));
}

fn bytes(at: usize) -> u8 {
    if (64..164).contains(&at) { 0xab } else { 0 }
}

fn halves(at: usize) -> u8 {
    if (64..164).contains(&at) { [0xcd, 0xab][at % 2] } else { 0 }
}

fn words(at: usize) -> u8 {
    if (64..164).contains(&at) { [4, 3, 2, 1][at % 4] } else { 0 }
}

fn plane(at: usize) -> u8 {
    if at / PITCH < 8 && at % PITCH < 40 { 0xab } else { 0 }
}
