//! Creating and ending contexts. The stack of current ones is the guest's, so
//! the host thread is told what it has current afterwards.

use paravane_lookup::storage;
use paravane_protocol::cuda_types::*;
use paravane_protocol::opcode;

use crate::boundary::Answer;
use crate::connection::with_ring;
use crate::state::{current, devices, objects, ranges, stream};
use crate::{handles, pointer};

/// The primary context's id is the same however often it is retained.
pub(crate) fn cuDevicePrimaryCtxRetain(pctx: *mut CUcontext, dev: CUdevice) -> Answer {
    let device = devices::device(dev)?;
    let primary = device.primary;
    if pctx.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let retained = with_ring(|ring| {
        // The context itself may be current already, and not be there.
        ring.call_anywhere(
            opcode::cuDevicePrimaryCtxRetain,
            |to| {
                to.word(dev.to_word());
                to.word(primary.0);
                Ok(())
            },
            |_| (),
        )
    });
    devices::primary_may_differ();
    retained?;
    device.retain();
    pointer::put(pctx, primary)
}

/// The new context is current on the calling thread.
pub(crate) fn cuCtxCreate_v2(pctx: *mut CUcontext, flags: u32, dev: CUdevice) -> Answer {
    devices::device(dev)?;
    if pctx.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let context: CUcontext = handles::mint()?;
    let created = with_ring(|ring| {
        ring.call(
            opcode::cuCtxCreate_v2,
            |to| {
                to.word(context.0);
                to.word(u64::from(flags));
                to.word(dev.to_word());
                Ok(())
            },
            |_| (),
        )?;
        ring.host_current_is(context.0);
        Ok(())
    });
    if let Err(error) = created {
        handles::release(context);
        return Err(error);
    }
    devices::remember_context(context, dev);
    current::push(context);
    stream::set_context(false);
    pointer::put(pctx, context)
}

/// Ends a context; if it is the calling thread's current one, the one below it
/// becomes current.
pub(crate) fn cuCtxDestroy_v2(ctx: CUcontext) -> Answer {
    devices::of_context(ctx)?;
    if objects::CONTEXT_GREEN.get(ctx.0).is_some() {
        return Err(CUDA_ERROR_INVALID_CONTEXT);
    }
    if devices::hello()?.devices.iter().any(|device| device.primary == ctx) {
        return Err(CUDA_ERROR_INVALID_CONTEXT);
    }
    storage::end_context(ctx);
    with_ring(|ring| {
        ring.call(
            opcode::cuCtxDestroy_v2,
            |to| {
                to.word(ctx.0);
                Ok(())
            },
            |_| (),
        )?;
        ring.host_current_is(0);
        Ok(())
    })?;
    devices::forget_context(ctx);
    objects::forget_context(ctx);
    ranges::forget_context(ctx.0);
    if current::number() == ctx.0 {
        current::pop()?;
    }
    handles::release(ctx);
    Ok(())
}
