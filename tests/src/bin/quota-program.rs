//! A CUDA program for the tests of memory quotas. `quota-program SCENARIO LIBCUDA
//! …` prints a line or two, what the scenario found.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program fails by panicking")]
#![allow(unsafe_code, reason = "memory of the program's own")]

use std::io::Read;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::{must, result_of, value_of};
use zerocopy::FromZeros;

const NULL: CUdeviceptr = CUdeviceptr(0);
const STREAM: CUstream = CUstream(0);
const DEVICE: CUmemLocation = CUmemLocation { kind: CU_MEM_LOCATION_TYPE_DEVICE, id: 0 };
/// What each kind allocates.
const BYTES: usize = 4 << 20;
const CHUNK: usize = 64 << 10;

/// A module with a variable of [`BYTES`].
const VARIABLE: &std::ffi::CStr = c"
.version 7.0
.target sm_70
.address_size 64
.visible .global .align 4 .b8 variable[4194304];
.visible .entry nothing() { ret; }
";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, scenario, libcuda, rest @ ..] = arguments.as_slice() else {
        panic!("usage: quota-program kinds|known|fill|fill-pools|churn|free|pool|caching|figures|import LIBCUDA …");
    };
    let cuda = Cuda::load(Path::new(libcuda));
    must!(cuda.cuInit(0));
    let context = value_of!(cuda.cuDevicePrimaryCtxRetain(CUcontext(0), CUdevice(0)));
    must!(cuda.cuCtxSetCurrent(context));
    match scenario.as_str() {
        "kinds" => kinds(&cuda, |_| true),
        // Graphs' memory is the library's own; other sizes are no multiples of its granule.
        "known" => kinds(&cuda, |kind| !["allocation node", "cuMipmappedArrayCreate", "granule"].contains(&kind.name)),
        "fill" => fill(Path::new(libcuda), context, false),
        "fill-pools" => fill(Path::new(libcuda), context, true),
        "churn" => churn(Path::new(libcuda), context),
        "free" => println!("{}", info(&cuda).0),
        "pool" => pool(&cuda),
        "caching" => caching(&cuda),
        "figures" => figures(&cuda, rest),
        "import" => import(&cuda, rest),
        other => panic!("no scenario {other}"),
    }
}

/// Free and total.
fn info(cuda: &Cuda) -> (usize, usize) {
    let (mut free, mut total) = (0, 0);
    must!(cuda.cuMemGetInfo_v2(&raw mut free, &raw mut total));
    assert_eq!(value_of!(cuda.cuDeviceTotalMem_v2(0, CUdevice(0))), total);
    (free, total)
}

fn free(cuda: &Cuda) -> usize {
    info(cuda).0
}

/// One kind of allocation: how much it takes, how it is made and ended.
struct Kind {
    name: &'static str,
    bytes: usize,
    make: fn(&Cuda) -> Result<u64, CUresult>,
    end: fn(&Cuda, u64),
}

macro_rules! tried {
    ($cuda:ident . $name:ident ($zero:expr $(, $arg:expr)* $(,)?)) => {{
        let mut value = $zero;
        match result_of!($cuda.$name(&raw mut value $(, $arg)*)) {
            CUDA_SUCCESS => Ok(value),
            error => Err(error),
        }
    }};
}

