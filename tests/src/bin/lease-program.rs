//! A CUDA program that works for a while, for tests of leases: `lease-program
//! SCENARIO LIBCUDA MILLISECONDS`, or `-` for until standard input ends, prints one line, nanoseconds that passed and
//! commands that were done; wrong results end it otherwise.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program fails by panicking")]

use std::ffi::c_void;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::spin::Spin;
use paravane_tests::{must, result_of, value_of};

const NULL: CUdeviceptr = CUdeviceptr(0);
const GLOBAL: CUstreamCaptureMode = CU_STREAM_CAPTURE_MODE_GLOBAL;

/// Nobody waits for more.
static ENDS: AtomicBool = AtomicBool::new(false);

struct Program {
    cuda: Cuda,
    spin: Spin,
    word: CUdeviceptr,
    stream: CUstream,
    started: Instant,
    limit: Duration,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, scenario, libcuda, milliseconds] = arguments.as_slice() else {
        panic!("usage: lease-program stream|await|graphs|value|function|limit LIBCUDA MILLISECONDS");
    };
    let limit = milliseconds.parse().map_or_else(|_| until_told(), Duration::from_millis);
    let program = Program::start(Path::new(libcuda), limit);
    let done = match scenario.as_str() {
        "stream" => program.stream(),
        "await" => program.awaits(),
        "graphs" => program.graphs(),
        "long" => program.long(),
        "copies" => return program.copy(),
        "value" => program.value(),
        "function" => program.function(),
        "limit" => return program.exceed_limit(),
        "one-multiprocessor" => return program.use_one_multiprocessor(),
        other => panic!("no scenario {other}"),
    };
    let passed = program.started.elapsed().as_nanos();
    assert_eq!(program.read(program.word), done, "commands were lost");
    println!("{passed} {done}");
}

/// The program ends with its standard input.
fn until_told() -> Duration {
    std::thread::spawn(|| {
        // Whatever ends it: nobody waits for more.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        ENDS.store(true, Ordering::SeqCst);
    });
    Duration::MAX
}

/// Everything tells of one multiprocessor.
fn check_one(cuda: &Cuda, primary: CUcontext) {
    let count = value_of!(cuda.cuDeviceGetAttribute(0, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, CUdevice(0)));
    assert_eq!(count, 1);
    let mut of = CUdevResource::default();
    must!(cuda.cuCtxGetDevResource(primary, &raw mut of, CU_DEV_RESOURCE_TYPE_SM));
    assert_eq!(of.value[0], 1);
    let stream = value_of!(cuda.cuStreamCreate(CUstream(0), 0));
    must!(cuda.cuStreamGetDevResource(stream, &raw mut of, CU_DEV_RESOURCE_TYPE_SM));
    assert_eq!(of.value[0], 1);
    must!(cuda.cuStreamGetDevResource(CUstream(0), &raw mut of, CU_DEV_RESOURCE_TYPE_SM));
    assert_eq!(of.value[0], 1);
}

impl Program {
    fn start(libcuda: &Path, limit: Duration) -> Self {
        let cuda = Cuda::load(libcuda);
        must!(cuda.cuInit(0));
        let spin = Spin::new(&cuda, 0);
        let (word, stream) = (spin.word, spin.stream);
        Self { cuda, spin, word, stream, started: Instant::now(), limit }
    }

    fn launch(&self, turns: u32, stream: CUstream) {
        self.spin.launch(&self.cuda, turns, stream);
    }

    fn read(&self, at: CUdeviceptr) -> u32 {
        Spin::read(&self.cuda, at)
    }

    fn goes_on(&self) -> bool {
        !ENDS.load(Ordering::SeqCst) && self.started.elapsed() < self.limit
    }

    /// Many launches ahead of each synchronise.
    fn stream(&self) -> u32 {
        let (cuda, mut done) = (&self.cuda, 0);
        while self.goes_on() {
            (0..32).for_each(|_| self.launch(3000, self.stream));
            done += 32;
            must!(cuda.cuStreamSynchronize(self.stream));
        }
        done
    }

    /// A synchronise after each launch.
    fn awaits(&self) -> u32 {
        let (cuda, mut done) = (&self.cuda, 0);
        while self.goes_on() {
            self.launch(3000, self.stream);
            done += 1;
            must!(cuda.cuStreamSynchronize(self.stream));
        }
        done
    }

    /// A graph that was captured while another stream works; memsets between.
    fn graphs(&self) -> u32 {
        const NODES: u32 = 8;
        let cuda = &self.cuda;
        let captured = value_of!(cuda.cuStreamCreate(CUstream(0), 1));
        let (mut done, mut round) = (0, 0);
        let aside = CUdeviceptr(self.word.0 + 64);
        while self.goes_on() {
            must!(cuda.cuStreamBeginCapture_v2(captured, GLOBAL));
            (0..NODES).for_each(|_| self.launch(2000, captured));
            self.launch(2000, self.stream);
            done += 1;
            let mut graph = CUgraph(0);
            must!(cuda.cuStreamEndCapture(captured, &raw mut graph));
            let exec = value_of!(cuda.cuGraphInstantiateWithFlags(CUgraphExec(0), graph, 0));
            must!(cuda.cuStreamSynchronize(self.stream));
            for _ in 0..4 {
                must!(cuda.cuGraphLaunch(exec, captured));
                done += NODES;
            }
            round += 1;
            must!(cuda.cuMemsetD32Async(aside, round, 1, captured));
            must!(cuda.cuStreamSynchronize(captured));
            must!(cuda.cuGraphExecDestroy(exec));
            must!(cuda.cuGraphDestroy(graph));
        }
        assert_eq!(self.read(aside), round);
        done
    }

