//! Stream-ordered memory and the pools that it comes from.

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::{must, result_of, value_of};

const NULL: CUdeviceptr = CUdeviceptr(0);
const NO_POOL: CUmemoryPool = CUmemoryPool(0);
const STREAM: CUstream = CUstream(0);
static DEVICE: CUmemLocation = CUmemLocation { kind: CU_MEM_LOCATION_TYPE_DEVICE, id: 0 };
const POSIX: CUmemAllocationHandleType = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
const PINNED: CUmemAllocationType = CU_MEM_ALLOCATION_TYPE_PINNED;

fn properties() -> CUmemPoolProps {
    CUmemPoolProps {
        allocType: PINNED,
        handleTypes: CU_MEM_HANDLE_TYPE_NONE,
        location: DEVICE,
        win32SecurityAttributes: 0,
        maxSize: 0,
        usage: 0,
        gpuDirectRDMACapable: 0,
        reserved: [0; 53],
    }
}

pub(crate) fn all(cuda: &Cuda) {
    of_device(cuda);
    let properties = properties();
    let pool = value_of!(cuda.cuMemPoolCreate(NO_POOL, &raw const properties));
    attributes(cuda, pool);
    stream_order(cuda, pool);
    chosen(cuda, pool);
    access(cuda, pool);
    let mut fd = -1_i32;
    let alone = result_of!(cuda.cuMemPoolExportToShareableHandle((&raw mut fd).cast(), pool, POSIX, 0));
    assert_eq!((alone, fd), (CUDA_ERROR_INVALID_VALUE, -1), "a pool that is not to be shared");
    shared(cuda);
    must!(cuda.cuMemPoolDestroy(pool));
    let gone = result_of!(cuda.cuMemPoolTrimTo(pool, 0));
    assert!(matches!(gone, CUDA_ERROR_INVALID_VALUE | CUDA_ERROR_INVALID_HANDLE), "{gone}");
}

/// A pool for several processes, as far as one can use it; `tests/ipc.rs` has two.
fn shared(cuda: &Cuda) {
    const BYTES: usize = 5000;
    let properties = CUmemPoolProps { handleTypes: POSIX, ..properties() };
    let pool = value_of!(cuda.cuMemPoolCreate(NO_POOL, &raw const properties));
    let memory = value_of!(cuda.cuMemAllocFromPoolAsync(NULL, BYTES, pool, STREAM));
    must!(cuda.cuMemsetD8Async(memory, 4, BYTES, STREAM));
    let (mut fd, mut data) = (-1_i32, CUmemPoolPtrExportData { bytes: [0; 64] });
    must!(cuda.cuMemPoolExportToShareableHandle((&raw mut fd).cast(), pool, POSIX, 0));
    must!(cuda.cuMemPoolExportPointer(&raw mut data, memory));
    // SAFETY: the descriptor is the program's.
    #[allow(unsafe_code, reason = "a descriptor that the call has made")]
    let file = unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) };
    let handle = usize::try_from(fd).unwrap() as Pointer;
    let other = value_of!(cuda.cuMemPoolImportFromShareableHandle(NO_POOL, handle, POSIX, 0));
    drop(file);
    assert_ne!(other, pool);
    let (mut again, data_at) = (NULL, &raw mut data);
    must!(cuda.cuMemPoolImportPointer(&raw mut again, other, data_at));
    let seen = |at| {
        let mut bytes = vec![0_u8; BYTES];
        must!(cuda.cuMemcpyDtoH_v2(bytes.as_mut_ptr().cast(), at, BYTES));
        bytes
    };
    assert_eq!(seen(again), [4; BYTES]);
    must!(cuda.cuMemsetD8_v2(again, 5, BYTES));
    assert_eq!(seen(memory), [5; BYTES]);
    let mut none = NULL;
    let imported = result_of!(cuda.cuMemAllocFromPoolAsync(&raw mut none, BYTES, other, STREAM));
    assert_eq!(imported, CUDA_ERROR_INVALID_VALUE);
    assert_eq!(result_of!(cuda.cuDeviceSetMemPool(CUdevice(0), other)), CUDA_ERROR_INVALID_VALUE);
    let mut made_up = CUmemPoolPtrExportData { bytes: [7; 64] };
    let refused = result_of!(cuda.cuMemPoolImportPointer(&raw mut none, other, &raw mut made_up));
    assert_eq!(refused, CUDA_ERROR_INVALID_VALUE);
    must!(cuda.cuMemFreeAsync(again, STREAM));
    must!(cuda.cuMemFreeAsync(memory, STREAM));
    must!(cuda.cuStreamSynchronize(STREAM));
    let gone = result_of!(cuda.cuMemPoolExportPointer(&raw mut data, memory));
    assert_eq!(gone, CUDA_ERROR_INVALID_VALUE);
    must!(cuda.cuMemPoolDestroy(other));
    must!(cuda.cuMemPoolDestroy(pool));
}