const ALL: [Kind; 16] = [
    Kind { name: "cuMemAlloc", bytes: BYTES, make: |cuda| tried!(cuda.cuMemAlloc_v2(NULL, BYTES)).map(|at| at.0), end: end_memory },
    Kind { name: "granule", bytes: 512, make: |cuda| tried!(cuda.cuMemAlloc_v2(NULL, 1)).map(|at| at.0), end: end_memory },
    Kind { name: "cuMemAllocPitch", bytes: BYTES, make: pitched, end: end_memory },
    Kind { name: "cuMemAllocAsync", bytes: BYTES, make: |cuda| tried!(cuda.cuMemAllocAsync(NULL, BYTES, STREAM)).map(|at| at.0), end: end_async },
    Kind { name: "cuMemAllocAsync, cuMemFree", bytes: BYTES, make: |cuda| tried!(cuda.cuMemAllocAsync(NULL, BYTES, STREAM)).map(|at| at.0), end: end_memory },
    Kind { name: "cuMemCreate", bytes: BYTES, make: created, end: |cuda, handle| must!(cuda.cuMemRelease(CUmemGenericAllocationHandle(handle))) },
    Kind { name: "cuMemMap", bytes: BYTES, make: mapped, end: unmap },
    Kind { name: "cuArrayCreate", bytes: BYTES, make: array, end: |cuda, array| must!(cuda.cuArrayDestroy(CUarray(array))) },
    Kind { name: "cuMipmappedArrayCreate", bytes: BYTES + BYTES / 4, make: mipmaps, end: |cuda, array| must!(cuda.cuMipmappedArrayDestroy(CUmipmappedArray(array))) },
    Kind { name: "cuModuleLoadData", bytes: BYTES, make: |cuda| tried!(cuda.cuModuleLoadData(CUmodule(0), VARIABLE.as_ptr() as Pointer)).map(|module| module.0), end: |cuda, module| must!(cuda.cuModuleUnload(CUmodule(module))) },
    Kind { name: "cuLibraryLoadData", bytes: BYTES, make: library, end: |cuda, library| must!(cuda.cuLibraryUnload(CUlibrary(library))) },
    Kind { name: "heap limit", bytes: BYTES, make: heap, end: end_heap },
    Kind { name: "cuMemHostAlloc", bytes: BYTES, make: |cuda| tried!(cuda.cuMemHostAlloc(ptr::null_mut(), BYTES, 0)).map(|at| at as u64), end: |cuda, at| must!(cuda.cuMemFreeHost(at as Pointer)) },
    Kind { name: "cuMemHostRegister", bytes: BYTES, make: registered, end: end_registered },
    Kind { name: "cuMemAllocManaged", bytes: BYTES, make: |cuda| tried!(cuda.cuMemAllocManaged(NULL, BYTES, 1)).map(|at| at.0), end: end_memory },
    Kind { name: "allocation node", bytes: BYTES, make: node, end: |cuda, graph| must!(cuda.cuGraphDestroy(CUgraph(graph))) },
];

fn end_memory(cuda: &Cuda, at: u64) {
    must!(cuda.cuMemFree_v2(CUdeviceptr(at)));
}

fn end_async(cuda: &Cuda, at: u64) {
    must!(cuda.cuMemFreeAsync(CUdeviceptr(at), STREAM));
    must!(cuda.cuStreamSynchronize(STREAM));
}

fn pitched(cuda: &Cuda) -> Result<u64, CUresult> {
    let mut pitch = 0;
    let at = tried!(cuda.cuMemAllocPitch_v2(NULL, &raw mut pitch, 1000, BYTES / 1024, 4))?;
    assert_eq!(pitch, 1024);
    Ok(at.0)
}

fn created(cuda: &Cuda) -> Result<u64, CUresult> {
    let prop =
        CUmemAllocationProp { kind: CU_MEM_ALLOCATION_TYPE_PINNED, location: DEVICE, ..CUmemAllocationProp::new_zeroed() };
    tried!(cuda.cuMemCreate(CUmemGenericAllocationHandle(0), BYTES, &raw const prop, 0)).map(|handle| handle.0)
}

/// Memory without a handle of its own: its mapping keeps it.
fn mapped(cuda: &Cuda) -> Result<u64, CUresult> {
    let handle = CUmemGenericAllocationHandle(created(cuda)?);
    let at = value_of!(cuda.cuMemAddressReserve(NULL, BYTES, 0, NULL, 0));
    must!(cuda.cuMemMap(at, BYTES, 0, handle, 0));
    must!(cuda.cuMemRelease(handle));
    Ok(at.0)
}

fn unmap(cuda: &Cuda, at: u64) {
    must!(cuda.cuMemUnmap(CUdeviceptr(at), BYTES));
    must!(cuda.cuMemAddressFree(CUdeviceptr(at), BYTES));
}

