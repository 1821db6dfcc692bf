//! The exported symbols: one for every row of the table, and one for every
//! function that is absent. A missing hand-written function is a compile error.
#![allow(unsafe_code, reason = "exported C symbols")]

use std::ffi::c_char;

use paravane_protocol::arg::*;
use paravane_protocol::nvml_arg::*;
use paravane_protocol::nvml_types::*;

use crate::boundary::enter;
use crate::local::wrap;
use crate::remote::table as host;
use crate::local;

macro_rules! exports {
    ($($number:literal $verb:ident fn $name:ident($($arg:ident: $kind:ty $([$len:expr])?),*);)*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name($($arg: <$kind as Arg>::C),*) -> nvmlReturn_t {
            enter(stringify!($name), || $verb::$name($($arg),*))
        }
    )*};
}
paravane_protocol::nvml_api!(exports);

macro_rules! absent {
    ($($name:ident;)*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> nvmlReturn_t {
            NVML_ERROR_NOT_SUPPORTED
        }
    )*};
}
paravane_protocol::nvml_api_absent!(absent);

/// What an error means, before nvmlInit too.
#[unsafe(no_mangle)]
extern "C" fn nvmlErrorString(result: nvmlReturn_t) -> *const c_char {
    error_string(result).as_ptr()
}

/// Marks this library as Paravane's, so that a worker never takes it for the
/// host's NVML.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "a C symbol")]
pub(crate) static paravane_shim: u32 = paravane_protocol::PROTOCOL_VERSION;
