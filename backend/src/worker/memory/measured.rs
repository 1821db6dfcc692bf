//! Rows whose memory only the library knows: contexts, modules and libraries with
//! their globals, what a context keeps for kernels, graphs. It is measured around
//! the call by the library's own figure (cpu-driver's, or what the host's NVML
//! says of this process), else by what the device has less; where it does not fit
//! into the budget the call is undone.

use paravane_protocol::codec::Decoder;
use paravane_protocol::cuda_types::*;
use zerocopy::FromBytes;

use super::{Charge, Key, Memory, figure, granules};
use crate::worker::dispatch::Command;
use crate::worker::libcuda::{Answer, cuda};
use crate::worker::memory::rows::Run;
use crate::worker::process::Process;

/// A reading before a call.
enum Before {
    /// The library's own figure, beside what is known.
    Own(Option<u64>),
    /// What anybody uses of the device.
    Device(Option<u64>),
}

impl Before {
    fn read(memory: &Memory, process: &Process) -> Self {
        if figure::own_bytes(process).is_some() {
            Self::Own(memory.untold(process, 1))
        } else {
            Self::Device(figure::device_used(process))
        }
    }

    /// What has come since. Where other calls were under way the library's figure
    /// is theirs too: nothing is said then, and settled later.
    fn growth(self, memory: &Memory, process: &Process) -> u64 {
        let (before, after) = match self {
            Self::Own(before) => (before, memory.untold(process, 1)),
            // There is no reading without a context.
            Self::Device(before) => (Some(before.unwrap_or(0)).filter(|_| before.is_some()), figure::device_used(process)),
        };
        before.zip(after).map_or(0, |(before, after)| after.saturating_sub(before))
    }
}

/// Runs a row and charges what has come to `id`; where that does not fit, `undo`
/// undoes the row if it can. Else the memory is charged beyond the quota, until the
/// program ends what the row has failed to use.
fn measure(
    command: &mut Command,
    run: Run,
    id: u64,
    of: u64,
    undo: impl FnOnce(&mut Command) -> Answer<bool>,
) -> Answer {
    measure_on(command, run, None, (id, of), undo)
}

/// The same on a device that need not be the current one's.
fn measure_on(
    command: &mut Command,
    run: Run,
    device: Option<CUdevice>,
    (id, of): (u64, u64),
    undo: impl FnOnce(&mut Command) -> Answer<bool>,
) -> Answer {
    let process = command.thread.process();
    let memory = &process.memory;
    let change = memory.change();
    let mut room = memory.room(&process, 0)?;
    let before = Before::read(memory, &process);
    run(command)?;
    if let Some(device) = device.filter(|_| process.leases.count() > 1) {
        room.device = process.leases.of_device(&process.lib, device);
    }
    let growth = before.growth(memory, &process);
    let fits = room.grow(growth);
    if fits.is_err() && undo(command)? {
        return fits;
    }
    if growth > 0 {
        // Together with what its object is charged with already.
        let earlier = memory.take(Key::Id(id)).unwrap_or_default();
        memory.ledger().uncount(earlier);
        room.bytes += earlier.bytes;
        let bytes = growth + earlier.bytes;
        room.keep(Key::Id(id), Charge { bytes, context: of, ..Charge::default() });
    }
    drop(change);
    memory.settle_cheaply(&process);
    fits
}

/// Libraries are loaded into a context at their first use.
fn first_use(command: &mut Command, run: Run, library: u64) -> Answer {
    let context = command.thread.home();
    measure(command, run, library, context, |_| Ok(false))
}

pub(in crate::worker) fn cuLibraryGetModule(command: &mut Command, run: Run) -> Answer {
    let mut from = command.from.clone();
    let (_id, library) = (from.word(), from.word());
    first_use(command, run, library)
}

pub(in crate::worker) fn cuLibraryGetGlobal(command: &mut Command, run: Run) -> Answer {
    let mut from = command.from.clone();
    let (_address, _bytes, library) = (from.word(), from.word(), from.word());
    first_use(command, run, library)
}

pub(in crate::worker) fn cuLibraryGetManaged(command: &mut Command, run: Run) -> Answer {
    cuLibraryGetGlobal(command, run)
}

pub(in crate::worker) fn cuKernelGetFunction(command: &mut Command, run: Run) -> Answer {
    let mut from = command.from.clone();
    let (_id, kernel) = (from.word(), from.word());
    let library = command.thread.process_ref().handles.parent(kernel);
    first_use(command, run, library)
}

/// Runs a row that makes a context of a device, or finds it there; `undo` as for [`measure`].
pub(in crate::worker) fn context_begins(
    command: &mut Command,
    run: Run,
    (device, id): (CUdevice, u64),
    undo: impl FnOnce(&mut Command) -> Answer<bool>,
) -> Answer {
    measure_on(command, run, Some(device), (id, id), undo)
}

pub(in crate::worker) fn cuCtxCreate_v2(command: &mut Command, run: Run) -> Answer {
    let mut from = command.from.clone();
    let (id, _flags, device) = (from.word(), from.word(), CUdevice::from_word(from.word()));
    context_begins(command, run, (device, id), |command| {
        let process = command.thread.process();
        let lib = &process.lib;
        let native = process.handles.resolve(CUcontext(id))?;
        process.handles.forget_context(id);
        command.thread.context = 0;
        cuda!(lib.cuCtxDestroy_v2(native))?;
        cuda!(lib.cuCtxSetCurrent(CUcontext(0))).map(|()| true)
    })
}

