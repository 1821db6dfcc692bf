//! A CUDA program for tests that need a process of their own: its shim has one
//! connection, and may lose it. `guest-program SCENARIO LIBCUDA` prints one
//! line, what the scenario found.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test program fails by panicking"
)]

use std::ffi::CStr;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::steady::BATCH;
use paravane_tests::{must, result_of, value_of};
use zerocopy::FromZeros;

const NULL: CUdeviceptr = CUdeviceptr(0);

/// `count` adds one to a word; `forever` never ends.
const PTX: &CStr = c"
.version 7.0
.target sm_70
.address_size 64
.visible .entry count(.param .u64 word)
{
    .reg .b32 %r<3>;
    .reg .b64 %rd<2>;
    ld.param.u64 %rd1, [word];
    ld.global.u32 %r1, [%rd1];
    add.u32 %r2, %r1, 1;
    st.global.u32 [%rd1], %r2;
    ret;
}
.visible .entry forever(.param .u64 word)
{
    .reg .pred %p<2>;
    .reg .b32 %r<2>;
    .reg .b64 %rd<2>;
    ld.param.u64 %rd1, [word];
AGAIN:
    ld.volatile.global.u32 %r1, [%rd1];
    setp.ne.u32 %p1, %r1, 12345;
    @%p1 bra AGAIN;
    ret;
}
";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, scenario, libcuda] = arguments.as_slice() else {
        panic!("usage: guest-program init|order|threads|forever|copying|fork|ipc-owner|ipc-user|event-owner|event-user|pool-owner|pool-user|exit|steady LIBCUDA");
    };
    let cuda = Cuda::load(Path::new(libcuda));
    match scenario.as_str() {
        "init" => println!("{}", result_of!(cuda.cuInit(0))),
        "order" => order(&cuda),
        "threads" => threads(Path::new(libcuda)),
        "forever" => forever(&cuda),
        "copying" => copying(&cuda),
        "fork" => fork(&cuda),
        "ipc-owner" => ipc_owner(&cuda),
        "ipc-user" => ipc_user(&cuda),
        "event-owner" => event_owner(&cuda),
        "event-user" => event_user(&cuda),
        "pool-owner" => pool_owner(&cuda),
        "pool-user" => pool_user(&cuda),
        "exit" => leave_everything(&cuda),
        "steady" => steady(&cuda),
        other => panic!("no scenario {other}"),
    }
}

fn start(cuda: &Cuda) -> CUcontext {
    must!(cuda.cuInit(0));
    let context = value_of!(cuda.cuDevicePrimaryCtxRetain(CUcontext(0), CUdevice(0)));
    must!(cuda.cuCtxSetCurrent(context));
    context
}

fn kernel(cuda: &Cuda, name: &CStr) -> CUfunction {
    let module = value_of!(cuda.cuModuleLoadData(CUmodule(0), PTX.as_ptr() as Pointer));
    value_of!(cuda.cuModuleGetFunction(CUfunction(0), module, name.as_ptr()))
}

fn launch(cuda: &Cuda, function: CUfunction, mut word: CUdeviceptr, stream: CUstream) {
    let mut params: [Pointer; 1] = [(&raw mut word).cast()];
    let (params, none) = (params.as_mut_ptr(), ptr::null_mut());
    must!(cuda.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, params, none));
}