    /// Kernels of some 0.2 s, two ahead.
    fn long(&self) -> u32 {
        let (cuda, mut done) = (&self.cuda, 0);
        while self.goes_on() {
            (0..2).for_each(|_| self.launch(10_000_000, self.stream));
            done += 2;
            must!(cuda.cuStreamSynchronize(self.stream));
        }
        done
    }

    /// Copies from pinned memory to the device, each awaited.
    fn copy(&self) {
        const BYTES: usize = 8 << 20;
        let (cuda, mut copies) = (&self.cuda, 0);
        let host = value_of!(cuda.cuMemHostAlloc(ptr::null_mut(), BYTES, 0));
        let device = value_of!(cuda.cuMemAlloc_v2(NULL, BYTES));
        self.launch(1, self.stream);
        while self.goes_on() {
            must!(cuda.cuMemcpyHtoD_v2(device, host, BYTES));
            copies += 1;
        }
        println!("{} {copies}", self.started.elapsed().as_nanos());
    }

    /// A stream that waits for what this thread writes only after more launches
    /// than may be in flight.
    fn value(&self) -> u32 {
        let cuda = &self.cuda;
        let (flag, other) = (CUdeviceptr(self.word.0 + 128), value_of!(cuda.cuStreamCreate(CUstream(0), 1)));
        let (mut done, mut round) = (0, 0);
        while self.goes_on() {
            round += 1;
            must!(cuda.cuStreamWaitValue32_v2(self.stream, flag, round, 0));
            (0..24).for_each(|_| self.launch(20_000, self.stream));
            done += 24;
            must!(cuda.cuStreamWriteValue32_v2(other, flag, round, 0));
            must!(cuda.cuCtxSynchronize());
        }
        done
    }

    /// A stream that waits for its own program is none of the limit's business;
    /// a kernel that does not end is.
    fn exceed_limit(&self) {
        let (cuda, flag) = (&self.cuda, CUdeviceptr(self.word.0 + 128));
        let other = value_of!(cuda.cuStreamCreate(CUstream(0), 1));
        must!(cuda.cuStreamWaitValue32_v2(self.stream, flag, 1, 0));
        self.launch(1, self.stream);
        std::thread::sleep(self.limit);
        must!(cuda.cuStreamWriteValue32_v2(other, flag, 1, 0));
        must!(cuda.cuStreamSynchronize(self.stream));
        assert_eq!(self.read(self.word), 1);
        // A stream that is blocked for ever hides nothing.
        let never = CUdeviceptr(self.word.0 + 192);
        must!(cuda.cuStreamWaitValue32_v2(other, never, 1, 0));
        self.launch(1, other);
        // Endless, for as long as the test waits; at once waited for.
        self.launch(u32::MAX, self.stream);
        let result = result_of!(cuda.cuStreamSynchronize(self.stream));
        assert_eq!(result, CUDA_ERROR_LAUNCH_TIMEOUT);
        println!("{} 1", self.started.elapsed().as_nanos());
    }

    /// All that is told of the device is one multiprocessor, also after the
    /// primary context has ended, on another thread too, and what would have more
    /// is refused.
    fn use_one_multiprocessor(&self) {
        let cuda = &self.cuda;
        let primary = value_of!(cuda.cuCtxGetCurrent(CUcontext(0)));
        check_one(cuda, primary);
        self.launch(100, self.stream);
        assert_eq!(self.read(self.word), 1);
        let mut of = CUdevResource::default();
        let refused = result_of!(cuda.cuDeviceGetDevResource(CUdevice(0), &raw mut of, CU_DEV_RESOURCE_TYPE_SM));
        assert_eq!(refused, CUDA_ERROR_NOT_SUPPORTED);
        let mut other = CUcontext(0);
        assert_eq!(result_of!(cuda.cuCtxCreate_v2(&raw mut other, 0, CUdevice(0))), CUDA_ERROR_NOT_SUPPORTED);
        let is_active = || {
            let (mut flags, mut active) = (0, 0);
            must!(cuda.cuDevicePrimaryCtxGetState(CUdevice(0), &raw mut flags, &raw mut active));
            active != 0
        };
        let retain = || {
            assert_eq!(value_of!(cuda.cuDevicePrimaryCtxRetain(CUcontext(0), CUdevice(0))), primary);
            assert!(is_active());
        };
        retain();
        must!(cuda.cuDevicePrimaryCtxRelease_v2(CUdevice(0)));
        assert!(is_active(), "it was retained twice");
        must!(cuda.cuDevicePrimaryCtxRelease_v2(CUdevice(0)));
        assert!(!is_active());
        retain();
        check_one(cuda, primary);
        let (retained, ended) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let cuda = &Cuda::load(Path::new(&std::env::args().nth(2).unwrap()));
                must!(cuda.cuCtxSetCurrent(primary));
                check_one(cuda, primary);
                retained.wait();
                ended.wait();
                check_one(cuda, primary);
            });
            retained.wait();
            must!(cuda.cuDevicePrimaryCtxReset_v2(CUdevice(0)));
            retain();
            ended.wait();
            check_one(cuda, primary);
        });
        println!("{} 1", self.started.elapsed().as_nanos());
    }

    /// The same with a host function that waits for this thread.
    fn function(&self) -> u32 {
        static MAY_END: AtomicBool = AtomicBool::new(false);
        unsafe extern "C" fn hold(_: *mut c_void) {
            while !MAY_END.swap(false, Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let (cuda, mut done) = (&self.cuda, 0);
        while self.goes_on() {
            must!(cuda.cuLaunchHostFunc(self.stream, Some(hold), ptr::null_mut()));
            (0..100).for_each(|_| self.launch(20_000, self.stream));
            done += 100;
            MAY_END.store(true, Ordering::SeqCst);
            must!(cuda.cuCtxSynchronize());
        }
        done
    }
}
