//! The names of a module's functions and of a library's kernels: one text, each
//! name with its NUL, of which a command asks for a piece.

use std::ffi::CStr;

use paravane_protocol::cuda_types::*;
use paravane_protocol::limits::{NAMES_BYTES_MAX, REPLY_BYTES_MAX};

use crate::worker::dispatch::Command;
use crate::worker::libcuda::{Answer, cuda};

/// Most functions of one module: cuBLASLt's largest has some thousands.
const FUNCTIONS_MAX: u32 = 1 << 16;

/// Adds the name that libcuda keeps for a function.
#[allow(unsafe_code, reason = "libcuda's string")]
fn add(text: &mut Vec<u8>, name: ConstStr) -> Answer {
    if name.is_null() {
        return Err(CUDA_ERROR_NOT_SUPPORTED);
    }
    // SAFETY: libcuda's string, which lives as long as the module.
    text.extend_from_slice(unsafe { CStr::from_ptr(name) }.to_bytes_with_nul());
    if text.len() as u64 > NAMES_BYTES_MAX { Err(CUDA_ERROR_NOT_SUPPORTED) } else { Ok(()) }
}

/// Room for so many handles.
fn room<H: Handle>(count: u32) -> Answer<Vec<H>> {
    if count > FUNCTIONS_MAX {
        log::warn!("a module has more than {FUNCTIONS_MAX} functions");
        return Err(CUDA_ERROR_NOT_SUPPORTED);
    }
    Ok(vec![H::from_number(0); count as usize])
}

/// Puts the length of the text and its piece from `from` on into the reply.
fn reply(command: &mut Command, text: &[u8], from: u64) -> Answer {
    const PIECE: usize = REPLY_BYTES_MAX as usize - 64;
    let rest = usize::try_from(from).ok().and_then(|from| text.get(from..)).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    command.to.word(text.len() as u64);
    command.to.bytes(rest.get(..PIECE).unwrap_or(rest));
    Ok(())
}

/// In: module, offset in the text.
pub(in crate::worker) fn cuModuleEnumerateFunctions(command: &mut Command) -> Answer {
    let module = CUmodule(command.from.word());
    let from = command.from.word();
    command.read_all()?;
    let process = command.thread.process();
    let lib = &process.lib;
    let module = process.handles.resolve(module)?;
    let mut count = 0;
    cuda!(lib.cuModuleGetFunctionCount(&raw mut count, module))?;
    let mut functions: Vec<CUfunction> = room(count)?;
    if count > 0 {
        cuda!(lib.cuModuleEnumerateFunctions(functions.as_mut_ptr(), count, module))?;
    }
    let mut text = Vec::new();
    for function in functions {
        let mut name = std::ptr::null();
        cuda!(lib.cuFuncGetName(&raw mut name, function))?;
        add(&mut text, name)?;
    }
    reply(command, &text, from)
}

/// In: library, offset in the text.
pub(in crate::worker) fn cuLibraryEnumerateKernels(command: &mut Command) -> Answer {
    let library = CUlibrary(command.from.word());
    let from = command.from.word();
    command.read_all()?;
    let process = command.thread.process();
    let lib = &process.lib;
    let library = process.handles.resolve(library)?;
    let mut count = 0;
    cuda!(lib.cuLibraryGetKernelCount(&raw mut count, library))?;
    let mut kernels: Vec<CUkernel> = room(count)?;
    if count > 0 {
        cuda!(lib.cuLibraryEnumerateKernels(kernels.as_mut_ptr(), count, library))?;
    }
    let mut text = Vec::new();
    for kernel in kernels {
        let mut name = std::ptr::null();
        cuda!(lib.cuKernelGetName(&raw mut name, kernel))?;
        add(&mut text, name)?;
    }
    reply(command, &text, from)
}