static PICTURE: CUDA_ARRAY3D_DESCRIPTOR = CUDA_ARRAY3D_DESCRIPTOR {
    Width: 1024,
    Height: 1024,
    Depth: 0,
    Format: CU_AD_FORMAT_FLOAT,
    NumChannels: 1,
    Flags: 0,
    pad: 0,
};

fn array(cuda: &Cuda) -> Result<u64, CUresult> {
    tried!(cuda.cuArray3DCreate_v2(CUarray(0), &raw const PICTURE)).map(|array| array.0)
}

fn mipmaps(cuda: &Cuda) -> Result<u64, CUresult> {
    tried!(cuda.cuMipmappedArrayCreate(CUmipmappedArray(0), &raw const PICTURE, 2)).map(|array| array.0)
}

fn library(cuda: &Cuda) -> Result<u64, CUresult> {
    let none: Pointer = ptr::null_mut();
    let image = VARIABLE.as_ptr() as Pointer;
    let library =
        tried!(cuda.cuLibraryLoadData(CUlibrary(0), image, none.cast(), none.cast(), 0, none.cast(), none.cast(), 0))?;
    // Its variables are there from its first use on.
    let mut bytes = 0;
    match tried!(cuda.cuLibraryGetGlobal(NULL, &raw mut bytes, library, c"variable".as_ptr())) {
        Ok(_) => Ok(library.0),
        Err(error) => {
            must!(cuda.cuLibraryUnload(library));
            Err(error)
        }
    }
}

const HEAP: CUlimit = CUlimit(2);

fn heap(cuda: &Cuda) -> Result<u64, CUresult> {
    let before = value_of!(cuda.cuCtxGetLimit(0, HEAP));
    match result_of!(cuda.cuCtxSetLimit(HEAP, before + BYTES)) {
        CUDA_SUCCESS => Ok(before as u64),
        error => Err(error),
    }
}

fn end_heap(cuda: &Cuda, before: u64) {
    must!(cuda.cuCtxSetLimit(HEAP, usize::try_from(before).unwrap()));
}

fn registered(cuda: &Cuda) -> Result<u64, CUresult> {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: fresh pages.
    let pages = unsafe { libc::mmap(ptr::null_mut(), BYTES, protection, flags, -1, 0) };
    match result_of!(cuda.cuMemHostRegister_v2(pages.cast(), BYTES, 0)) {
        CUDA_SUCCESS => Ok(pages as u64),
        error => {
            // SAFETY: mapped above.
            unsafe { libc::munmap(pages, BYTES) };
            Err(error)
        }
    }
}

fn end_registered(cuda: &Cuda, at: u64) {
    must!(cuda.cuMemHostUnregister(at as Pointer));
    // SAFETY: mapped by registered().
    unsafe { libc::munmap(at as *mut libc::c_void, BYTES) };
}

fn node(cuda: &Cuda) -> Result<u64, CUresult> {
    let graph = value_of!(cuda.cuGraphCreate(CUgraph(0), 0));
    let mut props = [0_u64; 11];
    // Pinned memory, no handle types, on device 0.
    (props[0], props[1]) = (1, 1);
    let mut params = CUDA_MEM_ALLOC_NODE_PARAMS { poolProps: props, bytesize: BYTES as u64, ..Default::default() };
    match tried!(cuda.cuGraphAddMemAllocNode(CUgraphNode(0), graph, ptr::null(), 0, &raw mut params)) {
        Ok(_) => Ok(graph.0),
        Err(error) => {
            must!(cuda.cuGraphDestroy(graph));
            Err(error)
        }
    }
}

/// Each kind takes what it takes to the byte, is refused beyond the quota, and is
/// given back.
fn kinds(cuda: &Cuda, is_tried: fn(&&Kind) -> bool) {
    let told: Vec<String> = ALL.iter().filter(is_tried).filter_map(|kind| wrong(cuda, kind)).collect();
    println!("{}", if told.is_empty() { "all".to_string() } else { told.join("; ") });
}

