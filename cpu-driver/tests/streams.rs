//! Order and time on streams, through the C interface.
#![allow(clippy::undocumented_unsafe_blocks, reason = "every call follows CUDA's contract with memory that the test owns")]

#![allow(clippy::unwrap_used, reason = "a failed call is a failed test")]

mod program;

use program::*;
use paravane_cpu::api::*;
use paravane_protocol::cuda_types::*;
use std::ffi::c_void;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

/// `hold` spins until *flag is set; `mark` writes a value; `append` takes the next place of a list.
const KERNELS: &str = r"
.visible .entry hold(.param .u64 flag)
{
  .reg .pred %p; .reg .b32 %r; .reg .b64 %rd; ld.param.u64 %rd, [flag];
$L_wait: ld.volatile.global.u32 %r, [%rd]; setp.eq.u32 %p, %r, 0; @%p bra $L_wait; ret;
}
.visible .entry mark(.param .u64 at, .param .u32 value)
{ .reg .b32 %r; .reg .b64 %rd; ld.param.u64 %rd, [at]; ld.param.u32 %r, [value]; st.global.u32 [%rd], %r; ret; }
.visible .entry append(.param .u64 list, .param .u32 value)
{
  .reg .b32 %r<3>; .reg .b64 %rd<3>; ld.param.u64 %rd1, [list]; ld.param.u32 %r1, [value];
  atom.global.add.u32 %r2, [%rd1], 1; mad.wide.u32 %rd2, %r2, 4, %rd1; st.global.u32 [%rd2+4], %r1; ret;
}
.visible .entry empty() { ret; }";

/// Programs with kernels that hold streams up run one at a time: threads are few.
static ALONE: Mutex<()> = Mutex::new(());

fn stream(flags: u32) -> CUstream {
    let mut stream = CUstream(0);
    unsafe { cuStreamCreate(&raw mut stream, flags) }.unwrap();
    stream
}

fn event() -> CUevent {
    let mut event = CUevent(0);
    unsafe { cuEventCreate(&raw mut event, 0) }.unwrap();
    event
}

/// A flag in pinned memory, which host and kernels both reach.
fn flag() -> (&'static AtomicU32, u64) {
    let mut at = std::ptr::null_mut();
    unsafe { cuMemHostAlloc(&raw mut at, 4, 0) }.unwrap();
    let flag: &AtomicU32 = unsafe { AtomicU32::from_ptr(at.cast()) };
    flag.store(0, Ordering::SeqCst);
    (flag, at.expose_provenance() as u64)
}

fn on(function: CUfunction, stream: CUstream, arguments: &[u64]) {
    launch_on(function, [1; 3], [1; 3], 0, stream, arguments).unwrap();
}

#[test]
fn launches_return_at_once_and_others_pass_a_held_stream() {
    let _alone = ALONE.lock();
    let gpu = Gpu::new();
    let module = gpu.module(KERNELS);
    let (hold, mark) = (function_of(module, "hold"), function_of(module, "mark"));
    let (held, free) = (stream(1), stream(1));
    let (go, go_at) = flag();
    let result = upload(&[0u32; 2]);
    // As many held kernels as there could be threads, so that time must be shared.
    for _ in 0..4 {
        on(hold, stream(1), &[go_at]);
    }
    on(hold, held, &[go_at]);
    on(mark, held, &[result.0, 1]);
    assert_eq!(unsafe { cuStreamQuery(held) }, Err(CUDA_ERROR_NOT_READY));
    on(mark, free, &[result.0 + 4, 2]);
    unsafe { cuStreamSynchronize(free) }.unwrap();
    assert_eq!(unsafe { cuStreamQuery(held) }, Err(CUDA_ERROR_NOT_READY));
    go.store(1, Ordering::SeqCst);
    unsafe { cuStreamSynchronize(held) }.unwrap();
    assert_eq!(unsafe { cuStreamQuery(held) }, Ok(()));
    assert_eq!(download::<u32>(result, 2), [1, 2]);
}

#[test]
fn the_legacy_stream_and_blocking_streams_wait_for_each_other() {
    let _alone = ALONE.lock();
    let gpu = Gpu::new();
    let module = gpu.module(KERNELS);
    let (hold, append) = (function_of(module, "hold"), function_of(module, "append"));
    let (one, two) = (stream(0), stream(0));
    let (go, go_at) = flag();
    let list = upload(&[0u32; 8]);
    on(hold, one, &[go_at]);
    on(append, one, &[list.0, 1]);
    on(append, CUstream(0), &[list.0, 2]);
    on(append, two, &[list.0, 3]);
    assert_eq!(unsafe { cuStreamQuery(two) }, Err(CUDA_ERROR_NOT_READY));
    assert_eq!(unsafe { cuStreamQuery(CUstream(0)) }, Err(CUDA_ERROR_NOT_READY));
    go.store(1, Ordering::SeqCst);
    synchronize().unwrap();
    assert_eq!(download::<u32>(list, 4), [3, 1, 2, 3]);
}

