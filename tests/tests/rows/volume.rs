//! Copies in three dimensions, with arrays, in batches; questions about
//! pointers and peers.

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::{must, result_of, value_of};

const NULL: CUdeviceptr = CUdeviceptr(0);
const STREAM: CUstream = CUstream(0);
const NONE: CUarray = CUarray(0);

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(2_654_435_761) >> 11).to_le_bytes()[0]).collect()
}

/// Bytes in a row, rows in a slice, slices: of what is copied, and of the
/// memory around it on the host and on the device.
struct Shape {
    copied: [u64; 3],
    host: [u64; 3],
    device: [u64; 3],
}

/// Few bytes in many slices; rows that fill several staging slots; a row
/// longer than a slot.
const SHAPES: [Shape; 3] = [
    Shape { copied: [48, 7, 5], host: [70, 9, 7], device: [64, 8, 8] },
    Shape { copied: [3_000, 200, 3], host: [3_100, 202, 5], device: [3_072, 256, 5] },
    Shape { copied: [300_000, 2, 2], host: [300_020, 4, 4], device: [300_032, 4, 4] },
];
/// Where the copied box begins on the host, and on the device.
const HOST_SKIP: [u64; 3] = [3, 1, 1];
const DEVICE_SKIP: [u64; 3] = [16, 1, 2];

fn bytes(size: [u64; 3]) -> usize {
    usize::try_from(size.iter().product::<u64>()).unwrap()
}

fn empty() -> CUDA_MEMCPY3D {
    zeroed()
}

fn zeroed<T: zerocopy::FromZeros>() -> T {
    T::new_zeroed()
}

fn up(shape: &Shape, from: &[u8], device: CUdeviceptr, array: CUarray) -> CUDA_MEMCPY3D {
    let to_array = array != NONE;
    CUDA_MEMCPY3D {
        srcXInBytes: HOST_SKIP[0],
        srcY: HOST_SKIP[1],
        srcZ: HOST_SKIP[2],
        srcMemoryType: CU_MEMORYTYPE_HOST,
        srcHost: from.as_ptr() as u64,
        srcPitch: shape.host[0],
        srcHeight: shape.host[1],
        dstXInBytes: DEVICE_SKIP[0],
        dstY: DEVICE_SKIP[1],
        dstZ: DEVICE_SKIP[2],
        dstMemoryType: if to_array { CU_MEMORYTYPE_ARRAY } else { CU_MEMORYTYPE_DEVICE },
        dstDevice: device,
        dstArray: array,
        dstPitch: shape.device[0],
        dstHeight: shape.device[1],
        WidthInBytes: shape.copied[0],
        Height: shape.copied[1],
        Depth: shape.copied[2],
        ..empty()
    }
}

/// The way back of [`up`].
fn down(up: &CUDA_MEMCPY3D, into: &mut [u8]) -> CUDA_MEMCPY3D {
    CUDA_MEMCPY3D {
        srcXInBytes: up.dstXInBytes,
        srcY: up.dstY,
        srcZ: up.dstZ,
        srcMemoryType: up.dstMemoryType,
        srcDevice: up.dstDevice,
        srcArray: up.dstArray,
        srcPitch: up.dstPitch,
        srcHeight: up.dstHeight,
        dstXInBytes: up.srcXInBytes,
        dstY: up.srcY,
        dstZ: up.srcZ,
        dstMemoryType: CU_MEMORYTYPE_HOST,
        dstHost: into.as_mut_ptr() as u64,
        dstPitch: up.srcPitch,
        dstHeight: up.srcHeight,
        WidthInBytes: up.WidthInBytes,
        Height: up.Height,
        Depth: up.Depth,
        ..empty()
    }
}

/// Only what was copied has come back.
#[track_caller]
fn check(shape: &Shape, source: &[u8], back: &[u8]) {
    for (at, byte) in back.iter().enumerate() {
        let at_u64 = at as u64;
        let place = [
            at_u64 % shape.host[0],
            at_u64 / shape.host[0] % shape.host[1],
            at_u64 / shape.host[0] / shape.host[1],
        ];
        let inside =
            (0..3).all(|n| (HOST_SKIP[n]..HOST_SKIP[n] + shape.copied[n]).contains(&place[n]));
        assert_eq!(*byte, if inside { source[at] } else { 0 }, "at {place:?}");
    }
}

