//! Host memory that the device can reach: pages shared with the worker and
//! registered with its libcuda, either fresh (cuMemHostAlloc) or laid in place
//! of the program's own (cuMemHostRegister). A copy names them by area and
//! offset; no byte of theirs goes through a ring.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use paravane_protocol::cuda_types::*;
use paravane_protocol::internal;

use crate::boundary::Answer;
use crate::connection::{self, Area, with_ring};
use crate::memory::{self, Over};
use crate::state::{current, ranges};

const PAGE: usize = 4096;

/// How host memory came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Allocated,
    Registered,
    /// Allocated as managed memory.
    Managed,
    /// A module's managed variable.
    Variable,
}

/// One piece of host memory.
#[derive(Clone, Copy, Debug)]
struct HostMemory {
    /// Bytes that the program asked for.
    bytes: usize,
    area: Area,
    /// Offset of the first byte in the area.
    offset: usize,
    /// Where the device sees the first byte.
    device: u64,
    flags: u32,
    sort: Sort,
    /// The program has not asked for it.
    unasked: bool,
    /// The context in which it was made.
    context: u64,
    /// A number that no other memory of the process ever has.
    buffer: u64,
    sync_memops: bool,
}

impl HostMemory {
    fn new(bytes: usize, area: Area, offset: usize, device: u64, flags: u32, sort: Sort) -> Self {
        let (context, buffer) = (current::number(), ranges::next_buffer());
        let (unasked, sync_memops) = (false, false);
        Self { bytes, area, offset, device, flags, sort, unasked, context, buffer, sync_memops }
    }

    fn is_managed(&self) -> bool {
        matches!(self.sort, Sort::Managed | Sort::Variable)
    }
}

/// By the address that the program knows.
static HOST: RwLock<BTreeMap<usize, HostMemory>> = RwLock::new(BTreeMap::new());

/// Allocates host memory; flags as cuMemHostAlloc's.
pub(crate) fn allocate(bytes: usize, flags: u32) -> Answer<usize> {
    allocate_with(bytes, flags, 0)
}

/// Host memory that the program has not asked for: captures do not mind.
pub(crate) fn allocate_unasked(bytes: usize) -> Answer<usize> {
    allocate_with(bytes, 0, internal::HOST_ADD_UNASKED)
}

fn allocate_with(bytes: usize, flags: u32, also: u64) -> Answer<usize> {
    if bytes == 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let area = connection::get()?.create_area(bytes)?;
    let address = area.pages.at(0, 0) as usize;
    let device = match add(area, address, u64::from(flags) | also) {
        Ok(device) => device,
        Err(error) => {
            connection::get()?.free_area(area)?;
            return Err(error);
        }
    };
    insert(address, HostMemory { unasked: also != 0, ..HostMemory::new(bytes, area, 0, device, flags, Sort::Allocated) });
    Ok(address)
}

/// Allocates memory that has one address for the program and the device. Where
/// the worker cannot map it at the program's address, or the device sees it at
/// another one, there is none: CUDA_ERROR_NOT_SUPPORTED.
pub(crate) fn allocate_managed(bytes: usize) -> Answer<usize> {
    let address = allocate(bytes, 0)?;
    let mut host = HOST.write().unwrap_or_else(PoisonError::into_inner);
    if let Some(memory) = host.get_mut(&address)
        && memory.device == address as u64
    {
        memory.sort = Sort::Managed;
        return Ok(address);
    }
    drop(host);
    log::warn!("managed memory: the device does not see host memory at the program's address");
    free(address)?;
    Err(CUDA_ERROR_NOT_SUPPORTED)
}

/// Bytes of the managed memory that starts at an address.
pub(crate) fn managed_bytes(address: usize) -> Option<usize> {
    let host = HOST.read().unwrap_or_else(PoisonError::into_inner);
    host.get(&address).filter(|memory| memory.is_managed()).map(|memory| memory.bytes)
}

/// Where the managed variable begins that holds an address, and its bytes.
pub(crate) fn variable_at(address: usize) -> Option<(usize, usize)> {
    let (start, memory) = lookup(address).filter(|(_, memory)| memory.sort == Sort::Variable)?;
    Some((start, memory.bytes))
}

