//! A program that is careless with its libcuda: it calls too early, too late,
//! with nothing, after a fork, under signals, and unloads the library.
//! `rough-program SCENARIO LIBCUDA` prints what the scenario found.
#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "foreign functions; a test program fails by panicking"
)]

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{ptr, thread};

use libloading::Library;
use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::{Cuda, SYMBOLS};
use paravane_tests::{must, result_of, value_of};

const NULL: CUdeviceptr = CUdeviceptr(0);
const BYTES: usize = 1 << 20;

macro_rules! names {
    ($($reason:literal: [$($name:ident;)*])*) => { const ABSENT: &[&str] = &[$($(stringify!($name)),*),*]; };
}
paravane_protocol::cuda_api_absent!(names);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, scenario, libcuda] = arguments.as_slice() else {
        panic!("usage: rough-program early|nothing|unload|late|signals|together|one-by-one|fork LIBCUDA");
    };
    let path = Path::new(libcuda);
    match scenario.as_str() {
        "early" => early(path),
        "nothing" => nothing(path),
        "unload" => unload(path),
        "late" => late(path),
        "signals" => signals(path),
        "together" => together(path),
        "one-by-one" => one_by_one(path),
        "fork" => fork(path),
        other => panic!("no scenario {other}"),
    }
}

fn start(cuda: &Cuda) -> CUcontext {
    must!(cuda.cuInit(0));
    let context = value_of!(cuda.cuDevicePrimaryCtxRetain(CUcontext(0), CUdevice(0)));
    must!(cuda.cuCtxSetCurrent(context));
    context
}

/// Bytes go to the device and come back.
fn round_trip(cuda: &Cuda) {
    let memory = value_of!(cuda.cuMemAlloc_v2(NULL, BYTES));
    let there: Vec<u8> = (0..BYTES).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect();
    let mut back = vec![0_u8; BYTES];
    must!(cuda.cuMemcpyHtoD_v2(memory, there.as_ptr() as Pointer, BYTES));
    must!(cuda.cuMemcpyDtoH_v2(back.as_mut_ptr().cast(), memory, BYTES));
    must!(cuda.cuMemFree_v2(memory));
    assert!(there == back, "other bytes came back");
}

/// Calls a function of any prototype with zeros and null pointers.
fn call_with_nothing(library: &Library, name: &str) -> CUresult {
    type Zeros = unsafe extern "C" fn([usize; 16], usize, usize, usize, usize, usize, usize) -> CUresult;
    // SAFETY: a symbol of a libcuda, which is a function.
    let function = unsafe { library.get::<Zeros>(name.as_bytes()) }.unwrap();
    // SAFETY: by the calling convention the six words go to registers and the
    // array to the stack, where a function of fewer arguments does not look.
    unsafe { function([0; 16], 0, 0, 0, 0, 0, 0) }
}

fn all_names() -> impl Iterator<Item = &'static str> {
    SYMBOLS.iter().chain(ABSENT).copied()
}

/// Which functions answer something else than that libcuda is not initialised.
fn early(path: &Path) {
    // SAFETY: a libcuda of ours.
    let library = unsafe { Library::new(path) }.unwrap();
    for name in all_names().filter(|name| *name != "cuInit") {
        eprintln!("{name}");
        let answer = call_with_nothing(&library, name);
        if answer != CUDA_ERROR_NOT_INITIALIZED && !ABSENT.contains(&name) {
            println!("{name} {answer}");
        }
    }
}

/// Every function with nothing, in a context; then everything still works.
fn nothing(path: &Path) {
    let cuda = Cuda::load(path);
    // SAFETY: a libcuda of ours.
    let library = unsafe { Library::new(path) }.unwrap();
    let context = start(&cuda);
    let mut calls = 0;
    for name in all_names() {
        eprintln!("{name}");
        let _ = call_with_nothing(&library, name);
        calls += 1;
        // Some take the context away, one ends it.
        must!(cuda.cuCtxSetCurrent(context));
    }
    must!(cuda.cuCtxSetCurrent(value_of!(cuda.cuDevicePrimaryCtxRetain(CUcontext(0), CUdevice(0)))));
    round_trip(&cuda);
    println!("{}", if calls > 700 { "all" } else { "few" });
}

/// The library goes away with everything open, and comes again.
fn unload(path: &Path) {
    for _ in 0..3 {
        let owned = path.to_owned();
        // A thread that ends, so that nothing of its own keeps the library.
        thread::spawn(move || {
            let cuda = Cuda::load(&owned);
            start(&cuda);
            round_trip(&cuda);
        })
        .join()
        .unwrap();
        let count = Command::new("true").status().unwrap();
        assert!(count.success());
    }
    println!("three times");
}

static LATE: OnceLock<(PathBuf, CUdeviceptr)> = OnceLock::new();

