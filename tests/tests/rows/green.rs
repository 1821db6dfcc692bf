//! Green contexts: parts of the device's multiprocessors, and work in them on the primary context's data.

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::{must, result_of, value_of};

const DEV: CUdevice = CUdevice(0);
const SM: CUdevResourceType = CU_DEV_RESOURCE_TYPE_SM;
const NONE: CUdevResource =
    CUdevResource { kind: 0, inside: [0; 23], value: [0; 10], next: 0 };
const NO_CONTEXT: CUcontext = CUcontext(0);
const NO_GREEN: CUgreenCtx = CUgreenCtx(0);
const NO_STREAM: CUstream = CUstream(0);
const NON_BLOCKING: u32 = 1;
const DEFAULT_STREAM: u32 = 1;
const EACH_ALONE: u32 = 1;

fn whole(cuda: &Cuda) -> CUdevResource {
    let mut resource = NONE;
    must!(cuda.cuDeviceGetDevResource(DEV, &raw mut resource, SM));
    resource
}

/// Counts of a split, and what is refused.
pub(crate) fn resources(cuda: &Cuda) {
    let all = whole(cuda);
    let [count, least, step, ..] = all.value;
    let mut multiprocessors = 0;
    must!(cuda.cuDeviceGetAttribute(&raw mut multiprocessors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, DEV));
    assert_eq!((all.kind, i32::try_from(count)), (SM.0, Ok(multiprocessors)));
    assert!((1..=count).contains(&least) && (1..=count).contains(&step), "{all:?}");
    let mut none = NONE;
    let kinds = [CU_DEV_RESOURCE_TYPE_INVALID, CUdevResourceType(7)];
    for kind in kinds {
        let refused = result_of!(cuda.cuDeviceGetDevResource(DEV, &raw mut none, kind));
        assert_eq!(refused, CUDA_ERROR_INVALID_RESOURCE_TYPE);
    }
    assert_eq!(result_of!(cuda.cuDeviceGetDevResource(DEV, std::ptr::null_mut(), SM)), CUDA_ERROR_INVALID_VALUE);
    by_count(cuda, all);
    by_wish(cuda, all);
    made_up(cuda, all);
    queues(cuda);
}

fn by_count(cuda: &Cuda, all: CUdevResource) {
    let [count, least, ..] = all.value;
    let (mut groups, mut parts, mut rest) = (0, [NONE; 80], NONE);
    let null = std::ptr::null_mut();
    must!(cuda.cuDevSmResourceSplitByCount(null, &raw mut groups, &raw const all, null, EACH_ALONE, 1));
    assert_eq!(groups, count, "each by itself");
    must!(cuda.cuDevSmResourceSplitByCount(null, &raw mut groups, &raw const all, null, 0, least));
    assert!(groups >= 1 && groups * least <= count);
    groups = 1;
    let (into, left) = (parts.as_mut_ptr(), &raw mut rest);
    must!(cuda.cuDevSmResourceSplitByCount(into, &raw mut groups, &raw const all, left, EACH_ALONE, 1));
    assert_eq!((groups, parts[0].kind, parts[0].value[0], parts[1]), (1, SM.0, 1, NONE));
    assert_eq!((rest.kind == SM.0, rest.value[0]), (count > 1, count - 1));
    groups = 80;
    must!(cuda.cuDevSmResourceSplitByCount(into, &raw mut groups, &raw const all, left, 0, count));
    assert_eq!((groups, parts[0].value[0], rest), (1, count, NONE), "all in one");
    let too_many = result_of!(cuda.cuDevSmResourceSplitByCount(into, &raw mut groups, &raw const all, left, 0, count + 1));
    assert_eq!(too_many, CUDA_ERROR_INVALID_VALUE);
    let again = result_of!(cuda.cuDevSmResourceSplitByCount(into, &raw mut groups, parts.as_ptr(), left, 0, 1));
    assert_eq!(again, CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION, "a part of a split");
    let nowhere = std::ptr::null_mut();
    let refused = result_of!(cuda.cuDevSmResourceSplitByCount(into, nowhere, &raw const all, left, 0, 1));
    assert_eq!(refused, CUDA_ERROR_INVALID_VALUE);
}

