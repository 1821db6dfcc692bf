//! Contexts and the stack of current ones.

use super::primary::FLAGS_MASK;
use super::{Answer, current, device, give, give_optional, initialised};
use crate::capture;
use crate::context::{self, CONTEXTS, Context};
use paravane_lookup::storage;
use paravane_protocol::cuda_types::{
    CUDA_ERROR_INVALID_CONTEXT, CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_NOT_SUPPORTED, CUDA_ERROR_UNSUPPORTED_LIMIT,
    CUcontext, CUdevice, CUfunc_cache, CUlimit,
};
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const LIMIT_CIG_ENABLED: CUlimit = CUlimit(8);
const LIMIT_CIG_SHMEM_FALLBACK_ENABLED: CUlimit = CUlimit(9);
const LIMIT_STACK_SIZE: CUlimit = CUlimit(0);
const LIMIT_PRINTF_FIFO_SIZE: CUlimit = CUlimit(1);
const LIMIT_MALLOC_HEAP_SIZE: CUlimit = CUlimit(2);
const API_VERSION: u32 = 3020;

/// The context that a handle names, failed or not.
fn named(ctx: CUcontext) -> Answer<Arc<Context>> {
    initialised()?;
    CONTEXTS.get(ctx.0).ok_or(CUDA_ERROR_INVALID_CONTEXT)
}

/// The context that a handle names, or the current one for NULL.
pub(super) fn named_or_current(ctx: CUcontext) -> Answer<Arc<Context>> {
    if ctx.0 == 0 { current() } else { named(ctx) }
}

pub unsafe fn cuCtxCreate_v2(pctx: *mut CUcontext, flags: u32, dev: CUdevice) -> Answer {
    let of = device(dev)?;
    if flags & !FLAGS_MASK != 0 || pctx.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let context = Context::create(of, flags, false);
    give(pctx, CUcontext(context.handle))?;
    context::push(context);
    Ok(())
}

pub unsafe fn cuCtxCreate_v4(pctx: *mut CUcontext, ctxCreateParams: *mut c_void, flags: u32, dev: CUdevice) -> Answer {
    // Parameters ask for execution affinity or graphics interoperation, neither of which is here.
    if !ctxCreateParams.is_null() {
        return Err(CUDA_ERROR_NOT_SUPPORTED);
    }
    // SAFETY: the same contract.
    unsafe { cuCtxCreate_v2(pctx, flags, dev) }
}

pub unsafe fn cuCtxDestroy_v2(ctx: CUcontext) -> Answer {
    let context = named(ctx)?;
    if context.is_primary || context.green.is_some() {
        return Err(CUDA_ERROR_INVALID_CONTEXT);
    }
    storage::end_context(ctx);
    context.clear();
    context.is_dead.store(true, Ordering::Relaxed);
    CONTEXTS.remove(ctx.0);
    if context::current().is_some_and(|top| top.handle == ctx.0) {
        context::pop();
    }
    Ok(())
}

pub unsafe fn cuCtxPushCurrent_v2(ctx: CUcontext) -> Answer {
    context::push(named(ctx)?);
    Ok(())
}

pub unsafe fn cuCtxPopCurrent_v2(pctx: *mut CUcontext) -> Answer {
    initialised()?;
    let context = context::pop().ok_or(CUDA_ERROR_INVALID_CONTEXT)?;
    give_optional(pctx, CUcontext(context.handle));
    Ok(())
}

pub unsafe fn cuCtxSetCurrent(ctx: CUcontext) -> Answer {
    context::set_current(if ctx.0 == 0 { None } else { Some(named(ctx)?) });
    Ok(())
}

pub unsafe fn cuCtxGetCurrent(pctx: *mut CUcontext) -> Answer {
    initialised()?;
    give(pctx, CUcontext(context::current().map_or(0, |context| context.handle)))
}

pub unsafe fn cuCtxGetDevice(device: *mut CUdevice) -> Answer {
    initialised()?;
    give(device, context::current().ok_or(CUDA_ERROR_INVALID_CONTEXT)?.device.cuda())
}

pub unsafe fn cuCtxGetDevice_v2(device: *mut CUdevice, ctx: CUcontext) -> Answer {
    give(device, named_or_current(ctx)?.device.cuda())
}

pub unsafe fn cuCtxGetFlags(flags: *mut u32) -> Answer {
    give(flags, current()?.flags.load(Ordering::Relaxed))
}

pub unsafe fn cuCtxSetFlags(flags: u32) -> Answer {
    if flags & !FLAGS_MASK != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    current()?.flags.store(flags, Ordering::Relaxed);
    Ok(())
}

pub unsafe fn cuCtxGetId(ctx: CUcontext, ctxId: *mut u64) -> Answer {
    give(ctxId, named_or_current(ctx)?.id)
}

pub unsafe fn cuCtxSynchronize() -> Answer {
    let context = current()?;
    capture::refuse_unsafe()?;
    capture::refuse_context(&context)?;
    context.synchronize();
    context.failure().map_or(Ok(()), Err)
}

pub unsafe fn cuCtxSynchronize_v2(ctx: CUcontext) -> Answer {
    let context = named_or_current(ctx)?;
    capture::refuse_unsafe()?;
    capture::refuse_context(&context)?;
    context.synchronize();
    context.failure().map_or(Ok(()), Err)
}

fn limit_of(context: &Context, limit: CUlimit) -> Answer<&AtomicUsize> {
    match limit {
        LIMIT_STACK_SIZE => Ok(&context.stack_limit),
        LIMIT_PRINTF_FIFO_SIZE => Ok(&context.printf_limit),
        LIMIT_MALLOC_HEAP_SIZE => Ok(&context.heap_limit),
        _ => Err(CUDA_ERROR_UNSUPPORTED_LIMIT),
    }
}

pub unsafe fn cuCtxSetLimit(limit: CUlimit, value: usize) -> Answer {
    limit_of(current()?.home(), limit)?.store(value, Ordering::Relaxed);
    Ok(())
}

pub unsafe fn cuCtxGetLimit(pvalue: *mut usize, limit: CUlimit) -> Answer {
    if matches!(limit, LIMIT_CIG_ENABLED | LIMIT_CIG_SHMEM_FALLBACK_ENABLED) {
        // No context shares its device with graphics. cuBLAS takes an error here for the contrary.
        current()?;
        return give(pvalue, 0);
    }
    give(pvalue, limit_of(current()?.home(), limit)?.load(Ordering::Relaxed))
}

pub unsafe fn cuCtxGetCacheConfig(pconfig: *mut CUfunc_cache) -> Answer {
    give(pconfig, CUfunc_cache(current()?.cache_config.load(Ordering::Relaxed)))
}

pub unsafe fn cuCtxSetCacheConfig(config: CUfunc_cache) -> Answer {
    if config.0 > 3 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    current()?.cache_config.store(config.0, Ordering::Relaxed);
    Ok(())
}

pub unsafe fn cuCtxGetApiVersion(ctx: CUcontext, version: *mut u32) -> Answer {
    named_or_current(ctx)?;
    give(version, API_VERSION)
}

pub unsafe fn cuCtxGetStreamPriorityRange(leastPriority: *mut i32, greatestPriority: *mut i32) -> Answer {
    current()?;
    give_optional(leastPriority, 0);
    give_optional(greatestPriority, super::stream::GREATEST_PRIORITY);
    Ok(())
}
