//! A CUDA program that uses one device or two from one thread, for tests of
//! leases: `devices-program SCENARIO LIBCUDA MILLISECONDS` prints how many
//! commands each device was given; wrong results end it otherwise.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program fails by panicking")]

use std::path::Path;
use std::ptr;
use std::time::{Duration, Instant};

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::spin::Spin;
use paravane_tests::{must, value_of};

const TURNS: u32 = 3000;
const BYTES: usize = 4 << 20;

struct Program {
    cuda: Cuda,
    devices: Vec<Spin>,
    started: Instant,
    limit: Duration,
    done: [u32; 2],
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, scenario, libcuda, milliseconds] = arguments.as_slice() else {
        panic!("usage: devices-program both|second|copies|aside LIBCUDA MILLISECONDS");
    };
    let cuda = Cuda::load(Path::new(libcuda));
    must!(cuda.cuInit(0));
    let count = value_of!(cuda.cuDeviceGetCount(0));
    let devices = (0..count).map(|device| Spin::new(&cuda, device)).collect();
    let limit = Duration::from_millis(milliseconds.parse().unwrap());
    let mut program = Program { cuda, devices, started: Instant::now(), limit, done: [0; 2] };
    match scenario.as_str() {
        "both" => program.spin(&[0, 1]),
        "second" => program.spin(&[1]),
        "copies" => program.copy(),
        "aside" => program.copy_aside(),
        other => panic!("no scenario {other}"),
    }
    println!("{} {}", program.done[0], program.done[1]);
}

impl Program {
    fn goes_on(&self) -> bool {
        self.started.elapsed() < self.limit
    }

    /// Kernels on some of the devices, all at once.
    fn spin(&mut self, numbers: &[usize]) {
        while self.goes_on() {
            for number in numbers {
                let (cuda, spin) = (&self.cuda, &self.devices[*number]);
                must!(cuda.cuCtxSetCurrent(spin.context));
                (0..16).for_each(|_| spin.launch(cuda, TURNS, spin.stream));
                self.done[*number] += 16;
            }
            for number in numbers {
                let (cuda, spin) = (&self.cuda, &self.devices[*number]);
                must!(cuda.cuCtxSetCurrent(spin.context));
                must!(cuda.cuStreamSynchronize(spin.stream));
            }
        }
        for number in numbers {
            let (cuda, spin) = (&self.cuda, &self.devices[*number]);
            must!(cuda.cuCtxSetCurrent(spin.context));
            assert_eq!(Spin::read(cuda, spin.word), self.done[*number], "commands were lost");
        }
    }

    /// Copies from the host to the second device.
    fn copy(&mut self) {
        let cuda = &self.cuda;
        must!(cuda.cuCtxSetCurrent(self.devices[1].context));
        let host = value_of!(cuda.cuMemHostAlloc(ptr::null_mut(), BYTES, 0));
        let device = value_of!(cuda.cuMemAlloc_v2(CUdeviceptr(0), BYTES));
        while self.goes_on() {
            must!(cuda.cuMemcpyHtoD_v2(device, host, BYTES));
            self.done[1] += 1;
        }
    }

    /// Copies within the second device, on a stream of its own, while the first one's
    /// context is current.
    fn copy_aside(&mut self) {
        let cuda = &self.cuda;
        let [first, second] = &self.devices[..] else { panic!("two devices") };
        must!(cuda.cuCtxSetCurrent(second.context));
        let [from, to] = [(); 2].map(|()| value_of!(cuda.cuMemAlloc_v2(CUdeviceptr(0), BYTES)));
        must!(cuda.cuMemsetD8_v2(from, 7, BYTES));
        must!(cuda.cuCtxSynchronize());
        must!(cuda.cuCtxSetCurrent(first.context));
        while self.goes_on() {
            must!(cuda.cuMemcpyDtoDAsync_v2(to, from, BYTES, second.stream));
            must!(cuda.cuStreamSynchronize(second.stream));
            self.done[1] += 1;
        }
        assert_eq!(Spin::read(cuda, to), 0x0707_0707);
    }
}