pub(in crate::worker) fn cuModuleLoadDataEx(command: &mut Command, run: Run) -> Answer {
    let id = command.from.clone().word();
    let context = command.thread.home();
    measure(command, run, id, context, |command| {
        let process = command.thread.process();
        let lib = &process.lib;
        let native = process.handles.resolve(CUmodule(id))?;
        process.handles.remove(CUmodule(id));
        cuda!(lib.cuModuleUnload(native)).map(|()| true)
    })
}

pub(in crate::worker) fn cuLibraryLoadData(command: &mut Command, run: Run) -> Answer {
    let id = command.from.clone().word();
    measure(command, run, id, 0, |command| {
        let process = command.thread.process();
        let lib = &process.lib;
        let native = process.handles.resolve(CUlibrary(id))?;
        process.handles.remove(CUlibrary(id));
        cuda!(lib.cuLibraryUnload(native)).map(|()| true)
    })
}

/// The heap of kernels and their output's buffer are charged when the limit is
/// set, because the library takes them at the next launch.
pub(in crate::worker) fn cuCtxSetLimit(command: &mut Command, run: Run) -> Answer {
    const OF_MEMORY: [CUlimit; 2] = [CUlimit(1), CUlimit(2)];
    let mut from = command.from.clone();
    let (limit, wanted) = (CUlimit(u32::from_word(from.word())), from.word());
    let process = command.thread.process();
    let lib = &process.lib;
    let mut now = 0_usize;
    let told = cuda!(lib.cuCtxGetLimit(&raw mut now, limit));
    if !OF_MEMORY.contains(&limit) || told.is_err() {
        run(command)?;
        return settled(command);
    }
    let memory = &process.memory;
    let _change = memory.change();
    let context = command.thread.home();
    let key = Key::Limit(context, limit.0);
    let mut room = memory.room(&process, granules(&process, wanted.saturating_sub(now as u64)))?;
    run(command)?;
    let mut after = 0_usize;
    cuda!(lib.cuCtxGetLimit(&raw mut after, limit))?;
    let earlier = memory.take(key).unwrap_or_default();
    memory.ledger().uncount(earlier);
    let earlier = earlier.bytes;
    let less = (now as u64).saturating_sub(after as u64);
    room.bytes += earlier;
    let bytes = granules(&process, (earlier + after.saturating_sub(now) as u64).saturating_sub(less));
    room.keep(key, Charge { bytes, context, ..Charge::default() });
    Ok(())
}

/// The library may have more or less behind a call.
pub(super) fn settled(command: &Command) -> Answer {
    let process = command.thread.process_ref();
    process.memory.settle_cheaply(process);
    Ok(())
}

macro_rules! settled_rows {
    ($($name:ident)*) => {
        $(pub(in crate::worker) fn $name(command: &mut Command, run: Run) -> Answer {
            run(command)?;
            settled(command)
        })*
    };
}
settled_rows! {
    cuModuleGetFunction cuFuncLoad
    cuGraphDestroy cuGraphDestroyNode cuGraphExecDestroy
    cuGraphInstantiateWithFlags cuGraphInstantiateWithParams cuDeviceGraphMemTrim
}

/// What a node that joins a graph allocates.
fn allocated(mut from: Decoder) -> u64 {
    let (_graph, _before, _edges, params) = (from.word(), from.bytes(), from.bytes(), from.bytes());
    match CUgraphNodeParams::read_from_bytes(params) {
        Ok(params) if params.kind == CU_GRAPH_NODE_TYPE_MEM_ALLOC => {
            params.get::<CUDA_MEM_ALLOC_NODE_PARAMS>().bytesize
        }
        _ => 0,
    }
}

/// A node joins a graph: what it allocates must fit in, and is the library's own
/// from then on or from the graph's first launch on.
pub(in crate::worker) fn graph_node(command: &mut Command, run: Run) -> Answer {
    let process = command.thread.process();
    let bytes = allocated(command.from.clone());
    if bytes == 0 {
        return run(command);
    }
    let memory = &process.memory;
    let change = memory.change();
    let room = memory.room(&process, granules(&process, bytes))?;
    run(command)?;
    memory.keep_as_other(&process, room);
    drop(change);
    settled(command)
}

/// An area becomes host memory that the device reaches.
pub(in crate::worker) fn host_add(command: &mut Command, run: Run) -> Answer {
    use paravane_protocol::internal::HOST_ADD_VARIABLE;
    let mut from = command.from.clone();
    let (area, _address, bytes, flags) = (from.word(), from.word(), from.word(), from.word());
    if flags & HOST_ADD_VARIABLE != 0 {
        // Its module is charged.
        return run(command);
    }
    let process = command.thread.process();
    let bytes = bytes.checked_next_multiple_of(4096).unwrap_or(u64::MAX);
    let room = process.memory.room(&process, bytes)?;
    run(command)?;
    if let Ok(area) = u16::try_from(area) {
        room.keep(Key::Area(area), Charge { bytes, is_pinned: true, ..Charge::default() });
    }
    Ok(())
}

/// Host memory ends.
pub(in crate::worker) fn host_remove(command: &mut Command, run: Run) -> Answer {
    let area = command.from.clone().word();
    run(command)?;
    let process = command.thread.process_ref();
    process.memory.end_area(u16::try_from(area).unwrap_or(0));
    Ok(())
}

impl Memory {
    /// An area is host memory no more.
    pub(in crate::worker) fn end_area(&self, area: u16) {
        let charge = self.take(Key::Area(area));
        // The call has succeeded.
        let _ = self.took(Key::Area(area), charge, Ok(()));
    }

    /// What a call took is the library's own from now on, where the library tells
    /// how much it has.
    pub(super) fn keep_as_other(&self, process: &Process, room: super::Room<'_>) {
        if figure::own_bytes(process).is_some() {
            room.keep_as_other();
        }
    }
}