/// Lays shared pages over a managed variable of `bytes` at the device's address,
/// in this process and in the worker. The address must mean nothing here.
pub(crate) fn share_variable(address: usize, bytes: usize) -> Answer {
    let connection = connection::get()?;
    let area = connection.create_area(bytes)?;
    let shared = connection.map_at(&area, address, Over::Nothing).and_then(|()| {
        let added = add(area, address, internal::HOST_ADD_VARIABLE);
        added.inspect_err(|_| memory::unmap_at(address, area.pages.bytes()))
    });
    match shared {
        Ok(device) => {
            insert(address, HostMemory::new(bytes, area, 0, device, 0, Sort::Variable));
            Ok(())
        }
        Err(error) => {
            connection.free_area(area)?;
            Err(error)
        }
    }
}

/// Undoes [`share_variable`]; the variable is gone.
pub(crate) fn end_variable(address: usize) -> Answer {
    let memory = take(address, |sort| sort == Sort::Variable).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    remove(&memory)?;
    memory::unmap_at(address, memory.area.pages.bytes());
    connection::get()?.free_area(memory.area)
}

/// Frees what [`allocate`] returned.
pub(crate) fn free(address: usize) -> Answer {
    let memory = take(address, |sort| matches!(sort, Sort::Allocated | Sort::Managed)).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    remove(&memory)?;
    connection::get()?.free_area(memory.area)
}

