//! The memory behind a mapping, under the guest's id.

use paravane_protocol::cuda_types::*;

use crate::worker::dispatch::Command;
use crate::worker::handles::Belongs;
use crate::worker::libcuda::{Answer, cuda};

/// In: id, address.
pub(in crate::worker) fn cuMemRetainAllocationHandle(command: &mut Command) -> Answer {
    let id = CUmemGenericAllocationHandle(command.from.word());
    let address = command.from.word();
    command.read_all()?;
    let process = command.thread.process_ref();
    process.handles.check_new(id)?;
    let lib = &process.lib;
    let mut native = CUmemGenericAllocationHandle(0);
    cuda!(lib.cuMemRetainAllocationHandle(&raw mut native, address as Pointer))?;
    process.handles.insert(id, native, Belongs::default())
}
