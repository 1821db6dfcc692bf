//! Symbols by name and version, and export tables: found by the crate that
//! cpu-driver uses too. Only implemented symbols are found, so a caller can
//! tell what is missing.

use std::ffi::c_char;
use std::sync::OnceLock;

use paravane_lookup::{Look, Symbols};
use paravane_protocol::cuda_types::*;

use super::export_table::Shim;
use crate::boundary::Answer;
use crate::{export, pointer};

fn look_up(name: *const c_char, version: i32, flags: u64) -> Answer<Look> {
    static SYMBOLS: OnceLock<Symbols> = OnceLock::new();
    let name = pointer::string(name)?.to_str().map_err(|_| CUDA_ERROR_INVALID_VALUE)?;
    SYMBOLS.get_or_init(|| Symbols::new(export::implemented().iter().copied())).look_up(name, version, flags)
}

/// The first version: an unknown symbol is CUDA_ERROR_NOT_FOUND and `pfn` is
/// left alone.
pub(crate) fn cuGetProcAddress(symbol: *const c_char, pfn: *mut Pointer, version: i32, flags: u64) -> Answer {
    match look_up(symbol, version, flags)?.answer() {
        (address, CU_GET_PROC_ADDRESS_SUCCESS) => pointer::put(pfn, address),
        _ => Err(CUDA_ERROR_NOT_FOUND),
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
    let (address, how) = look_up(symbol, version, flags)?.answer();
    pointer::put(pfn, address)?;
    pointer::put_opt(status, how);
    Ok(())
}

/// An unknown table is CUDA_ERROR_INVALID_VALUE.
pub(crate) fn cuGetExportTable(table: *mut Pointer, id: *const CUuuid) -> Answer {
    let found = paravane_lookup::export_table(pointer::get(id)?, &Shim);
    pointer::put(table, found.map_or(std::ptr::null_mut(), |table| table.cast_mut()))?;
    found.map(|_| ()).ok_or(CUDA_ERROR_INVALID_VALUE)
}
