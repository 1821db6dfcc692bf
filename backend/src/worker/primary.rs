//! The rows of primary contexts. Such a context is a matter of the VM's
//! multiprocessors (`parts`: what stands for it), of its memory (`memory`: what it
//! takes, and what ends with it) and of what moves (`swap`).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use paravane_protocol::cuda_types::*;

use super::dispatch::Command;
use super::libcuda::{Answer, cuda};
use super::memory::{self, Run};
use super::swap::Swap;

/// The id of each device's primary context, since it was first retained.
#[derive(Default)]
pub(super) struct Primaries(Mutex<HashMap<i32, u64>>);

impl Primaries {
    fn ids(&self) -> MutexGuard<'_, HashMap<i32, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In: device, the id of its primary context. Where its memory does not fit in, it is released again.
pub(super) fn cuDevicePrimaryCtxRetain(command: &mut Command, run: Run) -> Answer {
    let mut from = command.from.clone();
    let (device, id) = (CUdevice::from_word(from.word()), from.word());
    let process = command.thread.process();
    process.primaries.ids().insert(device.0, id);
    memory::context_begins(command, run, (device, id), |_| {
        let lib = &process.lib;
        process.parts.released(lib, device);
        cuda!(lib.cuDevicePrimaryCtxRelease_v2(device)).map(|()| true)
    })
}

/// In: device. What was in the context ends with its last use.
pub(super) fn cuDevicePrimaryCtxRelease_v2(command: &mut Command, run: Run) -> Answer {
    release(command, run, |command, device| {
        let process = command.thread.process_ref();
        process.parts.released(&process.lib, device);
    })
}

/// In: device. What stands for the context goes before it.
pub(super) fn cuDevicePrimaryCtxReset_v2(command: &mut Command, run: Run) -> Answer {
    let process = command.thread.process_ref();
    process.parts.reset(&process.lib, CUdevice::from_word(command.from.clone().word()));
    release(command, run, |_, _| {})
}

fn release(command: &mut Command, run: Run, released: impl FnOnce(&mut Command, CUdevice)) -> Answer {
    let device = CUdevice::from_word(command.from.clone().word());
    let process = command.thread.process();
    let lib = &process.lib;
    let change = process.memory.change();
    let mut moved = process.swap().map(Swap::hold);
    run(command)?;
    released(command, device);
    let (mut flags, mut is_active) = (0, 0);
    cuda!(lib.cuDevicePrimaryCtxGetState(device, &raw mut flags, &raw mut is_active))?;
    let primary = process.primaries.ids().get(&device.0).copied();
    if is_active == 0 && let Some(primary) = primary {
        process.memory.end_context(primary);
        moved.iter_mut().for_each(|moved| moved.end_context(&process, primary));
    }
    drop((moved, change));
    process.memory.settle_cheaply(&process);
    Ok(())
}