fn of_device(cuda: &Cuda) {
    let device = CUdevice(0);
    let (location, kind) = (&raw const DEVICE, PINNED);
    let default = value_of!(cuda.cuDeviceGetDefaultMemPool(NO_POOL, device));
    assert_eq!(value_of!(cuda.cuDeviceGetDefaultMemPool(NO_POOL, device)), default);
    assert_eq!(value_of!(cuda.cuDeviceGetMemPool(NO_POOL, device)), default);
    assert_eq!(value_of!(cuda.cuMemGetDefaultMemPool(NO_POOL, location, kind)), default);
    assert_eq!(value_of!(cuda.cuMemGetMemPool(NO_POOL, location, kind)), default);
    let properties = properties();
    let other = value_of!(cuda.cuMemPoolCreate(NO_POOL, &raw const properties));
    must!(cuda.cuDeviceSetMemPool(device, other));
    assert_eq!(value_of!(cuda.cuDeviceGetMemPool(NO_POOL, device)), other);
    must!(cuda.cuMemSetMemPool(location, kind, default));
    assert_eq!(value_of!(cuda.cuMemGetMemPool(NO_POOL, location, kind)), default);
    must!(cuda.cuDeviceSetMemPool(device, other));
    must!(cuda.cuMemPoolDestroy(other));
    assert_eq!(value_of!(cuda.cuDeviceGetMemPool(NO_POOL, device)), default);
    let mut none = NO_POOL;
    let elsewhere = result_of!(cuda.cuDeviceGetMemPool(&raw mut none, CUdevice(7)));
    assert_eq!(elsewhere, CUDA_ERROR_INVALID_DEVICE);
    assert_eq!(result_of!(cuda.cuMemPoolDestroy(default)), CUDA_ERROR_INVALID_VALUE);
}

fn figure(cuda: &Cuda, pool: CUmemoryPool, attribute: CUmemPool_attribute) -> u64 {
    let mut value = AttributeValue(0);
    must!(cuda.cuMemPoolGetAttribute(pool, attribute, &raw mut value));
    value.0
}

fn attributes(cuda: &Cuda, pool: CUmemoryPool) {
    let reuse = CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC;
    // An int: what lies behind it stays as it is.
    let mut value = AttributeValue(u64::MAX);
    must!(cuda.cuMemPoolGetAttribute(pool, reuse, &raw mut value));
    assert_eq!(value, AttributeValue(0xffff_ffff_0000_0001));
    value = AttributeValue(0);
    must!(cuda.cuMemPoolSetAttribute(pool, reuse, &raw const value));
    assert_eq!(figure(cuda, pool, reuse), 0);
    let threshold = AttributeValue(u64::MAX);
    assert_eq!(figure(cuda, pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD), 0);
    must!(cuda.cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &raw const threshold));
    assert_eq!(figure(cuda, pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD), u64::MAX);
    let set = result_of!(cuda.cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &raw const threshold));
    assert_eq!(set, CUDA_ERROR_INVALID_VALUE);
    let unknown = result_of!(cuda.cuMemPoolGetAttribute(pool, CUmemPool_attribute(99), &raw mut value));
    assert_eq!(unknown, CUDA_ERROR_INVALID_VALUE);
}

