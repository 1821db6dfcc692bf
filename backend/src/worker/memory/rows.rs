//! Rows that take or free memory of a size that is known before the library is
//! called. Each gets the row's own function (`run`), and reads beside it what
//! its frame asks for and its reply tells.

use paravane_protocol::codec::Decoder;
use paravane_protocol::cuda_types::*;
use zerocopy::FromBytes;

use super::physical::Out;
use super::{Charge, Key, Memory, granules};
use crate::worker::dispatch::Command;
use crate::worker::libcuda::Answer;
use crate::worker::swap::Swap;

pub(super) use super::pool::freed;
pub(in crate::worker) use super::pool::{
    cuMemAllocAsync, cuMemAllocFromPoolAsync, cuMemPoolDestroy, cuMemPoolSetAttribute, cuMemPoolTrimTo,
};

/// A row's function, as the table or a file in `custom` has it.
pub(in crate::worker) type Run = fn(&mut Command) -> Answer;

/// Hands the rows that pass through this account to `$callback`. A row of the
/// table that allocates or frees must be here; a test looks for what is not.
macro_rules! charged_rows {
    ($callback:ident $($prefix:tt)*) => {
        $callback! { $($prefix)*
            cuMemAlloc_v2 cuMemAllocPitch_v2 cuMemFree_v2
            cuMemAllocAsync cuMemAllocFromPoolAsync cuMemFreeAsync
            cuMemPoolTrimTo cuMemPoolSetAttribute cuMemPoolDestroy
            cuMemCreate cuMemRelease cuMemMap cuMemUnmap cuMemRetainAllocationHandle cuMemImportFromShareableHandle
            cuMemExportToShareableHandle
            cuArrayCreate_v2 cuArray3DCreate_v2 cuArrayDestroy cuMipmappedArrayCreate cuMipmappedArrayDestroy
            cuDevicePrimaryCtxRetain cuDevicePrimaryCtxRelease_v2 cuDevicePrimaryCtxReset_v2
            cuCtxCreate_v2 cuCtxDestroy_v2 cuCtxSetLimit
            cuModuleLoadDataEx cuModuleUnload cuLibraryLoadData cuLibraryUnload
            cuModuleGetFunction cuLibraryGetModule cuLibraryGetGlobal cuLibraryGetManaged cuKernelGetFunction cuFuncLoad
            cuGraphDestroy cuGraphDestroyNode cuGraphExecDestroy
            cuGraphInstantiateWithFlags cuGraphInstantiateWithParams cuDeviceGraphMemTrim
        }
    };
}
pub(in crate::worker) use charged_rows;

