//! What graphs keep: user objects, and the memory of allocation nodes.

use super::super::{device, give, initialised};
use super::{Answer, graph, read};
use crate::graph::USER_OBJECTS;
use crate::graph::memory::{gauges, trim};
use crate::graph::object::{Held, UserObject};
use paravane_protocol::cuda_types::*;
use std::ffi::c_void;
use std::sync::Arc;

const NO_DESTRUCTOR_SYNC: u32 = 1;
const MOVE: u32 = 1;

fn object(handle: CUuserObject) -> Answer<Arc<UserObject>> {
    initialised()?;
    USER_OBJECTS.get(handle.0).ok_or(CUDA_ERROR_INVALID_VALUE)
}

/// References come in numbers that an `int` holds.
fn check(count: u32) -> Answer {
    if count == 0 || count > i32::MAX.cast_unsigned() { Err(CUDA_ERROR_INVALID_VALUE) } else { Ok(()) }
}

pub unsafe fn cuUserObjectCreate(
    object_out: *mut CUuserObject,
    ptr: *mut c_void,
    destroy: CUhostFn,
    initialRefcount: u32,
    flags: u32,
) -> Answer {
    initialised()?;
    check(initialRefcount)?;
    if destroy.is_none() || flags != NO_DESTRUCTOR_SYNC || object_out.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let (handle, _) = USER_OBJECTS.insert_with(|_| UserObject::new(destroy, ptr, initialRefcount));
    give(object_out, CUuserObject(handle))
}

pub unsafe fn cuUserObjectRetain(object: CUuserObject, count: u32) -> Answer {
    check(count)?;
    self::object(object)?.retain(count);
    Ok(())
}

/// Ends the handle with the last reference.
fn release(handle: CUuserObject, count: u32) -> Answer {
    let (is_taken, is_last) = object(handle)?.release(count);
    if is_last {
        USER_OBJECTS.remove(handle.0);
    }
    if is_taken { Ok(()) } else { Err(CUDA_ERROR_INVALID_VALUE) }
}

pub unsafe fn cuUserObjectRelease(object: CUuserObject, count: u32) -> Answer {
    check(count)?;
    release(object, count)
}

pub unsafe fn cuGraphRetainUserObject(graph: CUgraph, object: CUuserObject, count: u32, flags: u32) -> Answer {
    let (of, kept) = (self::graph(graph)?, self::object(object)?);
    check(count)?;
    if flags & !MOVE != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    if flags & MOVE == 0 {
        kept.retain(count);
    }
    of.state().objects.push(Held { handle: object.0, object: kept, count });
    Ok(())
}

pub unsafe fn cuGraphReleaseUserObject(graph: CUgraph, object: CUuserObject, count: u32) -> Answer {
    let of = self::graph(graph)?;
    check(count)?;
    let mut state = of.state();
    let held: u64 = state.objects.iter().filter(|held| held.handle == object.0).map(|held| u64::from(held.count)).sum();
    if held < u64::from(count) {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let mut left = count;
    for held in state.objects.iter_mut().filter(|held| held.handle == object.0) {
        let taken = held.count.min(left);
        held.count -= taken;
        left -= taken;
    }
    state.objects.retain(|held| held.count > 0);
    drop(state);
    release(object, count)
}

pub unsafe fn cuDeviceGraphMemTrim(device: CUdevice) -> Answer {
    trim(self::device(device)?);
    Ok(())
}

pub unsafe fn cuDeviceGetGraphMemAttribute(device: CUdevice, attr: CUgraphMem_attribute, value: *mut c_void) -> Answer {
    let gauges = gauges(self::device(device)?);
    let bytes = match attr {
        CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT => gauges.used.now(),
        CU_GRAPH_MEM_ATTR_USED_MEM_HIGH => gauges.used.high(),
        CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT => gauges.reserved.now(),
        CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH => gauges.reserved.high(),
        _ => return Err(CUDA_ERROR_INVALID_VALUE),
    };
    give(value.cast::<u64>(), bytes)
}

/// The high marks can be set to 0, which means to what there is now.
pub unsafe fn cuDeviceSetGraphMemAttribute(device: CUdevice, attr: CUgraphMem_attribute, value: *mut c_void) -> Answer {
    let gauges = gauges(self::device(device)?);
    if read(value.cast::<u64>().cast_const())? != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    match attr {
        CU_GRAPH_MEM_ATTR_USED_MEM_HIGH => gauges.used.reset(),
        CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH => gauges.reserved.reset(),
        _ => return Err(CUDA_ERROR_INVALID_VALUE),
    }
    Ok(())
}
