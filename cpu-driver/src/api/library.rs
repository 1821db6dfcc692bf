//! Libraries: images loaded apart from any context. Each context gets a module of its own, made
//! when something of the library is first used there.

use super::module::{Options, function_handle, global, load_text, read_image, refused, unload};
use super::{Answer, current, give, give_optional, initialised, string};
use crate::context::{CONTEXTS, Context};
use crate::decode::params;
use crate::exec::function::ParamLayout;
use crate::module::{ImageError, Module};
use crate::module::image::ptx_text;
use crate::objects::{KERNELS, Kernel, LIBRARIES, LIBRARY_KERNELS, Library, LibraryKernel};
use crate::ptx;
use paravane_protocol::cuda_types::{
    CUDA_ERROR_INVALID_CONTEXT, CUDA_ERROR_INVALID_HANDLE, CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_NOT_FOUND, CUdevice, CUdeviceptr, CUfunc_cache,
    CUfunction, CUfunction_attribute, CUjit_option, CUkernel, CUlibrary, CUlibraryOption, CUmodule,
};
use std::ffi::{CString, c_char, c_void};
use std::sync::{Arc, Mutex, PoisonError};

/// Checks a library's text and lists its kernels.
fn open(text: String) -> Result<Library, ImageError> {
    let trees = ptx::parse(&text)?;
    let kernels = trees.iter().flat_map(|tree| &tree.functions).filter(|function| function.is_entry && function.body.is_some());
    let kernels: Vec<_> = kernels.collect();
    let names = kernels.iter().map(|function| function.name.to_owned()).collect();
    let params = kernels.iter().map(|function| params(function)).collect();
    Ok(Library { text, managed: Arc::default(), modules: Mutex::default(), kernels: Mutex::default(), names, params })
}

pub unsafe fn cuLibraryLoadData(
    library: *mut CUlibrary,
    code: *mut c_void,
    jitOptions: *mut CUjit_option,
    jitOptionsValues: *mut *mut c_void,
    numJitOptions: u32,
    _libraryOptions: *mut CUlibraryOption,
    _libraryOptionValues: *mut *mut c_void,
    _numLibraryOptions: u32,
) -> Answer {
    initialised()?;
    if library.is_null() || code.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller passes arrays of `numJitOptions` elements.
    let options = unsafe { Options::read(numJitOptions, jitOptions, jitOptionsValues) };
    // SAFETY: the caller passes an image.
    match unsafe { ptx_text(code.cast()) }.and_then(|text| open(options.applied(text).into_owned())) {
        Ok(opened) => give(library, CUlibrary(LIBRARIES.insert_with(|_| opened).0)),
        Err(error) => {
            options.tell(&error);
            Err(refused(&error))
        }
    }
}

pub unsafe fn cuLibraryLoadFromFile(
    library: *mut CUlibrary,
    fileName: *const c_char,
    jitOptions: *mut CUjit_option,
    jitOptionsValues: *mut *mut c_void,
    numJitOptions: u32,
    libraryOptions: *mut CUlibraryOption,
    libraryOptionValues: *mut *mut c_void,
    numLibraryOptions: u32,
) -> Answer {
    // SAFETY: the caller passes a C string.
    let mut bytes = read_image(unsafe { string(fileName) }?)?;
    let code = bytes.as_mut_ptr().cast();
    // SAFETY: the bytes outlive the call; the rest is the caller's.
    unsafe {
        cuLibraryLoadData(
            library,
            code,
            jitOptions,
            jitOptionsValues,
            numJitOptions,
            libraryOptions,
            libraryOptionValues,
            numLibraryOptions,
        )
    }
}

pub unsafe fn cuLibraryUnload(library: CUlibrary) -> Answer {
    initialised()?;
    let opened = LIBRARIES.remove(library.0).ok_or(CUDA_ERROR_INVALID_HANDLE)?;
    LIBRARY_KERNELS.remove_where(|kernel| kernel.library == library.0);
    for module in opened.modules.lock().unwrap_or_else(PoisonError::into_inner).values() {
        // A module whose context is gone is gone with it.
        let _ = unload(*module);
    }
    Ok(())
}

fn library(handle: CUlibrary) -> Answer<Arc<Library>> {
    initialised()?;
    LIBRARIES.get(handle.0).ok_or(CUDA_ERROR_INVALID_HANDLE)
}

