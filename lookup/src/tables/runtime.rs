//! What cudart asks of its driver at start-up: primary contexts, images, the
//! flags of tools, the handshake.

use std::sync::atomic::AtomicU32;

use paravane_protocol::cuda_types::{CUDA_ERROR_INVALID_VALUE, CUcontext, CUdevice, CUmodule, CUresult, Pointer};

use super::{HANDSHAKE, RUNTIME, answered, give};
use crate::handshake::{self, Facts};

/// Flags by number of a runtime function, one set where a tool wants to be
/// called; none ever is. The real driver has as many (cuda-interop).
static CALLBACK_FLAGS: [AtomicU32; 1024] = [const { AtomicU32::new(0) }; 1024];
/// The same for domains.
static MORE_FLAGS: [AtomicU32; 14] = [const { AtomicU32::new(0) }; 14];

/// The handle of a device's primary context, which may be inactive.
pub(super) extern "C" fn primary_context(into: *mut CUcontext, device: CUdevice) -> CUresult {
    answered(|libcuda| give(into, libcuda.primary_context(device)?))
}

/// Loads a module from a fat binary's wrapper.
pub(super) extern "C" fn load(into: *mut CUmodule, image: Pointer) -> CUresult {
    answered(|libcuda| {
        if into.is_null() || image.is_null() {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        give(into, libcuda.load(image)?)
    })
}

/// As [`load`], with hints that change nothing.
pub(super) extern "C" fn load_with_hints(into: *mut CUmodule, image: Pointer, _: Pointer, _: Pointer, _: u32) -> CUresult {
    load(into, image)
}

/// As [`load`] for a fat binary without wrapper, which comes first.
pub(super) extern "C" fn load_headless(image: Pointer, into: *mut CUmodule, _: Pointer, _: Pointer, _: u32) -> CUresult {
    load(into, image)
}

/// Tells of an address for which nothing is kept here; the answer is not read.
pub(super) extern "C" fn note_address(_: Pointer) -> CUresult {
    answered(|_| Ok(()))
}

/// Asks that the compilers be loaded: nothing waits to be.
pub(super) extern "C" fn load_compilers() -> CUresult {
    answered(|_| Ok(()))
}

fn flags(into: *mut *const AtomicU32, count: *mut usize, flags: &'static [AtomicU32]) -> CUresult {
    answered(|_| {
        give(into, flags.as_ptr())?;
        give(count, flags.len())
    })
}

pub(super) extern "C" fn callback_flags(into: *mut *const AtomicU32, count: *mut usize) -> CUresult {
    flags(into, count, &CALLBACK_FLAGS)
}

pub(super) extern "C" fn more_flags(into: *mut *const AtomicU32, count: *mut usize) -> CUresult {
    flags(into, count, &MORE_FLAGS)
}

/// The low half of what pthread_self() answers.
#[allow(unsafe_code, reason = "libc")]
fn thread() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    let thread = unsafe { libc::pthread_self() };
    let [low, _] = halves(thread);
    low
}

fn halves(number: u64) -> [u32; 2] {
    [number, number >> 32].map(|half| u32::try_from(half & 0xffff_ffff).unwrap_or(0))
}

/// The handshake, as cudart calls it three times at start-up.
pub(super) extern "C" fn handshake(version: u32, time: u64, into: *mut [u64; 2]) -> CUresult {
    answered(|libcuda| {
        let devices = libcuda.devices()?;
        let slot: extern "C" fn(u32, u64, *mut [u64; 2]) -> CUresult = handshake;
        let facts = || Facts {
            driver_version: libcuda.driver_version().cast_unsigned(),
            process: std::process::id(),
            thread: thread(),
            addresses: [RUNTIME.as_ptr().addr(), HANDSHAKE.as_ptr().addr(), slot as usize],
            devices,
        };
        give(into, handshake::answer(version, time, facts))
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{Answer, Identity, Libcuda};
    use paravane_protocol::cuda_types::{
        CUDA_ERROR_INVALID_DEVICE, CUDA_ERROR_INVALID_HANDLE, CUDA_SUCCESS, CUfunction, CUstream, CUuuid,
    };

    /// A library with one device, one context that is current, and one module.
    pub(crate) struct Alone;

    impl Libcuda for Alone {
        fn may_answer(&self) -> Answer {
            Ok(())
        }
        fn driver_version(&self) -> i32 {
            13_050
        }
        fn devices(&self) -> Answer<Vec<Identity>> {
            Ok(vec![Identity { uuid: CUuuid { bytes: [1; 16] }, pci: [0, 1, 2] }])
        }
        fn primary_context(&self, device: CUdevice) -> Answer<CUcontext> {
            if device == CUdevice(0) { Ok(CUcontext(77)) } else { Err(CUDA_ERROR_INVALID_DEVICE) }
        }
        fn current_context(&self) -> CUcontext {
            CUcontext(77)
        }
        fn device_of(&self, _: CUcontext) -> Answer<CUdevice> {
            Ok(CUdevice(0))
        }
        fn context_number(&self, _: CUcontext) -> Answer<u64> {
            Ok(5)
        }
        fn check_stream(&self, stream: CUstream) -> Answer {
            if stream.0 <= 2 { Ok(()) } else { Err(CUDA_ERROR_INVALID_HANDLE) }
        }
        fn load(&self, _: Pointer) -> Answer<CUmodule> {
            Ok(CUmodule(3))
        }
        fn functions(&self, module: CUmodule) -> Answer<Vec<CUfunction>> {
            if module.0 == 3 { Ok(vec![CUfunction(8), CUfunction(9)]) } else { Err(CUDA_ERROR_INVALID_HANDLE) }
        }
    }

    pub(crate) fn register() {
        let runtime = CUuuid { bytes: 0x6bd5_fb6c_5bf4_e74a_8987_d939_12fd_9df9_u128.to_be_bytes() };
        assert!(crate::export_table(runtime, &Alone).is_some());
    }

    #[test]
    fn the_primary_context_is_told_and_a_wrong_device_refused() {
        register();
        let mut context = CUcontext(0);
        assert_eq!(primary_context(&raw mut context, CUdevice(0)), CUDA_SUCCESS);
        assert_eq!(context, CUcontext(77));
        assert_eq!(primary_context(&raw mut context, CUdevice(1)), CUDA_ERROR_INVALID_DEVICE);
        assert_eq!(primary_context(std::ptr::null_mut(), CUdevice(0)), CUDA_ERROR_INVALID_VALUE);
    }

    #[test]
    fn the_flags_are_as_many_as_the_real_drivers_and_all_zero() {
        register();
        let (mut at, mut count) = (std::ptr::null(), 0);
        assert_eq!(callback_flags(&raw mut at, &raw mut count), CUDA_SUCCESS);
        assert_eq!((at, count), (CALLBACK_FLAGS.as_ptr(), 1024));
        assert_eq!(more_flags(&raw mut at, &raw mut count), CUDA_SUCCESS);
        assert_eq!((at, count), (MORE_FLAGS.as_ptr(), 14));
    }

    #[test]
    fn the_handshake_depends_on_thread_and_time() {
        register();
        let ask = |time| {
            let mut out = [0; 2];
            assert_eq!(handshake(13_052, time, &raw mut out), CUDA_SUCCESS);
            out
        };
        assert_eq!(ask(1), ask(1));
        assert_ne!(ask(1), ask(2));
        let elsewhere = std::thread::spawn(move || ask(1)).join().unwrap();
        assert_ne!(elsewhere, ask(1));
    }
}
