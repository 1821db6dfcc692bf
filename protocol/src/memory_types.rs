//! CUDA's types of the memory side, as cuda.h lays them out on x86-64 Linux:
//! pools, physical allocations, three-dimensional copies, batches.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::cuda_types::{CUdeviceptr, Handle, Word, handles, numbers};

numbers! {
    /// What an untyped pointer points to whose length an attribute decides:
    /// up to eight bytes.
    AttributeValue(u64) {}
    /// Which property of a pointer.
    CUpointer_attribute(u32) {
        CU_POINTER_ATTRIBUTE_CONTEXT = 1,
        CU_POINTER_ATTRIBUTE_MEMORY_TYPE = 2,
        CU_POINTER_ATTRIBUTE_DEVICE_POINTER = 3,
        CU_POINTER_ATTRIBUTE_HOST_POINTER = 4,
        CU_POINTER_ATTRIBUTE_P2P_TOKENS = 5,
        CU_POINTER_ATTRIBUTE_SYNC_MEMOPS = 6,
        CU_POINTER_ATTRIBUTE_BUFFER_ID = 7,
        CU_POINTER_ATTRIBUTE_IS_MANAGED = 8,
        CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL = 9,
        CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE = 10,
        CU_POINTER_ATTRIBUTE_RANGE_START_ADDR = 11,
        CU_POINTER_ATTRIBUTE_RANGE_SIZE = 12,
        CU_POINTER_ATTRIBUTE_MAPPED = 13,
        CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES = 14,
        CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE = 15,
        CU_POINTER_ATTRIBUTE_ACCESS_FLAGS = 16,
        CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE = 17,
        CU_POINTER_ATTRIBUTE_MAPPING_SIZE = 18,
        CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR = 19,
        CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID = 20,
        CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE = 21,
    }
    /// Which property of a pool.
    CUmemPool_attribute(u32) {
        CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES = 1,
        CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC = 2,
        CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES = 3,
        CU_MEMPOOL_ATTR_RELEASE_THRESHOLD = 4,
        CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT = 5,
        CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH = 6,
        CU_MEMPOOL_ATTR_USED_MEM_CURRENT = 7,
        CU_MEMPOOL_ATTR_USED_MEM_HIGH = 8,
        CU_MEMPOOL_ATTR_ALLOCATION_TYPE = 9,
        CU_MEMPOOL_ATTR_EXPORT_HANDLE_TYPES = 10,
        CU_MEMPOOL_ATTR_LOCATION_ID = 11,
        CU_MEMPOOL_ATTR_LOCATION_TYPE = 12,
        CU_MEMPOOL_ATTR_MAX_POOL_SIZE = 13,
        CU_MEMPOOL_ATTR_HW_DECOMPRESS_ENABLED = 14,
    }
    /// Where memory lies, or who reaches it.
    CUmemLocationType(u32) {
        CU_MEM_LOCATION_TYPE_INVALID = 0,
        CU_MEM_LOCATION_TYPE_DEVICE = 1,
        CU_MEM_LOCATION_TYPE_HOST = 2,
        CU_MEM_LOCATION_TYPE_HOST_NUMA = 3,
        CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT = 4,
    }
    /// The sort of an allocation.
    CUmemAllocationType(u32) {
        CU_MEM_ALLOCATION_TYPE_PINNED = 1,
        CU_MEM_ALLOCATION_TYPE_MANAGED = 2,
    }
    /// How memory may be handed to another process.
    CUmemAllocationHandleType(u32) {
        CU_MEM_HANDLE_TYPE_NONE = 0,
        CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR = 1,
    }
    /// What a location may do with memory.
    CUmemAccess_flags(u32) {
        CU_MEM_ACCESS_FLAGS_PROT_NONE = 0,
        CU_MEM_ACCESS_FLAGS_PROT_READ = 1,
        CU_MEM_ACCESS_FLAGS_PROT_READWRITE = 3,
    }
    /// Minimum (0) or recommended (1) granularity.
    CUmemAllocationGranularity_flags(u32) {}
    /// When a batch's copy reads its source.
    CUmemcpySrcAccessOrder(u32) {
        CU_MEMCPY_SRC_ACCESS_ORDER_STREAM = 1,
        CU_MEMCPY_SRC_ACCESS_ORDER_DURING_API_CALL = 2,
        CU_MEMCPY_SRC_ACCESS_ORDER_ANY = 3,
    }
    /// Pointer (1) or array (2).
    CUmemcpy3DOperandType(u32) {
        CU_MEMCPY_OPERAND_TYPE_POINTER = 1,
        CU_MEMCPY_OPERAND_TYPE_ARRAY = 2,
    }
    /// Which property of a pair of devices.
    CUdevice_P2PAttribute(u32) {}
    /// Advice about managed memory.
    CUmem_advise(u32) {
        CU_MEM_ADVISE_SET_READ_MOSTLY = 1,
        CU_MEM_ADVISE_UNSET_READ_MOSTLY = 2,
        CU_MEM_ADVISE_SET_PREFERRED_LOCATION = 3,
        CU_MEM_ADVISE_UNSET_PREFERRED_LOCATION = 4,
        CU_MEM_ADVISE_SET_ACCESSED_BY = 5,
        CU_MEM_ADVISE_UNSET_ACCESSED_BY = 6,
    }
    /// Minimum (0) or recommended (1) granularity of a multicast object.
    CUmulticastGranularity_flags(u32) {}
    /// Whose writes are flushed.
    CUflushGPUDirectRDMAWritesTarget(u32) {}
    /// Who sees them afterwards.
    CUflushGPUDirectRDMAWritesScope(u32) {}
    /// What a tensor's elements are.
    CUtensorMapDataType(u32) {}
    /// How a tensor's channels are interleaved.
    CUtensorMapInterleave(u32) {}
    /// How shared memory's banks are swizzled.
    CUtensorMapSwizzle(u32) {}
    /// What is brought into the L2 cache.
    CUtensorMapL2promotion(u32) {}
    /// What is read outside of a tensor.
    CUtensorMapFloatOOBfill(u32) {}
    /// Which form of a wide im2col.
    CUtensorMapIm2ColWideMode(u32) {}
    /// How far reads outside of a tensor may go.
    CUtensorMapAllocClass(u32) {}
    /// A device address where cuda.h has an untyped pointer.
    DeviceAddress(u64) {}
    /// Which property of a range of managed memory.
    CUmem_range_attribute(u32) {
        CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY = 1,
        CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION = 2,
        CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY = 3,
        CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION = 4,
        CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION_TYPE = 5,
        CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION_ID = 6,
        CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION_TYPE = 7,
        CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION_ID = 8,
    }
}