/// The handle of a library's kernel: one for each, made when it is first asked for.
fn kernel_handle(handle: CUlibrary, name: &str) -> Answer<CUkernel> {
    let opened = library(handle)?;
    if !opened.names.iter().any(|known| known == name) {
        return Err(CUDA_ERROR_NOT_FOUND);
    }
    let mut kernels = opened.kernels.lock().unwrap_or_else(PoisonError::into_inner);
    let make = || LIBRARY_KERNELS.insert_with(|_| LibraryKernel { library: handle.0, name: CString::new(name).unwrap_or_default() }).0;
    Ok(CUkernel(*kernels.entry(name.to_owned()).or_insert_with(make)))
}

pub unsafe fn cuLibraryGetKernel(pKernel: *mut CUkernel, handle: CUlibrary, name: *const c_char) -> Answer {
    // SAFETY: the caller passes a C string.
    give(pKernel, kernel_handle(handle, unsafe { string(name) }?)?)
}

/// The library's module in the current context.
fn module_here(handle: CUlibrary) -> Answer<u64> {
    module_in(&current()?, handle)
}

/// The library's module in a context.
fn module_in(context: &Arc<Context>, handle: CUlibrary) -> Answer<u64> {
    let opened = library(handle)?;
    let key = context.owner ^ context.home().epoch.load(std::sync::atomic::Ordering::Relaxed) << 48;
    let mut modules = opened.modules.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(module) = modules.get(&key) {
        return Ok(*module);
    }
    let module = load_text(context, &opened.text, &opened.managed).map_err(|error| refused(&error))?;
    modules.insert(key, module);
    Ok(module)
}

pub unsafe fn cuLibraryGetModule(pMod: *mut CUmodule, handle: CUlibrary) -> Answer {
    give(pMod, CUmodule(module_here(handle)?))
}

pub unsafe fn cuLibraryGetGlobal(dptr: *mut CUdeviceptr, bytes: *mut usize, handle: CUlibrary, name: *const c_char) -> Answer {
    // SAFETY: the caller passes a C string.
    global(module_here(handle)?, unsafe { string(name) }?, dptr, bytes)
}

/// No context need have loaded the library: its managed variables are no context's.
pub unsafe fn cuLibraryGetManaged(dptr: *mut CUdeviceptr, bytes: *mut usize, handle: CUlibrary, name: *const c_char) -> Answer {
    // SAFETY: the caller passes a C string.
    let name = unsafe { string(name) }?;
    let opened = library(handle)?;
    let device = current().map_or_else(|_| super::device(CUdevice(0)), |context| Ok(context.device))?;
    // Nobody else loads it meanwhile.
    let _modules = opened.modules.lock().unwrap_or_else(PoisonError::into_inner);
    let places = Module::place_managed(&opened.text, device, &opened.managed).map_err(|error| refused(&error))?;
    let (address, size) = *places.get(name).ok_or(CUDA_ERROR_NOT_FOUND)?;
    give_optional(dptr, CUdeviceptr(address));
    give_optional(bytes, usize::try_from(size).unwrap_or(usize::MAX));
    Ok(())
}

pub unsafe fn cuLibraryGetKernelCount(count: *mut u32, lib: CUlibrary) -> Answer {
    give(count, u32::try_from(library(lib)?.names.len()).unwrap_or(u32::MAX))
}

/// The CUfunction of a CUkernel in a context.
fn function_in(context: &Arc<Context>, kernel: u64) -> Answer<u64> {
    let kernel = LIBRARY_KERNELS.get(kernel).ok_or(CUDA_ERROR_INVALID_HANDLE)?;
    let name = kernel.name.to_str().map_err(|_| CUDA_ERROR_INVALID_HANDLE)?;
    function_handle(module_in(context, CUlibrary(kernel.library))?, name)
}

/// The CUfunction of a CUkernel in the current context.
pub(super) fn function_of_kernel(kernel: u64) -> Answer<u64> {
    function_in(&current()?, kernel)
}

/// As [`kernel`], in another context than the current one if need be. A CUfunction has its own.
pub(super) fn kernel_in(context: &Arc<Context>, handle: u64) -> Answer<Arc<Kernel>> {
    match KERNELS.get(handle) {
        Some(kernel) => Ok(kernel),
        None => KERNELS.get(function_in(context, handle)?).ok_or(CUDA_ERROR_INVALID_HANDLE),
    }
}

