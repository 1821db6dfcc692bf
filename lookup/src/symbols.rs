//! cuGetProcAddress: a name without version suffix and the CUDA version that
//! the caller was built for make one symbol. Variants take other arguments, so
//! none stands in for another.

use std::collections::HashMap;
use std::ffi::c_void;

use paravane_protocol::cuda_types::{
    CU_GET_PROC_ADDRESS_SUCCESS, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND, CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT,
    CUDA_ERROR_INVALID_VALUE, CUdriverProcAddressQueryResult,
};

use crate::Answer;

/// CU_GET_PROC_ADDRESS_LEGACY_STREAM and ..._PER_THREAD_DEFAULT_STREAM.
const LEGACY_STREAM: u64 = 1;
const PER_THREAD: u64 = 2;
/// Per-thread default streams exist from this version on.
const PER_THREAD_SINCE: i32 = 7_000;

/// With which CUDA version each symbol came.
const SINCE: &str = include_str!("cuda_since.tsv");

/// One variant of a function.
struct Variant {
    since: i32,
    /// 0 for a symbol that is not implemented.
    plain: usize,
    per_thread: usize,
}

/// How a look-up ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// The symbol's address.
    Found(usize),
    /// Every variant is newer than the caller.
    TooNew,
    /// No such function, or none of that variant here.
    Unknown,
}

impl Look {
    /// What cuGetProcAddress_v2 answers: address, and status.
    pub fn answer(self) -> (*mut c_void, CUdriverProcAddressQueryResult) {
        let (address, status) = match self {
            Look::Found(address) => (address, CU_GET_PROC_ADDRESS_SUCCESS),
            Look::TooNew => (0, CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT),
            Look::Unknown => (0, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND),
        };
        (std::ptr::with_exposed_provenance_mut(address), status)
    }
}

