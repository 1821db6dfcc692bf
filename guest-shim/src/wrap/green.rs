//! Green contexts. Each holds its device's primary context, as the guest knows it too.

use paravane_protocol::cuda_types::*;

use crate::boundary::Answer;
use crate::remote::table;
use crate::state::{current, devices, objects, ranges, stream};
use crate::{custom, handles, pointer, wrap};

/// The device of a green context.
static DEVICE: objects::Relation = objects::Relation::new();

pub(crate) fn cuGreenCtxCreate(into: *mut CUgreenCtx, desc: CUdevResourceDesc, dev: CUdevice, flags: u32) -> Answer {
    let mut primary = CUcontext(0);
    custom::cuDevicePrimaryCtxRetain(&raw mut primary, dev)?;
    let made = table::cuGreenCtxCreate(into, desc, dev, flags);
    if made.is_err() {
        wrap::cuDevicePrimaryCtxRelease_v2(dev)?;
        return made;
    }
    stream::contexts_share_work();
    DEVICE.insert(pointer::get(into)?.0, dev.to_word());
    Ok(())
}

/// The green context's streams stay, detached.
pub(crate) fn cuGreenCtxDestroy(green: CUgreenCtx) -> Answer {
    device_of(green)?;
    let context = objects::GREEN_CONTEXT.get(green.0).map(CUcontext);
    if let Some(context) = context {
        paravane_lookup::storage::end_context(context);
    }
    table::cuGreenCtxDestroy(green)?;
    if let Some(context) = context {
        objects::GREEN_CONTEXT.remove(green.0);
        objects::CONTEXT_GREEN.remove(context.0);
        devices::forget_context(context);
        objects::forget_context(context);
        ranges::forget_context(context.0);
        if current::number() == context.0 {
            current::pop()?;
        }
        handles::release(context);
    }
    let dev = DEVICE.remove(green.0).map(CUdevice::from_word).ok_or(CUDA_ERROR_INVALID_CONTEXT)?;
    wrap::cuDevicePrimaryCtxRelease_v2(dev)
}

/// The device of a green context; CUDA_ERROR_INVALID_CONTEXT for none.
pub(crate) fn device_of(green: CUgreenCtx) -> Answer<CUdevice> {
    DEVICE.get(green.0).map(CUdevice::from_word).ok_or(CUDA_ERROR_INVALID_CONTEXT)
}

pub(crate) fn cuGreenCtxStreamCreate(into: *mut CUstream, green: CUgreenCtx, flags: u32, priority: i32) -> Answer {
    let mut context = CUcontext(0);
    custom::cuCtxFromGreenCtx(&raw mut context, green)?;
    table::cuGreenCtxStreamCreate(into, green, flags, priority)?;
    let id = pointer::get(into)?;
    stream::set_stream(id, false);
    objects::STREAM_CONTEXT.insert(id.0, context.0);
    Ok(())
}