/// A word of the reply so far.
pub(super) fn replied(command: &Command, word: usize) -> u64 {
    let bytes = command.to.written().get(word * 8..).and_then(|rest| rest.first_chunk());
    bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Takes room, runs the row, and charges what `charged` makes of it.
fn allocate(
    command: &mut Command,
    run: Run,
    bytes: u64,
    charged: impl FnOnce(&Command, u64) -> (Key, Charge),
) -> Answer {
    let process = command.thread.process();
    let _change = process.memory.change();
    let bytes = granules(&process, bytes);
    let room = process.memory.room(&process, bytes)?;
    run(command)?;
    let (key, charge) = charged(command, bytes);
    room.keep(key, charge);
    Ok(())
}

/// Runs a row that ends what is charged to `key`.
fn end(command: &mut Command, run: Run, key: Key) -> Answer {
    let process = command.thread.process();
    let _change = process.memory.change();
    let charge = process.memory.take(key);
    let answer = run(command);
    if answer.is_ok() {
        freed(&process.memory, charge);
    }
    process.memory.took(key, charge, answer)
}

pub(in crate::worker) fn cuMemAlloc_v2(command: &mut Command, run: Run) -> Answer {
    let bytes = command.from.clone().word();
    let context = command.thread.home();
    allocate(command, run, bytes, |command, bytes| {
        (Key::Address(replied(command, 0)), Charge { bytes, context, ..Charge::default() })
    })
}

pub(in crate::worker) fn cuMemAllocPitch_v2(command: &mut Command, run: Run) -> Answer {
    const PITCH: u64 = 512;
    let mut from = command.from.clone();
    let (width, height) = (from.word(), from.word());
    let pitch = width.checked_next_multiple_of(PITCH).unwrap_or(u64::MAX);
    let context = command.thread.home();
    let process = command.thread.process();
    allocate(command, run, pitch.saturating_mul(height), |command, _| {
        let bytes = granules(&process, replied(command, 1).saturating_mul(height));
        (Key::Address(replied(command, 0)), Charge { bytes, context, ..Charge::default() })
    })
}

pub(in crate::worker) fn cuMemFree_v2(command: &mut Command, run: Run) -> Answer {
    let key = Key::Address(command.from.clone().word());
    end(command, run, key)?;
    let process = command.thread.process();
    process.memory.after_wait(&process);
    Ok(())
}

pub(in crate::worker) fn cuMemFreeAsync(command: &mut Command, run: Run) -> Answer {
    let key = Key::Address(command.from.clone().word());
    end(command, run, key)
}

pub(in crate::worker) fn cuMemCreate(command: &mut Command, run: Run) -> Answer {
    let mut from = command.from.clone();
    let (id, bytes, properties) = (from.word(), from.word(), from.bytes());
    let properties = CUmemAllocationProp::read_from_prefix(properties);
    let location = properties.ok().map(|(prop, _)| prop.location);
    let is_pinned = location.is_some_and(|location| location.kind != CU_MEM_LOCATION_TYPE_DEVICE);
    let process = command.thread.process();
    let memory = &process.memory;
    let _change = memory.change();
    let mut room = memory.room(&process, bytes)?;
    run(command)?;
    let of = location.filter(|_| !is_pinned && process.leases.count() > 1);
    let device = of.map_or(0, |location| process.leases.of_device(&process.lib, CUdevice(location.id)));
    let mut ledger = memory.ledger();
    let charge = Charge { bytes, is_pinned, device, ..Charge::default() };
    ledger.physical.add(id, charge);
    ledger.count(charge);
    ledger.show();
    room.bytes = 0;
    Ok(())
}

pub(in crate::worker) fn cuMemImportFromShareableHandle(command: &mut Command, run: Run) -> Answer {
    let id = command.from.clone().word();
    run(command)?;
    // Charged where it was made.
    command.thread.process_ref().memory.ledger().physical.add(id, Charge::default());
    Ok(())
}

/// The backend has a descriptor of it from now on, until this process ends.
pub(in crate::worker) fn cuMemExportToShareableHandle(command: &mut Command, run: Run) -> Answer {
    let id = command.from.clone().word();
    run(command)?;
    command.thread.process_ref().memory.ledger().physical.keep(id);
    Ok(())
}

pub(in crate::worker) fn cuMemRetainAllocationHandle(command: &mut Command, run: Run) -> Answer {
    let mut from = command.from.clone();
    let (id, address) = (from.word(), from.word());
    run(command)?;
    command.thread.process_ref().memory.ledger().physical.retain(id, address);
    Ok(())
}

pub(in crate::worker) fn cuMemMap(command: &mut Command, run: Run) -> Answer {
    let mut from = command.from.clone();
    let (address, bytes, _offset, handle) = (from.word(), from.word(), from.word(), from.word());
    run(command)?;
    command.thread.process_ref().memory.ledger().physical.map(address, bytes, handle);
    Ok(())
}

impl Memory {
    /// Runs a row that ends a use of physical memory.
    fn end_physical(&self, command: &mut Command, run: Run, out: Option<Out>) -> Answer {
        let _change = self.change();
        let answer = run(command);
        let Some(out) = out else { return answer };
        let mut ledger = self.ledger();
        if answer.is_err() {
            ledger.physical.put_back(out);
            return answer;
        }
        for charge in ledger.physical.end(out) {
            ledger.end(charge);
        }
        answer
    }
}

pub(in crate::worker) fn cuMemRelease(command: &mut Command, run: Run) -> Answer {
    let id = command.from.clone().word();
    let process = command.thread.process();
    let out = process.memory.ledger().physical.take_handle(id);
    process.memory.end_physical(command, run, out)
}

pub(in crate::worker) fn cuMemUnmap(command: &mut Command, run: Run) -> Answer {
    let mut from = command.from.clone();
    let (address, bytes) = (from.word(), from.word());
    let process = command.thread.process();
    let out = process.memory.ledger().physical.take_mappings(address, bytes);
    process.memory.end_physical(command, run, out)
}

/// Bytes of one element of an array; a guess of the largest for formats that are
/// newer than this table.
fn element_bytes(format: CUarray_format, channels: u32) -> u64 {
    let channel = match format.0 {
        0x01 | 0x08 => 1,
        0x02 | 0x09 | 0x10 => 2,
        0x03 | 0x0a | 0x20 => 4,
        0xc0 | 0xc6 => return 1,
        0xc1 | 0xc3 | 0xc7 | 0xc9 => return 2,
        0xc2 | 0xc4 | 0xc8 | 0xca => return 4,
        0xc5 | 0xcb => return 8,
        _ => return 16,
    };
    channel * u64::from(channels)
}

/// Bytes of an array: its rows padded as the CPU device pads them.
fn array_bytes(of: &CUDA_ARRAY3D_DESCRIPTOR) -> u64 {
    let row = of.Width.saturating_mul(element_bytes(of.Format, of.NumChannels));
    let row = row.checked_next_multiple_of(16).unwrap_or(u64::MAX);
    row.saturating_mul(of.Height.max(1)).saturating_mul(of.Depth.max(1))
}

/// An array's charge, on its id.
fn array(command: &mut Command, run: Run, bytes: impl FnOnce(&mut Decoder) -> u64) -> Answer {
    let mut from = command.from.clone();
    let id = from.word();
    let bytes = bytes(&mut from);
    let context = command.thread.home();
    allocate(command, run, bytes, |_, bytes| (Key::Id(id), Charge { bytes, context, ..Charge::default() }))
}

fn volume(from: &mut Decoder) -> Option<CUDA_ARRAY3D_DESCRIPTOR> {
    CUDA_ARRAY3D_DESCRIPTOR::read_from_bytes(from.bytes()).ok()
}

pub(in crate::worker) fn cuArrayCreate_v2(command: &mut Command, run: Run) -> Answer {
    array(command, run, |from| {
        let flat = CUDA_ARRAY_DESCRIPTOR::read_from_bytes(from.bytes());
        flat.map_or(0, |flat| array_bytes(&CUDA_ARRAY3D_DESCRIPTOR::flat(&flat)))
    })
}

pub(in crate::worker) fn cuArray3DCreate_v2(command: &mut Command, run: Run) -> Answer {
    array(command, run, |from| volume(from).map_or(0, |of| array_bytes(&of)))
}

pub(in crate::worker) fn cuMipmappedArrayCreate(command: &mut Command, run: Run) -> Answer {
    array(command, run, |from| {
        let of = volume(from);
        let levels = u32::from_word(from.word()).min(32);
        let level = |of: &CUDA_ARRAY3D_DESCRIPTOR, level: u32| {
            let half = |extent: u64| if extent == 0 { 0 } else { (extent >> level).max(1) };
            let depth = if of.Flags & CUDA_ARRAY3D_LAYERED == 0 { half(of.Depth) } else { of.Depth };
            array_bytes(&CUDA_ARRAY3D_DESCRIPTOR { Width: half(of.Width), Height: half(of.Height), Depth: depth, ..*of })
        };
        of.map_or(0, |of| (0..levels.max(1)).map(|at| level(&of, at)).fold(0, u64::saturating_add))
    })
}

pub(in crate::worker) fn cuArrayDestroy(command: &mut Command, run: Run) -> Answer {
    let key = Key::Id(command.from.clone().word());
    end(command, run, key)
}

pub(in crate::worker) fn cuMipmappedArrayDestroy(command: &mut Command, run: Run) -> Answer {
    cuArrayDestroy(command, run)
}

pub(in crate::worker) fn cuModuleUnload(command: &mut Command, run: Run) -> Answer {
    cuArrayDestroy(command, run)
}

pub(in crate::worker) fn cuLibraryUnload(command: &mut Command, run: Run) -> Answer {
    cuArrayDestroy(command, run)?;
    super::settled(command)
}

impl Memory {
    /// A context has ended with all that was allocated in it.
    pub(in crate::worker) fn end_context(&self, context: u64) {
        let of_context = |key: &Key, charge: &Charge| {
            charge.context == context || *key == Key::Id(context) || matches!(key, Key::Limit(of, _) if *of == context)
        };
        self.ledger().end_all(of_context);
    }
}

pub(in crate::worker) fn cuCtxDestroy_v2(command: &mut Command, run: Run) -> Answer {
    let process = command.thread.process();
    let _change = process.memory.change();
    let id = command.from.clone().word();
    let mut moved = process.swap().map(Swap::hold);
    run(command)?;
    process.memory.end_context(id);
    moved.iter_mut().for_each(|moved| moved.end_context(&process, id));
    Ok(())
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
