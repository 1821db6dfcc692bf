//! Green contexts. Processors stand for multiprocessors: a kernel in a part of them runs on at most as many threads. Two
//! kernels of one part side by side may take more, and parts are numbers of processors, not certain ones.

use super::context::named_or_current;
use super::device::{compute_capability, multiprocessors};
use super::primary::{cuDevicePrimaryCtxRelease_v2, cuDevicePrimaryCtxRetain};
use super::{Answer, any_stream, device, event, give, initialised, usable};
use crate::capture;
use crate::context::{self, CONTEXTS, Context, Green};
use crate::objects::{GREENS, RESOURCE_DESCS, ResourceDesc, STREAMS};
use crate::stream::{Kind, Stream};
use paravane_lookup::storage;
use paravane_protocol::cuda_types::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// What marks a resource as this library's.
const MARK: u32 = 0x7061_7261;
/// A part that a split has made, which is not split again.
const PART: u32 = 1;
const BACKFILL: u32 = 1;
const IGNORE_COSCHEDULING: u32 = 1;
const LARGEST_CLUSTERS: u32 = 2;
const SCOPE_MAX: u32 = 1;

/// How a resource's multiprocessors can be divided: least count of a part, what counts are multiples of. As CUDA has it for the
/// compute capability, as far as there are so many.
fn division() -> (u32, u32) {
    let (least, step) = match compute_capability().0 {
        ..=6 => (1, 1),
        7 => (2, 2),
        8 => (4, 2),
        _ => (8, 8),
    };
    let all = multiprocessors().cast_unsigned();
    (all.min(least), all.min(step))
}

/// A number of multiprocessors: `origin` tells the split that made it, 0 for none.
fn multiprocessor_resource(count: u32, step: u32, flags: u32, origin: u32, part: u32) -> CUdevResource {
    let (least, _) = division();
    let mut resource = CUdevResource { kind: CU_DEV_RESOURCE_TYPE_SM.0, ..CUdevResource::default() };
    let [mark, whole, from, is_part, ..] = &mut resource.inside;
    (*mark, *whole, *from, *is_part) = (MARK, count, origin, part);
    let [counted, smallest, aligned, flagged, ..] = &mut resource.value;
    (*counted, *smallest, *aligned, *flagged) = (count, least.min(step.max(1)).max(least.min(count)), step, flags);
    resource
}

/// What a context has of a kind.
fn resource_of(context: &Context, kind: CUdevResourceType) -> Answer<CUdevResource> {
    match kind {
        CU_DEV_RESOURCE_TYPE_SM => Ok(multiprocessor_resource(context.multiprocessors(), division().1, 0, 0, 0)),
        CU_DEV_RESOURCE_TYPE_WORKQUEUE_CONFIG => Ok(queues(context.green.as_ref().map_or(whole_queues(), |green| green.queues))),
        _ => Err(CUDA_ERROR_INVALID_RESOURCE_TYPE),
    }
}

/// As many streams as there are threads work at a time, whoever made them.
fn whole_queues() -> [u32; 2] {
    [multiprocessors().cast_unsigned(), 0]
}

fn queues([limit, scope]: [u32; 2]) -> CUdevResource {
    let mut resource = CUdevResource { kind: CU_DEV_RESOURCE_TYPE_WORKQUEUE_CONFIG.0, ..CUdevResource::default() };
    let [_, limited, shared, ..] = &mut resource.value;
    (*limited, *shared) = (limit, scope);
    resource
}

pub unsafe fn cuDeviceGetDevResource(dev: CUdevice, resource: *mut CUdevResource, kind: CUdevResourceType) -> Answer {
    device(dev)?;
    match kind {
        CU_DEV_RESOURCE_TYPE_SM => {
            give(resource, multiprocessor_resource(multiprocessors().cast_unsigned(), division().1, 0, 0, 0))
        }
        CU_DEV_RESOURCE_TYPE_WORKQUEUE_CONFIG => give(resource, queues(whole_queues())),
        _ => Err(CUDA_ERROR_INVALID_RESOURCE_TYPE),
    }
}

