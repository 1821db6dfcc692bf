//! The primary context: one for the device, counted by those who retain it.

use super::{Answer, device, give};
use crate::context::Context;
use paravane_protocol::cuda_types::{CUDA_ERROR_INVALID_CONTEXT, CUDA_ERROR_INVALID_VALUE, CUcontext, CUdevice};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Default)]
struct Primary {
    context: Option<Arc<Context>>,
    retained: u64,
    flags: u32,
}

static PRIMARY: Mutex<Primary> = Mutex::new(Primary { context: None, retained: 0, flags: 0 });

/// CU_CTX_* flags that exist.
pub(super) const FLAGS_MASK: u32 = 0xff;

pub unsafe fn cuDevicePrimaryCtxRetain(pctx: *mut CUcontext, dev: CUdevice) -> Answer {
    device(dev)?;
    let mut primary = PRIMARY.lock().unwrap_or_else(PoisonError::into_inner);
    let flags = primary.flags;
    let context = Arc::clone(primary.context.get_or_insert_with(|| Context::create(flags, true)));
    give(pctx, CUcontext(context.handle))?;
    context.is_dead.store(false, Ordering::Relaxed);
    primary.retained += 1;
    Ok(())
}

pub unsafe fn cuDevicePrimaryCtxRelease_v2(dev: CUdevice) -> Answer {
    device(dev)?;
    let mut primary = PRIMARY.lock().unwrap_or_else(PoisonError::into_inner);
    if primary.retained == 0 {
        return Err(CUDA_ERROR_INVALID_CONTEXT);
    }
    primary.retained -= 1;
    if primary.retained == 0
        && let Some(context) = &primary.context
    {
        context.is_dead.store(true, Ordering::Relaxed);
        context.clear();
    }
    Ok(())
}

pub unsafe fn cuDevicePrimaryCtxReset_v2(dev: CUdevice) -> Answer {
    device(dev)?;
    let primary = PRIMARY.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(context) = &primary.context {
        context.clear();
    }
    Ok(())
}

pub unsafe fn cuDevicePrimaryCtxSetFlags_v2(dev: CUdevice, flags: u32) -> Answer {
    device(dev)?;
    if flags & !FLAGS_MASK != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let mut primary = PRIMARY.lock().unwrap_or_else(PoisonError::into_inner);
    primary.flags = flags;
    if let Some(context) = &primary.context {
        context.flags.store(flags, Ordering::Relaxed);
    }
    Ok(())
}

pub unsafe fn cuDevicePrimaryCtxGetState(dev: CUdevice, flags: *mut u32, active: *mut i32) -> Answer {
    device(dev)?;
    let primary = PRIMARY.lock().unwrap_or_else(PoisonError::into_inner);
    give(flags, primary.flags)?;
    give(active, i32::from(primary.retained > 0))
}
