//! libnvidia-ml reached as a program reaches it: by symbol, through the table's
//! prototypes.
#![allow(unsafe_code, non_snake_case, reason = "foreign functions under NVML's names")]

use std::os::unix::fs::symlink;
use std::path::Path;

use libloading::Library;
use paravane_protocol::arg::*;
use paravane_protocol::nvml_arg::*;
use paravane_protocol::nvml_types::*;
use tempfile::TempDir;

use crate::backend::executable;

macro_rules! symbols {
    ($($number:literal $verb:ident fn $name:ident($($arg:ident: $kind:ty $([$len:expr])?),*);)*) => {
        /// The library's functions.
        pub struct Nvml {
            $(pub $name: unsafe extern "C" fn($(<$kind as Arg>::C),*) -> nvmlReturn_t,)*
            library: Library,
        }

        impl Nvml {
            /// Loads a libnvidia-ml; a missing symbol fails the test.
            pub fn load(path: &Path) -> Self {
                // SAFETY: a libnvidia-ml of ours.
                let library = unsafe { Library::new(path) }
                    .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                Self { $($name: symbol(&library, stringify!($name)),)* library }
            }
        }
    };
}
paravane_protocol::nvml_api!(symbols);

macro_rules! absent {
    ($($name:ident;)*) => {
        const ABSENT: &[&str] = &[$(stringify!($name)),*];
    };
}
paravane_protocol::nvml_api_absent!(absent);

fn symbol<F: Copy>(library: &Library, name: &str) -> F {
    // SAFETY: F is the symbol's prototype from the table.
    *unsafe { library.get::<F>(name.as_bytes()) }.unwrap_or_else(|error| panic!("{name}: {error}"))
}

impl Nvml {
    /// What every absent function answers, by name.
    pub fn absent(&self) -> Vec<(&'static str, nvmlReturn_t)> {
        let call = |name: &&'static str| {
            let function: unsafe extern "C" fn() -> nvmlReturn_t = symbol(&self.library, name);
            // SAFETY: an absent function looks at no argument.
            (*name, unsafe { function() })
        };
        ABSENT.iter().map(call).collect()
    }

    /// nvmlErrorString.
    pub fn error_string(&self, result: nvmlReturn_t) -> String {
        type Function = unsafe extern "C" fn(nvmlReturn_t) -> *const std::ffi::c_char;
        let function: Function = symbol(&self.library, "nvmlErrorString");
        // SAFETY: its prototype.
        let text = unsafe { function(result) };
        // SAFETY: a constant of the library.
        unsafe { std::ffi::CStr::from_ptr(text) }.to_str().unwrap().to_owned()
    }
}

/// Puts the guest's libraries into `folder` under the names that programs use.
pub fn install(folder: &Path) {
    for (built, name) in [("libcuda.so", "libcuda.so.1"), ("libnvidia_ml.so", "libnvidia-ml.so.1")] {
        let built = executable().with_file_name(built);
        assert!(built.is_file(), "{} is missing: cargo build --release", built.display());
        symlink(built, folder.join(name)).unwrap();
    }
}

/// A folder in which a backend's dynamic linker finds the stand-in for the
/// host's NVML.
pub fn host_with_nvml() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let stand_in = executable().with_file_name("libhost_nvml.so");
    assert!(stand_in.is_file(), "{} is missing: cargo build --release --workspace", stand_in.display());
    symlink(stand_in, folder.path().join("libnvidia-ml.so.1")).unwrap();
    folder
}

/// Calls a function: `nvml!(nvml.nvmlDeviceGetIndex(device, &raw mut index))` is its result.
#[macro_export]
macro_rules! nvml {
    ($nvml:ident . $name:ident ($($arg:expr),* $(,)?)) => {{
        // SAFETY: the table's prototype; pointers are to locals that outlive the call.
        #[allow(unsafe_code, reason = "foreign function")]
        let result = unsafe { ($nvml.$name)($($arg),*) };
        result
    }};
}
