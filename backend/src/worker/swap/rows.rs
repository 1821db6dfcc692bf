//! The rows that are another thing where memory moves: allocations, and what
//! would tell or take apart how they are made.

use paravane_protocol::codec::Decoder;
use paravane_protocol::cuda_types::*;
use paravane_protocol::opcode;

use super::pieces::Home;
use super::{Swap, device, release};
use crate::worker::dispatch::Command;
use crate::worker::libcuda::{Answer, cuda};
use crate::worker::process::Process;

/// More than any device has.
const ABSURD: u64 = 1 << 46;
/// Rows of a plane begin at multiples of this.
const PITCH: u64 = 512;

/// Runs a row in place of the table's; `None`: the table's is right here too.
pub(in crate::worker) fn run(opcode: u16, command: &mut Command) -> Option<Answer> {
    let process = command.thread.process();
    let swap = process.swap()?;
    let mut from = command.from.clone();
    match opcode {
        opcode::cuMemAlloc_v2 => linear(command, &process, swap),
        opcode::cuMemAllocPitch_v2 => plane(command, &process, swap),
        opcode::cuMemFree_v2 => free(command, &process, swap),
        // In a capture it is the library's to refuse.
        opcode::cuMemFreeAsync if !process.leases.captures() => free(command, &process, swap),
        opcode::cuMemGetAddressRange_v2 => range(command, swap),
        // Handles of mapped memory are another matter in CUDA, of which IPC has none.
        opcode::cuIpcGetMemHandle => refuse(command, swap, from.word(), 0, CUDA_ERROR_NOT_SUPPORTED),
        // Memory of cuMemAlloc's is not taken apart.
        opcode::cuMemUnmap | opcode::cuMemAddressFree | opcode::cuMemSetAccess => {
            let (address, bytes) = (from.word(), from.word());
            refuse(command, swap, address, bytes, CUDA_ERROR_INVALID_VALUE)
        }
        opcode::cuMemMap => {
            let (address, bytes) = (from.word(), from.word());
            refuse(command, swap, address, bytes, CUDA_ERROR_INVALID_VALUE)
        }
        opcode::cuMemRetainAllocationHandle => {
            let (_id, address) = (from.word(), from.word());
            refuse(command, swap, address, 0, CUDA_ERROR_INVALID_VALUE)
        }
        _ => None,
    }
}

fn refuse(command: &mut Command, swap: &Swap, address: u64, bytes: u64, error: CUresult) -> Option<Answer> {
    let is_ours = swap.table().overlaps(address..address.saturating_add(bytes));
    is_ours.then(|| {
        command.from = Decoder::new(&[]);
        Err(error)
    })
}

/// In: bytes. Reply: address.
fn linear(command: &mut Command, process: &Process, swap: &Swap) -> Option<Answer> {
    let bytes = command.from.clone().word();
    let made = allocate(command, process, swap, bytes).transpose()?;
    command.from = Decoder::new(&[]);
    Some(made.map(|at| command.to.word(at)))
}

/// In: width, height, bytes of an element. Reply: address, pitch.
fn plane(command: &mut Command, process: &Process, swap: &Swap) -> Option<Answer> {
    let mut from = command.from.clone();
    let (width, height, element) = (from.word(), from.word(), from.word());
    let pitch = width.checked_next_multiple_of(PITCH).unwrap_or(u64::MAX);
    let bytes = if matches!(element, 4 | 8 | 16) { pitch.saturating_mul(height) } else { 0 };
    let made = allocate(command, process, swap, bytes).transpose()?;
    command.from = Decoder::new(&[]);
    Some(made.map(|at| {
        command.to.word(at);
        command.to.word(pitch);
    }))
}

/// The current context, which must be one.
fn home(command: &Command, process: &Process) -> Answer<Home> {
    let (lib, id) = (&process.lib, command.thread.home());
    let (mut device, mut current) = (CUdevice(0), CUcontext(0));
    cuda!(lib.cuCtxGetDevice(&raw mut device))?;
    cuda!(lib.cuCtxGetCurrent(&raw mut current))?;
    if id == 0 || current.0 == 0 {
        return Err(CUDA_ERROR_INVALID_CONTEXT);
    }
    let number = process.leases.here(lib);
    Ok(Home { id, native: process.handles.resolve(CUcontext(id))?, device: device.0, number })
}

/// While something is captured the library says whether it may be, by an allocation of its own.
fn ask_in_capture(process: &Process) -> Answer {
    let (lib, mut at) = (&process.lib, CUdeviceptr(0));
    cuda!(lib.cuMemAlloc_v2(&raw mut at, 1))?;
    cuda!(lib.cuMemFree_v2(at))
}

