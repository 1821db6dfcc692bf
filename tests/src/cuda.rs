//! A libcuda reached as a program reaches it: by symbol, through the table's
//! prototypes. Which symbols were called is remembered, so that a test can
//! tell what it left out.
#![allow(unsafe_code, non_snake_case, reason = "foreign functions under CUDA's names")]

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use libloading::Library;
use paravane_protocol::arg::*;
use paravane_protocol::cuda_types::*;

macro_rules! symbols {
    ($($opcode:literal $verb:ident fn $name:ident $arguments:tt $(+ $variant:ident)?;)*) => {
        symbols! { @struct $([$name $arguments])* $($([$variant $arguments])?)* }

        /// Every symbol that is implemented, per-thread variants included.
        pub const SYMBOLS: &[&str] = &[$(stringify!($name), $(stringify!($variant),)?)*];
    };
    (@struct $([$name:ident ($($arg:ident: $kind:ty $([$len:expr])?),*)])*) => {
        /// The library's functions.
        pub struct Cuda {
            $(pub $name: unsafe extern "C" fn($(<$kind as Arg>::C),*) -> CUresult,)*
            called: RefCell<BTreeSet<&'static str>>,
            _library: Library,
        }

        impl Cuda {
            /// Loads a libcuda; a missing symbol fails the test.
            pub fn load(path: &Path) -> Self {
                // SAFETY: a libcuda of ours.
                let library = unsafe { Library::new(path) }
                    .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                Self {
                    $($name: symbol(&library, stringify!($name)),)*
                    called: RefCell::default(),
                    _library: library,
                }
            }
        }
    };
}
paravane_protocol::cuda_api!(symbols);

fn symbol<F: Copy>(library: &Library, name: &str) -> F {
    // SAFETY: F is the table's prototype of the symbol.
    let symbol = unsafe { library.get::<F>(name.as_bytes()) };
    *symbol.unwrap_or_else(|error| panic!("{name}: {error}"))
}

impl Cuda {
    /// Notes that a symbol is called.
    pub fn note(&self, name: &'static str) {
        self.called.borrow_mut().insert(name);
    }

    /// The symbols that were not called.
    pub fn left_out(&self) -> Vec<&'static str> {
        let called = self.called.borrow();
        SYMBOLS.iter().copied().filter(|name| !called.contains(name)).collect()
    }
}

/// Calls a symbol and gives its CUresult.
#[macro_export]
macro_rules! result_of {
    ($cuda:ident . $name:ident ($($arg:expr),* $(,)?)) => {{
        $cuda.note(stringify!($name));
        // SAFETY: the table's prototype; pointers are to locals of the test.
        #[allow(unsafe_code, clippy::macro_metavars_in_unsafe, reason = "foreign function")]
        unsafe { ($cuda.$name)($($arg),*) }
    }};
}

/// Calls a symbol that must succeed.
#[macro_export]
macro_rules! must {
    ($cuda:ident . $name:ident ($($arg:expr),* $(,)?)) => {
        assert_eq!(
            $crate::result_of!($cuda.$name($($arg),*)),
            paravane_protocol::cuda_types::CUDA_SUCCESS,
            stringify!($name)
        )
    };
}

/// Calls a symbol with one out-pointer first, and gives what it wrote.
#[macro_export]
macro_rules! value_of {
    ($cuda:ident . $name:ident ($zero:expr $(, $arg:expr)* $(,)?)) => {{
        let mut value = $zero;
        $crate::must!($cuda.$name(&raw mut value $(, $arg)*));
        value
    }};
}
