//! What a function says about itself.

use super::device::{SHARED_PER_BLOCK, SHARED_PER_BLOCK_OPTIN, compute_capability};
use super::library::kernel;
use super::{Answer, current, give, give_optional};
use crate::objects::Kernel;
use paravane_protocol::cuda_types::{
    CUDA_ERROR_INVALID_VALUE, CUfunc_cache, CUfunction, CUfunction_attribute, CUfunctionLoadingState, CUmodule, CUsharedconfig,
};
use std::ffi::c_char;
use std::sync::atomic::Ordering;

const MAX_DYNAMIC_SHARED_SIZE_BYTES: u32 = 8;
const PREFERRED_SHARED_MEMORY_CARVEOUT: u32 = 9;
/// Most registers that a thread of a real device has; nothing here is bound by it.
const REGISTERS_MAX: u32 = 255;

fn signed(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// Dynamic shared memory that a launch of this kernel may ask for.
pub(super) fn dynamic_shared_max(kernel: &Kernel) -> u32 {
    let set = kernel.max_dynamic_shared.load(Ordering::Relaxed);
    let default = SHARED_PER_BLOCK.saturating_sub(kernel.function().shared_size);
    u32::try_from(set).unwrap_or(default)
}

pub unsafe fn cuFuncGetAttribute(pi: *mut i32, attrib: CUfunction_attribute, hfunc: CUfunction) -> Answer {
    current()?;
    let kernel = kernel(hfunc.0)?;
    let (function, module) = (kernel.function(), &kernel.module.module);
    let value = match attrib.0 {
        0 => signed(kernel.max_threads),
        1 => signed(function.shared_size),
        3 => signed(function.local_size),
        2 => i32::try_from(module.const_size).unwrap_or(i32::MAX),
        4 => signed(function.registers.min(function.max_registers.unwrap_or(REGISTERS_MAX)).min(REGISTERS_MAX)),
        // The virtual architecture that the PTX was made for, and the device's own, which it now is for.
        5 => signed(module.target),
        6 => compute_capability().0 * 10 + compute_capability().1,
        MAX_DYNAMIC_SHARED_SIZE_BYTES => signed(dynamic_shared_max(&kernel)),
        PREFERRED_SHARED_MEMORY_CARVEOUT => kernel.shared_carveout.load(Ordering::Relaxed),
        7 | 10..=17 => 0,
        _ => return Err(CUDA_ERROR_INVALID_VALUE),
    };
    give(pi, value)
}

pub unsafe fn cuFuncSetAttribute(hfunc: CUfunction, attrib: CUfunction_attribute, value: i32) -> Answer {
    current()?;
    let kernel = kernel(hfunc.0)?;
    match attrib.0 {
        MAX_DYNAMIC_SHARED_SIZE_BYTES => {
            let asked = u32::try_from(value).map_err(|_| CUDA_ERROR_INVALID_VALUE)?;
            if asked > SHARED_PER_BLOCK_OPTIN.saturating_sub(kernel.function().shared_size) {
                return Err(CUDA_ERROR_INVALID_VALUE);
            }
            kernel.max_dynamic_shared.store(value, Ordering::Relaxed);
        }
        PREFERRED_SHARED_MEMORY_CARVEOUT if (-1..=100).contains(&value) => {
            kernel.shared_carveout.store(value, Ordering::Relaxed);
        }
        // Non-portable cluster sizes: there are no clusters, so nothing changes.
        14 => {}
        _ => return Err(CUDA_ERROR_INVALID_VALUE),
    }
    Ok(())
}

/// Caches are the host's own: a hint without effect.
pub unsafe fn cuFuncSetCacheConfig(hfunc: CUfunction, config: CUfunc_cache) -> Answer {
    current()?;
    kernel(hfunc.0)?;
    if config.0 > 3 { Err(CUDA_ERROR_INVALID_VALUE) } else { Ok(()) }
}

pub unsafe fn cuFuncGetModule(hmod: *mut CUmodule, hfunc: CUfunction) -> Answer {
    current()?;
    give(hmod, CUmodule(kernel(hfunc.0)?.module_handle))
}

/// The text lives as long as the module.
pub unsafe fn cuFuncGetName(name: *mut *const c_char, hfunc: CUfunction) -> Answer {
    current()?;
    give(name, kernel(hfunc.0)?.name.as_ptr())
}

pub unsafe fn cuFuncGetParamInfo(
    func: CUfunction,
    paramIndex: usize,
    paramOffset: *mut usize,
    paramSize: *mut usize,
) -> Answer {
    current()?;
    let kernel = kernel(func.0)?;
    let place = *kernel.function().params.get(paramIndex).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    give(paramOffset, place.offset as usize)?;
    give_optional(paramSize, place.size as usize);
    Ok(())
}

pub unsafe fn cuFuncGetParamCount(func: CUfunction, paramCount: *mut usize) -> Answer {
    current()?;
    give(paramCount, kernel(func.0)?.function().params.len())
}

pub unsafe fn cuFuncIsLoaded(state: *mut CUfunctionLoadingState, function: CUfunction) -> Answer {
    current()?;
    kernel(function.0)?;
    give(state, CUfunctionLoadingState(1))
}

pub unsafe fn cuFuncLoad(function: CUfunction) -> Answer {
    current()?;
    kernel(function.0).map(|_| ())
}

/// Widths that cuda.h knows; shared memory has no banks here, so none means anything.
const BANK_CONFIG_MAX: u32 = 2;

pub unsafe fn cuFuncSetSharedMemConfig(hfunc: CUfunction, config: CUsharedconfig) -> Answer {
    current()?;
    kernel(hfunc.0)?;
    if config.0 > BANK_CONFIG_MAX { Err(CUDA_ERROR_INVALID_VALUE) } else { Ok(()) }
}

/// Banks of four bytes, as every device since Maxwell has them.
pub unsafe fn cuCtxGetSharedMemConfig(pConfig: *mut CUsharedconfig) -> Answer {
    const FOUR_BYTES: CUsharedconfig = CUsharedconfig(1);
    current()?;
    give(pConfig, FOUR_BYTES)
}

/// A hint that devices with banks of one width do not follow.
pub unsafe fn cuCtxSetSharedMemConfig(config: CUsharedconfig) -> Answer {
    current()?;
    if config.0 > BANK_CONFIG_MAX { Err(CUDA_ERROR_INVALID_VALUE) } else { Ok(()) }
}
