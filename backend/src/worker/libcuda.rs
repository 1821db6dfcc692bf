//! The host's libcuda: NVIDIA's or cpu-driver's, found by path and reached
//! through one function pointer for each row of the API table.
#![allow(unsafe_code, reason = "foreign functions")]
#![allow(non_snake_case, reason = "CUDA's names")]

use std::path::Path;

use libloading::Library;
use paravane_protocol::arg::*;
use paravane_protocol::cuda_types::*;

/// What a worker's functions answer: a CUresult that is not success is an
/// ordinary value.
pub(super) type Answer<T = ()> = Result<T, CUresult>;

macro_rules! functions {
    ($($opcode:literal $verb:ident fn $name:ident($($arg:ident: $kind:ty $([$len:expr])?),*) $(+ $variant:ident)?;)*) => {
        /// The library's functions; `None` where it lacks a symbol. Rows that are
        /// the guest's alone have one too: the worker composes other calls of it.
        #[allow(dead_code, reason = "not every row is called")]
        pub(super) struct Libcuda {
            $(pub(super) $name: Option<unsafe extern "C" fn($(<$kind as Arg>::C),*) -> CUresult>,)*
            /// Nanoseconds that a device has worked, where the library keeps
            /// that clock itself (cpu-driver does).
            pub(super) busy_ns: Option<unsafe extern "C" fn(i32) -> u64>,
            /// Device memory that this process uses, and its contexts, where the
            /// library tells (cpu-driver does).
            pub(super) memory_bytes: Option<unsafe extern "C" fn() -> u64>,
            pub(super) contexts: Option<unsafe extern "C" fn() -> u64>,
            /// Of the memory, what is on one device.
            pub(super) device_memory_bytes: Option<unsafe extern "C" fn(i32) -> u64>,
            /// A descriptor of what a handle for other processes names, and the
            /// way back, where the library needs descriptors carried (cpu-driver).
            pub(super) ipc_file: Option<unsafe extern "C" fn(*const CUipcHandle) -> i32>,
            pub(super) ipc_adopt: Option<unsafe extern "C" fn(*const CUipcHandle, i32) -> CUresult>,
            /// Lends the pages of a managed variable, so that the guest's can be
            /// laid there, and the way back (cpu-driver).
            pub(super) lend_variable: Option<unsafe extern "C" fn(CUdeviceptr, *mut usize) -> CUresult>,
            pub(super) take_back: Option<unsafe extern "C" fn(CUdeviceptr) -> CUresult>,
            /// Keeps the functions in place.
            _library: Library,
        }

        impl Libcuda {
            /// Loads the library.
            pub(super) fn load(path: &Path) -> Result<Self, libloading::Error> {
                // SAFETY: libcuda's initialisers are safe to run; which library
                // this is was decided by the operator.
                let library = unsafe { Library::new(path) }?;
                Ok(Self {
                    $($name: symbol(&library, concat!(stringify!($name), "\0")),)*
                    busy_ns: symbol(&library, "paravane_cpu_busy_ns\0"),
                    memory_bytes: symbol(&library, "paravane_cpu_memory_bytes\0"),
                    contexts: symbol(&library, "paravane_cpu_contexts\0"),
                    device_memory_bytes: symbol(&library, "paravane_cpu_device_memory_bytes\0"),
                    ipc_file: symbol(&library, "paravane_cpu_ipc_file\0"),
                    ipc_adopt: symbol(&library, "paravane_cpu_ipc_adopt\0"),
                    lend_variable: symbol(&library, "paravane_cpu_lend_variable\0"),
                    take_back: symbol(&library, "paravane_cpu_take_back\0"),
                    _library: library,
                })
            }
        }
    };
}
paravane_protocol::cuda_api!(functions);

fn symbol<F: Copy>(library: &Library, name: &str) -> Option<F> {
    // SAFETY: F is the C prototype of the symbol: from the table for CUDA's,
    // from cpu-driver's contract for its clock.
    unsafe { library.get::<F>(name.as_bytes()) }.ok().map(|symbol| *symbol)
}

/// A function of the library; CUDA_ERROR_NOT_SUPPORTED where it lacks it.
#[inline]
pub(super) fn has<F: Copy>(function: Option<F>) -> Answer<F> {
    function.ok_or(CUDA_ERROR_NOT_SUPPORTED)
}

/// Calls a function of the library: `cuda!(lib.cuInit(0))` is an `Answer`.
macro_rules! cuda {
    ($lib:ident . $name:ident ($($arg:expr),* $(,)?)) => {
        $crate::worker::libcuda::has($lib.$name).and_then(|function| {
            // SAFETY: the function has the table's prototype; pointers among the
            // arguments are to locals or mapped memory that outlive the call.
            #[allow(unsafe_code, reason = "foreign function")]
            let result = unsafe { function($($arg),*) };
            result.ok()
        })
    };
}
pub(super) use cuda;

/// Reads one of the library's own figures.
pub(super) fn figure(tell: unsafe extern "C" fn() -> u64) -> u64 {
    // SAFETY: cpu-driver's figures take nothing and may be read at any time.
    unsafe { tell() }
}

/// The clock of a device, where the library has one.
pub(super) fn clock_ns(lib: &Libcuda, device: CUdevice) -> Option<u64> {
    let busy_ns = lib.busy_ns?;
    // SAFETY: it takes any number and may be read at any time.
    Some(unsafe { busy_ns(device.0) })
}

/// Memory of this process on a device, where the library tells.
pub(super) fn memory_on(lib: &Libcuda, device: CUdevice) -> Option<u64> {
    let tell = lib.device_memory_bytes?;
    // SAFETY: it takes any number and may be read at any time.
    Some(unsafe { tell(device.0) })
}

/// Puts the calling thread into a capture mode; the one that it was in.
pub(super) fn capture_mode(lib: &Libcuda, mut mode: CUstreamCaptureMode) -> Answer<CUstreamCaptureMode> {
    cuda!(lib.cuThreadExchangeStreamCaptureMode(&raw mut mode))?;
    Ok(mode)
}

/// What the calling thread asks from here on disturbs nobody's capture; the mode
/// that it was in. A library that has no modes has nothing to disturb.
pub(super) fn relax(lib: &Libcuda) -> Answer<CUstreamCaptureMode> {
    capture_mode(lib, CU_STREAM_CAPTURE_MODE_RELAXED)
}

/// Makes a call in a mode that captures do not mind.
pub(super) fn beside_captures(lib: &Libcuda, call: impl FnOnce() -> Answer) -> Answer {
    let before = relax(lib);
    let answer = call();
    if let Ok(before) = before {
        capture_mode(lib, before)?;
    }
    answer
}
