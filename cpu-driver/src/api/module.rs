//! Modules from PTX.

use super::{Answer, current, give, give_optional, string};
use crate::context::Context;
use crate::module::image::ptx_text;
use crate::module::managed::Managed;
use crate::module::{ImageError, Module};
use crate::objects::{KERNELS, Kernel, LoadedModule, MODULES};
use crate::{ptx, report};
use paravane_protocol::cuda_types::{
    CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES, CU_JIT_MAX_REGISTERS, CU_MODULE_LAZY_LOADING, CUDA_ERROR_FILE_NOT_FOUND,
    CUDA_ERROR_INVALID_HANDLE, CUDA_ERROR_INVALID_IMAGE, CUDA_ERROR_INVALID_PTX, CUDA_ERROR_INVALID_VALUE,
    CUDA_ERROR_NO_BINARY_FOR_GPU, CUDA_ERROR_NOT_FOUND, CUDA_ERROR_OUT_OF_MEMORY, CUdeviceptr, CUfunction,
    CUjit_option, CUmodule, CUmoduleLoadingMode, CUresult,
};
use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::{CString, c_char, c_void};
use std::sync::atomic::AtomicI32;
use std::sync::{Arc, Mutex, PoisonError};

/// The CUresult of a refused image, which is also told in the log.
pub(super) fn refused(error: &ImageError) -> CUresult {
    report::refusal(&format!("image refused: {error}"));
    match error {
        ImageError::Invalid => CUDA_ERROR_INVALID_IMAGE,
        ImageError::NoPtx(_) => CUDA_ERROR_NO_BINARY_FOR_GPU,
        ImageError::Ptx(_) | ImageError::Link(_) => CUDA_ERROR_INVALID_PTX,
        ImageError::OutOfMemory => CUDA_ERROR_OUT_OF_MEMORY,
    }
}

/// Options of a load that this driver heeds: where error texts go.
pub(super) struct Options {
    pub(super) error_log: Option<(*mut u8, usize)>,
    /// CU_JIT_MAX_REGISTERS.
    pub(super) max_registers: Option<u32>,
}

impl Options {
    /// # Safety
    /// The arrays have `count` elements, as CUDA demands.
    pub(super) unsafe fn read(count: u32, options: *const CUjit_option, values: *const *mut c_void) -> Self {
        let (mut buffer, mut size, mut max_registers) = (std::ptr::null_mut(), 0, None);
        if !options.is_null() && !values.is_null() {
            for i in 0..count as usize {
                // SAFETY: the caller's promise.
                let option = unsafe { *options.add(i) };
                // SAFETY: the caller's promise.
                let value = unsafe { *values.add(i) };
                match option {
                    CU_JIT_MAX_REGISTERS => max_registers = u32::try_from(value.addr() & 0xffff_ffff).ok().filter(|n| *n > 0),
                    CU_JIT_ERROR_LOG_BUFFER => buffer = value.cast::<u8>(),
                    // The size is in the value itself, in its low 32 bits.
                    CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES => size = value.addr() & 0xffff_ffff,
                    _ => {}
                }
            }
        }
        Self { error_log: (!buffer.is_null() && size > 0).then_some((buffer, size)), max_registers }
    }

    /// The text, with what the options say about all its kernels.
    pub(super) fn applied<'t>(&self, text: Cow<'t, str>) -> Cow<'t, str> {
        match self.max_registers {
            Some(limit) => Cow::Owned(format!("{text}\n.pragma \"{}{limit}\";\n", ptx::MAX_REGISTERS)),
            None => text,
        }
    }

    pub(super) fn tell(&self, error: &ImageError) {
        if let Some((buffer, size)) = self.error_log {
            let text = error.to_string();
            let kept = text.len().min(size - 1);
            // SAFETY: the program gave a buffer of that size.
            unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), buffer, kept) };
            // SAFETY: as above.
            unsafe { buffer.add(kept).write(0) };
        }
    }
}

/// Makes a module of `text` in `context`, with these managed variables.
pub(super) fn load_text(context: &Arc<Context>, text: &str, managed: &Arc<Managed>) -> Result<u64, ImageError> {
    let module = Module::load(text, context, managed)?;
    let context = context.owned_home();
    Ok(MODULES.insert_with(|_| LoadedModule { module, context, functions: Mutex::new(HashMap::new()) }).0)
}

pub unsafe fn cuModuleLoadDataEx(
    module: *mut CUmodule,
    image: *mut c_void,
    numOptions: u32,
    options: *mut CUjit_option,
    optionValues: *mut *mut c_void,
) -> Answer {
    let context = current()?;
    if module.is_null() || image.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller passes arrays of `numOptions` elements.
    let options = unsafe { Options::read(numOptions, options, optionValues) };
    // SAFETY: the caller passes an image.
    let loaded = unsafe { ptx_text(image.cast()) }.and_then(|text| load_text(&context, &options.applied(text), &Arc::default()));
    match loaded {
        Ok(handle) => give(module, CUmodule(handle)),
        Err(error) => {
            options.tell(&error);
            Err(refused(&error))
        }
    }
}