fn by_wish(cuda: &Cuda, all: CUdevResource) {
    const BACKFILL: u32 = 1;
    let ([count, _, step, ..], null) = (all.value, std::ptr::null_mut());
    let any = CU_DEV_SM_RESOURCE_GROUP_PARAMS::default();
    let mut wishes = [any];
    must!(cuda.cuDevSmResourceSplit(null, 1, &raw const all, null, 0, wishes.as_mut_ptr()));
    assert_eq!(wishes[0].smCount, count / step * step, "what there is");
    let one = CU_DEV_SM_RESOURCE_GROUP_PARAMS { smCount: 1, flags: BACKFILL, ..any };
    let (mut wishes, mut parts, mut rest) = ([one], [NONE], NONE);
    must!(cuda.cuDevSmResourceSplit(parts.as_mut_ptr(), 1, &raw const all, &raw mut rest, 0, wishes.as_mut_ptr()));
    assert_eq!((parts[0].value[0], rest.value[0], wishes[0]), (1, count - 1, one));
    let [mut more, mut domain, mut none_left] = [
        [CU_DEV_SM_RESOURCE_GROUP_PARAMS { smCount: count + step, ..any }; 2],
        [CU_DEV_SM_RESOURCE_GROUP_PARAMS { flags: 2, ..any }; 2],
        [any; 2],
    ];
    let parts = [NONE; 2].as_mut_ptr();
    let refused = result_of!(cuda.cuDevSmResourceSplit(parts, 1, &raw const all, null, 0, more.as_mut_ptr()));
    assert_eq!(refused, CUDA_ERROR_INVALID_VALUE);
    let refused = result_of!(cuda.cuDevSmResourceSplit(parts, 1, &raw const all, null, 0, domain.as_mut_ptr()));
    assert_eq!(refused, CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION);
    let refused = result_of!(cuda.cuDevSmResourceSplit(parts, 2, &raw const all, null, 0, none_left.as_mut_ptr()));
    assert_eq!(refused, CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION, "the second has none");
    let refused = result_of!(cuda.cuDevSmResourceSplit(parts, 1, &raw const all, null, 1, none_left.as_mut_ptr()));
    assert_eq!(refused, CUDA_ERROR_INVALID_VALUE, "flags");
}

/// Resources that the device did not describe so.
fn made_up(cuda: &Cuda, all: CUdevResource) {
    let [mut larger, mut empty] = [all; 2];
    larger.value[0] += 64;
    empty.inside = [0; 23];
    let (mut groups, null) = (1, std::ptr::null_mut());
    for other in [larger, empty] {
        let split = result_of!(cuda.cuDevSmResourceSplitByCount(null, &raw mut groups, &raw const other, null, 0, 1));
        assert_eq!(split, CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION, "{other:?}");
        let mut desc = CUdevResourceDesc(0);
        let made = result_of!(cuda.cuDevResourceGenerateDesc(&raw mut desc, &raw const other, 1));
        assert_eq!(made, CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION);
    }
    let mut desc = CUdevResourceDesc(0);
    let twice = [all; 2];
    let made = result_of!(cuda.cuDevResourceGenerateDesc(&raw mut desc, twice.as_ptr(), 2));
    assert_eq!(made, CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION, "not of one split");
    let made = result_of!(cuda.cuDevResourceGenerateDesc(&raw mut desc, [NONE].as_ptr(), 1));
    assert_eq!(made, CUDA_ERROR_INVALID_RESOURCE_TYPE);
    let made = result_of!(cuda.cuDevResourceGenerateDesc(&raw mut desc, &raw const all, 0));
    assert_eq!(made, CUDA_ERROR_INVALID_VALUE);
    let mut green = NO_GREEN;
    let made = result_of!(cuda.cuGreenCtxCreate(&raw mut green, CUdevResourceDesc(0), DEV, DEFAULT_STREAM));
    assert!([CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_INVALID_HANDLE].contains(&made), "{made}");
}