fn wrong(cuda: &Cuda, kind: &Kind) -> Option<String> {
    let Kind { name, bytes, make, end } = *kind;
    let before = free(cuda);
    let told = |what: &str, found: &dyn std::fmt::Debug| Some(format!("{name}: {what}: {found:?}"));
    let Ok(made) = make(cuda) else { return told("refused within the quota", &before) };
    let taken = before - free(cuda);
    end(cuda, made);
    if taken != bytes {
        return told("takes", &taken);
    }
    if free(cuda) != before {
        return told("keeps", &(before - free(cuda)));
    }
    // Everything but one granule less than it needs.
    let filler = value_of!(cuda.cuMemAlloc_v2(NULL, before - bytes + 512));
    let left = free(cuda);
    match make(cuda) {
        Err(CUDA_ERROR_OUT_OF_MEMORY) => {}
        other => return told("beyond the quota", &other),
    }
    if free(cuda) != left {
        return told("a refusal changes", &(left, free(cuda)));
    }
    must!(cuda.cuMemFree_v2(filler));
    let filler = (before > bytes).then(|| value_of!(cuda.cuMemAlloc_v2(NULL, before - bytes)));
    let Ok(made) = make(cuda) else { return told("does not fit in to the byte", &free(cuda)) };
    if free(cuda) != 0 {
        return told("leaves", &free(cuda));
    }
    end(cuda, made);
    filler.into_iter().for_each(|filler| must!(cuda.cuMemFree_v2(filler)));
    (free(cuda) != before).then(|| format!("{name}: {} at last, {before} at first", free(cuda)))
}

/// Three threads allocate until there is nothing more; what they have, until
/// standard input ends.
fn fill(libcuda: &Path, context: CUcontext, is_ordered: bool) {
    let held = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let cuda = Cuda::load(libcuda);
                must!(cuda.cuCtxSetCurrent(context));
                let stream = value_of!(cuda.cuStreamCreate(CUstream(0), 1));
                let allocate = |bytes| {
                    if is_ordered {
                        tried!(cuda.cuMemAllocAsync(NULL, bytes, stream))
                    } else {
                        tried!(cuda.cuMemAlloc_v2(NULL, bytes))
                    }
                };
                let mut bytes = CHUNK * 8;
                while bytes >= CHUNK {
                    match allocate(bytes) {
                        Ok(_) => held.fetch_add(bytes as u64, Ordering::Relaxed),
                        Err(CUDA_ERROR_OUT_OF_MEMORY) => {
                            bytes /= 2;
                            0
                        }
                        Err(error) => panic!("{error}"),
                    };
                }
            });
        }
    });
    println!("{}", held.into_inner());
    // Ends with its parent's interest.
    let _ = std::io::stdin().read(&mut [0]);
}

/// Allocates and frees in three threads until it or its worker is killed.
fn churn(libcuda: &Path, context: CUcontext) {
    println!("churning");
    std::thread::scope(|scope| {
        for thread in 1..=3 {
            scope.spawn(move || {
                let cuda = Cuda::load(libcuda);
                must!(cuda.cuCtxSetCurrent(context));
                let mut held = Vec::new();
                loop {
                    match tried!(cuda.cuMemAlloc_v2(NULL, CHUNK * thread)) {
                        Ok(at) => held.push(at),
                        Err(CUDA_ERROR_OUT_OF_MEMORY) => {}
                        Err(_) => std::process::exit(1),
                    }
                    if held.len() > 20 {
                        held.drain(..).for_each(|at| must!(cuda.cuMemFree_v2(at)));
                    }
                }
            });
        }
    });
}

