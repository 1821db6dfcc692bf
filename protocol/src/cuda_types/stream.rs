//! Types of streams: attributes, memory operations, capture.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{CUdeviceptr, Word};

numbers! {
    /// What a thread's unsafe calls have to fear from captures.
    CUstreamCaptureMode(u32) {
        CU_STREAM_CAPTURE_MODE_GLOBAL = 0,
        CU_STREAM_CAPTURE_MODE_THREAD_LOCAL = 1,
        CU_STREAM_CAPTURE_MODE_RELAXED = 2,
    }
    /// What of a device a context may be bound to.
    CUexecAffinityType(u32) {}
    /// Whether a stream is captured.
    CUstreamCaptureStatus(u32) {
        CU_STREAM_CAPTURE_STATUS_NONE = 0,
        CU_STREAM_CAPTURE_STATUS_ACTIVE = 1,
        CU_STREAM_CAPTURE_STATUS_INVALIDATED = 2,
    }
    /// One kind of stream memory operation.
    CUstreamBatchMemOpType(u32) {
        CU_STREAM_MEM_OP_WAIT_VALUE_32 = 1,
        CU_STREAM_MEM_OP_WRITE_VALUE_32 = 2,
        CU_STREAM_MEM_OP_FLUSH_REMOTE_WRITES = 3,
        CU_STREAM_MEM_OP_WAIT_VALUE_64 = 4,
        CU_STREAM_MEM_OP_WRITE_VALUE_64 = 5,
        CU_STREAM_MEM_OP_BARRIER = 6,
        CU_STREAM_MEM_OP_ATOMIC_REDUCTION = 8,
    }
}

/// What of a device a context is bound to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CUexecAffinityParam {
    /// CU_EXEC_AFFINITY_TYPE_*.
    pub kind: u32,
    /// Of the type's own meaning: a number of multiprocessors.
    pub value: u32,
}
const _: () = assert!(size_of::<CUexecAffinityParam>() == 8);

/// One launch of cuLaunchCooperativeKernelMultiDevice.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(non_snake_case, missing_docs, reason = "CUDA's names")]
pub struct CUDA_LAUNCH_PARAMS {
    pub function: super::CUfunction,
    pub gridDimX: u32,
    pub gridDimY: u32,
    pub gridDimZ: u32,
    pub blockDimX: u32,
    pub blockDimY: u32,
    pub blockDimZ: u32,
    pub sharedMemBytes: u32,
    pub hStream: super::CUstream,
    pub kernelParams: super::Pointers,
}
const _: () = assert!(size_of::<CUDA_LAUNCH_PARAMS>() == 56);

/// The value of a launch, stream or kernel node attribute; its form depends on
/// the attribute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CUlaunchAttributeValue {
    /// The union's 64 bytes.
    pub words: [u64; 8],
}
const _: () = assert!(size_of::<CUlaunchAttributeValue>() == 64);

/// One stream memory operation. The six words are the union of CUDA's forms:
/// the kind is in the low half of the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CUstreamBatchMemOpParams {
    /// The union's 48 bytes.
    pub words: [u64; 6],
}
const _: () = assert!(size_of::<CUstreamBatchMemOpParams>() == 48);

impl CUstreamBatchMemOpParams {
    /// A wait for or a write of `value` at `address`.
    pub fn of(kind: CUstreamBatchMemOpType, address: CUdeviceptr, value: u64, flags: u32) -> Self {
        Self { words: [u64::from(kind.0), address.0, value, u64::from(flags), 0, 0] }
    }

    /// Which operation it is.
    pub fn kind(&self) -> CUstreamBatchMemOpType {
        CUstreamBatchMemOpType(u32::from_word(self.words[0]))
    }

    /// A word's half: the low one for an even `index`.
    pub fn half(&self, index: usize) -> u32 {
        let word = self.words.get(index / 2).copied().unwrap_or(0);
        u32::from_word(if index.is_multiple_of(2) { word } else { word >> 32 })
    }
}