/// How many queues a green context has may be changed in place.
fn queues(cuda: &Cuda) {
    let kind = CU_DEV_RESOURCE_TYPE_WORKQUEUE_CONFIG;
    let mut config = NONE;
    must!(cuda.cuDeviceGetDevResource(DEV, &raw mut config, kind));
    assert!(config.kind == kind.0 && config.value[1] > 0);
    (config.value[1], config.value[2]) = (3, 1);
    let green = created(cuda, &[whole(cuda), config]);
    let mut of_green = NONE;
    must!(cuda.cuGreenCtxGetDevResource(green, &raw mut of_green, kind));
    assert_eq!(of_green.value[..3], [0, 3, 1]);
    must!(cuda.cuGreenCtxDestroy(green));
}

fn created(cuda: &Cuda, resources: &[CUdevResource]) -> CUgreenCtx {
    let count = u32::try_from(resources.len()).unwrap();
    let desc = value_of!(cuda.cuDevResourceGenerateDesc(CUdevResourceDesc(0), resources.as_ptr(), count));
    value_of!(cuda.cuGreenCtxCreate(NO_GREEN, desc, DEV, DEFAULT_STREAM))
}

/// One multiprocessor of the device.
fn one(cuda: &Cuda) -> CUgreenCtx {
    let (all, mut part, mut groups) = (whole(cuda), [NONE], 1);
    let null = std::ptr::null_mut();
    must!(cuda.cuDevSmResourceSplitByCount(part.as_mut_ptr(), &raw mut groups, &raw const all, null, EACH_ALONE, 1));
    created(cuda, &part)
}

fn context_of(cuda: &Cuda, green: CUgreenCtx) -> CUcontext {
    value_of!(cuda.cuCtxFromGreenCtx(NO_CONTEXT, green))
}

/// With the primary context current.
pub(crate) fn contexts(cuda: &Cuda, primary: CUcontext, module: CUmodule) {
    let green = one(cuda);
    let context = context_of(cuda, green);
    assert_ne!(context, primary);
    assert_eq!(context_of(cuda, green), context, "the same at every call");
    told(cuda, green, context, primary);
    let stream = value_of!(cuda.cuGreenCtxStreamCreate(NO_STREAM, green, NON_BLOCKING, 0));
    let mut none = NO_STREAM;
    let blocking = result_of!(cuda.cuGreenCtxStreamCreate(&raw mut none, green, 0, 0));
    assert_eq!(blocking, CUDA_ERROR_INVALID_VALUE);
    streams(cuda, green, context, primary, stream);
    let mut event = CUevent(0);
    works(cuda, context, module, stream, &mut event);
    waits(cuda, green, stream);
    assert_eq!(result_of!(cuda.cuCtxDestroy_v2(context)), CUDA_ERROR_INVALID_CONTEXT);
    ended(cuda, green, context, stream);
    // What was made with the green context current is the primary one's.
    must!(cuda.cuEventRecord(event, NO_STREAM));
    must!(cuda.cuEventSynchronize(event));
    must!(cuda.cuEventDestroy_v2(event));
}

fn told(cuda: &Cuda, green: CUgreenCtx, context: CUcontext, primary: CUcontext) {
    let (mut id, mut again) = (0, 0);
    must!(cuda.cuGreenCtxGetId(green, &raw mut id));
    let of_none = result_of!(cuda.cuGreenCtxGetId(NO_GREEN, &raw mut again));
    assert_eq!(of_none, CUDA_ERROR_INVALID_CONTEXT, "the current one is not green");
    must!(cuda.cuCtxPushCurrent_v2(context));
    assert_eq!(value_of!(cuda.cuCtxGetCurrent(NO_CONTEXT)), context);
    assert_eq!(value_of!(cuda.cuCtxGetDevice(CUdevice(9))), DEV);
    must!(cuda.cuGreenCtxGetId(NO_GREEN, &raw mut again));
    assert_eq!(id, again);
    assert_eq!(value_of!(cuda.cuCtxPopCurrent_v2(NO_CONTEXT)), context);
    let [mut of_green, mut of_context, mut of_primary] = [NONE; 3];
    must!(cuda.cuGreenCtxGetDevResource(green, &raw mut of_green, SM));
    must!(cuda.cuCtxGetDevResource(context, &raw mut of_context, SM));
    must!(cuda.cuCtxGetDevResource(primary, &raw mut of_primary, SM));
    assert_eq!([of_green.value[0], of_context.value[0]], [1, 1]);
    assert_eq!(of_primary.value[0], whole(cuda).value[0]);
}