#[test]
fn events_order_streams_and_measure_time() {
    let _alone = ALONE.lock();
    let gpu = Gpu::new();
    let module = gpu.module(KERNELS);
    let (hold, append) = (function_of(module, "hold"), function_of(module, "append"));
    let (first, second) = (stream(1), stream(1));
    let (before, after) = (event(), event());
    let (go, go_at) = flag();
    let list = upload(&[0u32; 8]);
    let mut elapsed = -1f32;
    assert_eq!(unsafe { cuEventElapsedTime(&raw mut elapsed, before, after) }, Err(CUDA_ERROR_INVALID_HANDLE));
    unsafe { cuEventRecord(before, first) }.unwrap();
    on(hold, first, &[go_at]);
    on(append, first, &[list.0, 1]);
    unsafe { cuEventRecord(after, first) }.unwrap();
    unsafe { cuStreamWaitEvent(second, after, 0) }.unwrap();
    on(append, second, &[list.0, 2]);
    assert_eq!(unsafe { cuEventQuery(before) }, Ok(()));
    assert_eq!(unsafe { cuEventQuery(after) }, Err(CUDA_ERROR_NOT_READY));
    assert_eq!(unsafe { cuEventElapsedTime(&raw mut elapsed, before, after) }, Err(CUDA_ERROR_NOT_READY));
    std::thread::sleep(std::time::Duration::from_millis(5));
    go.store(1, Ordering::SeqCst);
    unsafe { cuStreamSynchronize(second) }.unwrap();
    assert_eq!(download::<u32>(list, 3), [2, 1, 2]);
    unsafe { cuEventElapsedTime(&raw mut elapsed, before, after) }.unwrap();
    assert!(elapsed >= 5.0, "{elapsed} ms");
    unsafe { cuEventElapsedTime(&raw mut elapsed, after, before) }.unwrap();
    assert!(elapsed <= -5.0);
}

#[test]
fn host_functions_run_in_their_stream_order() {
    extern "C" fn note(data: *mut c_void) {
        let list = unsafe { AtomicU32::from_ptr(data.cast()) };
        // What the kernel before has written, and then what the kernel after must find.
        list.store(if list.load(Ordering::SeqCst) == 7 { 8 } else { 99 }, Ordering::SeqCst);
    }
    let _alone = ALONE.lock();
    let gpu = Gpu::new();
    let module = gpu.module(KERNELS);
    let mark = function_of(module, "mark");
    let stream = stream(1);
    let (value, at) = flag();
    let copy = upload(&[0u32]);
    on(mark, stream, &[at, 7]);
    unsafe { cuLaunchHostFunc(stream, Some(note), value.as_ptr().cast()) }.unwrap();
    unsafe { cuMemcpyDtoDAsync_v2(copy, CUdeviceptr(at), 4, stream) }.unwrap();
    unsafe { cuStreamSynchronize(stream) }.unwrap();
    assert_eq!(download::<u32>(copy, 1), [8]);
}

#[test]
fn copies_and_memsets_keep_their_place_in_a_stream() {
    let _alone = ALONE.lock();
    let gpu = Gpu::new();
    let module = gpu.module(KERNELS);
    let hold = function_of(module, "hold");
    let stream = stream(1);
    let (go, go_at) = flag();
    let array = upload(&[1u32; 1000]);
    on(hold, stream, &[go_at]);
    unsafe { cuMemsetD32Async(array, 5, 1000, stream) }.unwrap();
    let mut source = [9u32; 10];
    unsafe { cuMemcpyHtoDAsync_v2(CUdeviceptr(array.0 + 40), source.as_mut_ptr().cast(), 40, stream) }.unwrap();
    // The call has returned, so pageable memory is the program's again.
    source.fill(0);
    unsafe { cuMemsetD2D16Async(CUdeviceptr(array.0 + 400), 40, 0xabcd, 2, 3, stream) }.unwrap();
    assert_eq!(unsafe { cuStreamQuery(stream) }, Err(CUDA_ERROR_NOT_READY));
    go.store(1, Ordering::SeqCst);
    let mut result = vec![0u32; 1000];
    unsafe { cuMemcpyDtoHAsync_v2(result.as_mut_ptr().cast(), array, 4000, stream) }.unwrap();
    let expected = |i: usize| match i {
        10..20 => 9,
        100 | 110 | 120 => 0xabcd_abcd,
        _ => 5,
    };
    assert!(result.iter().enumerate().all(|(i, value)| *value == expected(i)), "{result:?}");
    assert_eq!(unsafe { cuStreamQuery(stream) }, Ok(()), "a copy to pageable memory is done when its call returns");
}

#[test]
fn an_empty_kernel_on_an_idle_stream_is_complete_when_its_call_returns() {
    let _alone = ALONE.lock();
    let gpu = Gpu::new();
    let module = gpu.module(KERNELS);
    let (hold, empty) = (function_of(module, "hold"), function_of(module, "empty"));
    let stream = stream(1);
    on(empty, stream, &[]);
    assert_eq!(unsafe { cuStreamQuery(stream) }, Ok(()));
    let (go, go_at) = flag();
    on(hold, stream, &[go_at]);
    on(empty, stream, &[]);
    assert_eq!(unsafe { cuStreamQuery(stream) }, Err(CUDA_ERROR_NOT_READY));
    go.store(1, Ordering::SeqCst);
    unsafe { cuStreamSynchronize(stream) }.unwrap();
}

