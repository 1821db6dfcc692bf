//! Primary contexts: one for each device, counted by those who retain it.

use super::{Answer, device, give};
use crate::context::Context;
use crate::device::{DEVICES_MAX, Device};
use paravane_lookup::storage;
use paravane_protocol::cuda_types::{CUDA_ERROR_INVALID_CONTEXT, CUDA_ERROR_INVALID_VALUE, CUcontext, CUdevice};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Default)]
struct Primary {
    context: Option<Arc<Context>>,
    retained: u64,
    flags: u32,
}

static PRIMARIES: [Mutex<Primary>; DEVICES_MAX] =
    [const { Mutex::new(Primary { context: None, retained: 0, flags: 0 }) }; DEVICES_MAX];

fn primary(of: Device) -> MutexGuard<'static, Primary> {
    PRIMARIES[of.index()].lock().unwrap_or_else(PoisonError::into_inner)
}

/// The handle of a device's primary context, whether it is retained or not.
pub(super) fn handle(of: Device) -> CUcontext {
    CUcontext(primary(of).context(of).handle)
}

impl Primary {
    /// The context; one that nobody has retained yet is dead.
    fn context(&mut self, device: Device) -> Arc<Context> {
        let flags = self.flags;
        let make = || {
            let context = Context::create(device, flags, true);
            context.is_dead.store(true, Ordering::Relaxed);
            context
        };
        Arc::clone(self.context.get_or_insert_with(make))
    }
}

/// CU_CTX_* flags that exist.
pub(super) const FLAGS_MASK: u32 = 0xff;

pub unsafe fn cuDevicePrimaryCtxRetain(pctx: *mut CUcontext, dev: CUdevice) -> Answer {
    let of = device(dev)?;
    let mut primary = primary(of);
    let context = primary.context(of);
    give(pctx, CUcontext(context.handle))?;
    context.flags.store(primary.flags, Ordering::Relaxed);
    context.is_dead.store(false, Ordering::Relaxed);
    primary.retained += 1;
    Ok(())
}

pub unsafe fn cuDevicePrimaryCtxRelease_v2(dev: CUdevice) -> Answer {
    let of = device(dev)?;
    let ended = {
        let mut primary = primary(of);
        primary.retained = primary.retained.checked_sub(1).ok_or(CUDA_ERROR_INVALID_CONTEXT)?;
        primary.context.clone().filter(|_| primary.retained == 0)
    };
    // Destructors come back into this library, so nothing is locked here.
    if let Some(context) = ended {
        storage::end_context(CUcontext(context.handle));
        context.is_dead.store(true, Ordering::Relaxed);
        context.clear();
    }
    Ok(())
}

pub unsafe fn cuDevicePrimaryCtxReset_v2(dev: CUdevice) -> Answer {
    let context = primary(device(dev)?).context.clone();
    if let Some(context) = context {
        storage::end_context(CUcontext(context.handle));
        context.clear();
    }
    Ok(())
}

pub unsafe fn cuDevicePrimaryCtxSetFlags_v2(dev: CUdevice, flags: u32) -> Answer {
    let of = device(dev)?;
    if flags & !FLAGS_MASK != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let mut primary = primary(of);
    primary.flags = flags;
    if let Some(context) = &primary.context {
        context.flags.store(flags, Ordering::Relaxed);
    }
    Ok(())
}

pub unsafe fn cuDevicePrimaryCtxGetState(dev: CUdevice, flags: *mut u32, active: *mut i32) -> Answer {
    let primary = primary(device(dev)?);
    give(flags, primary.flags)?;
    give(active, i32::from(primary.retained > 0))
}