/// One thread launches, another synchronises and looks, ten thousand times.
fn order(cuda: &Cuda) {
    const TIMES: u32 = 10_000;
    let context = start(cuda);
    let count = kernel(cuda, c"count");
    let word = value_of!(cuda.cuMemAlloc_v2(NULL, 4));
    must!(cuda.cuMemsetD32_v2(word, 0, 1));
    let stream = value_of!(cuda.cuStreamCreate(CUstream(0), 1));
    let (launched, seen) = (AtomicU32::new(0), AtomicU32::new(0));
    let path = std::env::args().nth(2).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let cuda = Cuda::load(Path::new(&path));
            must!(cuda.cuCtxSetCurrent(context));
            for time in 1..=TIMES {
                wait_for(&launched, time);
                must!(cuda.cuStreamSynchronize(stream));
                let mut value = 0_u32;
                must!(cuda.cuMemcpyDtoH_v2((&raw mut value).cast(), word, 4));
                assert_eq!(value, time, "the synchronise came before the launch");
                seen.store(time, Ordering::Release);
            }
        });
        for time in 1..=TIMES {
            launch(cuda, count, word, stream);
            launched.store(time, Ordering::Release);
            wait_for(&seen, time);
        }
    });
    println!("{TIMES} in order");
}

fn wait_for(word: &AtomicU32, value: u32) {
    while word.load(Ordering::Acquire) != value {
        std::thread::yield_now();
    }
}

/// More threads than the channel's first rings, twice, so that rings are added
/// and used again.
fn threads(path: &Path) {
    const THREADS: u32 = 20;
    let cuda = Cuda::load(path);
    let context = start(&cuda);
    for _ in 0..2 {
        std::thread::scope(|scope| {
            for number in 0..THREADS {
                scope.spawn(move || {
                    let cuda = Cuda::load(path);
                    must!(cuda.cuCtxSetCurrent(context));
                    let memory = value_of!(cuda.cuMemAlloc_v2(NULL, 400_000));
                    must!(cuda.cuMemsetD32_v2(memory, number, 100_000));
                    let mut back = vec![0_u32; 100_000];
                    let into = back.as_mut_ptr().cast();
                    must!(cuda.cuMemcpyDtoH_v2(into, memory, 400_000));
                    assert!(back.iter().all(|word| *word == number));
                    must!(cuda.cuMemFree_v2(memory));
                });
            }
        });
    }
    println!("{THREADS} threads");
}

/// Waits for a kernel that does not end, and tells how the wait ended.
fn forever(cuda: &Cuda) {
    start(cuda);
    let word = value_of!(cuda.cuMemAlloc_v2(NULL, 4));
    must!(cuda.cuMemsetD32_v2(word, 0, 1));
    launch(cuda, kernel(cuda, c"forever"), word, CUstream(0));
    eprintln!("waiting");
    let waited = result_of!(cuda.cuCtxSynchronize());
    let mut more = NULL;
    let after = result_of!(cuda.cuMemAlloc_v2(&raw mut more, 4));
    println!("{waited} then {after}");
}

/// Copies for ever, through staging and from host memory.
fn copying(cuda: &Cuda) {
    const BYTES: usize = 64 << 20;
    start(cuda);
    let device = value_of!(cuda.cuMemAlloc_v2(NULL, BYTES));
    let host = value_of!(cuda.cuMemHostAlloc(ptr::null_mut(), BYTES, 0));
    let mut pageable = vec![1_u8; BYTES];
    eprintln!("waiting");
    loop {
        must!(cuda.cuMemcpyHtoD_v2(device, pageable.as_ptr() as Pointer, BYTES));
        must!(cuda.cuMemcpyHtoDAsync_v2(device, host, BYTES, CUstream(0)));
        must!(cuda.cuMemcpyDtoH_v2(pageable.as_mut_ptr().cast(), device, BYTES));
    }
}

/// A forked child must not use its parent's rings.
#[allow(unsafe_code, reason = "fork(2)")]
fn fork(cuda: &Cuda) {
    let context = start(cuda);
    // SAFETY: the child calls only the shim, which must cope, and _exit.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let mut current = CUcontext(0);
        let answer = result_of!(cuda.cuCtxGetCurrent(&raw mut current));
        // SAFETY: ends the child without the parent's handlers.
        unsafe { libc::_exit(i32::try_from(answer.0).unwrap_or(-1)) };
    }
    let mut status = 0;
    // SAFETY: a child of this process and a local.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(value_of!(cuda.cuCtxGetCurrent(CUcontext(0))), context);
    println!("{}", CUresult(libc::WEXITSTATUS(status).unsigned_abs()));
}

