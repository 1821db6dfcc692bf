//! Memory of two devices: each has its own, wherever it comes from.

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::{must, result_of, value_of};
use zerocopy::FromZeros;

use super::contexts::{Side, read};
use crate::MEMORY;

/// More than half.
const MOST: usize = MEMORY * 5 / 8;
/// Mapped memory is a multiple of this.
const PIECE: usize = 2 << 20;

fn location(device: CUdevice) -> CUmemLocation {
    CUmemLocation { kind: CU_MEM_LOCATION_TYPE_DEVICE, id: device.0 }
}

fn ordinal_of(cuda: &Cuda, at: CUdeviceptr) -> i32 {
    let mut ordinal = -1_i32;
    must!(cuda.cuPointerGetAttribute((&raw mut ordinal).cast(), CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, at));
    ordinal
}

/// The shim does not ask where a pool's memory is: it takes it for the stream's device's.
fn asks_where_memory_is() -> bool {
    std::env::var_os("PARAVANE_SOCKET").is_none()
}

/// What is free on a side's device.
fn free(cuda: &Cuda, side: &Side) -> usize {
    side.enter(cuda);
    let (mut free, mut total) = (0, 0);
    must!(cuda.cuMemGetInfo_v2(&raw mut free, &raw mut total));
    assert!(total <= MEMORY && free <= total);
    free
}

pub(crate) fn budgets(cuda: &Cuda, sides: &[Side; 2]) {
    let before = sides.each_ref().map(|side| free(cuda, side));
    let mut taken = Vec::new();
    for (side, device) in sides.iter().zip(0..) {
        side.enter(cuda);
        let at = value_of!(cuda.cuMemAlloc_v2(CUdeviceptr(0), MOST));
        assert_eq!(ordinal_of(cuda, at), device);
        let mut none = CUdeviceptr(0);
        let more = result_of!(cuda.cuMemAlloc_v2(&raw mut none, MOST));
        assert_eq!(more, CUDA_ERROR_OUT_OF_MEMORY);
        taken.push(at);
    }
    for (side, before) in sides.iter().zip(before) {
        assert_eq!(before - free(cuda, side), MOST);
    }
    // Wherever it is freed.
    for at in taken {
        must!(cuda.cuMemFree_v2(at));
    }
    assert_eq!(sides.each_ref().map(|side| free(cuda, side)), before);
}