fn streams(cuda: &Cuda, green: CUgreenCtx, context: CUcontext, primary: CUcontext, stream: CUstream) {
    let of = |stream| {
        let (mut whole, mut part, mut alone, mut old) = (NO_CONTEXT, NO_GREEN, CUgreenCtx(9), NO_CONTEXT);
        must!(cuda.cuStreamGetCtx_v2(stream, &raw mut whole, &raw mut part));
        must!(cuda.cuStreamGetGreenCtx(stream, &raw mut alone));
        must!(cuda.cuStreamGetCtx(stream, &raw mut old));
        assert_eq!(part, alone);
        (whole, part, old)
    };
    assert_eq!(of(stream), (primary, green, context));
    assert_eq!(of(NO_STREAM), (primary, NO_GREEN, primary));
    let (mut whole, mut part) = (NO_CONTEXT, CUgreenCtx(9));
    must!(cuda.cuStreamGetCtx_v2_ptsz(NO_STREAM, &raw mut whole, &raw mut part));
    assert_eq!((whole, part), (primary, NO_GREEN));
    let mut resource = NONE;
    must!(cuda.cuStreamGetDevResource(stream, &raw mut resource, SM));
    assert_eq!(resource.value[0], 1);
    must!(cuda.cuStreamGetDevResource_ptsz(NO_STREAM, &raw mut resource, SM));
    assert!(resource.value[0] >= 1);
    let config = CU_DEV_RESOURCE_TYPE_WORKQUEUE_CONFIG;
    let refused = result_of!(cuda.cuStreamGetDevResource(stream, &raw mut resource, config));
    assert_eq!(refused, CUDA_ERROR_INVALID_RESOURCE_TYPE);
    must!(cuda.cuCtxPushCurrent_v2(context));
    assert_eq!(of(NO_STREAM), (primary, green, context), "the current one's");
    let per_thread = result_of!(cuda.cuStreamGetCtx_v2(CU_STREAM_PER_THREAD, &raw mut whole, &raw mut part));
    assert_eq!(per_thread, CUDA_ERROR_INVALID_HANDLE);
    must!(cuda.cuCtxPopCurrent_v2(std::ptr::null_mut()));
}

/// Memory and functions are the primary context's, whichever is current.
fn works(cuda: &Cuda, context: CUcontext, module: CUmodule, stream: CUstream, event: &mut CUevent) {
    const COUNT: u32 = 4000;
    let bytes = COUNT as usize * 4;
    let add = value_of!(cuda.cuModuleGetFunction(CUfunction(0), module, c"add".as_ptr()));
    let mut here = value_of!(cuda.cuMemAlloc_v2(CUdeviceptr(0), bytes));
    must!(cuda.cuMemsetD32_v2(here, 4, COUNT as usize));
    must!(cuda.cuCtxPushCurrent_v2(context));
    *event = value_of!(cuda.cuEventCreate(CUevent(0), 2));
    let mut there = value_of!(cuda.cuMemAlloc_v2(CUdeviceptr(0), bytes));
    must!(cuda.cuMemsetD32Async(there, 3, COUNT as usize, stream));
    let (mut to, mut count) = (there, COUNT);
    let mut params: [Pointer; 4] =
        [(&raw mut to).cast(), (&raw mut here).cast(), (&raw mut there).cast(), (&raw mut count).cast()];
    let none = std::ptr::null_mut();
    must!(cuda.cuLaunchKernel(add, COUNT / 125, 1, 1, 125, 1, 1, 0, stream, params.as_mut_ptr(), none));
    must!(cuda.cuCtxSynchronize());
    must!(cuda.cuLaunchKernel(add, COUNT / 125, 1, 1, 125, 1, 1, 0, NO_STREAM, params.as_mut_ptr(), none));
    must!(cuda.cuCtxPopCurrent_v2(std::ptr::null_mut()));
    must!(cuda.cuCtxSynchronize());
    let mut sums = vec![0_u32; COUNT as usize];
    must!(cuda.cuMemcpyDtoH_v2(sums.as_mut_ptr().cast(), there, bytes));
    assert!(sums.iter().all(|sum| *sum == 11), "{:?}", &sums[..4]);
    must!(cuda.cuMemFree_v2(here));
    must!(cuda.cuMemFree_v2(there));
}

