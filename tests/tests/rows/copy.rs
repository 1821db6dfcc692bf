//! Every form of copy, at lengths on both sides of what a frame, a reply and a
//! staging slot hold.

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::{must, result_of, value_of};

const NULL: CUdeviceptr = CUdeviceptr(0);
const STREAM: CUstream = CUstream(0);

/// Bytes that differ from their neighbours and from run to run of a length.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| ((at.wrapping_mul(2_654_435_761) >> 13) ^ len).to_le_bytes()[0]).collect()
}

pub(crate) fn linear(cuda: &Cuda) {
    for len in [1, 7, 4087, 4089, 8192, 8193, 262_144, 262_145, 5_000_001] {
        let (to, also) =
            (value_of!(cuda.cuMemAlloc_v2(NULL, len)), value_of!(cuda.cuMemAlloc_v2(NULL, len)));
        let source = pattern(len);
        let mut back = vec![0; len];
        let (from, into) = (source.as_ptr() as Pointer, back.as_mut_ptr() as Pointer);
        must!(cuda.cuMemcpyHtoD_v2(to, from, len));
        must!(cuda.cuMemcpyDtoD_v2(also, to, len));
        must!(cuda.cuMemcpyDtoH_v2(into, also, len));
        assert_eq!(back, source);
        asynchronous(cuda, [to, also], len);
        unified(cuda, to, len);
        per_thread(cuda, [to, also], len);
        must!(cuda.cuMemFree_v2(to));
        must!(cuda.cuMemFree_v2(also));
    }
    let byte = [0_u8; 64];
    let bad = result_of!(cuda.cuMemcpyHtoD_v2(CUdeviceptr(16), byte.as_ptr() as Pointer, 64));
    assert_eq!(bad, CUDA_ERROR_INVALID_VALUE);
    let null = result_of!(cuda.cuMemcpyHtoD_v2(CUdeviceptr(16), std::ptr::null_mut(), 64));
    assert_eq!(null, CUDA_ERROR_INVALID_VALUE);
}

fn asynchronous(cuda: &Cuda, [to, also]: [CUdeviceptr; 2], len: usize) {
    let source: Vec<u8> = pattern(len).into_iter().rev().collect();
    let mut back = vec![0; len];
    must!(cuda.cuMemcpyHtoDAsync_v2(to, source.as_ptr() as Pointer, len, STREAM));
    must!(cuda.cuMemcpyDtoDAsync_v2(also, to, len, STREAM));
    must!(cuda.cuMemcpyDtoHAsync_v2(back.as_mut_ptr() as Pointer, also, len, STREAM));
    must!(cuda.cuStreamSynchronize(STREAM));
    assert_eq!(back, source);
}

fn unified(cuda: &Cuda, device: CUdeviceptr, len: usize) {
    let source = pattern(len);
    let mut back = vec![0; len];
    let (from, into) = (CUdeviceptr(source.as_ptr() as u64), CUdeviceptr(back.as_mut_ptr() as u64));
    must!(cuda.cuMemcpy(device, from, len));
    must!(cuda.cuMemcpy(into, device, len));
    assert_eq!(back, source);
    back.fill(0);
    must!(cuda.cuMemcpyAsync(device, from, len, STREAM));
    must!(cuda.cuMemcpyAsync(into, device, len, STREAM));
    must!(cuda.cuStreamSynchronize(STREAM));
    assert_eq!(back, source);
}

fn per_thread(cuda: &Cuda, [to, also]: [CUdeviceptr; 2], len: usize) {
    let source = pattern(len);
    let mut back = vec![0; len];
    let (from, into) = (source.as_ptr() as Pointer, back.as_mut_ptr() as Pointer);
    must!(cuda.cuMemcpyHtoD_v2_ptds(to, from, len));
    must!(cuda.cuMemcpyDtoD_v2_ptds(also, to, len));
    must!(cuda.cuMemcpy_ptds(to, also, len));
    must!(cuda.cuMemcpyDtoH_v2_ptds(into, to, len));
    assert_eq!(back, source);
    back.fill(0);
    must!(cuda.cuMemcpyHtoDAsync_v2_ptsz(to, from, len, STREAM));
    must!(cuda.cuMemcpyDtoDAsync_v2_ptsz(also, to, len, STREAM));
    must!(cuda.cuMemcpyAsync_ptsz(to, also, len, STREAM));
    let into = back.as_mut_ptr() as Pointer;
    must!(cuda.cuMemcpyDtoHAsync_v2_ptsz(into, to, len, STREAM));
    must!(cuda.cuStreamSynchronize_ptsz(STREAM));
    assert_eq!(back, source);
}

