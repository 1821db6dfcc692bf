//! Modules and libraries from files and in their short forms; what is known of
//! functions and kernels without asking.

use std::ffi::{CString, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use paravane_protocol::cuda_types::*;

use crate::boundary::Answer;
use crate::state::functions;
use crate::{custom, handles, pointer};

/// A file's bytes with a NUL behind, as a text image needs it.
fn read_image(name: *const c_char) -> Answer<Vec<u8>> {
    let path = OsStr::from_bytes(pointer::string(name)?.to_bytes());
    let mut image = std::fs::read(path).map_err(|error| {
        log::warn!("{}: {error}", path.display());
        CUDA_ERROR_FILE_NOT_FOUND
    })?;
    image.push(0);
    Ok(image)
}

pub(crate) fn cuModuleLoad(module: *mut CUmodule, fname: *const c_char) -> Answer {
    let image = read_image(fname)?;
    cuModuleLoadData(module, image.as_ptr() as Pointer)
}

pub(crate) fn cuModuleLoadData(module: *mut CUmodule, image: Pointer) -> Answer {
    custom::cuModuleLoadDataEx(module, image, 0, ptr::null_mut(), ptr::null_mut())
}

pub(crate) fn cuModuleLoadFatBinary(module: *mut CUmodule, image: Pointer) -> Answer {
    cuModuleLoadData(module, image)
}

#[allow(clippy::too_many_arguments, reason = "CUDA's prototype")]
pub(crate) fn cuLibraryLoadFromFile(
    library: *mut CUlibrary,
    name: *const c_char,
    jit: *mut CUjit_option,
    jit_values: Pointers,
    jit_count: u32,
    options: *mut CUlibraryOption,
    values: Pointers,
    count: u32,
) -> Answer {
    let image = read_image(name)?;
    let code = image.as_ptr() as Pointer;
    custom::cuLibraryLoadData(library, code, jit, jit_values, jit_count, options, values, count)
}

pub(crate) fn cuLinkCreate(
    count: u32,
    options: *mut CUjit_option,
    values: Pointers,
    state: *mut CUlinkState,
) -> Answer {
    custom::cuLinkCreate_v2(count, options, values, state)
}

#[allow(clippy::too_many_arguments, reason = "CUDA's prototype")]
pub(crate) fn cuLinkAddData(
    state: CUlinkState,
    kind: CUjitInputType,
    data: Pointer,
    size: usize,
    name: *const c_char,
    count: u32,
    options: *mut CUjit_option,
    values: Pointers,
) -> Answer {
    custom::cuLinkAddData_v2(state, kind, data, size, name, count, options, values)
}

pub(crate) fn cuLinkAddFile_v2(
    state: CUlinkState,
    kind: CUjitInputType,
    path: *const c_char,
    count: u32,
    options: *mut CUjit_option,
    values: Pointers,
) -> Answer {
    let image = read_image(path)?;
    // The NUL is no part of a binary.
    let size = image.len() - usize::from(kind != CU_JIT_INPUT_PTX);
    let data = image.as_ptr() as Pointer;
    custom::cuLinkAddData_v2(state, kind, data, size, path, count, options, values)
}

pub(crate) fn cuLinkAddFile(
    state: CUlinkState,
    kind: CUjitInputType,
    path: *const c_char,
    count: u32,
    options: *mut CUjit_option,
    values: Pointers,
) -> Answer {
    cuLinkAddFile_v2(state, kind, path, count, options, values)
}

/// Lazy, so that frameworks do not load hundreds of images that they never use.
pub(crate) fn cuModuleGetLoadingMode(mode: *mut CUmoduleLoadingMode) -> Answer {
    pointer::put(mode, CU_MODULE_LAZY_LOADING)
}

fn name_of(id: u64, into: *mut ConstStr) -> Answer {
    let function = functions::get(id)?;
    let name: &CString = &function.name;
    // The name lives as long as the function, which the caller must keep loaded.
    pointer::put(into, name.as_ptr())
}

fn param_info(id: u64, index: usize, offset: *mut usize, size: *mut usize) -> Answer {
    let function = functions::get(id)?;
    let &(at, bytes) = function.params.get(index).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    pointer::put(offset, at as usize)?;
    pointer::put_opt(size, bytes as usize);
    Ok(())
}

pub(crate) fn cuKernelGetName(name: *mut ConstStr, kernel: CUkernel) -> Answer {
    name_of(kernel.0, name)
}

pub(crate) fn cuFuncGetName(name: *mut ConstStr, function: CUfunction) -> Answer {
    name_of(function.0, name)
}

pub(crate) fn cuKernelGetParamInfo(
    kernel: CUkernel,
    index: usize,
    offset: *mut usize,
    size: *mut usize,
) -> Answer {
    param_info(kernel.0, index, offset, size)
}

pub(crate) fn cuFuncGetParamInfo(
    function: CUfunction,
    index: usize,
    offset: *mut usize,
    size: *mut usize,
) -> Answer {
    param_info(function.0, index, offset, size)
}

pub(crate) fn cuKernelGetLibrary(library: *mut CUlibrary, kernel: CUkernel) -> Answer {
    if !handles::is::<CUkernel>(kernel.0) {
        return Err(CUDA_ERROR_INVALID_HANDLE);
    }
    pointer::put(library, CUlibrary(functions::get(kernel.0)?.owner))
}

fn param_count(id: u64, count: *mut usize) -> Answer {
    pointer::put(count, functions::get(id)?.params.len())
}

pub(crate) fn cuKernelGetParamCount(kernel: CUkernel, count: *mut usize) -> Answer {
    param_count(kernel.0, count)
}

pub(crate) fn cuFuncGetParamCount(function: CUfunction, count: *mut usize) -> Answer {
    param_count(function.0, count)
}

/// The module of a function; of a kernel's function the library's module.
pub(crate) fn cuFuncGetModule(module: *mut CUmodule, function: CUfunction) -> Answer {
    let owner = functions::get(function.0)?.owner;
    if handles::is::<CUlibrary>(owner) {
        return custom::cuLibraryGetModule(module, CUlibrary(owner));
    }
    pointer::put(module, CUmodule(owner))
}