fn round_trip(shape: &Shape, device: CUdeviceptr, array: CUarray, run: impl Fn(*const CUDA_MEMCPY3D)) {
    let source = pattern(bytes(shape.host));
    let mut back = vec![0; source.len()];
    let up = up(shape, &source, device, array);
    run(&raw const up);
    let down = down(&up, &mut back);
    run(&raw const down);
    check(shape, &source, &back);
}

pub(crate) fn volumes(cuda: &Cuda) {
    for shape in &SHAPES {
        let device = value_of!(cuda.cuMemAlloc_v2(NULL, bytes(shape.device)));
        round_trip(shape, device, NONE, |copy| must!(cuda.cuMemcpy3D_v2(copy)));
        round_trip(shape, device, NONE, |copy| {
            must!(cuda.cuMemcpy3DAsync_v2(copy, STREAM));
            must!(cuda.cuStreamSynchronize(STREAM));
        });
        must!(cuda.cuMemFree_v2(device));
    }
    let shape = &SHAPES[0];
    let device = value_of!(cuda.cuMemAlloc_v2(NULL, bytes(shape.device)));
    round_trip(shape, device, NONE, |copy| must!(cuda.cuMemcpy3D_v2_ptds(copy)));
    round_trip(shape, device, NONE, |copy| {
        must!(cuda.cuMemcpy3DAsync_v2_ptsz(copy, STREAM));
        must!(cuda.cuStreamSynchronize_ptsz(STREAM));
    });
    let context = value_of!(cuda.cuCtxGetCurrent(CUcontext(0)));
    let peer = |copy: *const CUDA_MEMCPY3D| {
        // SAFETY: the copy that `round_trip` has made.
        #[allow(unsafe_code, reason = "the copy's contexts are added")]
        let copy = unsafe { copy.read() };
        CUDA_MEMCPY3D { reserved0: context.0, reserved1: context.0, ..copy }
    };
    round_trip(shape, device, NONE, |copy| {
        let copy = peer(copy);
        must!(cuda.cuMemcpy3DPeer(&raw const copy));
    });
    round_trip(shape, device, NONE, |copy| {
        let copy = peer(copy);
        must!(cuda.cuMemcpy3DPeer_ptds(&raw const copy));
    });
    round_trip(shape, device, NONE, |copy| {
        let copy = peer(copy);
        must!(cuda.cuMemcpy3DPeerAsync(&raw const copy, STREAM));
        must!(cuda.cuMemcpy3DPeerAsync_ptsz(&raw const copy, STREAM));
        must!(cuda.cuCtxSynchronize());
    });
    refused(cuda, shape, device);
    must!(cuda.cuMemFree_v2(device));
    in_array(cuda);
}

fn refused(cuda: &Cuda, shape: &Shape, device: CUdeviceptr) {
    let source = pattern(bytes(shape.host));
    let good = up(shape, &source, device, NONE);
    let outside = CUDA_MEMCPY3D { dstZ: 90_000, ..good };
    let overlapping = CUDA_MEMCPY3D { dstPitch: 40, ..good };
    let nowhere = CUDA_MEMCPY3D { dstMemoryType: CUmemorytype(9), ..good };
    for bad in [outside, overlapping, nowhere] {
        assert_eq!(result_of!(cuda.cuMemcpy3D_v2(&raw const bad)), CUDA_ERROR_INVALID_VALUE);
    }
    let nothing = CUDA_MEMCPY3D { Depth: 0, ..good };
    must!(cuda.cuMemcpy3D_v2(&raw const nothing));
}

/// The same into an array of four-byte elements.
fn in_array(cuda: &Cuda) {
    for shape in &SHAPES[..2] {
        let descriptor = CUDA_ARRAY3D_DESCRIPTOR {
            Width: shape.device[0] / 4,
            Height: shape.device[1],
            Depth: shape.device[2],
            Format: CU_AD_FORMAT_UNSIGNED_INT32,
            NumChannels: 1,
            Flags: 0,
            pad: 0,
        };
        let array = value_of!(cuda.cuArray3DCreate_v2(NONE, &raw const descriptor));
        round_trip(shape, NULL, array, |copy| must!(cuda.cuMemcpy3D_v2(copy)));
        round_trip(shape, NULL, array, |copy| {
            must!(cuda.cuMemcpy3DAsync_v2(copy, STREAM));
            must!(cuda.cuStreamSynchronize(STREAM));
        });
        let source = pattern(bytes(shape.host));
        let good = up(shape, &source, NULL, array);
        let outside = CUDA_MEMCPY3D { dstZ: shape.device[2], ..good };
        let askew = CUDA_MEMCPY3D { dstXInBytes: 2, ..good };
        for bad in [outside, askew] {
            assert_eq!(result_of!(cuda.cuMemcpy3D_v2(&raw const bad)), CUDA_ERROR_INVALID_VALUE);
        }
        must!(cuda.cuArrayDestroy(array));
        let gone = result_of!(cuda.cuMemcpy3D_v2(&raw const good));
        assert_eq!(gone, CUDA_ERROR_INVALID_HANDLE);
    }
}

