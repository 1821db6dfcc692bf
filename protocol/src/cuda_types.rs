//! CUDA's types as cuda.h lays them out on x86-64 Linux, under CUDA's names.
//! Handles are opaque pointers in CUDA's ABI: in the guest they carry ids that
//! the shim minted, in the worker and in cpu-driver they are what libcuda gave.

use core::ffi::{c_char, c_void};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub use crate::cuda_result::*;
pub use crate::array_types::*;
pub use crate::green_types::*;
pub use crate::memory_types::*;

/// A scalar that travels as one `u64` word.
pub trait Word: Copy {
    /// The value in a word.
    fn to_word(self) -> u64;
    /// The value of a word; bits beyond the type are dropped.
    fn from_word(word: u64) -> Self;
}

macro_rules! words {
    ($($type:ty)*) => {$(
        impl Word for $type {
            #[inline]
            #[allow(clippy::cast_sign_loss, clippy::cast_lossless, reason = "bits travel, not values")]
            fn to_word(self) -> u64 {
                self as u64
            }
            #[inline]
            #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "bits travel, not values")]
            fn from_word(word: u64) -> Self {
                word as Self
            }
        }
    )*};
}
words!(u8 u16 u32 u64 usize i32 i64);

impl Word for f32 {
    fn to_word(self) -> u64 {
        u64::from(self.to_bits())
    }
    fn from_word(word: u64) -> Self {
        Self::from_bits(u32::from_word(word))
    }
}

impl Word for CUresult {
    fn to_word(self) -> u64 {
        u64::from(self.0)
    }
    fn from_word(word: u64) -> Self {
        Self(u32::from_word(word))
    }
}

/// Numbers that cuda.h declares as enums: any value may arrive, from a newer
/// program or a hostile one, so they are no Rust enums.
macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident($repr:ty) { $($constant:ident = $value:expr),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(transparent)]
        pub struct $name(pub $repr);
        $(
            #[doc = concat!("[`", stringify!($name), "`] ", stringify!($value), ".")]
            pub const $constant: $name = $name($value);
        )*
        impl Word for $name {
            #[inline]
            fn to_word(self) -> u64 {
                self.0.to_word()
            }
            #[inline]
            fn from_word(word: u64) -> Self {
                Self(Word::from_word(word))
            }
        }
    )*};
}

pub(crate) use numbers;

numbers! {
    /// Ordinal of a device.
    CUdevice(i32) {}
    /// An address in a context's device memory.
    CUdeviceptr(u64) {}
    /// Which property of a device; numbers are not listed here, see cuda.h.
    CUdevice_attribute(u32) {
        CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK = 1,
        CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X = 2,
        CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y = 3,
        CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z = 4,
        CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X = 5,
        CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y = 6,
        CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z = 7,
        CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK = 8,
        CU_DEVICE_ATTRIBUTE_WARP_SIZE = 10,
        CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = 16,
        CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM = 91,
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75,
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76,
    }
    /// Which property of a function.
    CUfunction_attribute(u32) {}
    /// Which limit of a context.
    CUlimit(u32) {}
    /// Width of shared memory's banks.
    CUsharedconfig(u32) {}
    /// Preference between L1 and shared memory.
    CUfunc_cache(u32) {}
    /// A JIT option of a module load.
    CUjit_option(u32) {
        CU_JIT_MAX_REGISTERS = 0,
        CU_JIT_INFO_LOG_BUFFER = 3,
        CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES = 4,
        CU_JIT_ERROR_LOG_BUFFER = 5,
        CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES = 6,
    }
    /// What an input of a link is.
    CUjitInputType(u32) {
        CU_JIT_INPUT_CUBIN = 0,
        CU_JIT_INPUT_PTX = 1,
        CU_JIT_INPUT_FATBINARY = 2,
        CU_JIT_INPUT_OBJECT = 3,
        CU_JIT_INPUT_LIBRARY = 4,
    }
    /// An option of a library load.
    CUlibraryOption(u32) {}
    /// Where a 2D copy's operand lies.
    CUmemorytype(u32) {
        CU_MEMORYTYPE_HOST = 1,
        CU_MEMORYTYPE_DEVICE = 2,
        CU_MEMORYTYPE_ARRAY = 3,
        CU_MEMORYTYPE_UNIFIED = 4,
    }
    /// Eager (1) or lazy (2) module loading.
    CUmoduleLoadingMode(u32) {
        CU_MODULE_EAGER_LOADING = 1,
        CU_MODULE_LAZY_LOADING = 2,
    }
    /// An atomic operation over a link.
    CUatomicOperation(u32) {}
    /// How a symbol look-up ended.
    CUdriverProcAddressQueryResult(u32) {
        CU_GET_PROC_ADDRESS_SUCCESS = 0,
        CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND = 1,
        CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT = 2,
    }
    /// Whether a lazily loaded function is loaded.
    CUfunctionLoadingState(u32) {}
    /// Which attribute a launch carries.
    CUlaunchAttributeID(u32) {
        CU_LAUNCH_ATTRIBUTE_IGNORE = 0,
        CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW = 1,
        CU_LAUNCH_ATTRIBUTE_COOPERATIVE = 2,
        CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT = 7,
        CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT = 12,
        CU_LAUNCH_ATTRIBUTE_DEVICE_UPDATABLE_KERNEL_NODE = 13,
    }
}