/// Ends with memory, host memory, streams and work outstanding.
fn leave_everything(cuda: &Cuda) {
    start(cuda);
    let word = value_of!(cuda.cuMemAlloc_v2(NULL, 64 << 20));
    let host = value_of!(cuda.cuMemHostAlloc(ptr::null_mut(), 16 << 20, 0));
    let stream = value_of!(cuda.cuStreamCreate(CUstream(0), 1));
    must!(cuda.cuMemcpyHtoDAsync_v2(word, host, 16 << 20, stream));
    let count = kernel(cuda, c"count");
    (0..1000).for_each(|_| launch(cuda, count, word, stream));
    println!("left");
}

const SHARED_BYTES: usize = 100_000;

/// A line of standard input.
fn heard() -> String {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    line.trim().to_owned()
}

fn all_are(cuda: &Cuda, memory: CUdeviceptr, byte: u8) -> bool {
    let mut back = vec![0_u8; SHARED_BYTES];
    must!(cuda.cuMemcpyDtoH_v2(back.as_mut_ptr().cast(), memory, SHARED_BYTES));
    back.iter().all(|found| *found == byte)
}

fn shareable() -> CUmemAllocationProp {
    CUmemAllocationProp {
        kind: CU_MEM_ALLOCATION_TYPE_PINNED,
        requestedHandleTypes: CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
        location: CUmemLocation { kind: CU_MEM_LOCATION_TYPE_DEVICE, id: 0 },
        win32HandleMetaData: 0,
        compressionType: 0,
        gpuDirectRDMACapable: 0,
        usage: 0,
        reserved: [0; 4],
    }
}

/// Physical memory at an address where the device reaches it.
fn mapped(cuda: &Cuda, memory: CUmemGenericAllocationHandle, bytes: usize) -> CUdeviceptr {
    let at = value_of!(cuda.cuMemAddressReserve(NULL, bytes, 0, NULL, 0));
    must!(cuda.cuMemMap(at, bytes, 0, memory, 0));
    let location = CUmemLocation { kind: CU_MEM_LOCATION_TYPE_DEVICE, id: 0 };
    let access = CUmemAccessDesc { location, flags: CU_MEM_ACCESS_FLAGS_PROT_READWRITE };
    must!(cuda.cuMemSetAccess(at, bytes, &raw const access, 1));
    at
}

const MAPPED_BYTES: usize = 2 << 20;

/// Shares memory of both kinds; says how to reach it; at a line of input tells
/// what has become of it.
fn ipc_owner(cuda: &Cuda) {
    start(cuda);
    let memory = value_of!(cuda.cuMemAlloc_v2(NULL, SHARED_BYTES));
    must!(cuda.cuMemsetD8_v2(memory, 5, SHARED_BYTES));
    let mut handle = CUipcHandle { bytes: [0; 64] };
    must!(cuda.cuIpcGetMemHandle(&raw mut handle, memory));
    must!(cuda.cuIpcGetMemHandle(&raw mut handle, memory));
    let prop = shareable();
    let none = CUmemGenericAllocationHandle(0);
    let physical = value_of!(cuda.cuMemCreate(none, MAPPED_BYTES, &raw const prop, 0));
    let at = mapped(cuda, physical, MAPPED_BYTES);
    must!(cuda.cuMemsetD8_v2(at, 15, MAPPED_BYTES));
    let mut fd = -1_i32;
    let kind = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    must!(cuda.cuMemExportToShareableHandle((&raw mut fd).cast(), physical, kind, 0));
    must!(cuda.cuCtxSynchronize());
    let hex: String = handle.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("{hex} {} {fd}", std::process::id());
    heard();
    println!("{} {}", all_are(cuda, memory, 6), all_are(cuda, at, 16));
    heard();
}