pub(crate) fn batches(cuda: &Cuda) {
    const LEN: usize = 10_000;
    let stream = value_of!(cuda.cuStreamCreate(STREAM, 1));
    let device = value_of!(cuda.cuMemAlloc_v2(NULL, 4 * LEN));
    let source = pattern(LEN);
    let mut back = vec![0; LEN];
    let at = |bytes: &[u8]| CUdeviceptr(bytes.as_ptr() as u64);
    // There and back, each half for itself.
    let half = LEN / 2;
    let off = |from: CUdeviceptr, by: usize| CUdeviceptr(from.0 + by as u64);
    let mut dsts = [device, off(device, half), at(&back), off(at(&back), half)];
    let mut srcs = [at(&source), off(at(&source), half), device, off(device, half)];
    let mut sizes = [half; 4];
    let attribute = CUmemcpyAttributes { srcAccessOrder: CU_MEMCPY_SRC_ACCESS_ORDER_STREAM, ..zeroed() };
    let mut attributes = [attribute; 2];
    let mut starts = [0, 2];
    let (dsts, srcs, sizes) = (dsts.as_mut_ptr(), srcs.as_mut_ptr(), sizes.as_mut_ptr());
    let (attrs, idxs) = (attributes.as_mut_ptr(), starts.as_mut_ptr());
    let mut failed = 7;
    let failed = &raw mut failed;
    must!(cuda.cuMemcpyBatchAsync(dsts, srcs, sizes, 4, attrs, idxs, 2, failed, stream));
    must!(cuda.cuStreamSynchronize(stream));
    assert_eq!(std::mem::take(&mut back), source);
    back = vec![0; LEN];
    must!(cuda.cuMemcpyBatchAsync_v2(dsts, srcs, sizes, 2, attrs, idxs, 1, stream));
    must!(cuda.cuMemcpyBatchAsync_ptsz(dsts, srcs, sizes, 2, attrs, idxs, 1, failed, STREAM));
    must!(cuda.cuMemcpyBatchAsync_v2_ptsz(dsts, srcs, sizes, 2, attrs, idxs, 1, STREAM));
    let legacy = result_of!(cuda.cuMemcpyBatchAsync(dsts, srcs, sizes, 4, attrs, idxs, 2, failed, STREAM));
    assert_eq!(legacy, CUDA_ERROR_INVALID_VALUE);
    let unordered = result_of!(cuda.cuMemcpyBatchAsync(dsts, srcs, sizes, 2, attrs, idxs, 2, failed, stream));
    assert_eq!(unordered, CUDA_ERROR_INVALID_VALUE);
    must!(cuda.cuMemcpyWithAttributesAsync(device, at(&source), LEN, attrs, stream));
    must!(cuda.cuMemcpyWithAttributesAsync_ptsz(off(device, LEN), at(&source), LEN, attrs, STREAM));
    let context = value_of!(cuda.cuCtxGetCurrent(CUcontext(0)));
    must!(cuda.cuCtxSynchronize());
    must!(cuda.cuMemcpyPeer(off(device, 2 * LEN), context, device, context, LEN));
    must!(cuda.cuMemcpyPeer_ptds(off(device, 3 * LEN), context, off(device, LEN), context, LEN));
    must!(cuda.cuMemcpyPeerAsync(off(device, 2 * LEN), context, device, context, half, stream));
    must!(cuda.cuMemcpyPeerAsync_ptsz(off(device, 3 * LEN), context, device, context, half, STREAM));
    must!(cuda.cuCtxSynchronize());
    for part in 0..4 {
        must!(cuda.cuMemcpyDtoH_v2(back.as_mut_ptr().cast(), off(device, part * LEN), LEN));
        assert_eq!(back, source, "part {part}");
    }
    batched_volumes(cuda, stream, device);
    must!(cuda.cuMemFree_v2(device));
    must!(cuda.cuStreamDestroy_v2(stream));
}