/// An opaque handle. In the guest its number is an id: type in bits 40 to 47,
/// generation in 24 to 39 (16 bits), index in 0 to 23.
pub trait Handle: Copy {
    /// Tells the handle types apart within one id space.
    const TYPE: u8;
    /// CUDA's name of the type.
    const NAME: &'static str;
    /// The handle with this number.
    fn from_number(number: u64) -> Self;
    /// The handle's number; 0 is CUDA's NULL.
    fn number(self) -> u64;
}

macro_rules! handles {
    ($($(#[$doc:meta])* $name:ident = $type:literal)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(transparent)]
        pub struct $name(pub u64);
        impl Handle for $name {
            const TYPE: u8 = $type;
            const NAME: &'static str = stringify!($name);
            #[inline]
            fn from_number(number: u64) -> Self {
                Self(number)
            }
            #[inline]
            fn number(self) -> u64 {
                self.0
            }
        }
        impl Word for $name {
            #[inline]
            fn to_word(self) -> u64 {
                self.0
            }
            #[inline]
            fn from_word(word: u64) -> Self {
                Self(word)
            }
        }
    )*};
}

pub(crate) use handles;

handles! {
    /// A context.
    CUcontext = 1
    /// A module.
    CUmodule = 2
    /// A function of a module; programs also pass a [`CUkernel`] for one.
    CUfunction = 3
    /// A library.
    CUlibrary = 4
    /// A kernel of a library.
    CUkernel = 5
    /// A stream; 0, 1 and 2 name the default streams.
    CUstream = 6
    /// An event.
    CUevent = 7
    /// An array.
    CUarray = 8
    /// A link under way.
    CUlinkState = 15
    /// A callback of the error log.
    CUlogsCallbackHandle = 50
}

mod graph;
mod stream;
pub use graph::*;
pub use stream::*;

/// The default stream in its legacy form, by NULL or by this number.
pub const CU_STREAM_LEGACY: CUstream = CUstream(1);
/// The default stream of the calling thread.
pub const CU_STREAM_PER_THREAD: CUstream = CUstream(2);

/// Sixteen bytes that name a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CUuuid {
    /// The bytes.
    pub bytes: [u8; 16],
}

/// CUDA_MEMCPY2D_v2. Host addresses are plain numbers here: only the side that
/// owns them makes a pointer of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(non_snake_case, missing_docs, reason = "CUDA's names")]
pub struct CUDA_MEMCPY2D {
    pub srcXInBytes: u64,
    pub srcY: u64,
    pub srcMemoryType: CUmemorytype,
    pub pad0: u32,
    pub srcHost: u64,
    pub srcDevice: CUdeviceptr,
    pub srcArray: CUarray,
    pub srcPitch: u64,
    pub dstXInBytes: u64,
    pub dstY: u64,
    pub dstMemoryType: CUmemorytype,
    pub pad1: u32,
    pub dstHost: u64,
    pub dstDevice: CUdeviceptr,
    pub dstArray: CUarray,
    pub dstPitch: u64,
    pub WidthInBytes: u64,
    pub Height: u64,
}
const _: () = assert!(size_of::<CUDA_MEMCPY2D>() == 128);

/// One launch attribute: an id and 64 bytes of value.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CUlaunchAttribute {
    /// Which attribute.
    pub id: CUlaunchAttributeID,
    /// Padding to 8.
    pub pad: u32,
    /// The value; its form depends on the id.
    pub value: [u64; 8],
}
const _: () = assert!(size_of::<CUlaunchAttribute>() == 72);

/// The configuration that cuLaunchKernelEx takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(non_snake_case, missing_docs, reason = "CUDA's names")]
pub struct CUlaunchConfig {
    pub gridDimX: u32,
    pub gridDimY: u32,
    pub gridDimZ: u32,
    pub blockDimX: u32,
    pub blockDimY: u32,
    pub blockDimZ: u32,
    pub sharedMemBytes: u32,
    pub hStream: CUstream,
    pub attrs: *mut CUlaunchAttribute,
    pub numAttrs: u32,
}
const _: () = assert!(size_of::<CUlaunchConfig>() == 56);

/// A device's first properties: its attributes 1 to 14, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CUdevprop {
    /// Their values.
    pub of_attributes: [i32; 14],
}
const _: () = assert!(size_of::<CUdevprop>() == 56);

impl CUdevprop {
    /// The properties, from each attribute.
    pub fn read<E>(attribute: impl Fn(CUdevice_attribute) -> Result<i32, E>) -> Result<Self, E> {
        let mut of_attributes = [0; 14];
        for (number, value) in (1..).zip(&mut of_attributes) {
            *value = attribute(CUdevice_attribute(number))?;
        }
        Ok(Self { of_attributes })
    }
}

/// cuLaunchHostFunc's callback.
pub type CUhostFn = Option<unsafe extern "C" fn(*mut c_void)>;
/// cuStreamAddCallback's callback.
pub type CUstreamCallback = Option<unsafe extern "C" fn(CUstream, CUresult, *mut c_void)>;
/// The occupancy calls' callback: block size to dynamic shared memory.
pub type CUoccupancyB2DSize = Option<unsafe extern "C" fn(i32) -> usize>;
/// The error log's callback: data, level, message, its length.
pub type CUlogsCallback = Option<unsafe extern "C" fn(*mut c_void, u32, *mut c_char, usize)>;
/// A C string that the callee owns.
pub type ConstStr = *const c_char;
/// An untyped pointer of the program's.
pub type Pointer = *mut c_void;
/// `void**`: kernel parameters, JIT option values.
pub type Pointers = *mut *mut c_void;