/// Opens what the line of input names, finds the owner's bytes and leaves its
/// own.
fn ipc_user(cuda: &Cuda) {
    start(cuda);
    let line = heard();
    let words: Vec<&str> = line.split(' ').collect();
    let [hex, pid, fd] = words.as_slice() else { panic!("no handle: {line}") };
    let byte = |at: usize| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).unwrap();
    let handle = CUipcHandle { bytes: std::array::from_fn(byte) };
    let mut memory = NULL;
    let opened = result_of!(cuda.cuIpcOpenMemHandle_v2(&raw mut memory, handle, 1));
    let path = format!("/proc/{pid}/fd/{fd}");
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut physical = CUmemGenericAllocationHandle(0);
    let shared = usize::try_from(std::os::fd::AsRawFd::as_raw_fd(&file)).unwrap() as Pointer;
    let kind = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    let imported = result_of!(cuda.cuMemImportFromShareableHandle(&raw mut physical, shared, kind));
    if opened != CUDA_SUCCESS || imported != CUDA_SUCCESS {
        println!("{opened} {imported}");
        return;
    }
    let at = mapped(cuda, physical, MAPPED_BYTES);
    let found = (all_are(cuda, memory, 5), all_are(cuda, at, 15));
    assert_eq!(value_of!(cuda.cuIpcOpenMemHandle_v2(NULL, handle, 1)), memory);
    must!(cuda.cuIpcCloseMemHandle(memory));
    must!(cuda.cuMemsetD8_v2(memory, 6, SHARED_BYTES));
    must!(cuda.cuMemsetD8_v2(at, 16, MAPPED_BYTES));
    must!(cuda.cuCtxSynchronize());
    must!(cuda.cuIpcCloseMemHandle(memory));
    let gone = result_of!(cuda.cuIpcCloseMemHandle(memory));
    println!("{} {} {gone}", found.0, found.1);
}

/// A pool that can be shared, memory of it, and what names both.
fn pool_owner(cuda: &Cuda) {
    start(cuda);
    let kind = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    let props = CUmemPoolProps {
        allocType: CU_MEM_ALLOCATION_TYPE_PINNED,
        handleTypes: kind,
        location: CUmemLocation { kind: CU_MEM_LOCATION_TYPE_DEVICE, id: 0 },
        ..CUmemPoolProps::new_zeroed()
    };
    let pool = value_of!(cuda.cuMemPoolCreate(CUmemoryPool(0), &raw const props));
    let memory = value_of!(cuda.cuMemAllocFromPoolAsync(NULL, SHARED_BYTES, pool, CUstream(0)));
    must!(cuda.cuMemsetD8_v2(memory, 5, SHARED_BYTES));
    let (mut fd, mut data) = (-1_i32, CUmemPoolPtrExportData { bytes: [0; 64] });
    must!(cuda.cuMemPoolExportToShareableHandle((&raw mut fd).cast(), pool, kind, 0));
    must!(cuda.cuMemPoolExportPointer(&raw mut data, memory));
    must!(cuda.cuCtxSynchronize());
    let hex: String = data.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("{hex} {} {fd}", std::process::id());
    heard();
    println!("{}", all_are(cuda, memory, 6));
    heard();
}

