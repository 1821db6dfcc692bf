//! The C symbols, made from the API table: each row's function under its own name and under its
//! per-thread variant's. A panic is caught here and answered as an unknown error.
#![allow(clippy::undocumented_unsafe_blocks, reason = "the contract of every export is that of the CUDA function")]

use super::{Answer, PER_THREAD_DEFAULT};
use crate::device::Device;
use paravane_protocol::arg::*;
use paravane_protocol::cuda_types::*;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

#[inline(always)]
fn answered(name: &str, call: impl FnOnce() -> Answer) -> CUresult {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(())) => CUDA_SUCCESS,
        Ok(Err(code)) => {
            paravane_lookup::error_log::note(name, code);
            code
        }
        Err(_) => CUDA_ERROR_UNKNOWN,
    }
}

fn with_per_thread_default(name: &str, call: impl FnOnce() -> Answer) -> CUresult {
    let before = PER_THREAD_DEFAULT.replace(true);
    let code = answered(name, call);
    PER_THREAD_DEFAULT.set(before);
    code
}

fn absent(name: &str, said: &AtomicBool) -> CUresult {
    if !said.swap(true, Ordering::Relaxed) {
        crate::report::refusal(&format!("{name} is not implemented"));
    }
    CUDA_ERROR_NOT_SUPPORTED
}

macro_rules! row {
    (fn $name:ident($($arg:ident: $kind:ty),*)) => {
        #[unsafe(no_mangle)]
        pub(super) unsafe extern "C" fn $name($($arg: <$kind as Arg>::C),*) -> CUresult {
            answered(stringify!($name), || unsafe { crate::api::$name($($arg),*) })
        }
    };
    (fn $name:ident($($arg:ident: $kind:ty),*) + $variant:ident) => {
        row!(fn $name($($arg: $kind),*));
        #[unsafe(no_mangle)]
        pub(super) unsafe extern "C" fn $variant($($arg: <$kind as Arg>::C),*) -> CUresult {
            with_per_thread_default(stringify!($variant), || unsafe { crate::api::$name($($arg),*) })
        }
    };
}

macro_rules! exports {
    ($($opcode:literal $verb:ident fn $name:ident($($arg:ident: $kind:ty $([$len:expr])?),*) $(+ $variant:ident)?;)*) => {
        mod plain {
            use super::*;
            $(row!(fn $name($($arg: $kind),*) $(+ $variant)?);)*
        }

        /// Every implemented symbol with its address.
        const IMPLEMENTED: &[(&str, Address)] = &[
            $((stringify!($name), Address(plain::$name as *const c_void)), $((stringify!($variant), Address(plain::$variant as *const c_void)),)?)*
        ];
    };
}
paravane_protocol::cuda_api!(exports);

macro_rules! absents {
    ($($reason:literal: [$($name:ident;)*])*) => {
        mod missing {
            use super::*;
            $($(
                #[unsafe(no_mangle)]
                pub(super) extern "C" fn $name() -> CUresult {
                    static SAID: AtomicBool = AtomicBool::new(false);
                    absent(stringify!($name), &SAID)
                }
            )*)*
        }

        /// Every symbol that is exported and not implemented.
        const ABSENT: &[(&str, Address)] = &[$($((stringify!($name), Address(missing::$name as *const c_void)),)*)*];
    };
}
paravane_protocol::cuda_api_absent!(absents);

/// An export's address.
#[derive(Clone, Copy)]
struct Address(*const c_void);

// SAFETY: the address of a function.
unsafe impl Sync for Address {}

/// All exports: name, address, and whether it is implemented.
pub fn table() -> impl Iterator<Item = (&'static str, *const c_void, bool)> {
    let of = |list: &'static [(&'static str, Address)], implemented| {
        list.iter().map(move |(name, address)| (*name, address.0, implemented))
    };
    of(IMPLEMENTED, true).chain(of(ABSENT, false))
}

/// Bytes of memory that this process uses, on all devices: for the account of whoever loads this library.
#[unsafe(no_mangle)]
pub(super) extern "C" fn paravane_cpu_memory_bytes() -> u64 {
    catch_unwind(|| Device::all().map(|device| crate::memory::arena().device_used(device)).sum()).unwrap_or(0)
}

/// The same of one device, by its ordinal.
#[unsafe(no_mangle)]
pub(super) extern "C" fn paravane_cpu_device_memory_bytes(ordinal: i32) -> u64 {
    catch_unwind(|| Device::new(ordinal).map_or(0, |device| crate::memory::arena().device_used(device))).unwrap_or(0)
}

/// How many contexts of this process live, on all devices.
#[unsafe(no_mangle)]
pub(super) extern "C" fn paravane_cpu_contexts() -> u64 {
    catch_unwind(crate::context::alive).unwrap_or(0)
}

/// A device's clock of work, in nanoseconds.
#[unsafe(no_mangle)]
pub(super) extern "C" fn paravane_cpu_busy_ns(ordinal: i32) -> u64 {
    let clock = || Device::new(ordinal).map_or(0, |device| crate::stream::executor::of(device).busy_ns());
    catch_unwind(clock).unwrap_or(0)
}
