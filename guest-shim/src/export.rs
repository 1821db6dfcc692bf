//! The exported symbols: one for every row of the table and its per-thread
//! variant, and one for every absent symbol. A missing hand-written function
//! is a compile error here.
#![allow(unsafe_code, reason = "exported C symbols")]

use std::sync::OnceLock;

use paravane_protocol::arg::*;
use paravane_protocol::cuda_types::*;

use crate::remote::table as call;
use crate::remote::table as post;
use crate::{boundary, custom, local, state, wrap};

/// One row: the symbol, and its per-thread variant if it has one.
macro_rules! export {
    ($verb:ident $name:ident ($($arg:ident: $kind:ty $([$len:expr])?),*)) => {
        #[unsafe(no_mangle)]
        extern "C" fn $name($($arg: <$kind as Arg>::C),*) -> CUresult {
            boundary::enter(stringify!($name), || $verb::$name($($arg),*))
        }
    };
    ($verb:ident $name:ident ($($arg:ident: $kind:ty $([$len:expr])?),*) $variant:ident) => {
        export! { $verb $name ($($arg: $kind),*) }
        #[unsafe(no_mangle)]
        extern "C" fn $variant($($arg: <$kind as Arg>::C),*) -> CUresult {
            boundary::enter(stringify!($variant), || {
                state::stream::with_per_thread_default(|| $verb::$name($($arg),*))
            })
        }
    };
}

macro_rules! exports {
    ($($opcode:literal $verb:ident fn $name:ident $arguments:tt $(+ $variant:ident)?;)*) => {
        $(export! { $verb $name $arguments $($variant)? })*

        /// Every implemented symbol with its address, for symbol look-up.
        pub(crate) fn implemented() -> &'static [(&'static str, usize)] {
            static SYMBOLS: OnceLock<Vec<(&'static str, usize)>> = OnceLock::new();
            SYMBOLS.get_or_init(|| vec![$(
                (stringify!($name), $name as *const () as usize),
                $((stringify!($variant), $variant as *const () as usize),)?
            )*])
        }
    };
}
paravane_protocol::cuda_api!(exports);

macro_rules! absent {
    ($($reason:literal: [$($name:ident;)*])*) => {$($(
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> CUresult {
            boundary::absent(stringify!($name))
        }
    )*)*};
}
paravane_protocol::cuda_api_absent!(absent);

/// Marks this library as Paravane's shim, so that a backend never loads it in
/// place of the host's libcuda.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "a C symbol")]
pub(crate) static paravane_shim: u32 = paravane_protocol::PROTOCOL_VERSION;