pub unsafe fn cuModuleLoadData(module: *mut CUmodule, image: *mut c_void) -> Answer {
    // SAFETY: the same contract, without options.
    unsafe { cuModuleLoadDataEx(module, image, 0, std::ptr::null_mut(), std::ptr::null_mut()) }
}

pub unsafe fn cuModuleLoadFatBinary(module: *mut CUmodule, fatCubin: *mut c_void) -> Answer {
    // SAFETY: the same contract.
    unsafe { cuModuleLoadData(module, fatCubin) }
}

/// A file's bytes with a NUL behind them, so that PTX text has its end.
pub(super) fn read_image(path: &str) -> Answer<Vec<u8>> {
    let mut bytes = std::fs::read(path).map_err(|_| CUDA_ERROR_FILE_NOT_FOUND)?;
    bytes.push(0);
    Ok(bytes)
}

pub unsafe fn cuModuleLoad(module: *mut CUmodule, fname: *const c_char) -> Answer {
    // SAFETY: the caller passes a C string.
    let mut bytes = read_image(unsafe { string(fname) }?)?;
    // SAFETY: the bytes outlive the call.
    unsafe { cuModuleLoadData(module, bytes.as_mut_ptr().cast()) }
}

pub unsafe fn cuModuleUnload(hmod: CUmodule) -> Answer {
    let context = current()?;
    context.synchronize();
    unload(hmod.0)
}

pub(super) fn unload(handle: u64) -> Answer {
    MODULES.remove(handle).ok_or(CUDA_ERROR_INVALID_HANDLE)?;
    KERNELS.remove_where(|kernel| kernel.module_handle == handle);
    Ok(())
}

/// The handle of a module's kernel: one for each, made when it is first asked for.
pub(super) fn function_handle(module_handle: u64, name: &str) -> Answer<u64> {
    let module = MODULES.get(module_handle).ok_or(CUDA_ERROR_INVALID_HANDLE)?;
    let number = module.module.kernel(name).ok_or(CUDA_ERROR_NOT_FOUND)?;
    let mut functions = module.functions.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = functions.get(&number) {
        return Ok(*handle);
    }
    let function = &module.module.functions[number];
    let (handle, _) = KERNELS.insert_with(|_| Kernel {
        module: Arc::clone(&module),
        module_handle,
        number,
        name: CString::new(name).unwrap_or_default(),
        max_dynamic_shared: AtomicI32::new(-1),
        shared_carveout: AtomicI32::new(-1),
        is_empty: function.is_empty,
        has_params: !function.params.is_empty(),
        max_threads: function.max_threads.unwrap_or(super::device::THREADS_PER_BLOCK_MAX),
    });
    functions.insert(number, handle);
    Ok(handle)
}

pub unsafe fn cuModuleGetFunction(hfunc: *mut CUfunction, hmod: CUmodule, name: *const c_char) -> Answer {
    current()?;
    // SAFETY: the caller passes a C string.
    give(hfunc, CUfunction(function_handle(hmod.0, unsafe { string(name) }?)?))
}

/// Address and size of a module's variable.
pub(super) fn global(module: u64, name: &str, dptr: *mut CUdeviceptr, bytes: *mut usize) -> Answer {
    let module = MODULES.get(module).ok_or(CUDA_ERROR_INVALID_HANDLE)?;
    let global = module.module.globals.get(name).ok_or(CUDA_ERROR_NOT_FOUND)?;
    give_optional(dptr, CUdeviceptr(global.address));
    give_optional(bytes, usize::try_from(global.size).unwrap_or(usize::MAX));
    Ok(())
}

pub unsafe fn cuModuleGetGlobal_v2(dptr: *mut CUdeviceptr, bytes: *mut usize, hmod: CUmodule, name: *const c_char) -> Answer {
    current()?;
    // SAFETY: the caller passes a C string.
    global(hmod.0, unsafe { string(name) }?, dptr, bytes)
}

pub unsafe fn cuModuleGetLoadingMode(mode: *mut CUmoduleLoadingMode) -> Answer {
    give(mode, CU_MODULE_LAZY_LOADING)
}

pub unsafe fn cuModuleGetFunctionCount(count: *mut u32, hmod: CUmodule) -> Answer {
    current()?;
    let module = MODULES.get(hmod.0).ok_or(CUDA_ERROR_INVALID_HANDLE)?;
    give(count, u32::try_from(module.module.kernels().count()).unwrap_or(u32::MAX))
}

/// Every kernel of a module, in the order of its text.
pub(super) fn functions(hmod: CUmodule) -> Answer<Vec<CUfunction>> {
    current()?;
    let module = MODULES.get(hmod.0).ok_or(CUDA_ERROR_INVALID_HANDLE)?;
    let names = module.module.kernels().map(|number| module.module.functions[number].name.as_str());
    names.map(|name| function_handle(hmod.0, name).map(CUfunction)).collect()
}

pub unsafe fn cuModuleEnumerateFunctions(functions: *mut CUfunction, numFunctions: u32, hmod: CUmodule) -> Answer {
    if functions.is_null() || numFunctions == 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    for (at, function) in self::functions(hmod)?.into_iter().take(numFunctions as usize).enumerate() {
        give(functions.wrapping_add(at), function)?;
    }
    Ok(())
}
