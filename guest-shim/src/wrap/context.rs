//! Contexts and what ends with them.

use paravane_lookup::storage;
use paravane_protocol::cuda_types::*;

use crate::boundary::Answer;
use crate::remote::table;
use crate::state::{capture, current, devices, functions, globals, objects, stream};
use crate::{connection, handles};

/// Stays in the guest when nothing is outstanding and no posted call failed.
pub(crate) fn cuCtxSynchronize() -> Answer {
    current::context()?;
    let is_idle = !stream::context_is_busy() && !connection::get()?.has_deferred();
    if is_idle && !capture::is_any() {
        return connection::get()?.check();
    }
    stream::set_context(false);
    table::cuCtxSynchronize().inspect_err(|_| stream::set_context(true))
}

/// The context's streams have something to wait for afterwards.
pub(crate) fn cuCtxWaitEvent(ctx: CUcontext, event: CUevent) -> Answer {
    devices::of_context(ctx)?;
    table::cuCtxWaitEvent(ctx, event)
}

pub(crate) fn cuDevicePrimaryCtxRelease_v2(dev: CUdevice) -> Answer {
    let device = devices::device(dev)?;
    let is_last = device.retained() == 1;
    if is_last {
        storage::end_context(device.primary);
    }
    let released = table::cuDevicePrimaryCtxRelease_v2(dev);
    devices::primary_may_differ();
    released?;
    device.release();
    if is_last {
        objects::forget_context(device.primary);
    }
    Ok(())
}

pub(crate) fn cuDevicePrimaryCtxReset_v2(dev: CUdevice) -> Answer {
    let primary = devices::device(dev)?.primary;
    storage::end_context(primary);
    let reset = table::cuDevicePrimaryCtxReset_v2(dev);
    devices::primary_may_differ();
    reset?;
    objects::forget_context(primary);
    Ok(())
}

pub(crate) fn cuModuleUnload(module: CUmodule) -> Answer {
    globals::forget(module.0);
    table::cuModuleUnload(module)?;
    globals::end(module.0)?;
    for id in functions::forget_owner(module.0) {
        handles::release(CUfunction(id));
    }
    Ok(())
}

pub(crate) fn cuLibraryUnload(library: CUlibrary) -> Answer {
    globals::forget(library.0);
    table::cuLibraryUnload(library)?;
    globals::end(library.0)?;
    for id in functions::forget_owner(library.0) {
        handles::release(CUkernel(id));
        let of_kernel = objects::KERNEL_FUNCTION.remove_where(|key| key & !(0xffff << 48) == id);
        of_kernel.into_iter().for_each(|function| handles::release(CUfunction(function)));
    }
    let modules = objects::LIBRARY_MODULE.remove_where(|key| key & !(0xffff << 48) == library.0);
    for module in modules {
        globals::forget(module);
        globals::end(module)?;
        handles::release(CUmodule(module));
    }
    Ok(())
}