handles! {
    /// A pool that stream-ordered allocations come from.
    CUmemoryPool = 41
    /// A mipmapped array.
    CUmipmappedArray = 42
    /// Physical memory, apart from any address.
    CUmemGenericAllocationHandle = 43
}

/// A C structure of scalars that travels as its bytes. Where it holds handles
/// the worker replaces them before libcuda sees them.
macro_rules! structs {
    ($($(#[$doc:meta])* $name:ident: $bytes:literal { $($field:ident: $type:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        #[allow(non_snake_case, missing_docs, reason = "CUDA's names")]
        pub struct $name {
            $(pub $field: $type,)*
        }
        const _: () = assert!(size_of::<$name>() == $bytes);
    )*};
}
pub(crate) use structs;

structs! {
    /// A device or a part of the host.
    CUmemLocation: 8 {
        kind: CUmemLocationType,
        id: i32,
    }
    /// Who may do what with memory.
    CUmemAccessDesc: 12 {
        location: CUmemLocation,
        flags: CUmemAccess_flags,
    }
    /// What a new pool is.
    CUmemPoolProps: 88 {
        allocType: CUmemAllocationType,
        handleTypes: CUmemAllocationHandleType,
        location: CUmemLocation,
        win32SecurityAttributes: u64,
        maxSize: u64,
        usage: u16,
        gpuDirectRDMACapable: u8,
        reserved: [u8; 53],
    }
    /// What new physical memory is.
    CUmemAllocationProp: 32 {
        kind: CUmemAllocationType,
        requestedHandleTypes: CUmemAllocationHandleType,
        location: CUmemLocation,
        win32HandleMetaData: u64,
        compressionType: u8,
        gpuDirectRDMACapable: u8,
        usage: u16,
        reserved: [u8; 4],
    }
    /// What devices and how much memory a multicast object is for.
    CUmulticastObjectProp: 32 {
        numDevices: u32,
        pad: u32,
        size: u64,
        handleTypes: u64,
        flags: u64,
    }
    /// How a batch's copies may be done.
    CUmemcpyAttributes: 24 {
        srcAccessOrder: CUmemcpySrcAccessOrder,
        srcLocHint: CUmemLocation,
        dstLocHint: CUmemLocation,
        flags: u32,
    }
    /// One end of a batch's three-dimensional copy: pointer, row length and
    /// layer height in elements and a hint; or array and offset x, y, z.
    CUmemcpy3DOperand: 40 {
        kind: CUmemcpy3DOperandType,
        pad: u32,
        words: [u64; 4],
    }
    /// One three-dimensional copy of a batch; its extent is in elements where
    /// an array takes part, else in bytes.
    CUDA_MEMCPY3D_BATCH_OP: 112 {
        src: CUmemcpy3DOperand,
        dst: CUmemcpy3DOperand,
        extent: [u64; 3],
        srcAccessOrder: CUmemcpySrcAccessOrder,
        flags: u32,
    }
    /// A handle of memory or of an event that another process opens.
    CUipcHandle: 64 {
        bytes: [u8; 64],
    }
}

/// What names memory of a shared pool to another process.
pub type CUmemPoolPtrExportData = CUipcHandle;

/// What a question about one pointer is answered from.
#[derive(Clone, Copy, Debug, Default)]
pub struct PointerFacts {
    /// The context in which the memory was made.
    pub context: u64,
    /// Its address for the program, where the program can reach it.
    pub host: Option<u64>,
    /// Its address for the device.
    pub device: u64,
    /// Where the memory begins and how long it is.
    pub range: (u64, u64),
    /// A number that no other memory of the process ever has.
    pub number: u64,
    /// Whether copies with it are synchronous.
    pub sync_memops: bool,
    /// Whether it is managed.
    pub is_managed: bool,
    /// Whether legacy handles for other processes can be made of it.
    pub is_ipc_capable: bool,
    /// The handle types with which it may be exported.
    pub handle_types: u32,
    /// The pool it is of; 0 for none.
    pub pool: u64,
    /// The device it is of.
    pub ordinal: i32,
}

impl CUpointer_attribute {
    /// Bytes of the attribute's value in C; `None` for an attribute that
    /// cuda.h does not have, or that says nothing on this system.
    pub fn bytes(self) -> Option<usize> {
        match self.0 {
            1 | 3 | 4 | 7 | 11 | 12 | 14 | 17..=20 => Some(8),
            2 | 6 | 8..=10 | 13 | 15 | 16 | 21 => Some(4),
            _ => None,
        }
    }

    /// What the attribute is where no memory of CUDA's lies.
    pub fn of_nothing(self) -> u64 {
        // CU_DEVICE_INVALID.
        if self == CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL { (-2_i32).to_word() } else { 0 }
    }

    /// The attribute's value; `None` where it has none.
    pub fn of(self, facts: &PointerFacts) -> Option<u64> {
        const HOST: u64 = 1;
        const DEVICE: u64 = 2;
        Some(match self {
            CU_POINTER_ATTRIBUTE_CONTEXT => facts.context,
            CU_POINTER_ATTRIBUTE_MEMORY_TYPE if facts.host.is_some() && !facts.is_managed => HOST,
            CU_POINTER_ATTRIBUTE_MEMORY_TYPE => DEVICE,
            CU_POINTER_ATTRIBUTE_DEVICE_POINTER => facts.device,
            CU_POINTER_ATTRIBUTE_HOST_POINTER => facts.host?,
            CU_POINTER_ATTRIBUTE_SYNC_MEMOPS => facts.sync_memops.into(),
            CU_POINTER_ATTRIBUTE_BUFFER_ID | CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID => facts.number,
            CU_POINTER_ATTRIBUTE_IS_MANAGED => facts.is_managed.into(),
            CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL => facts.ordinal.to_word(),
            CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE => facts.is_ipc_capable.into(),
            CU_POINTER_ATTRIBUTE_RANGE_START_ADDR | CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR => {
                facts.range.0
            }
            CU_POINTER_ATTRIBUTE_RANGE_SIZE | CU_POINTER_ATTRIBUTE_MAPPING_SIZE => facts.range.1,
            CU_POINTER_ATTRIBUTE_MAPPED => 1,
            CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES => facts.handle_types.into(),
            CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE
            | CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE => 0,
            CU_POINTER_ATTRIBUTE_ACCESS_FLAGS => CU_MEM_ACCESS_FLAGS_PROT_READWRITE.to_word(),
            CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE => facts.pool,
            _ => return None,
        })
    }
}

/// A tensor map as kernels read it, at a multiple of 64.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct CUtensorMap {
    /// Known to libcuda and the device alone.
    pub opaque: [u64; 16],
}
const _: () = assert!(size_of::<CUtensorMap>() == 128);