/// What a stream writes after an allocation is not touched by what it did with
/// the block before, and memory comes back to the device.
fn stream_order(cuda: &Cuda, pool: CUmemoryPool) {
    const BYTES: usize = 1 << 20;
    let stream = value_of!(cuda.cuStreamCreate(STREAM, 1));
    let mut back = vec![0_u8; BYTES];
    for round in 1..=20 {
        let memory = value_of!(cuda.cuMemAllocFromPoolAsync(NULL, BYTES, pool, stream));
        must!(cuda.cuMemsetD8Async(memory, round, BYTES, stream));
        must!(cuda.cuMemcpyDtoHAsync_v2(back.as_mut_ptr().cast(), memory, BYTES, stream));
        must!(cuda.cuMemFreeAsync(memory, stream));
        assert!(back.iter().all(|byte| *byte == round));
    }
    must!(cuda.cuStreamSynchronize(stream));
    assert_eq!(figure(cuda, pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT), 0);
    assert!(figure(cuda, pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH) >= BYTES as u64);
    let reserved = figure(cuda, pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT);
    assert!((BYTES as u64..20 * BYTES as u64).contains(&reserved), "{reserved} bytes for one block");
    must!(cuda.cuMemPoolTrimTo(pool, 0));
    assert_eq!(figure(cuda, pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT), 0);
    must!(cuda.cuStreamDestroy_v2(stream));
}

/// From the current pool, by every form.
fn chosen(cuda: &Cuda, pool: CUmemoryPool) {
    let memory = value_of!(cuda.cuMemAllocAsync(NULL, 1000, STREAM));
    must!(cuda.cuMemsetD8Async(memory, 1, 1000, STREAM));
    must!(cuda.cuMemFreeAsync(memory, STREAM));
    let memory = value_of!(cuda.cuMemAllocAsync_ptsz(NULL, 1000, STREAM));
    let other = value_of!(cuda.cuMemAllocFromPoolAsync_ptsz(NULL, 1000, pool, STREAM));
    must!(cuda.cuMemcpyDtoDAsync_v2_ptsz(other, memory, 1000, STREAM));
    must!(cuda.cuMemFreeAsync_ptsz(memory, STREAM));
    // At once, as other memory.
    must!(cuda.cuMemFree_v2(other));
    assert_eq!(result_of!(cuda.cuMemFree_v2(other)), CUDA_ERROR_INVALID_VALUE);
    let plain = value_of!(cuda.cuMemAlloc_v2(NULL, 1000));
    must!(cuda.cuMemFreeAsync(plain, STREAM));
    must!(cuda.cuStreamSynchronize(STREAM));
    assert_eq!(result_of!(cuda.cuMemFreeAsync(plain, STREAM)), CUDA_ERROR_INVALID_VALUE);
    let mut none = NULL;
    let empty = result_of!(cuda.cuMemAllocAsync(&raw mut none, 0, STREAM));
    assert_eq!(empty, CUDA_ERROR_INVALID_VALUE);
    let absurd = result_of!(cuda.cuMemAllocAsync(&raw mut none, 1 << 50, STREAM));
    assert_eq!(absurd, CUDA_ERROR_OUT_OF_MEMORY);
}

fn access(cuda: &Cuda, pool: CUmemoryPool) {
    let all = CUmemAccessDesc { location: DEVICE, flags: CU_MEM_ACCESS_FLAGS_PROT_READWRITE };
    must!(cuda.cuMemPoolSetAccess(pool, &raw const all, 1));
    let mut flags = CU_MEM_ACCESS_FLAGS_PROT_NONE;
    must!(cuda.cuMemPoolGetAccess(&raw mut flags, pool, &raw const DEVICE));
    assert_eq!(flags, CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
    let nobody = CUmemAccessDesc { location: CUmemLocation { id: 9, ..DEVICE }, ..all };
    let refused = result_of!(cuda.cuMemPoolSetAccess(pool, &raw const nobody, 1));
    assert_eq!(refused, CUDA_ERROR_INVALID_DEVICE);
}