#[test]
fn two_threads_have_default_streams_of_their_own() {
    let _alone = ALONE.lock();
    let gpu = Gpu::new();
    let module = gpu.module(KERNELS);
    let (hold, mark) = (function_of(module, "hold"), function_of(module, "mark"));
    let (go, go_at) = flag();
    let result = upload(&[0u32]);
    on(hold, CU_STREAM_PER_THREAD, &[go_at]);
    let context = gpu.context;
    let other = std::thread::spawn(move || {
        unsafe { cuCtxSetCurrent(context) }.unwrap();
        on(mark, CU_STREAM_PER_THREAD, &[result.0, 3]);
        unsafe { cuStreamSynchronize(CU_STREAM_PER_THREAD) }.unwrap();
    });
    other.join().unwrap();
    assert_eq!(unsafe { cuStreamQuery(CU_STREAM_PER_THREAD) }, Err(CUDA_ERROR_NOT_READY));
    go.store(1, Ordering::SeqCst);
    synchronize().unwrap();
    assert_eq!(download::<u32>(result, 1), [3]);
}

#[test]
fn a_cooperative_grid_waits_for_all_its_blocks() {
    let _alone = ALONE.lock();
    let gpu = Gpu::new();
    let ptx = r"
.visible .entry meet(.param .u64 count)
{
  .reg .pred %p; .reg .b32 %r<4>; .reg .b64 %rd; ld.param.u64 %rd, [count];
  mov.u32 %r1, %nctaid.x; atom.global.add.u32 %r2, [%rd], 1;
$L_wait: ld.acquire.gpu.global.u32 %r3, [%rd]; setp.lt.u32 %p, %r3, %r1; @%p bra $L_wait;
  ret;
}";
    let function = gpu.function(ptx, "meet");
    let count = upload(&[0u32]);
    let mut argument = count.0;
    let mut params = [(&raw mut argument).cast::<c_void>()];
    let launched =
        unsafe { cuLaunchCooperativeKernel(function, 40, 1, 1, 1, 1, 1, 0, CUstream(0), params.as_mut_ptr()) };
    assert_eq!(launched, Ok(()));
    assert_eq!(synchronize(), Ok(()));
    assert_eq!(download::<u32>(count, 1), [40]);
}

#[test]
fn what_one_thread_launches_another_synchronises() {
    let _alone = ALONE.lock();
    let gpu = Gpu::new();
    let module = gpu.module(KERNELS);
    let mark = function_of(module, "mark");
    let (shared, context) = (stream(0), gpu.context);
    let place = upload(&[0u32]);
    let (send, receive) = std::sync::mpsc::channel::<u32>();
    let reader = std::thread::spawn(move || {
        unsafe { cuCtxSetCurrent(context) }.unwrap();
        for value in receive {
            unsafe { cuStreamSynchronize(shared) }.unwrap();
            // Later launches may have come by already, earlier ones not be missing.
            assert!(download::<u32>(place, 1)[0] >= value);
        }
    });
    for value in 1..=3000 {
        on(mark, shared, &[place.0, u64::from(value)]);
        send.send(value).unwrap();
    }
    drop(send);
    reader.join().unwrap();
    assert_eq!(download::<u32>(place, 1), [3000]);
}

#[test]
fn many_threads_on_many_streams() {
    let _alone = ALONE.lock();
    let gpu = Gpu::new();
    let module = gpu.module(KERNELS);
    let append = function_of(module, "append");
    let context = gpu.context;
    let work = move |thread: u32| {
        unsafe { cuCtxSetCurrent(context) }.unwrap();
        let (one, two, event) = (stream(1), stream(thread & 1), event());
        let list = upload(&[0u32; 1024]);
        for turn in 0..400u32 {
            on(append, one, &[list.0, u64::from(2 * turn)]);
            unsafe { cuEventRecord(event, one) }.unwrap();
            unsafe { cuStreamWaitEvent(two, event, 0) }.unwrap();
            on(append, two, &[list.0, u64::from(2 * turn + 1)]);
            unsafe { cuEventRecord(event, two) }.unwrap();
            unsafe { cuStreamWaitEvent(one, event, 0) }.unwrap();
            if turn % 50 == 7 {
                unsafe { cuEventSynchronize(event) }.unwrap();
            }
        }
        unsafe { cuStreamSynchronize(two) }.unwrap();
        let values = download::<u32>(list, 801);
        assert_eq!(values[0], 800);
        assert!(values[1..].iter().zip(0..).all(|(value, place)| *value == place));
    };
    let threads: Vec<_> = (0..4).map(|thread| std::thread::spawn(move || work(thread))).collect();
    for thread in threads {
        thread.join().unwrap();
    }
}