/// From rows on the host into an array of eight-byte elements, and back
/// without gaps.
fn batched_volumes(cuda: &Cuda, stream: CUstream, device: CUdeviceptr) {
    let descriptor =
        CUDA_ARRAY_DESCRIPTOR { Width: 20, Height: 10, Format: CU_AD_FORMAT_FLOAT, NumChannels: 2 };
    let array = value_of!(cuda.cuArrayCreate_v2(NONE, &raw const descriptor));
    let source = pattern(8 * 20 * 10);
    let pointer = |at: u64| CUmemcpy3DOperand {
        kind: CU_MEMCPY_OPERAND_TYPE_POINTER,
        pad: 0,
        words: [at, 20, 10, 0],
    };
    let of_array = CUmemcpy3DOperand {
        kind: CU_MEMCPY_OPERAND_TYPE_ARRAY,
        pad: 0,
        words: [array.0, 1, 2, 0],
    };
    let operation = |src, dst| CUDA_MEMCPY3D_BATCH_OP {
        src,
        dst,
        extent: [19, 8, 1],
        srcAccessOrder: CU_MEMCPY_SRC_ACCESS_ORDER_ANY,
        flags: 0,
    };
    let mut back = vec![0; source.len()];
    let mut all = [
        operation(pointer(source.as_ptr() as u64), of_array),
        operation(of_array, pointer(device.0)),
        operation(pointer(device.0), pointer(back.as_mut_ptr() as u64)),
    ];
    // The last has no array, so its figures are bytes.
    for operand in [&mut all[2].src, &mut all[2].dst] {
        operand.words[1] *= 8;
    }
    all[2].extent[0] *= 8;
    let operations = all.as_mut_ptr();
    let mut failed = 7;
    let verify = |back: &mut Vec<u8>| {
        for (at, byte) in back.iter().enumerate() {
            let inside = at % 160 < 19 * 8 && at / 160 < 8;
            assert_eq!(*byte, if inside { source[at] } else { 0 }, "byte {at}");
        }
        back.fill(0);
    };
    must!(cuda.cuMemcpy3DBatchAsync(3, operations, &raw mut failed, 0, stream));
    must!(cuda.cuStreamSynchronize(stream));
    verify(&mut back);
    must!(cuda.cuMemcpy3DBatchAsync_v2(3, operations, 0, stream));
    must!(cuda.cuStreamSynchronize(stream));
    verify(&mut back);
    must!(cuda.cuMemcpy3DBatchAsync_ptsz(2, operations, &raw mut failed, 0, STREAM));
    must!(cuda.cuMemcpy3DBatchAsync_v2_ptsz(3, operations, 0, STREAM));
    must!(cuda.cuStreamSynchronize_ptsz(STREAM));
    verify(&mut back);
    for at in 0..3 {
        must!(cuda.cuMemcpy3DWithAttributesAsync(operations.wrapping_add(at), 0, stream));
        must!(cuda.cuStreamSynchronize(stream));
        must!(cuda.cuMemcpy3DWithAttributesAsync_ptsz(operations.wrapping_add(at), 0, STREAM));
        must!(cuda.cuStreamSynchronize_ptsz(STREAM));
    }
    verify(&mut back);
    must!(cuda.cuArrayDestroy(array));
}

fn attribute(cuda: &Cuda, attribute: CUpointer_attribute, pointer: u64) -> u64 {
    let mut value = 0_u64;
    let into = (&raw mut value).cast();
    must!(cuda.cuPointerGetAttribute(into, attribute, CUdeviceptr(pointer)));
    value
}

