//! Questions about pointers, answered from what the shim knows of the memory
//! that it has made. An address that means nothing here may mean something in
//! the worker, which is nobody's business: it is not asked.

use paravane_protocol::cuda_types::*;

use crate::boundary::Answer;
use crate::state::ranges::{self, Sort};
use crate::state::{devices, host_memory};
use crate::{local, pointer};

/// Handle types of memory that is made without any.
const NO_HANDLES: u32 = 0;

fn ordinal_of(context: u64) -> i32 {
    devices::of_context(CUcontext(context)).map_or(0, |device| device.0)
}

fn facts(address: u64) -> Option<PointerFacts> {
    if let Some(range) = ranges::find(address) {
        let pool = match range.sort {
            Sort::Plain | Sort::Mapped | Sort::Opened => 0,
            Sort::Pool(0) => local::default_pool(CUdevice(ordinal_of(range.context))).map_or(0, |pool| pool.0),
            Sort::Pool(pool) => pool,
        };
        return Some(PointerFacts {
            context: range.context,
            host: None,
            device: address,
            range: (range.start, range.bytes),
            number: range.buffer,
            sync_memops: range.sync_memops,
            is_managed: false,
            is_ipc_capable: range.sort == Sort::Plain,
            handle_types: NO_HANDLES,
            pool,
            ordinal: ordinal_of(range.context),
        });
    }
    let facts = host_memory::facts(usize::try_from(address).ok()?)?;
    Some(PointerFacts { ordinal: ordinal_of(facts.context), ..facts })
}

fn write(into: Pointer, attribute: CUpointer_attribute, value: u64) -> Answer {
    let bytes = attribute.bytes().ok_or(CUDA_ERROR_INVALID_VALUE)?;
    pointer::bytes_mut(into.cast(), bytes)?.copy_from_slice(&value.to_le_bytes()[..bytes]);
    Ok(())
}

/// Tokens for a driver of another vendor are CUDA_ERROR_NOT_SUPPORTED.
fn known(attribute: CUpointer_attribute) -> Answer {
    match attribute.bytes() {
        Some(_) => Ok(()),
        None if attribute == CU_POINTER_ATTRIBUTE_P2P_TOKENS => Err(CUDA_ERROR_NOT_SUPPORTED),
        None => Err(CUDA_ERROR_INVALID_VALUE),
    }
}

pub(crate) fn cuPointerGetAttribute(data: Pointer, attribute: CUpointer_attribute, ptr: CUdeviceptr) -> Answer {
    devices::hello()?;
    known(attribute)?;
    let value = facts(ptr.0).and_then(|facts| attribute.of(&facts));
    write(data, attribute, value.ok_or(CUDA_ERROR_INVALID_VALUE)?)
}

/// An address that is none of CUDA's has no error here, but attributes that say
/// so.
pub(crate) fn cuPointerGetAttributes(
    count: u32,
    attributes: *mut CUpointer_attribute,
    data: Pointers,
    ptr: CUdeviceptr,
) -> Answer {
    devices::hello()?;
    if count == 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let facts = facts(ptr.0);
    for at in 0..count as usize {
        let attribute = pointer::element(attributes, at)?;
        known(attribute)?;
        let value = facts.as_ref().and_then(|facts| attribute.of(facts));
        write(pointer::element(data, at)?, attribute, value.unwrap_or_else(|| attribute.of_nothing()))?;
    }
    Ok(())
}

pub(crate) fn cuPointerSetAttribute(value: Pointer, attribute: CUpointer_attribute, ptr: CUdeviceptr) -> Answer {
    devices::hello()?;
    if attribute != CU_POINTER_ATTRIBUTE_SYNC_MEMOPS {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let on = pointer::get(value.cast::<u32>())? != 0;
    let host = || usize::try_from(ptr.0).is_ok_and(|address| host_memory::set_sync_memops(address, on));
    if ranges::set_sync_memops(ptr.0, on) || host() { Ok(()) } else { Err(CUDA_ERROR_INVALID_VALUE) }
}