pub unsafe fn cuCtxGetDevResource(hCtx: CUcontext, resource: *mut CUdevResource, kind: CUdevResourceType) -> Answer {
    let context = named_or_current(hCtx)?;
    usable(&context)?;
    give(resource, resource_of(&context, kind)?)
}

pub unsafe fn cuGreenCtxGetDevResource(hCtx: CUgreenCtx, resource: *mut CUdevResource, kind: CUdevResourceType) -> Answer {
    give(resource, resource_of(&*green(hCtx)?, kind)?)
}

pub unsafe fn cuStreamGetDevResource(hStream: CUstream, resource: *mut CUdevResource, kind: CUdevResourceType) -> Answer {
    let stream = any_stream(hStream)?;
    if kind != CU_DEV_RESOURCE_TYPE_SM {
        return Err(CUDA_ERROR_INVALID_RESOURCE_TYPE);
    }
    give(resource, resource_of(&stream.context, kind)?)
}

/// A program's resource of multiprocessors, as this library made it.
///
/// # Safety
/// `resource` is NULL or points to one.
unsafe fn whole(resource: *const CUdevResource) -> Answer<CUdevResource> {
    initialised()?;
    if resource.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller's promise.
    let resource = unsafe { resource.read_unaligned() };
    if resource.kind != CU_DEV_RESOURCE_TYPE_SM.0 {
        return Err(CUDA_ERROR_INVALID_RESOURCE_TYPE);
    }
    let all = multiprocessors().cast_unsigned();
    let is_ours = resource.inside[0] == MARK && resource.inside[1] == resource.value[0] && resource.value[0] <= all;
    if is_ours { Ok(resource) } else { Err(CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION) }
}

/// A resource that may be split.
///
/// # Safety
/// As `whole`.
unsafe fn divisible(resource: *const CUdevResource) -> Answer<u32> {
    // SAFETY: the caller's promise.
    let resource = unsafe { whole(resource) }?;
    if resource.inside[3] == PART { Err(CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION) } else { Ok(resource.value[0]) }
}

/// A number for a split.
fn next_split() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// What a split leaves.
fn rest(count: u32, origin: u32) -> CUdevResource {
    let none = CUdevResource::default();
    if count == 0 { none } else { multiprocessor_resource(count, division().1.min(count), 0, origin, 0) }
}

