//! cuGetProcAddress: base names to the variant of the CUDA version that the caller was built for.

use super::{Answer, exports, give, give_optional, string};
use paravane_protocol::CUDA_VERSION;
use paravane_protocol::cuda_types::{
    CU_GET_PROC_ADDRESS_SUCCESS, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND, CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT,
    CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_NOT_FOUND, CUdriverProcAddressQueryResult,
};
use std::collections::HashMap;
use std::ffi::{c_char, c_void};
use std::sync::LazyLock;

const FLAG_LEGACY_STREAM: u64 = 1;
const FLAG_PER_THREAD_DEFAULT_STREAM: u64 = 2;
/// Per-thread default streams exist from this version on.
const PER_THREAD_SINCE: i32 = 7000;

/// CUDA versions that introduced variants later than 3.2, where most `_v2` came.
const INTRODUCED: &[(&str, i32)] = &[
    ("cuCtxCreate_v3", 11_040),
    ("cuCtxCreate_v4", 12_050),
    ("cuCtxGetDevice_v2", 13_000),
    ("cuCtxSynchronize_v2", 13_000),
    ("cuDeviceGetUuid_v2", 11_040),
    ("cuDevicePrimaryCtxRelease_v2", 11_000),
    ("cuDevicePrimaryCtxReset_v2", 11_000),
    ("cuDevicePrimaryCtxSetFlags_v2", 11_000),
    ("cuEventElapsedTime_v2", 12_080),
    ("cuGetProcAddress_v2", 12_000),
    ("cuLaunchHostFunc_v2", 13_010),
    ("cuStreamGetCtx_v2", 12_050),
    ("cuMemHostRegister_v2", 6_050),
    ("cuStreamBeginCapture_v2", 10_010),
    ("cuStreamGetCaptureInfo_v2", 11_030),
    ("cuStreamGetCaptureInfo_v3", 12_030),
    ("cuGraphExecUpdate_v2", 12_000),
    ("cuGraphKernelNodeGetParams_v2", 12_000),
    ("cuGraphKernelNodeSetParams_v2", 12_000),
    ("cuGraphAddKernelNode_v2", 12_000),
    ("cuGraphExecKernelNodeSetParams_v2", 12_000),
    ("cuMemPrefetchAsync_v2", 12_020),
    ("cuMemAdvise_v2", 12_020),
];

struct Symbol {
    address: usize,
    implemented: bool,
}

static SYMBOLS: LazyLock<HashMap<&'static str, Symbol>> = LazyLock::new(|| {
    let symbol = |(name, address, implemented): (_, *const c_void, _)| (name, Symbol { address: address.expose_provenance(), implemented });
    exports::table().map(symbol).collect()
});

fn introduced(name: &str) -> i32 {
    let known = INTRODUCED.iter().find(|(known, _)| *known == name);
    known.map_or(if name.contains("_v") { 3020 } else { 2000 }, |(_, version)| *version)
}

/// How a look-up ended.
enum Found {
    Here(usize),
    TooOld,
    Nowhere,
}

fn look_up(base: &str, version: i32, flags: u64) -> Found {
    // Suffixed names are not found: programs name the function, the version chooses the variant.
    if base.contains("_v") || base.ends_with("_ptsz") || base.ends_with("_ptds") {
        return Found::Nowhere;
    }
    let per_thread = flags & FLAG_PER_THREAD_DEFAULT_STREAM != 0 && version >= PER_THREAD_SINCE;
    let mut too_old = false;
    for suffix in ["_v4", "_v3", "_v2", ""] {
        let name = format!("{base}{suffix}");
        let Some(plain) = SYMBOLS.get(name.as_str()) else { continue };
        if version < introduced(&name) {
            too_old |= plain.implemented;
            continue;
        }
        // An older variant takes other arguments, so it does not stand in for one that is absent.
        if !plain.implemented {
            return Found::Nowhere;
        }
        let variant = |ending: &str| SYMBOLS.get(format!("{name}{ending}").as_str());
        let chosen = if per_thread { variant("_ptsz").or_else(|| variant("_ptds")).unwrap_or(plain) } else { plain };
        return Found::Here(chosen.address);
    }
    if too_old { Found::TooOld } else { Found::Nowhere }
}

pub unsafe fn cuGetProcAddress_v2(
    symbol: *const c_char,
    pfn: *mut *mut c_void,
    cudaVersion: i32,
    flags: u64,
    symbolStatus: *mut CUdriverProcAddressQueryResult,
) -> Answer {
    if flags & !(FLAG_LEGACY_STREAM | FLAG_PER_THREAD_DEFAULT_STREAM) != 0 || cudaVersion > CUDA_VERSION {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller passes a C string.
    let (address, status) = match look_up(unsafe { string(symbol) }?, cudaVersion, flags) {
        Found::Here(address) => (address, CU_GET_PROC_ADDRESS_SUCCESS),
        Found::TooOld => (0, CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT),
        Found::Nowhere => (0, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND),
    };
    give(pfn, std::ptr::with_exposed_provenance_mut(address))?;
    give_optional(symbolStatus, status);
    Ok(())
}

pub unsafe fn cuGetProcAddress(symbol: *const c_char, pfn: *mut *mut c_void, cudaVersion: i32, flags: u64) -> Answer {
    // SAFETY: the caller passes a C string.
    match look_up(unsafe { string(symbol) }?, cudaVersion, flags) {
        Found::Here(address) => give(pfn, std::ptr::with_exposed_provenance_mut(address)),
        Found::TooOld | Found::Nowhere => Err(CUDA_ERROR_NOT_FOUND),
    }
}