/// A pool that keeps everything hides nothing, and gives way.
fn pool(cuda: &Cuda) {
    let pool = value_of!(cuda.cuDeviceGetDefaultMemPool(CUmemoryPool(0), CUdevice(0)));
    let mut threshold = u64::MAX;
    let into = (&raw mut threshold).cast();
    must!(cuda.cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, into));
    let before = free(cuda);
    let most = before / 2 + BYTES;
    let at = value_of!(cuda.cuMemAllocAsync(NULL, most, STREAM));
    assert_eq!(free(cuda), before - most);
    must!(cuda.cuMemFreeAsync(at, STREAM));
    must!(cuda.cuStreamSynchronize(STREAM));
    assert_eq!(free(cuda), before - most, "the pool keeps it");
    let again = value_of!(cuda.cuMemAllocAsync(NULL, most, STREAM));
    assert_eq!(free(cuda), before - most, "and has given it again");
    must!(cuda.cuMemFreeAsync(again, STREAM));
    let plain = value_of!(cuda.cuMemAlloc_v2(NULL, before));
    assert_eq!(free(cuda), 0, "it gives way");
    must!(cuda.cuMemFree_v2(plain));
    // A pool's handle may end before its memory.
    let props = CUmemPoolProps { allocType: CU_MEM_ALLOCATION_TYPE_PINNED, location: DEVICE, ..CUmemPoolProps::new_zeroed() };
    let own = value_of!(cuda.cuMemPoolCreate(CUmemoryPool(0), &raw const props));
    let at = value_of!(cuda.cuMemAllocFromPoolAsync(NULL, BYTES, own, STREAM));
    must!(cuda.cuMemPoolDestroy(own));
    assert_eq!(free(cuda), before - BYTES);
    must!(cuda.cuMemFree_v2(at));
    assert_eq!(free(cuda), before);
    println!("given");
}

/// As PyTorch and CuPy allocate: what is freed is kept, and let go when an
/// allocation fails.
fn caching(cuda: &Cuda) {
    let quota = free(cuda);
    let mut cache = Vec::new();
    while let Ok(at) = tried!(cuda.cuMemAlloc_v2(NULL, BYTES)) {
        cache.push(at);
    }
    assert_eq!(cache.len(), quota / BYTES);
    assert_eq!(tried!(cuda.cuMemAlloc_v2(NULL, 4 * BYTES)), Err(CUDA_ERROR_OUT_OF_MEMORY));
    cache.drain(..).for_each(|at| must!(cuda.cuMemFree_v2(at)));
    let large = value_of!(cuda.cuMemAlloc_v2(NULL, 4 * BYTES));
    must!(cuda.cuMemsetD8_v2(large, 7, 4 * BYTES));
    let mut byte = 0_u8;
    must!(cuda.cuMemcpyDtoH_v2((&raw mut byte).cast(), CUdeviceptr(large.0 + 3 * BYTES as u64), 1));
    assert_eq!(byte, 7);
    println!("{}", cuda.left_out().len().min(1));
}

/// Opens what `guest-program ipc-owner` shares: free before and then.
fn import(cuda: &Cuda, rest: &[String]) {
    let [hex, pid, fd] = rest else { panic!("import LIBCUDA HANDLE PID FD") };
    let before = free(cuda);
    let byte = |at: usize| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).unwrap();
    let handle = CUipcHandle { bytes: std::array::from_fn(byte) };
    let memory = value_of!(cuda.cuIpcOpenMemHandle_v2(NULL, handle, 1));
    let file = std::fs::File::options().read(true).write(true).open(format!("/proc/{pid}/fd/{fd}")).unwrap();
    let shared = usize::try_from(std::os::fd::AsRawFd::as_raw_fd(&file)).unwrap() as Pointer;
    let kind = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    let none = CUmemGenericAllocationHandle(0);
    let physical = value_of!(cuda.cuMemImportFromShareableHandle(none, shared, kind));
    println!("{before} {}", free(cuda));
    must!(cuda.cuIpcCloseMemHandle(memory));
    must!(cuda.cuMemRelease(physical));
    assert_eq!(free(cuda), before);
}

/// Holds so many bytes of the device and so many pinned, and tells free and total.
fn figures(cuda: &Cuda, rest: &[String]) {
    let [device, pinned] = rest else { panic!("figures LIBCUDA DEVICE PINNED") };
    let _device = value_of!(cuda.cuMemAlloc_v2(NULL, device.parse().unwrap()));
    let _pinned = value_of!(cuda.cuMemHostAlloc(ptr::null_mut(), pinned.parse().unwrap(), 0));
    let (free, total) = info(cuda);
    println!("{free} {total}");
    // Ends with its parent's interest.
    let _ = std::io::stdin().read(&mut [0]);
    let (free, total) = info(cuda);
    println!("{free} {total}");
}
