//! Pools: the default one under the guest's id, and stream-ordered frees.

use paravane_protocol::cuda_types::*;

use crate::worker::dispatch::Command;
use crate::worker::handles::Belongs;
use crate::worker::libcuda::{Answer, cuda};

/// In: device address, stream.
pub(in crate::worker) fn cuMemFreeAsync(command: &mut Command) -> Answer {
    let address = CUdeviceptr(command.from.word());
    let stream = CUstream(command.from.word());
    command.read_all()?;
    let process = command.thread.process_ref();
    let stream = process.handles.resolve(stream)?;
    let lib = &process.lib;
    cuda!(lib.cuMemFreeAsync(address, stream))
}

/// In: id, device.
pub(in crate::worker) fn cuDeviceGetDefaultMemPool(command: &mut Command) -> Answer {
    let id = CUmemoryPool(command.from.word());
    let device = CUdevice::from_word(command.from.word());
    command.read_all()?;
    let process = command.thread.process_ref();
    process.handles.check_new(id)?;
    let lib = &process.lib;
    let mut native = CUmemoryPool(0);
    cuda!(lib.cuDeviceGetDefaultMemPool(&raw mut native, device))?;
    process.handles.insert(id, native, Belongs::default())
}