/// Makes an allocation; `None`: it is more than may lie on the host, and is the library's own.
fn allocate(command: &Command, process: &Process, swap: &Swap, bytes: u64) -> Answer<Option<u64>> {
    let home = home(command, process)?;
    if process.leases.captures() {
        ask_in_capture(process)?;
    }
    if bytes == 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let small = swap.table().place_small(home, bytes);
    let start = match small {
        Some(start) => start,
        None => match begin(process, swap, home, bytes)? {
            Some(start) => start,
            None => return Ok(None),
        },
    };
    if swap.wait_for_memory(process, start) {
        return Ok(Some(start));
    }
    drop_allocation(process, swap, start);
    Err(CUDA_ERROR_OUT_OF_MEMORY)
}

/// A piece for an allocation, in which small ones find room later.
fn begin(process: &Process, swap: &Swap, home: Home, bytes: u64) -> Answer<Option<u64>> {
    let (lib, lease) = (&process.lib, process.leases.at(home.number));
    let granularity = device::granularity(lib, home.device)?;
    let whole = bytes.checked_next_multiple_of(granularity).filter(|whole| *whole <= ABSURD);
    let whole = whole.ok_or(CUDA_ERROR_OUT_OF_MEMORY)?;
    let mut total = 0;
    cuda!(lib.cuDeviceTotalMem_v2(&raw mut total, CUdevice(home.device)))?;
    let change = process.memory.change();
    process.memory.take_swappable(process, whole, home.number)?;
    let page = lease.gate.page();
    let is_claimed = lease.holdings.claim(whole);
    // What may lie on the host is of all devices together.
    let all = process.leases.all().map(|lease| lease.gate.page().held().swappable).fold(0, u64::saturating_add);
    let is_too_much = all > page.swap_bytes();
    if !is_claimed || is_too_much {
        if is_claimed {
            lease.holdings.give_up(whole, false);
        }
        process.memory.end_swappable(whole, home.number);
        return Ok(None);
    }
    let fits = page.held().claim <= page.ceiling().min(total as u64);
    let made = if fits { device::reserve(lib, whole) } else { Err(CUDA_ERROR_OUT_OF_MEMORY) };
    let start = made.inspect_err(|_| {
        lease.holdings.give_up(whole, false);
        process.memory.end_swappable(whole, home.number);
    })?;
    let mut table = swap.table();
    table.add(start, whole, home, bytes);
    swap.recount(&table);
    drop((table, change));
    swap.make_now(process, start);
    Ok(Some(start))
}

/// Ends an allocation; whether one began there.
fn drop_allocation(process: &Process, swap: &Swap, start: u64) -> bool {
    let mut table = swap.table();
    let Some(emptied) = table.free(start) else { return false };
    if let Some((start, piece)) = emptied {
        let change = process.memory.change();
        let gate = &process.leases.at(piece.home.number).gate;
        release(process, start, piece);
        swap.recount(&table);
        drop((table, change));
        if gate.page().allowed() != u64::MAX {
            // Somebody may wait for it.
            gate.kick();
        }
    }
    true
}

/// Waits for all work first, as CUDA does. In: address, and a stream that is known to be one, or nothing.
fn free(command: &mut Command, process: &Process, swap: &Swap) -> Option<Answer> {
    let mut from = command.from.clone();
    let (start, stream) = (from.word(), from.word());
    if !swap.table().overlaps(start..start) {
        return None;
    }
    command.from = Decoder::new(&[]);
    let asked = home(command, process).and_then(|_| process.handles.resolve(CUstream(stream)));
    Some(asked.and_then(|_| {
        if swap.table().piece_of(start).is_none() {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        if process.leases.captures() {
            ask_in_capture(process)?;
        } else {
            let lib = &process.lib;
            cuda!(lib.cuCtxSynchronize())?;
        }
        process.memory.after_wait(process);
        if drop_allocation(process, swap, start) { Ok(()) } else { Err(CUDA_ERROR_INVALID_VALUE) }
    }))
}

/// In: whether either result is wanted, address. Reply: where the allocation begins, its bytes.
fn range(command: &mut Command, swap: &Swap) -> Option<Answer> {
    let mut from = command.from.clone();
    let (_base, _size, address) = (from.word(), from.word(), from.word());
    let table = swap.table();
    if !table.overlaps(address..address) {
        return None;
    }
    let found = table.find(address).ok_or(CUDA_ERROR_NOT_FOUND);
    command.from = Decoder::new(&[]);
    Some(found.map(|(start, bytes)| {
        command.to.word(start);
        command.to.word(bytes);
    }))
}
