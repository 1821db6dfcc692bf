//! Functions and kernels by name. The reply describes the parameters, so that
//! launches need not ask.

use std::ffi::{CString, c_char};

use paravane_protocol::cuda_types::*;
use paravane_protocol::limits::NAME_BYTES_MAX;
use paravane_protocol::opcode;

use crate::boundary::Answer;
use crate::connection::with_ring;
use crate::state::{functions, objects};
use crate::{handles, pointer};

/// Asks the host for the function `name` of `owner`, once.
pub(super) fn by_name<H: Handle>(opcode: u16, owner: u64, name: CString) -> Answer<H> {
    if name.as_bytes().len() >= NAME_BYTES_MAX {
        return Err(CUDA_ERROR_NOT_FOUND);
    }
    if let Some(id) = functions::known(owner, &name) {
        return Ok(H::from_number(id));
    }
    let id: H = handles::mint()?;
    let described = with_ring(|ring| {
        ring.call(
            opcode,
            |to| {
                to.word(id.number());
                to.word(owner);
                to.bytes(name.as_bytes_with_nul());
                Ok(())
            },
            |from| functions::read(from, owner, name.clone()),
        )?
    });
    remember(id, described)
}

fn remember<H: Handle>(id: H, described: Answer<functions::Function>) -> Answer<H> {
    match described {
        Ok(function) => {
            functions::remember(id.number(), function);
            Ok(id)
        }
        Err(error) => {
            handles::release(id);
            Err(error)
        }
    }
}

pub(crate) fn cuModuleGetFunction(into: *mut CUfunction, module: CUmodule, name: *const c_char) -> Answer {
    if into.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    pointer::put(into, by_name(opcode::cuModuleGetFunction, module.0, pointer::string(name)?.to_owned())?)
}

pub(crate) fn cuLibraryGetKernel(into: *mut CUkernel, library: CUlibrary, name: *const c_char) -> Answer {
    if into.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    pointer::put(into, by_name(opcode::cuLibraryGetKernel, library.0, pointer::string(name)?.to_owned())?)
}

/// The function that a kernel is in the current context.
pub(crate) fn cuKernelGetFunction(into: *mut CUfunction, kernel: CUkernel) -> Answer {
    let of_kernel = functions::get(kernel.0)?;
    let key = objects::within_context(kernel.0);
    if let Some(id) = objects::KERNEL_FUNCTION.get(key) {
        return pointer::put(into, CUfunction(id));
    }
    let id: CUfunction = handles::mint()?;
    let described = with_ring(|ring| {
        ring.call(
            opcode::cuKernelGetFunction,
            |to| {
                to.word(id.0);
                to.word(kernel.0);
                Ok(())
            },
            |from| functions::read(from, of_kernel.owner, of_kernel.name.clone()),
        )?
    });
    // Under its own number only: the name still means the kernel.
    let id = remember(id, described)?;
    objects::KERNEL_FUNCTION.insert(key, id.0);
    pointer::put(into, id)
}

/// The module that a library is in the current context.
pub(crate) fn cuLibraryGetModule(into: *mut CUmodule, library: CUlibrary) -> Answer {
    if into.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let key = objects::within_context(library.0);
    if let Some(id) = objects::LIBRARY_MODULE.get(key) {
        return pointer::put(into, CUmodule(id));
    }
    let id: CUmodule = handles::mint()?;
    let found = with_ring(|ring| {
        ring.call(
            opcode::cuLibraryGetModule,
            |to| {
                to.word(id.0);
                to.word(library.0);
                Ok(())
            },
            |_| (),
        )
    });
    if let Err(error) = found {
        handles::release(id);
        return Err(error);
    }
    objects::LIBRARY_MODULE.insert(key, id.0);
    pointer::put(into, id)
}
