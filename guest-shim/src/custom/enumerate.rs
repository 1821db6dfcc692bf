//! All functions of a module, all kernels of a library. The host tells their
//! names, in pieces of one text; each then gets its id by its name, so that it
//! is the same as if it had been asked for.

use std::ffi::{CStr, CString};

use paravane_protocol::cuda_types::*;
use paravane_protocol::limits::NAMES_BYTES_MAX;
use paravane_protocol::opcode;

use super::function::by_name;
use crate::boundary::Answer;
use crate::connection::with_ring;
use crate::pointer;

/// The names that `opcode` tells of `owner`, in the library's order.
fn names(opcode: u16, owner: u64) -> Answer<Vec<CString>> {
    let mut text = Vec::new();
    loop {
        let have = text.len() as u64;
        let total = with_ring(|ring| {
            ring.call(
                opcode,
                |to| {
                    to.word(owner);
                    to.word(have);
                    Ok(())
                },
                |from| {
                    let total = from.word();
                    text.extend_from_slice(from.bytes());
                    total
                },
            )
        })?;
        if text.len() as u64 >= total {
            break;
        }
        if text.len() as u64 == have || total > NAMES_BYTES_MAX {
            return Err(CUDA_ERROR_UNKNOWN); // Not what the operation answers.
        }
    }
    let mut names = Vec::new();
    let mut rest = text.as_slice();
    while let Ok(name) = CStr::from_bytes_until_nul(rest) {
        names.push(name.to_owned());
        rest = &rest[name.count_bytes() + 1..];
    }
    Ok(names)
}

/// Writes the first `room` handles.
fn put_all<H: Handle>(into: *mut H, room: u32, lookup: u16, owner: u64, names: Vec<CString>) -> Answer {
    for (at, name) in names.into_iter().take(room as usize).enumerate() {
        pointer::put(into.wrapping_add(at), by_name(lookup, owner, name)?)?;
    }
    Ok(())
}

/// Every function of a module.
pub(crate) fn functions_of(module: CUmodule) -> Answer<Vec<CUfunction>> {
    let names = names(opcode::cuModuleEnumerateFunctions, module.0)?;
    names.into_iter().map(|name| by_name(opcode::cuModuleGetFunction, module.0, name)).collect()
}

pub(crate) fn cuModuleEnumerateFunctions(functions: *mut CUfunction, count: u32, module: CUmodule) -> Answer {
    if functions.is_null() || count == 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let names = names(opcode::cuModuleEnumerateFunctions, module.0)?;
    put_all(functions, count, opcode::cuModuleGetFunction, module.0, names)
}

pub(crate) fn cuLibraryEnumerateKernels(kernels: *mut CUkernel, count: u32, library: CUlibrary) -> Answer {
    if kernels.is_null() || count == 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let names = names(opcode::cuLibraryEnumerateKernels, library.0)?;
    put_all(kernels, count, opcode::cuLibraryGetKernel, library.0, names)
}