/// The functions of a library by their names without suffix.
pub struct Symbols(HashMap<&'static str, Vec<Variant>>);

/// `cuMemAlloc_v2` is a variant of `cuMemAlloc`.
fn base(name: &str) -> &str {
    match name.rsplit_once("_v") {
        Some((base, digits)) if digits.bytes().all(|digit| digit.is_ascii_digit()) => base,
        _ => name,
    }
}

impl Symbols {
    /// From every symbol that is implemented, with its address.
    pub fn new<'a>(implemented: impl IntoIterator<Item = (&'a str, usize)>) -> Self {
        let implemented: HashMap<&str, usize> = implemented.into_iter().collect();
        let address = |name: &str| implemented.get(name).copied().unwrap_or(0);
        let mut symbols: HashMap<&str, Vec<Variant>> = HashMap::new();
        for line in SINCE.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, since)) = line.split_once('\t') else { continue };
            let Ok(since) = since.parse() else { continue };
            let plain = address(name);
            let per_thread = address(&format!("{name}_ptsz")).max(address(&format!("{name}_ptds")));
            symbols.entry(base(name)).or_default().push(Variant { since, plain, per_thread });
        }
        Self(symbols)
    }

    /// The symbol that a caller built for `version` means by `name`.
    ///
    /// # Errors
    /// CUDA_ERROR_INVALID_VALUE for flags that CUDA does not know.
    pub fn look_up(&self, name: &str, version: i32, flags: u64) -> Answer<Look> {
        if flags & !(LEGACY_STREAM | PER_THREAD) != 0 {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        let Some(variants) = self.0.get(name) else { return Ok(Look::Unknown) };
        let old_enough = variants.iter().filter(|variant| variant.since <= version);
        let Some(meant) = old_enough.max_by_key(|variant| variant.since) else {
            // What nobody has is unknown, whatever the caller's version.
            let is_here = variants.iter().any(|variant| variant.plain != 0);
            return Ok(if is_here { Look::TooNew } else { Look::Unknown });
        };
        let per_thread = flags & PER_THREAD != 0 && version >= PER_THREAD_SINCE && meant.per_thread != 0;
        Ok(match if per_thread { meant.per_thread } else { meant.plain } {
            0 => Look::Unknown,
            address => Look::Found(address),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbols() -> Symbols {
        Symbols::new([
            ("cuMemAlloc_v2", 2),
            ("cuGetProcAddress", 3),
            ("cuGetProcAddress_v2", 4),
            ("cuCtxSynchronize", 5),
            ("cuCtxSynchronize_v2", 6),
            ("cuLaunchKernel", 7),
            ("cuLaunchKernel_ptsz", 8),
            ("cuMemcpyHtoD_v2", 9),
            ("cuMemcpyHtoD_v2_ptds", 10),
            ("cuEventElapsedTime", 11),
        ])
    }

    fn look(name: &str, version: i32, flags: u64) -> Look {
        symbols().look_up(name, version, flags).unwrap()
    }

    #[test]
    fn the_version_decides_which_variant_is_meant() {
        assert_eq!(look("cuMemAlloc", 12_000, 0), Look::Found(2));
        assert_eq!(look("cuGetProcAddress", 11_080, 0), Look::Found(3));
        assert_eq!(look("cuGetProcAddress", 12_000, 0), Look::Found(4));
        assert_eq!(look("cuCtxSynchronize", 12_090, 0), Look::Found(5));
        assert_eq!(look("cuCtxSynchronize", 13_000, 0), Look::Found(6));
        assert_eq!(look("cuCtxSynchronize", 99_000, 0), Look::Found(6));
    }

    #[test]
    fn no_variant_stands_in_for_another() {
        assert_eq!(look("cuMemAlloc", 2_000, 0), Look::Unknown, "the old form is not implemented");
        assert_eq!(look("cuEventElapsedTime", 13_000, 0), Look::Unknown, "nor is the new one");
        assert_eq!(look("cuEventElapsedTime", 12_000, 0), Look::Found(11));
    }

    #[test]
    fn what_is_not_here_is_told_from_what_is_too_new() {
        assert_eq!(look("cuLaunchKernel", 3_000, 0), Look::TooNew);
        assert_eq!(look("cuStreamQuery", 1_000, 0), Look::Unknown);
        for name in ["", "cuMemAlloc_v2", "cuLaunchKernel_ptsz", "cuNoSuchThing"] {
            assert_eq!(look(name, 13_000, 0), Look::Unknown, "{name:?}");
        }
        assert_eq!(symbols().look_up("cuLaunchKernel", 12_000, 4), Err(CUDA_ERROR_INVALID_VALUE));
    }

    #[test]
    fn the_per_thread_variant_needs_flag_and_version() {
        assert_eq!(look("cuLaunchKernel", 12_000, 1), Look::Found(7));
        assert_eq!(look("cuLaunchKernel", 12_000, 2), Look::Found(8));
        assert_eq!(look("cuLaunchKernel", 6_050, 2), Look::Found(7));
        assert_eq!(look("cuMemcpyHtoD", 12_000, 2), Look::Found(10));
        assert_eq!(look("cuMemAlloc", 12_000, 2), Look::Found(2));
    }

    /// Every symbol of the interface is in the list, so none is lost to look-up.
    #[test]
    fn the_list_names_the_whole_interface() {
        macro_rules! names {
            ($($opcode:literal $verb:ident fn $name:ident $arguments:tt $(+ $variant:ident)?;)*) => {
                const ROWS: &[&str] = &[$(stringify!($name)),*];
            };
        }
        paravane_protocol::cuda_api!(names);
        macro_rules! absent {
            ($($reason:literal: [$($name:ident;)*])*) => {
                const ABSENT: &[&str] = &[$($(stringify!($name)),*),*];
            };
        }
        paravane_protocol::cuda_api_absent!(absent);
        let listed: Vec<&str> = SINCE.lines().filter_map(|line| line.split_once('\t')).map(|(name, _)| name).collect();
        let plain = |name: &&&str| !name.ends_with("_ptsz") && !name.ends_with("_ptds");
        for name in ROWS.iter().chain(ABSENT).filter(plain) {
            assert!(listed.contains(name), "{name} has no version");
        }
    }
}