/// Lays shared pages in place of the program's, with the same bytes. Pages at
/// both ends may hold other data of the program, which stays as it is. Other
/// threads must not write there during the call.
pub(crate) fn register(address: usize, bytes: usize, flags: u32) -> Answer {
    if bytes == 0 || address == 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let start = address & !(PAGE - 1);
    let end = address
        .checked_add(bytes)
        .and_then(|end| end.checked_next_multiple_of(PAGE))
        .ok_or(CUDA_ERROR_INVALID_VALUE)?;
    if overlaps(start, end) {
        return Err(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
    }
    let connection = connection::get()?;
    let area = connection.create_area(end - start)?;
    let shared = crate::pointer::bytes_mut(area.pages.at(0, end - start), end - start)?;
    shared.copy_from_slice(crate::pointer::bytes(start as *const u8, end - start)?);
    if let Err(error) = connection.map_at(&area, start, Over::Anything) {
        connection.free_area(area)?;
        return Err(error);
    }
    let offset = address - start;
    let device = match add(area, start, u64::from(flags)) {
        Ok(device) => device + offset as u64,
        Err(error) => {
            // The bytes are copied out before the area's pages go.
            memory::make_private(start, end - start).map_err(|_| CUDA_ERROR_OPERATING_SYSTEM)?;
            connection.free_area(area)?;
            return Err(error);
        }
    };
    insert(address, HostMemory::new(bytes, area, offset, device, flags, Sort::Registered));
    Ok(())
}

/// Undoes [`register`].
pub(crate) fn unregister(address: usize) -> Answer {
    let memory = take(address, |sort| sort == Sort::Registered).ok_or(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED)?;
    remove(&memory)?;
    memory::make_private(address - memory.offset, memory.area.pages.bytes())
        .map_err(|_| CUDA_ERROR_OPERATING_SYSTEM)?;
    connection::get()?.free_area(memory.area)
}

/// The area and the offset in it of `bytes` from `address`, if they are host
/// memory.
#[inline]
pub(crate) fn find(address: usize, bytes: usize) -> Option<(u16, u64)> {
    let (start, memory) = lookup(address)?;
    let within = address - start;
    let fits = within.checked_add(bytes).is_some_and(|end| end <= memory.bytes);
    fits.then_some((memory.area.index, (memory.offset + within) as u64))
}

/// The address of an area's byte, as the program knows it.
pub(crate) fn address_of(area: u16, offset: u64) -> Option<usize> {
    let host = HOST.read().unwrap_or_else(PoisonError::into_inner);
    let (start, memory) = host.iter().find(|(_, memory)| memory.area.index == area)?;
    Some(start - memory.offset + usize::try_from(offset).ok()?)
}

/// The device's address of host memory.
pub(crate) fn device_address(address: usize) -> Option<u64> {
    let (start, memory) = lookup(address)?;
    Some(memory.device + (address - start) as u64)
}

/// The flags of host memory.
pub(crate) fn flags(address: usize) -> Option<u32> {
    lookup(address).map(|(_, memory)| memory.flags)
}

/// Where host memory is that the program or the device knows under an address.
fn start_of(address: usize) -> Option<usize> {
    if let Some((start, _)) = lookup(address) {
        return Some(start);
    }
    let host = HOST.read().unwrap_or_else(PoisonError::into_inner);
    let seen = |memory: &HostMemory| (address as u64).wrapping_sub(memory.device) < memory.bytes as u64;
    host.iter().find(|(_, memory)| seen(memory)).map(|(start, _)| *start)
}

/// What is known of a pointer to host memory.
pub(crate) fn facts(address: usize) -> Option<PointerFacts> {
    let start = start_of(address)?;
    let memory = *HOST.read().unwrap_or_else(PoisonError::into_inner).get(&start)?;
    let within = match address.wrapping_sub(start) {
        within if within < memory.bytes => within as u64,
        _ => (address as u64).wrapping_sub(memory.device),
    };
    Some(PointerFacts {
        context: memory.context,
        host: Some(start as u64 + within),
        device: memory.device + within,
        range: (start as u64, memory.bytes as u64),
        number: memory.buffer,
        sync_memops: memory.sync_memops,
        is_managed: memory.is_managed(),
        ..PointerFacts::default()
    })
}

/// The memory, allocated here, that the device knows under an address: where it
/// begins there, and its bytes.
pub(crate) fn allocation(device: u64) -> Option<(u64, usize)> {
    let start = start_of(usize::try_from(device).ok()?)?;
    let memory = *HOST.read().unwrap_or_else(PoisonError::into_inner).get(&start)?;
    let is_there = device.wrapping_sub(memory.device) < memory.bytes as u64 && memory.sort != Sort::Registered;
    is_there.then_some((memory.device, memory.bytes))
}

/// Makes copies with host memory synchronous, or not; false where none is.
pub(crate) fn set_sync_memops(address: usize, on: bool) -> bool {
    let Some(start) = start_of(address) else { return false };
    let mut host = HOST.write().unwrap_or_else(PoisonError::into_inner);
    host.get_mut(&start).map(|memory| memory.sync_memops = on).is_some()
}

fn lookup(address: usize) -> Option<(usize, HostMemory)> {
    let host = HOST.read().unwrap_or_else(PoisonError::into_inner);
    let (&start, memory) = host.range(..=address).next_back()?;
    (address - start < memory.bytes).then_some((start, *memory))
}

fn overlaps(start: usize, end: usize) -> bool {
    let host = HOST.read().unwrap_or_else(PoisonError::into_inner);
    host.range(..end).next_back().is_some_and(|(&at, memory)| {
        let first = at - memory.offset;
        first + memory.area.pages.bytes() > start
    })
}

fn insert(address: usize, memory: HostMemory) {
    HOST.write().unwrap_or_else(PoisonError::into_inner).insert(address, memory);
}

fn take(address: usize, is_wanted: impl Fn(Sort) -> bool) -> Option<HostMemory> {
    let mut host = HOST.write().unwrap_or_else(PoisonError::into_inner);
    if is_wanted(host.get(&address)?.sort) { host.remove(&address) } else { None }
}

fn add(area: Area, address: usize, flags: u64) -> Answer<u64> {
    with_ring(|ring| {
        ring.call(
            internal::HOST_ADD,
            |to| {
                to.word(u64::from(area.index));
                to.word(address as u64);
                to.word(area.pages.bytes() as u64);
                to.word(flags);
                Ok(())
            },
            |from| from.word(),
        )
    })
}

fn remove(memory: &HostMemory) -> Answer {
    with_ring(|ring| {
        ring.call(
            internal::HOST_REMOVE,
            |to| {
                to.word(u64::from(memory.area.index));
                to.word(if memory.unasked { internal::HOST_ADD_UNASKED } else { 0 });
                Ok(())
            },
            |_| (),
        )
    })
}
