//! Functions, kernels and the modules of libraries, each with what the guest
//! wants to know of it.

use std::ffi::CString;

use paravane_protocol::codec::Encoder;
use paravane_protocol::cuda_types::*;
use paravane_protocol::limits::KERNEL_PARAMS_MAX;

use crate::worker::arg::take_string;
use crate::worker::dispatch::Command;
use crate::worker::handles::Belongs;
use crate::worker::layout::Param;
use crate::worker::libcuda::{Answer, cuda};

/// A call that tells one parameter's offset and size.
type ParamInfo<H> = unsafe extern "C" fn(H, usize, *mut usize, *mut usize) -> CUresult;

/// What libcuda tells of a function's parameters.
#[allow(unsafe_code, reason = "foreign function")]
fn ask<H: Handle>(info: ParamInfo<H>, of: H) -> Answer<Vec<Param>> {
    let mut params = Vec::new();
    while params.len() <= KERNEL_PARAMS_MAX as usize {
        let (mut offset, mut size) = (0, 0);
        // SAFETY: libcuda's prototype; both pointers are to locals.
        match unsafe { info(of, params.len(), &raw mut offset, &raw mut size) } {
            CUDA_SUCCESS => params.push((offset as u64, size as u64)),
            // There are no more.
            CUDA_ERROR_INVALID_VALUE => break,
            error => return Err(error),
        }
    }
    Ok(params)
}

/// A function's parameters: from libcuda, or, where it is older than CUDA
/// 12.4 and cannot tell, from what its image told.
fn params<H: Handle>(
    info: Option<ParamInfo<H>>,
    of: H,
    from_image: impl FnOnce() -> Option<Vec<Param>>,
) -> Answer<Vec<Param>> {
    let params = match info {
        Some(info) => ask(info, of)?,
        None => from_image().ok_or_else(|| {
            log::warn!("neither libcuda nor its image tells a kernel's parameters");
            CUDA_ERROR_NOT_SUPPORTED
        })?,
    };
    if params.len() > KERNEL_PARAMS_MAX as usize {
        log::warn!("a kernel has more than {KERNEL_PARAMS_MAX} parameters");
        return Err(CUDA_ERROR_NOT_SUPPORTED);
    }
    Ok(params)
}

/// Writes the number of parameters and where each lies.
fn write(params: &[Param], to: &mut Encoder) {
    to.word(params.len() as u64);
    for (offset, size) in params {
        to.word(*offset);
        to.word(*size);
    }
}

/// In: id, owner, name.
fn take<H: Handle, O: Handle>(command: &mut Command) -> Answer<(H, O, CString)> {
    let id = H::from_number(command.from.word());
    let owner = O::from_number(command.from.word());
    let name = take_string(&mut command.from);
    command.read_all()?;
    command.thread.process().handles.check_new(id)?;
    Ok((id, owner, name?))
}

pub(in crate::worker) fn cuModuleGetFunction(command: &mut Command) -> Answer {
    let (id, module, name) = take::<CUfunction, CUmodule>(command)?;
    let process = command.thread.process();
    let lib = &process.lib;
    let mut native = CUfunction(0);
    let of = process.handles.resolve(module)?;
    cuda!(lib.cuModuleGetFunction(&raw mut native, of, name.as_ptr()))?;
    let from_image = || process.images.params(module.0, name.to_str().ok()?);
    write(&params(lib.cuFuncGetParamInfo, native, from_image)?, &mut command.to);
    let belongs = Belongs { context: command.thread.home(), parent: module.0 };
    process.handles.insert(id, native, belongs)
}

pub(in crate::worker) fn cuLibraryGetKernel(command: &mut Command) -> Answer {
    let (id, library, name) = take::<CUkernel, CUlibrary>(command)?;
    let process = command.thread.process();
    let lib = &process.lib;
    let mut native = CUkernel(0);
    let of = process.handles.resolve(library)?;
    cuda!(lib.cuLibraryGetKernel(&raw mut native, of, name.as_ptr()))?;
    let from_image = || process.images.params(library.0, name.to_str().ok()?);
    let params = params(lib.cuKernelGetParamInfo, native, from_image)?;
    write(&params, &mut command.to);
    if lib.cuFuncGetParamInfo.is_none() {
        process.images.kernel(id.0, params);
    }
    process.handles.insert(id, native, Belongs { context: 0, parent: library.0 })
}

/// In: id, kernel.
pub(in crate::worker) fn cuKernelGetFunction(command: &mut Command) -> Answer {
    let id = CUfunction(command.from.word());
    let kernel = CUkernel(command.from.word());
    command.read_all()?;
    let process = command.thread.process();
    process.handles.check_new(id)?;
    let lib = &process.lib;
    let mut native = CUfunction(0);
    let of = process.handles.resolve(kernel)?;
    cuda!(lib.cuKernelGetFunction(&raw mut native, of))?;
    let from_image = || process.images.params_of_kernel(kernel.0);
    write(&params(lib.cuFuncGetParamInfo, native, from_image)?, &mut command.to);
    process.handles.insert(id, native, Belongs { context: command.thread.home(), parent: kernel.0 })
}

/// In: id, library.
pub(in crate::worker) fn cuLibraryGetModule(command: &mut Command) -> Answer {
    let id = CUmodule(command.from.word());
    let library = CUlibrary(command.from.word());
    command.read_all()?;
    let process = command.thread.process();
    process.handles.check_new(id)?;
    let lib = &process.lib;
    let mut native = CUmodule(0);
    let of = process.handles.resolve(library)?;
    cuda!(lib.cuLibraryGetModule(&raw mut native, of))?;
    let belongs = Belongs { context: command.thread.home(), parent: library.0 };
    process.handles.insert(id, native, belongs)?;
    process.images.module_of(library.0, id.0);
    Ok(())
}
