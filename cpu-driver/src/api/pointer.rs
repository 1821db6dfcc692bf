//! Questions about pointers.

use super::{Answer, initialised};
use crate::memory::{Pool, Sort, arena, registered};
use paravane_protocol::cuda_types::*;
use std::collections::HashSet;
use std::ffi::c_void;
use std::sync::{LazyLock, Mutex, PoisonError};

/// Memory, by its number, whose copies a program wants synchronous; they all are where it matters.
static SYNC_MEMOPS: LazyLock<Mutex<HashSet<u64>>> = LazyLock::new(Mutex::default);

/// Registered memory has no number of its own: its address, in a range apart.
const OF_REGISTERED: u64 = 1 << 63;

fn facts(address: u64) -> Option<PointerFacts> {
    let sync = |number| SYNC_MEMOPS.lock().unwrap_or_else(PoisonError::into_inner).contains(&number);
    if let Some((start, owner)) = arena().find(address).filter(|(_, owner)| owner.sort != Sort::Array) {
        let pool = Pool::of(start).map_or(0, |pool| super::pool::handle_of(&pool));
        return Some(PointerFacts {
            context: owner.context,
            host: (owner.host_flags().is_some() || owner.is_managed()).then_some(address),
            device: address,
            range: (start, owner.size),
            number: owner.number,
            sync_memops: sync(owner.number),
            is_managed: owner.is_managed(),
            is_ipc_capable: owner.sort == Sort::Device,
            handle_types: 0,
            pool,
            ordinal: owner.device.cuda().0,
        });
    }
    let range = registered(address)?;
    let number = range.start | OF_REGISTERED;
    Some(PointerFacts {
        host: Some(address),
        device: address,
        range: (range.start, range.size),
        number,
        sync_memops: sync(number),
        ..PointerFacts::default()
    })
}

fn known(attribute: CUpointer_attribute) -> Answer<usize> {
    match attribute.bytes() {
        Some(bytes) => Ok(bytes),
        None if attribute == CU_POINTER_ATTRIBUTE_P2P_TOKENS => Err(CUDA_ERROR_NOT_SUPPORTED),
        None => Err(CUDA_ERROR_INVALID_VALUE),
    }
}

fn write(into: *mut c_void, bytes: usize, value: u64) -> Answer {
    if into.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller gives room for the attribute's value, which has so many bytes.
    unsafe { std::ptr::copy_nonoverlapping(value.to_le_bytes().as_ptr(), into.cast(), bytes) };
    Ok(())
}

pub unsafe fn cuPointerGetAttribute(data: *mut c_void, attribute: CUpointer_attribute, ptr: CUdeviceptr) -> Answer {
    initialised()?;
    let bytes = known(attribute)?;
    let value = facts(ptr.0).and_then(|facts| attribute.of(&facts));
    write(data, bytes, value.ok_or(CUDA_ERROR_INVALID_VALUE)?)
}

/// An address that is none of CUDA's has no error here, but attributes that say so.
pub unsafe fn cuPointerGetAttributes(
    numAttributes: u32,
    attributes: *mut CUpointer_attribute,
    data: *mut *mut c_void,
    ptr: CUdeviceptr,
) -> Answer {
    initialised()?;
    if numAttributes == 0 || attributes.is_null() || data.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let facts = facts(ptr.0);
    for at in 0..numAttributes as usize {
        // SAFETY: the caller passes as many attributes as it says.
        let attribute = unsafe { attributes.add(at).read_unaligned() };
        // SAFETY: as above, for the pointers.
        let into = unsafe { data.add(at).read_unaligned() };
        let value = facts.as_ref().and_then(|facts| attribute.of(facts));
        write(into, known(attribute)?, value.unwrap_or_else(|| attribute.of_nothing()))?;
    }
    Ok(())
}

pub unsafe fn cuPointerSetAttribute(value: *mut c_void, attribute: CUpointer_attribute, ptr: CUdeviceptr) -> Answer {
    initialised()?;
    if attribute != CU_POINTER_ATTRIBUTE_SYNC_MEMOPS || value.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let number = facts(ptr.0).ok_or(CUDA_ERROR_INVALID_VALUE)?.number;
    // SAFETY: the attribute is an unsigned int.
    let on = unsafe { value.cast::<u32>().read_unaligned() } != 0;
    let mut numbers = SYNC_MEMOPS.lock().unwrap_or_else(PoisonError::into_inner);
    if on { numbers.insert(number) } else { numbers.remove(&number) };
    Ok(())
}