/// Imports the pool that the line of input names and its memory, and leaves its own bytes there.
fn pool_user(cuda: &Cuda) {
    start(cuda);
    let line = heard();
    let words: Vec<&str> = line.split(' ').collect();
    let [hex, pid, fd] = words.as_slice() else { panic!("no handle: {line}") };
    let byte = |at: usize| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).unwrap();
    let mut data = CUmemPoolPtrExportData { bytes: std::array::from_fn(byte) };
    let file = std::fs::OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/fd/{fd}")).unwrap();
    let (mut pool, mut memory) = (CUmemoryPool(0), NULL);
    let shared = usize::try_from(std::os::fd::AsRawFd::as_raw_fd(&file)).unwrap() as Pointer;
    let kind = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    let imported = result_of!(cuda.cuMemPoolImportFromShareableHandle(&raw mut pool, shared, kind, 0));
    if imported != CUDA_SUCCESS {
        println!("{imported}");
        return;
    }
    let refused = result_of!(cuda.cuMemAllocFromPoolAsync(&raw mut memory, 16, pool, CUstream(0)));
    assert_ne!(refused, CUDA_SUCCESS, "nothing is allocated from another process's pool");
    must!(cuda.cuMemPoolImportPointer(&raw mut memory, pool, &raw mut data));
    let found = all_are(cuda, memory, 5);
    must!(cuda.cuMemsetD8_v2(memory, 6, SHARED_BYTES));
    must!(cuda.cuCtxSynchronize());
    must!(cuda.cuMemFree_v2(memory));
    must!(cuda.cuMemPoolDestroy(pool));
    println!("{found}");
}

/// Records an event on a stream that is held up until a line of input.
fn event_owner(cuda: &Cuda) {
    start(cuda);
    let stream = value_of!(cuda.cuStreamCreate(CUstream(0), 1));
    let word = value_of!(cuda.cuMemAlloc_v2(NULL, 4));
    must!(cuda.cuMemsetD32_v2(word, 0, 1));
    must!(cuda.cuCtxSynchronize());
    let event = value_of!(cuda.cuEventCreate(CUevent(0), 6));
    must!(cuda.cuStreamWaitValue32(stream, word, 1, 0));
    must!(cuda.cuEventRecord(event, stream));
    let mut handle = CUipcHandle { bytes: [0; 64] };
    must!(cuda.cuIpcGetEventHandle(&raw mut handle, event));
    let hex: String = handle.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("{hex}");
    heard();
    must!(cuda.cuMemsetD32_v2(word, 1, 1));
    must!(cuda.cuStreamSynchronize(stream));
    println!("over");
    heard();
}

/// Opens the event that the line of input names; waits for it after the next.
fn event_user(cuda: &Cuda) {
    start(cuda);
    let hex = heard();
    let byte = |at: usize| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).unwrap();
    let handle = CUipcHandle { bytes: std::array::from_fn(byte) };
    let event = value_of!(cuda.cuIpcOpenEventHandle(CUevent(0), handle));
    let stream = value_of!(cuda.cuStreamCreate(CUstream(0), 1));
    must!(cuda.cuStreamWaitEvent(stream, event, 0));
    println!("{} {}", result_of!(cuda.cuEventQuery(event)), result_of!(cuda.cuStreamQuery(stream)));
    must!(cuda.cuEventSynchronize(event));
    must!(cuda.cuStreamSynchronize(stream));
    println!("{}", result_of!(cuda.cuEventQuery(event)));
}

/// Launches kernels, looks at what they have done and says how many there were, until its standard input ends.
fn steady(cuda: &Cuda) {
    static ENDS: AtomicBool = AtomicBool::new(false);
    start(cuda);
    let count = kernel(cuda, c"count");
    let word = value_of!(cuda.cuMemAlloc_v2(NULL, 16 << 20));
    must!(cuda.cuMemsetD32_v2(word, 0, 1));
    std::thread::spawn(|| {
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
        ENDS.store(true, Ordering::SeqCst);
    });
    let mut total = 0;
    while !ENDS.load(Ordering::SeqCst) {
        for _ in 0..BATCH {
            launch(cuda, count, word, CUstream(0));
        }
        total += BATCH;
        must!(cuda.cuCtxSynchronize());
        let mut value = 0_u32;
        must!(cuda.cuMemcpyDtoH_v2((&raw mut value).cast(), word, 4));
        assert_eq!(u64::from(value), total);
        println!("{total}");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    must!(cuda.cuMemFree_v2(word));
}
