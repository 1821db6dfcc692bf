//! cuGetProcAddress: names without their version suffix, the version chosen by
//! the CUDA version that the caller was built for. Only implemented symbols
//! are found, so a caller can tell what is missing.

use std::collections::HashMap;
use std::ffi::c_char;
use std::sync::OnceLock;

use paravane_protocol::cuda_types::*;

use crate::boundary::Answer;
use crate::{export, pointer};

/// CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM.
const PER_THREAD: u64 = 2;

/// Versions of a symbol that came later than CUDA 4: the suffixed name and the
/// CUDA version whose callers mean it (cuda.h's history of `_vN`).
const SINCE: &[(&str, i32)] = &[
    ("cuGetProcAddress", 11_030),
    ("cuGetProcAddress_v2", 12_000),
    ("cuDeviceGetUuid", 9_020),
    ("cuDeviceGetUuid_v2", 11_040),
    ("cuDevicePrimaryCtxRelease_v2", 11_000),
    ("cuDevicePrimaryCtxReset_v2", 11_000),
    ("cuDevicePrimaryCtxSetFlags_v2", 11_000),
    ("cuCtxCreate_v4", 12_050),
    ("cuCtxGetDevice_v2", 13_000),
    ("cuCtxSynchronize_v2", 13_000),
    ("cuEventElapsedTime_v2", 12_080),
    ("cuMemHostRegister_v2", 6_050),
    ("cuMemcpyHtoDAsync_v2", 3_020),
];

/// A symbol's variants: by version and by default stream.
#[derive(Default)]
struct Versions {
    /// (CUDA version from which callers mean it, per-thread, address).
    found: Vec<(i32, bool, usize)>,
}

fn symbols() -> &'static HashMap<String, Versions> {
    static SYMBOLS: OnceLock<HashMap<String, Versions>> = OnceLock::new();
    SYMBOLS.get_or_init(|| {
        let mut symbols: HashMap<String, Versions> = HashMap::new();
        for &(name, address) in export::implemented() {
            let (plain, per_thread) = match name.strip_suffix("_ptsz").or(name.strip_suffix("_ptds")) {
                Some(plain) => (plain, true),
                None => (name, false),
            };
            let (base, version) = split_version(plain);
            let since = SINCE.iter().find(|(of, _)| *of == plain).map_or(version * 1_000, |found| found.1);
            symbols.entry(base.to_owned()).or_default().found.push((since, per_thread, address));
        }
        symbols
    })
}

/// `cuMemAlloc_v2` is version 2 of `cuMemAlloc`; unsuffixed is version 1.
fn split_version(name: &str) -> (&str, i32) {
    match name.rsplit_once("_v").and_then(|(base, digits)| Some((base, digits.parse().ok()?))) {
        Some((base, version)) => (base, version),
        None => (name, 1),
    }
}

enum Look {
    Found(usize),
    TooNew,
    Unknown,
}

fn look_up(name: &str, version: i32, flags: u64) -> Look {
    let Some(symbol) = symbols().get(name) else { return Look::Unknown };
    let per_thread = flags & PER_THREAD != 0
        && version >= 7_000
        && symbol.found.iter().any(|(_, per_thread, _)| *per_thread);
    let newest = symbol
        .found
        .iter()
        .filter(|(since, variant, _)| *variant == per_thread && *since <= version)
        .max_by_key(|(since, ..)| *since);
    newest.map_or(Look::TooNew, |&(.., address)| Look::Found(address))
}

fn requested<'a>(symbol: *const c_char) -> Answer<&'a str> {
    pointer::string(symbol)?.to_str().map_err(|_| CUDA_ERROR_INVALID_VALUE)
}

/// The first version: an unknown symbol is CUDA_ERROR_NOT_FOUND and `pfn` is
/// left alone.
pub(crate) fn cuGetProcAddress(symbol: *const c_char, pfn: *mut Pointer, version: i32, flags: u64) -> Answer {
    match look_up(requested(symbol)?, version, flags) {
        Look::Found(address) => pointer::put(pfn, address as Pointer),
        Look::TooNew | Look::Unknown => Err(CUDA_ERROR_NOT_FOUND),
    }
}

/// The second version: an unknown symbol is a success with NULL and a status.
pub(crate) fn cuGetProcAddress_v2(
    symbol: *const c_char,
    pfn: *mut Pointer,
    version: i32,
    flags: u64,
    status: *mut CUdriverProcAddressQueryResult,
) -> Answer {
    let (address, how) = match look_up(requested(symbol)?, version, flags) {
        Look::Found(address) => (address, CU_GET_PROC_ADDRESS_SUCCESS),
        Look::TooNew => (0, CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT),
        Look::Unknown => (0, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND),
    };
    pointer::put(pfn, address as Pointer)?;
    pointer::put_opt(status, how);
    Ok(())
}

/// No table is served yet: an unknown table is CUDA_ERROR_INVALID_VALUE.
pub(crate) fn cuGetExportTable(table: *mut Pointer, id: *const CUuuid) -> Answer {
    pointer::get(id)?;
    pointer::put(table, std::ptr::null_mut())?;
    Err(CUDA_ERROR_INVALID_VALUE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(name: &str) -> usize {
        export::implemented().iter().find(|(known, _)| *known == name).unwrap().1
    }

    fn found(name: &str, version: i32, flags: u64) -> Option<usize> {
        match look_up(name, version, flags) {
            Look::Found(address) => Some(address),
            _ => None,
        }
    }

    #[test]
    fn the_version_decides_which_symbol_is_meant() {
        assert_eq!(found("cuMemAlloc", 12_000, 0), Some(address("cuMemAlloc_v2")));
        assert_eq!(found("cuGetProcAddress", 11_080, 0), Some(address("cuGetProcAddress")));
        assert_eq!(found("cuGetProcAddress", 12_000, 0), Some(address("cuGetProcAddress_v2")));
        assert_eq!(found("cuCtxSynchronize", 12_090, 0), Some(address("cuCtxSynchronize")));
        assert_eq!(found("cuCtxSynchronize", 13_000, 0), Some(address("cuCtxSynchronize_v2")));
    }

    #[test]
    fn suffixed_and_absent_names_are_not_found() {
        assert!(matches!(look_up("cuMemAlloc_v2", 12_000, 0), Look::Unknown));
        assert!(matches!(look_up("cuGraphCreate", 12_000, 0), Look::Unknown));
        assert!(matches!(look_up("", 0, 0), Look::Unknown));
        assert!(matches!(look_up("cuDeviceGetUuid", 8_000, 0), Look::TooNew));
    }

    #[test]
    fn the_per_thread_variant_needs_the_flag() {
        let plain = address("cuLaunchKernel");
        let per_thread = address("cuLaunchKernel_ptsz");
        assert_eq!(found("cuLaunchKernel", 12_000, 0), Some(plain));
        assert_eq!(found("cuLaunchKernel", 12_000, 2), Some(per_thread));
        assert_eq!(found("cuLaunchKernel", 6_050, 2), Some(plain));
    }
}