/// The kernel that a CUfunction names, or a CUkernel passed for one.
pub(super) fn kernel(handle: u64) -> Answer<Arc<Kernel>> {
    match KERNELS.get(handle) {
        Some(kernel) => Ok(kernel),
        None => kernel_in(&current()?, handle),
    }
}

/// The CUfunction of a kernel on a device: in the current context if that is of the device, else in its primary one.
fn function_on(kernel: CUkernel, dev: CUdevice) -> Answer<CUfunction> {
    let of = super::device(dev)?;
    if KERNELS.get(kernel.0).is_some() {
        return Ok(CUfunction(kernel.0));
    }
    let context = crate::context::current().filter(|context| context.device == of);
    let primary = || CONTEXTS.get(super::primary::handle(of).0).ok_or(CUDA_ERROR_INVALID_CONTEXT);
    function_in(&context.map_or_else(primary, Ok)?, kernel.0).map(CUfunction)
}

pub unsafe fn cuKernelGetFunction(pFunc: *mut CUfunction, kernel: CUkernel) -> Answer {
    current()?;
    give(pFunc, CUfunction(function_of_kernel(kernel.0)?))
}

pub unsafe fn cuKernelGetAttribute(pi: *mut i32, attrib: CUfunction_attribute, kernel: CUkernel, dev: CUdevice) -> Answer {
    // SAFETY: the same contract.
    unsafe { super::cuFuncGetAttribute(pi, attrib, function_on(kernel, dev)?) }
}

pub unsafe fn cuKernelSetAttribute(attrib: CUfunction_attribute, val: i32, kernel: CUkernel, dev: CUdevice) -> Answer {
    // SAFETY: the same contract.
    unsafe { super::cuFuncSetAttribute(function_on(kernel, dev)?, attrib, val) }
}

pub unsafe fn cuKernelSetCacheConfig(kernel: CUkernel, config: CUfunc_cache, dev: CUdevice) -> Answer {
    // SAFETY: the same contract.
    unsafe { super::cuFuncSetCacheConfig(function_on(kernel, dev)?, config) }
}

/// The text lives as long as the library.
pub unsafe fn cuKernelGetName(name: *mut *const c_char, hfunc: CUkernel) -> Answer {
    initialised()?;
    match LIBRARY_KERNELS.get(hfunc.0) {
        Some(kernel) => give(name, kernel.name.as_ptr()),
        None => give(name, kernel(hfunc.0)?.name.as_ptr()),
    }
}

/// Where a kernel's parameters lie, which its library knows without a context.
fn params_of(kernel: CUkernel) -> Answer<Vec<ParamLayout>> {
    initialised()?;
    let Some(of_library) = LIBRARY_KERNELS.get(kernel.0) else {
        return Ok(self::kernel(kernel.0)?.function().params.clone());
    };
    let opened = library(CUlibrary(of_library.library))?;
    let place = opened.names.iter().position(|name| name.as_bytes() == of_library.name.as_bytes());
    place.and_then(|place| opened.params.get(place).cloned()).ok_or(CUDA_ERROR_INVALID_HANDLE)
}

pub unsafe fn cuKernelGetParamInfo(
    kernel: CUkernel,
    paramIndex: usize,
    paramOffset: *mut usize,
    paramSize: *mut usize,
) -> Answer {
    let place = *params_of(kernel)?.get(paramIndex).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    give(paramOffset, place.offset as usize)?;
    give_optional(paramSize, place.size as usize);
    Ok(())
}

pub unsafe fn cuKernelGetParamCount(kernel: CUkernel, paramCount: *mut usize) -> Answer {
    give(paramCount, params_of(kernel)?.len())
}

pub unsafe fn cuKernelGetLibrary(pLib: *mut CUlibrary, kernel: CUkernel) -> Answer {
    initialised()?;
    give(pLib, CUlibrary(LIBRARY_KERNELS.get(kernel.0).ok_or(CUDA_ERROR_INVALID_HANDLE)?.library))
}

pub unsafe fn cuLibraryEnumerateKernels(kernels: *mut CUkernel, numKernels: u32, lib: CUlibrary) -> Answer {
    if kernels.is_null() || numKernels == 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    for (at, name) in library(lib)?.names.iter().take(numKernels as usize).enumerate() {
        give(kernels.wrapping_add(at), kernel_handle(lib, name)?)?;
    }
    Ok(())
}
