//! Contexts. The guest names a new one by an id that it chose.

use paravane_protocol::cuda_types::*;

use crate::worker::dispatch::Command;
use crate::worker::handles::Belongs;
use crate::worker::libcuda::{Answer, cuda};

/// In: device, the id of its primary context.
pub(in crate::worker) fn cuDevicePrimaryCtxRetain(command: &mut Command) -> Answer {
    let dev = CUdevice::from_word(command.from.word());
    let id = CUcontext(command.from.word());
    command.read_all()?;
    let process = command.thread.process();
    process.handles.check_new(id)?;
    let lib = &process.lib;
    let mut native = CUcontext(0);
    cuda!(lib.cuDevicePrimaryCtxRetain(&raw mut native, dev))?;
    let native = process.parts.retained(lib, dev, native)?;
    process.handles.insert(id, native, Belongs::default())
}

/// In: id, flags, device. The context is current on this thread afterwards.
pub(in crate::worker) fn cuCtxCreate_v2(command: &mut Command) -> Answer {
    let id = CUcontext(command.from.word());
    let flags = u32::from_word(command.from.word());
    let dev = CUdevice::from_word(command.from.word());
    command.read_all()?;
    let process = command.thread.process();
    process.handles.check_new(id)?;
    process.parts.refuse_whole()?;
    let lib = &process.lib;
    let mut native = CUcontext(0);
    cuda!(lib.cuCtxCreate_v2(&raw mut native, flags, dev))?;
    command.thread.context = id.0;
    process.handles.insert(id, native, Belongs::default())
}

/// In: id. No context is current on this thread afterwards.
pub(in crate::worker) fn cuCtxDestroy_v2(command: &mut Command) -> Answer {
    let id = CUcontext(command.from.word());
    command.read_all()?;
    let process = command.thread.process();
    let native = process.handles.resolve(id)?;
    let lib = &process.lib;
    cuda!(lib.cuCtxDestroy_v2(native))?;
    process.handles.forget_context(id.0);
    command.thread.context = 0;
    cuda!(lib.cuCtxSetCurrent(CUcontext(0)))
}