/// One piece that the device decompresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(non_snake_case, missing_docs, reason = "CUDA's names")]
pub struct CUmemDecompressParams {
    pub srcNumBytes: u64,
    pub dstNumBytes: u64,
    pub dstActBytes: CUdeviceptr,
    pub src: CUdeviceptr,
    pub dst: CUdeviceptr,
    pub algo: u32,
    pub padding: [u32; 5],
}
const _: () = assert!(size_of::<CUmemDecompressParams>() == 64);

impl CUmemPool_attribute {
    /// Bytes of the attribute's value in C: an `int` or a `cuuint64_t`.
    pub fn bytes(self) -> usize {
        match self {
            CU_MEMPOOL_ATTR_MAX_POOL_SIZE => 8,
            Self(4..=8) => 8,
            _ => 4,
        }
    }
}

impl Word for CUmemLocation {
    fn to_word(self) -> u64 {
        self.kind.to_word() | i64::from(self.id).to_word() << 32
    }
    fn from_word(word: u64) -> Self {
        Self { kind: CUmemLocationType::from_word(word), id: i32::from_word(word >> 32) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_travels_as_a_word() {
        for id in [0, 3, -1, i32::MIN] {
            let location = CUmemLocation { kind: CU_MEM_LOCATION_TYPE_HOST_NUMA, id };
            assert_eq!(CUmemLocation::from_word(location.to_word()), location);
        }
    }
}