pub(crate) fn pointers(cuda: &Cuda) {
    let device = value_of!(cuda.cuMemAlloc_v2(NULL, 5000));
    let context = value_of!(cuda.cuCtxGetCurrent(CUcontext(0)));
    let inside = device.0 + 999;
    assert_eq!(attribute(cuda, CU_POINTER_ATTRIBUTE_CONTEXT, inside), context.0);
    assert_eq!(attribute(cuda, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, inside), 2);
    assert_eq!(attribute(cuda, CU_POINTER_ATTRIBUTE_DEVICE_POINTER, inside), inside);
    assert_eq!(attribute(cuda, CU_POINTER_ATTRIBUTE_IS_MANAGED, inside), 0);
    assert_eq!(attribute(cuda, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, inside), 0);
    assert_eq!(attribute(cuda, CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, inside), device.0);
    assert_eq!(attribute(cuda, CU_POINTER_ATTRIBUTE_RANGE_SIZE, inside), 5000);
    assert_eq!(attribute(cuda, CU_POINTER_ATTRIBUTE_MAPPED, inside), 1);
    assert_eq!(attribute(cuda, CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE, inside), 0);
    assert_eq!(attribute(cuda, CU_POINTER_ATTRIBUTE_ACCESS_FLAGS, inside), 3);
    assert_eq!(attribute(cuda, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, inside), 0);
    let mut on = 1_u32;
    let value = (&raw mut on).cast();
    must!(cuda.cuPointerSetAttribute(value, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, device));
    assert_eq!(attribute(cuda, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, inside), 1);
    let number = attribute(cuda, CU_POINTER_ATTRIBUTE_BUFFER_ID, inside);
    must!(cuda.cuMemFree_v2(device));
    let again = value_of!(cuda.cuMemAlloc_v2(NULL, 5000));
    assert_ne!(attribute(cuda, CU_POINTER_ATTRIBUTE_BUFFER_ID, again.0), number);
    let (mut into, what) = (0_u64, CU_POINTER_ATTRIBUTE_HOST_POINTER);
    let no_host = result_of!(cuda.cuPointerGetAttribute((&raw mut into).cast(), what, again));
    assert_eq!(no_host, CUDA_ERROR_INVALID_VALUE);
    must!(cuda.cuMemFree_v2(again));
    let pool = value_of!(cuda.cuDeviceGetDefaultMemPool(CUmemoryPool(0), CUdevice(0)));
    let pooled = value_of!(cuda.cuMemAllocAsync(NULL, 100, STREAM));
    assert_eq!(attribute(cuda, CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE, pooled.0), pool.0);
    must!(cuda.cuMemFreeAsync(pooled, STREAM));
    let host = value_of!(cuda.cuMemAllocHost_v2(std::ptr::null_mut(), 300)) as u64;
    assert_eq!(attribute(cuda, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, host), 1);
    assert_eq!(attribute(cuda, CU_POINTER_ATTRIBUTE_HOST_POINTER, host + 8), host + 8);
    assert_eq!(attribute(cuda, CU_POINTER_ATTRIBUTE_RANGE_SIZE, host + 8), 300);
    several(cuda, host);
    must!(cuda.cuMemFreeHost(host as Pointer));
    peers(cuda);
}

/// Memory of CUDA's and memory that is none.
fn several(cuda: &Cuda, host: u64) {
    let mut which =
        [CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, CU_POINTER_ATTRIBUTE_CONTEXT];
    let (mut kind, mut ordinal, mut context) = (9_u32, 9_i32, 9_u64);
    let mut data: [Pointer; 3] =
        [(&raw mut kind).cast(), (&raw mut ordinal).cast(), (&raw mut context).cast()];
    let (attributes, into) = (which.as_mut_ptr(), data.as_mut_ptr());
    must!(cuda.cuPointerGetAttributes(3, attributes, into, CUdeviceptr(host)));
    assert_eq!((kind, ordinal), (1, 0));
    let own = [0_u8; 8];
    let own = CUdeviceptr(own.as_ptr() as u64);
    must!(cuda.cuPointerGetAttributes(3, attributes, into, own));
    assert_eq!((kind, ordinal, context), (0, -2, 0));
    let single = result_of!(cuda.cuPointerGetAttribute(data[0], which[0], own));
    assert_eq!(single, CUDA_ERROR_INVALID_VALUE);
    let unknown = result_of!(cuda.cuPointerGetAttribute(data[0], CUpointer_attribute(999), own));
    assert_eq!(unknown, CUDA_ERROR_INVALID_VALUE);
}

/// One device has no peers.
fn peers(cuda: &Cuda) {
    let device = CUdevice(0);
    assert_eq!(value_of!(cuda.cuDeviceCanAccessPeer(-1, device, device)), 0);
    let mut value = 0;
    let (what, into) = (CUdevice_P2PAttribute(2), &raw mut value);
    let none = result_of!(cuda.cuDeviceGetP2PAttribute(into, what, device, device));
    assert_eq!(none, CUDA_ERROR_INVALID_DEVICE);
    let context = value_of!(cuda.cuCtxGetCurrent(CUcontext(0)));
    let on = result_of!(cuda.cuCtxEnablePeerAccess(context, 0));
    assert_ne!(on, CUDA_SUCCESS);
    let off = result_of!(cuda.cuCtxDisablePeerAccess(context));
    assert_eq!(off, CUDA_ERROR_PEER_ACCESS_NOT_ENABLED);
}