pub unsafe fn cuDevSmResourceSplitByCount(
    result: *mut CUdevResource,
    nbGroups: *mut u32,
    input: *const CUdevResource,
    remainder: *mut CUdevResource,
    flags: u32,
    minCount: u32,
) -> Answer {
    // SAFETY: the same contract.
    let count = unsafe { divisible(input) }?;
    if nbGroups.is_null() || flags & !(IGNORE_COSCHEDULING | LARGEST_CLUSTERS) != 0 || minCount > count {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    if flags & LARGEST_CLUSTERS != 0 && compute_capability().0 < 9 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let (least, step) = if flags & IGNORE_COSCHEDULING != 0 { (1, 1) } else { division() };
    let each = minCount.max(least).next_multiple_of(step);
    let possible = count / each;
    if possible == 0 {
        return Err(CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION);
    }
    if result.is_null() {
        return give(nbGroups, possible);
    }
    // SAFETY: not NULL, and the caller's pointer to a number.
    let asked = unsafe { *nbGroups };
    let (made, origin) = (possible.min(asked), next_split());
    for place in 0..made as usize {
        give(result.wrapping_add(place), multiprocessor_resource(each, step, 0, origin, PART))?;
    }
    super::give_optional(remainder, rest(count - made * each, origin));
    give(nbGroups, made)
}

/// How many of `left` multiprocessors a part gets.
fn share(asked: &CU_DEV_SM_RESOURCE_GROUP_PARAMS, left: u32, count: u32) -> Answer<u32> {
    let together_max = if compute_capability().0 >= 9 { 32 } else { division().1 };
    let together = match asked.coscheduledSmCount {
        0 => division().1,
        wished => wished,
    };
    let backfill = asked.flags & BACKFILL != 0;
    // Parts of the device that are near each other do not exist here.
    if asked.flags & !BACKFILL != 0 || together > together_max {
        return Err(CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION);
    }
    if asked.reserved != [0; 11] || asked.smCount > count {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    match asked.smCount {
        0 if backfill => Ok(left),
        0 => Ok(left / together * together),
        wished if wished > left => Err(CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION),
        wished if wished % together != 0 && !backfill => Err(CUDA_ERROR_INVALID_VALUE),
        wished => Ok(wished),
    }
}

pub unsafe fn cuDevSmResourceSplit(
    result: *mut CUdevResource,
    nbGroups: u32,
    input: *const CUdevResource,
    remainder: *mut CUdevResource,
    flags: u32,
    groupParams: *mut CU_DEV_SM_RESOURCE_GROUP_PARAMS,
) -> Answer {
    // SAFETY: the same contract.
    let count = unsafe { divisible(input) }?;
    if nbGroups == 0 || groupParams.is_null() || flags != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller passes an array of that length.
    let groups = unsafe { std::slice::from_raw_parts_mut(groupParams, nbGroups as usize) };
    let mut left = count;
    let mut shares = Vec::new();
    for group in groups.iter() {
        let has = share(group, left, count)?;
        if has == 0 && !result.is_null() {
            return Err(CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION);
        }
        left -= has;
        shares.push(has);
    }
    let origin = next_split();
    for (place, (group, has)) in groups.iter_mut().zip(shares).enumerate() {
        group.smCount = has;
        if !result.is_null() {
            let step = if group.coscheduledSmCount == 0 { division().1 } else { group.coscheduledSmCount };
            give(result.wrapping_add(place), multiprocessor_resource(has, step, group.flags, origin, PART))?;
        }
    }
    super::give_optional(remainder, rest(left, origin));
    Ok(())
}

pub unsafe fn cuDevResourceGenerateDesc(phDesc: *mut CUdevResourceDesc, resources: *const CUdevResource, nbResources: u32) -> Answer {
    initialised()?;
    if phDesc.is_null() || resources.is_null() || nbResources == 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let mut desc = ResourceDesc { multiprocessors: None, queues: None };
    let mut origin = None;
    for place in 0..nbResources as usize {
        let at = resources.wrapping_add(place);
        // SAFETY: the caller passes an array of that length.
        let resource = unsafe { at.read_unaligned() };
        match CUdevResourceType(resource.kind) {
            CU_DEV_RESOURCE_TYPE_SM => {
                // SAFETY: as above.
                let part = unsafe { whole(at) }?;
                // Several are parts of one split.
                let of = (part.inside[2], part.value[2]);
                if origin.replace(of).is_some_and(|other| other != of || of.0 == 0) {
                    return Err(CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION);
                }
                desc.multiprocessors = Some(desc.multiprocessors.unwrap_or(0) + part.value[0]);
            }
            CU_DEV_RESOURCE_TYPE_WORKQUEUE_CONFIG => {
                let [on, limit, scope, ..] = resource.value;
                if on != 0 || limit == 0 || scope > SCOPE_MAX || desc.queues.is_some() {
                    return Err(CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION);
                }
                desc.queues = Some([limit, scope]);
            }
            _ => return Err(CUDA_ERROR_INVALID_RESOURCE_TYPE),
        }
    }
    if desc.multiprocessors.is_some_and(|count| count > multiprocessors().cast_unsigned()) {
        return Err(CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION);
    }
    give(phDesc, CUdevResourceDesc(RESOURCE_DESCS.insert_with(|_| desc).0))
}

/// The green context that a handle names.
fn green(handle: CUgreenCtx) -> Answer<Arc<Context>> {
    initialised()?;
    let context = GREENS.get(handle.0).ok_or(CUDA_ERROR_INVALID_CONTEXT)?;
    usable(&context)?;
    Ok(Arc::clone(&context))
}

/// Holds the primary context until it is destroyed.
pub unsafe fn cuGreenCtxCreate(phCtx: *mut CUgreenCtx, desc: CUdevResourceDesc, dev: CUdevice, flags: u32) -> Answer {
    // There is a default stream whether it is asked for or not.
    const DEFAULT_STREAM: u32 = 1;
    device(dev)?;
    let desc = RESOURCE_DESCS.get(desc.0).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    if phCtx.is_null() || flags & !DEFAULT_STREAM != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let mut primary = CUcontext(0);
    // SAFETY: a pointer to a local.
    unsafe { cuDevicePrimaryCtxRetain(&raw mut primary, dev) }?;
    let primary = CONTEXTS.get(primary.0).ok_or(CUDA_ERROR_INVALID_CONTEXT)?;
    let context = Context::create_green(Green {
        primary,
        multiprocessors: desc.multiprocessors.unwrap_or(multiprocessors().cast_unsigned()),
        queues: desc.queues.unwrap_or(whole_queues()),
    });
    give(phCtx, CUgreenCtx(GREENS.insert_with(|_| context).0))
}

/// Its streams stay, and do nothing any more.
pub unsafe fn cuGreenCtxDestroy(hCtx: CUgreenCtx) -> Answer {
    initialised()?;
    let context = GREENS.remove(hCtx.0).ok_or(CUDA_ERROR_INVALID_CONTEXT)?;
    storage::end_context(CUcontext(context.handle));
    context.synchronize();
    context.streams().iter().for_each(|stream| capture::abandon(stream));
    context.is_dead.store(true, Ordering::Relaxed);
    CONTEXTS.remove(context.handle);
    if context::current().is_some_and(|top| top.handle == context.handle) {
        context::pop();
    }
    // SAFETY: a number alone.
    unsafe { cuDevicePrimaryCtxRelease_v2(context.device.cuda()) }
}

pub unsafe fn cuCtxFromGreenCtx(pContext: *mut CUcontext, hCtx: CUgreenCtx) -> Answer {
    give(pContext, CUcontext(green(hCtx)?.handle))
}

pub unsafe fn cuGreenCtxRecordEvent(hCtx: CUgreenCtx, hEvent: CUevent) -> Answer {
    let context = CUcontext(green(hCtx)?.handle);
    // SAFETY: handles alone.
    unsafe { event::cuCtxRecordEvent(context, hEvent) }
}

pub unsafe fn cuGreenCtxWaitEvent(hCtx: CUgreenCtx, hEvent: CUevent) -> Answer {
    let context = CUcontext(green(hCtx)?.handle);
    // SAFETY: handles alone.
    unsafe { event::cuCtxWaitEvent(context, hEvent) }
}

pub unsafe fn cuGreenCtxStreamCreate(phStream: *mut CUstream, greenCtx: CUgreenCtx, flags: u32, priority: i32) -> Answer {
    let context = green(greenCtx)?;
    if flags != super::stream::NON_BLOCKING || phStream.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let priority = priority.clamp(super::stream::GREATEST_PRIORITY, 0);
    let (handle, stream) = STREAMS.insert_with(|_| Stream::new(&context, Kind::NonBlocking, flags, priority));
    context.add_stream(&stream);
    give(phStream, CUstream(handle))
}

pub unsafe fn cuGreenCtxGetId(greenCtx: CUgreenCtx, greenCtxId: *mut u64) -> Answer {
    let context = if greenCtx.0 == 0 { super::current()? } else { green(greenCtx)? };
    if context.green.is_none() {
        return Err(CUDA_ERROR_INVALID_CONTEXT);
    }
    give(greenCtxId, context.id)
}

/// The handle of a stream's green context, 0 where it has none.
fn green_of(stream: &Stream) -> CUgreenCtx {
    let is_it = |context: &Arc<Context>| context.handle == stream.context.handle;
    CUgreenCtx(GREENS.find_where(|context| is_it(context)).unwrap_or(0))
}

pub unsafe fn cuStreamGetGreenCtx(hStream: CUstream, phCtx: *mut CUgreenCtx) -> Answer {
    give(phCtx, green_of(&*any_stream(hStream)?))
}

pub unsafe fn cuStreamGetCtx_v2(hStream: CUstream, pCtx: *mut CUcontext, pGreenCtx: *mut CUgreenCtx) -> Answer {
    let stream = any_stream(hStream)?;
    if pCtx.is_null() || pGreenCtx.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    give(pCtx, CUcontext(stream.context.owner))?;
    give(pGreenCtx, green_of(&stream))
}