/// The green context's work is waited for by the primary one, and by events.
fn waits(cuda: &Cuda, green: CUgreenCtx, stream: CUstream) {
    let at = value_of!(cuda.cuMemAlloc_v2(CUdeviceptr(0), 64));
    must!(cuda.cuMemsetD8_v2(at, 0, 64));
    must!(cuda.cuCtxSynchronize());
    let of = |place: u64| CUdeviceptr(at.0 + place * 4);
    let other = value_of!(cuda.cuStreamCreate(NO_STREAM, NON_BLOCKING));
    must!(cuda.cuStreamWaitValue32(stream, of(0), 1, 1));
    must!(cuda.cuStreamWriteValue32(stream, of(1), 7, 0));
    let event = value_of!(cuda.cuEventCreate(CUevent(0), 2));
    must!(cuda.cuGreenCtxRecordEvent(green, event));
    assert_eq!(result_of!(cuda.cuStreamQuery(stream)), CUDA_ERROR_NOT_READY);
    assert_eq!(result_of!(cuda.cuEventQuery(event)), CUDA_ERROR_NOT_READY);
    must!(cuda.cuStreamQuery(other));
    must!(cuda.cuStreamWriteValue32(other, of(0), 1, 0));
    must!(cuda.cuCtxSynchronize());
    must!(cuda.cuEventQuery(event));
    // The other way round: the green context waits for an event.
    must!(cuda.cuStreamWaitValue32(other, of(2), 1, 1));
    must!(cuda.cuEventRecord(event, other));
    must!(cuda.cuGreenCtxWaitEvent(green, event));
    must!(cuda.cuStreamWriteValue32(stream, of(3), 5, 0));
    assert_eq!(result_of!(cuda.cuStreamQuery(stream)), CUDA_ERROR_NOT_READY);
    let third = value_of!(cuda.cuStreamCreate(NO_STREAM, NON_BLOCKING));
    must!(cuda.cuStreamWriteValue32(third, of(2), 1, 0));
    must!(cuda.cuStreamSynchronize(stream));
    let mut words = [0_u32; 4];
    must!(cuda.cuMemcpyDtoH_v2(words.as_mut_ptr().cast(), at, 16));
    assert_eq!(words, [1, 7, 1, 5]);
    must!(cuda.cuEventDestroy_v2(event));
    must!(cuda.cuStreamDestroy_v2(other));
    must!(cuda.cuStreamDestroy_v2(third));
    must!(cuda.cuMemFree_v2(at));
}

/// Its streams can only be destroyed, and the primary context goes on.
fn ended(cuda: &Cuda, green: CUgreenCtx, context: CUcontext, stream: CUstream) {
    must!(cuda.cuGreenCtxDestroy(green));
    let again = result_of!(cuda.cuGreenCtxDestroy(green));
    assert!([CUDA_ERROR_INVALID_CONTEXT, CUDA_ERROR_CONTEXT_IS_DESTROYED].contains(&again), "{again}");
    let mut none = NONE;
    assert_eq!(result_of!(cuda.cuGreenCtxGetDevResource(green, &raw mut none, SM)), CUDA_ERROR_INVALID_CONTEXT);
    assert_eq!(result_of!(cuda.cuCtxSetCurrent(context)), CUDA_ERROR_INVALID_CONTEXT);
    assert_eq!(result_of!(cuda.cuStreamSynchronize(stream)), CUDA_ERROR_STREAM_DETACHED);
    let mut of_stream = NO_GREEN;
    assert_eq!(result_of!(cuda.cuStreamGetGreenCtx(stream, &raw mut of_stream)), CUDA_ERROR_STREAM_DETACHED);
    must!(cuda.cuStreamDestroy_v2(stream));
    must!(cuda.cuCtxSynchronize());
}