/// Calls from an exit handler that was there before the library, while another
/// thread is still calling.
fn late(path: &Path) {
    extern "C" fn handler() {
        let Some((path, memory)) = LATE.get() else { return };
        let cuda = Cuda::load(path);
        let answers = [result_of!(cuda.cuMemFree_v2(*memory)), result_of!(cuda.cuCtxSynchronize())];
        let released = result_of!(cuda.cuDevicePrimaryCtxRelease_v2(CUdevice(0)));
        let fine = [CUDA_SUCCESS, CUDA_ERROR_DEINITIALIZED];
        let all = answers.iter().chain([&released]).all(|answer| fine.contains(answer));
        println!("{}", if all { "freed at exit" } else { "refused at exit" });
    }
    // SAFETY: the handler is a function of this program.
    unsafe { libc::atexit(handler) };
    let cuda = Cuda::load(path);
    let context = start(&cuda);
    let memory = value_of!(cuda.cuMemAlloc_v2(NULL, BYTES));
    let owned = path.to_owned();
    let (said, hears) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let cuda = Cuda::load(&owned);
        let _ = result_of!(cuda.cuCtxSetCurrent(context));
        loop {
            let mut memory = NULL;
            let _ = result_of!(cuda.cuMemAlloc_v2(&raw mut memory, BYTES));
            let _ = result_of!(cuda.cuMemFree_v2(memory));
            said.send(()).ok();
        }
    });
    hears.recv().unwrap();
    LATE.set((path.to_owned(), memory)).ok();
}

static SIGNALS: AtomicU64 = AtomicU64::new(0);

/// A timer's signals interrupt whatever waits.
fn signals(path: &Path) {
    extern "C" fn count(_: libc::c_int) {
        SIGNALS.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: zeros are a valid sigaction.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // Without SA_RESTART system calls end with EINTR.
    action.sa_sigaction = count as *const () as usize;
    // SAFETY: the handler only adds to an atomic.
    unsafe { libc::sigaction(libc::SIGALRM, &raw const action, ptr::null_mut()) };
    let every = libc::timeval { tv_sec: 0, tv_usec: 500 };
    let timer = libc::itimerval { it_interval: every, it_value: every };
    let cuda = Cuda::load(path);
    // SAFETY: a local that the kernel reads.
    unsafe { libc::syscall(libc::SYS_setitimer, libc::ITIMER_REAL, &raw const timer, ptr::null_mut::<libc::itimerval>()) };
    start(&cuda);
    while SIGNALS.load(Ordering::Relaxed) < 400 {
        round_trip(&cuda);
        let stream = value_of!(cuda.cuStreamCreate(CUstream(0), 1));
        must!(cuda.cuStreamSynchronize(stream));
        must!(cuda.cuStreamDestroy_v2(stream));
        must!(cuda.cuCtxSynchronize());
    }
    println!("400 signals");
    // SAFETY: no timer's signal shall meet the end of the process.
    unsafe { libc::signal(libc::SIGALRM, libc::SIG_IGN) };
}

/// Sixteen threads make the program's first calls at the same time.
fn together(path: &Path) {
    let gate = std::sync::Barrier::new(16);
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let cuda = Cuda::load(path);
                gate.wait();
                start(&cuda);
                round_trip(&cuda);
            });
        }
    });
    println!("16 threads");
}

/// Threads that come and go leave no descriptor behind.
fn one_by_one(path: &Path) {
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let cuda = Cuda::load(path);
    let context = start(&cuda);
    let one = || {
        thread::scope(|scope| {
            scope.spawn(|| {
                let cuda = Cuda::load(path);
                must!(cuda.cuCtxSetCurrent(context));
                round_trip(&cuda);
            });
        });
    };
    one();
    let before = descriptors();
    (0..200).for_each(|_| one());
    println!("{} more descriptors", descriptors() - before);
}

/// What ran in a child of fork(2), by its exit status.
fn in_child(work: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child calls libcuda, which must cope, and exits.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let code = if work() { 0 } else { 1 };
        // With the exit handlers that it has inherited.
        std::process::exit(code);
    }
    let mut status = 0;
    // SAFETY: a child of this process and a local.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
}

/// A child forked before cuInit has a device of its own; one forked after it is
/// refused, and neither disturbs the parent when it ends.
fn fork(path: &Path) {
    let cuda = Cuda::load(path);
    let before = in_child(|| {
        start(&cuda);
        round_trip(&cuda);
        true
    });
    start(&cuda);
    let memory = value_of!(cuda.cuMemAlloc_v2(NULL, BYTES));
    let after = in_child(|| {
        let answers = [result_of!(cuda.cuInit(0)), result_of!(cuda.cuMemFree_v2(memory))];
        answers == [CUDA_ERROR_NOT_INITIALIZED; 2]
    });
    round_trip(&cuda);
    must!(cuda.cuMemFree_v2(memory));
    // The child of another kind: fork and exec.
    let mut again = Command::new(std::env::current_exe().unwrap());
    let again = again.arg("together").arg(path).output().unwrap();
    let executed = CString::new(again.stdout).unwrap();
    println!("{before} {after} {}", executed.to_string_lossy().trim());
}