pub(crate) fn pools(cuda: &Cuda, sides: &[Side; 2]) {
    let defaults = sides.each_ref().map(|side| value_of!(cuda.cuDeviceGetDefaultMemPool(CUmemoryPool(0), side.device)));
    assert_ne!(defaults[0], defaults[1]);
    for (side, default) in sides.iter().zip(defaults) {
        assert_eq!(value_of!(cuda.cuDeviceGetMemPool(CUmemoryPool(0), side.device)), default);
        side.enter(cuda);
        let before = free(cuda, side);
        let at = value_of!(cuda.cuMemAllocAsync(CUdeviceptr(0), MOST, side.stream));
        assert_eq!(ordinal_of(cuda, at), side.device.0);
        assert_eq!(before - free(cuda, side), MOST);
        must!(cuda.cuMemFreeAsync(at, side.stream));
        must!(cuda.cuStreamSynchronize(side.stream));
        assert_eq!(free(cuda, side), before);
    }
    let [first, second] = sides;
    let props = CUmemPoolProps {
        allocType: CU_MEM_ALLOCATION_TYPE_PINNED,
        location: location(second.device),
        ..CUmemPoolProps::new_zeroed()
    };
    let pool = value_of!(cuda.cuMemPoolCreate(CUmemoryPool(0), &raw const props));
    // A pool's memory is its device's, whatever stream asks.
    first.enter(cuda);
    let at = value_of!(cuda.cuMemAllocFromPoolAsync(CUdeviceptr(0), 4, pool, first.stream));
    must!(cuda.cuStreamSynchronize(first.stream));
    assert!(ordinal_of(cuda, at) == 1 || !asks_where_memory_is());
    assert_eq!(result_of!(cuda.cuDeviceSetMemPool(first.device, pool)), CUDA_ERROR_INVALID_VALUE);
    must!(cuda.cuDeviceSetMemPool(second.device, pool));
    assert_eq!(value_of!(cuda.cuDeviceGetMemPool(CUmemoryPool(0), second.device)), pool);
    must!(cuda.cuDeviceSetMemPool(second.device, defaults[1]));

    let (here, mut flags) = (location(first.device), CUmemAccess_flags(9));
    must!(cuda.cuMemPoolGetAccess(&raw mut flags, pool, &raw const here));
    assert_eq!(flags, CU_MEM_ACCESS_FLAGS_PROT_NONE);
    let open = CUmemAccessDesc { location: here, flags: CU_MEM_ACCESS_FLAGS_PROT_READWRITE };
    must!(cuda.cuMemPoolSetAccess(pool, &raw const open, 1));
    must!(cuda.cuMemPoolGetAccess(&raw mut flags, pool, &raw const here));
    assert_eq!(flags, CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
    must!(cuda.cuMemsetD32_v2(at, 3, 1));
    assert_eq!(first.launch_add(cuda, at), CUDA_SUCCESS);
    must!(cuda.cuStreamSynchronize(first.stream));
    assert_eq!(read(cuda, at), 4);
    must!(cuda.cuMemFreeAsync(at, first.stream));
    must!(cuda.cuMemPoolDestroy(pool));
}

/// Physical memory of one device that both reach.
pub(crate) fn mapped(cuda: &Cuda, sides: &[Side; 2]) {
    let [first, second] = sides;
    let before = sides.each_ref().map(|side| free(cuda, side));
    let prop = CUmemAllocationProp {
        kind: CU_MEM_ALLOCATION_TYPE_PINNED,
        location: location(second.device),
        ..CUmemAllocationProp::new_zeroed()
    };
    let handle = value_of!(cuda.cuMemCreate(CUmemGenericAllocationHandle(0), PIECE, &raw const prop, 0));
    assert_eq!(free(cuda, first), before[0]);
    assert_eq!(before[1] - free(cuda, second), PIECE);
    let told = value_of!(cuda.cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp::new_zeroed(), handle));
    assert_eq!(told.location, location(second.device));
    let at = value_of!(cuda.cuMemAddressReserve(CUdeviceptr(0), PIECE, 0, CUdeviceptr(0), 0));
    must!(cuda.cuMemMap(at, PIECE, 0, handle, 0));
    let flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    let both = sides.each_ref().map(|side| CUmemAccessDesc { location: location(side.device), flags });
    must!(cuda.cuMemSetAccess(at, PIECE, both.as_ptr(), 1));
    let reaches = |side: &Side| {
        let (mut flags, place) = (9_u64, location(side.device));
        must!(cuda.cuMemGetAccess(&raw mut flags, &raw const place, at));
        flags
    };
    assert_eq!(sides.each_ref().map(reaches), [3, 0]);
    must!(cuda.cuMemSetAccess(at, PIECE, both.as_ptr(), 2));
    assert_eq!(sides.each_ref().map(reaches), [3, 3]);
    must!(cuda.cuMemsetD32_v2(at, 1, 1));
    for side in sides {
        side.enter(cuda);
        assert_eq!(side.launch_add(cuda, at), CUDA_SUCCESS);
        must!(cuda.cuStreamSynchronize(side.stream));
    }
    assert_eq!(read(cuda, at), 3);
    must!(cuda.cuMemUnmap(at, PIECE));
    must!(cuda.cuMemAddressFree(at, PIECE));
    must!(cuda.cuMemRelease(handle));
    assert_eq!(sides.each_ref().map(|side| free(cuda, side)), before);
}

/// Managed memory goes where it is asked to, and everybody reaches it.
pub(crate) fn managed(cuda: &Cuda, sides: &[Side; 2]) {
    sides[1].enter(cuda);
    let at = value_of!(cuda.cuMemAllocManaged(CUdeviceptr(0), 4096, 1));
    assert_eq!(ordinal_of(cuda, at), 1);
    must!(cuda.cuMemsetD32_v2(at, 10, 1));
    for side in sides {
        side.enter(cuda);
        must!(cuda.cuMemPrefetchAsync(at, 4096, side.device, side.stream));
        let mut last = -9_i32;
        let (what, into) = (CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION, (&raw mut last).cast());
        must!(cuda.cuMemRangeGetAttribute(into, 4, what, at, 4096));
        assert_eq!(last, side.device.0);
        assert_eq!(side.launch_add(cuda, at), CUDA_SUCCESS);
        must!(cuda.cuStreamSynchronize(side.stream));
    }
    let third = result_of!(cuda.cuMemPrefetchAsync(at, 4096, CUdevice(2), sides[1].stream));
    assert_eq!(third, CUDA_ERROR_INVALID_DEVICE);
    assert_eq!(read(cuda, at), 12);
    must!(cuda.cuMemFree_v2(at));
}