/// A plane in host memory, and one in device memory, with different pitches.
fn copy_of(source: Option<&[u8]>, device: CUdeviceptr, back: Option<&mut [u8]>) -> CUDA_MEMCPY2D {
    let (host_kind, device_kind) = (CU_MEMORYTYPE_HOST, CU_MEMORYTYPE_DEVICE);
    let up = source.is_some();
    CUDA_MEMCPY2D {
        srcXInBytes: if up { 3 } else { 16 },
        srcY: 1,
        srcMemoryType: if up { host_kind } else { device_kind },
        pad0: 0,
        srcHost: source.map_or(0, |bytes| bytes.as_ptr() as u64),
        srcDevice: if up { NULL } else { device },
        srcArray: CUarray(0),
        srcPitch: if up { HOST_PITCH } else { DEVICE_PITCH },
        dstXInBytes: if up { 16 } else { 3 },
        dstY: 1,
        dstMemoryType: if up { device_kind } else { host_kind },
        pad1: 0,
        dstHost: back.map_or(0, |bytes| bytes.as_mut_ptr() as u64),
        dstDevice: if up { device } else { NULL },
        dstArray: CUarray(0),
        dstPitch: if up { DEVICE_PITCH } else { HOST_PITCH },
        WidthInBytes: WIDTH,
        Height: HEIGHT,
    }
}

const WIDTH: u64 = 3_000;
/// Together more than one staging slot.
const HEIGHT: u64 = 200;
const HOST_PITCH: u64 = 3_100;
const DEVICE_PITCH: u64 = 3_584;
const HOST_BYTES: usize = 3_100 * 202;
const DEVICE_BYTES: usize = 3_584 * 202;

pub(crate) fn planes(cuda: &Cuda) {
    let device = value_of!(cuda.cuMemAlloc_v2(NULL, DEVICE_BYTES));
    let source = pattern(HOST_BYTES);
    let up = copy_of(Some(&source), device, None);
    let check = |back: &[u8]| {
        for (at, byte) in back.iter().enumerate() {
            let (row, column) = (at as u64 / HOST_PITCH, at as u64 % HOST_PITCH);
            let inside = (1..=HEIGHT).contains(&row) && (3..3 + WIDTH).contains(&column);
            assert_eq!(*byte, if inside { source[at] } else { 0 }, "row {row} column {column}");
        }
    };
    let mut back = vec![0; HOST_BYTES];
    let down = copy_of(None, device, Some(&mut back));
    let (up, down) = (&raw const up, &raw const down);
    must!(cuda.cuMemcpy2D_v2(up));
    must!(cuda.cuMemcpy2D_v2(down));
    check(&back);
    back.fill(0);
    must!(cuda.cuMemcpy2DUnaligned_v2(up));
    must!(cuda.cuMemcpy2DUnaligned_v2(down));
    check(&back);
    back.fill(0);
    must!(cuda.cuMemcpy2DAsync_v2(up, STREAM));
    must!(cuda.cuMemcpy2DAsync_v2(down, STREAM));
    must!(cuda.cuStreamSynchronize(STREAM));
    check(&back);
    back.fill(0);
    must!(cuda.cuMemcpy2D_v2_ptds(up));
    must!(cuda.cuMemcpy2DUnaligned_v2_ptds(down));
    check(&back);
    back.fill(0);
    must!(cuda.cuMemcpy2DUnaligned_v2_ptds(up));
    must!(cuda.cuMemcpy2DAsync_v2_ptsz(up, STREAM));
    must!(cuda.cuMemcpy2DAsync_v2_ptsz(down, STREAM));
    must!(cuda.cuStreamSynchronize_ptsz(STREAM));
    check(&back);
    must!(cuda.cuMemFree_v2(device));
}
