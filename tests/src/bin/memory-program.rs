//! A CUDA program with memory on several devices: `memory-program LIBCUDA BYTES...`
//! allocates so much on each and writes to all of it. For each line of its standard input it compares
//! all of it and prints what is free on each device.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program fails by panicking")]

use std::path::Path;

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::{must, value_of};

/// Allocations on each device.
const CHUNKS: usize = 4;

/// What is on one device.
struct Side {
    context: CUcontext,
    chunks: Vec<(CUdeviceptr, Vec<u8>)>,
}

impl Side {
    fn new(cuda: &Cuda, device: i32, bytes: usize) -> Self {
        let context = value_of!(cuda.cuDevicePrimaryCtxRetain(CUcontext(0), CUdevice(device)));
        must!(cuda.cuCtxSetCurrent(context));
        let chunk = |number: usize| {
            let len = bytes / CHUNKS;
            let at = value_of!(cuda.cuMemAlloc_v2(CUdeviceptr(0), len));
            let seed = number + CHUNKS * usize::try_from(device).unwrap();
            let byte = |index: usize| u8::try_from((index ^ (index >> 8) ^ (seed * 41)) % 251).unwrap();
            (at, (0..len).map(byte).collect())
        };
        let side = Self { context, chunks: (0..CHUNKS).map(chunk).collect() };
        for (at, bytes) in &side.chunks {
            must!(cuda.cuMemcpyHtoD_v2(*at, bytes.as_ptr() as Pointer, bytes.len()));
        }
        side
    }

    /// Compares all of it; what is free then.
    fn check(&self, cuda: &Cuda) -> usize {
        must!(cuda.cuCtxSetCurrent(self.context));
        for (at, bytes) in &self.chunks {
            let mut back = vec![0_u8; bytes.len()];
            must!(cuda.cuMemcpyDtoH_v2(back.as_mut_ptr().cast(), *at, back.len()));
            assert!(back == *bytes, "memory at {:#x} is wrong", at.0);
        }
        let (mut free, mut total) = (0, 0);
        must!(cuda.cuMemGetInfo_v2(&raw mut free, &raw mut total));
        free
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, libcuda, bytes @ ..] = arguments.as_slice() else { panic!("usage: memory-program LIBCUDA BYTES...") };
    let cuda = Cuda::load(Path::new(libcuda));
    must!(cuda.cuInit(0));
    let sides: Vec<Side> = (0..).zip(bytes).map(|(device, bytes)| Side::new(&cuda, device, bytes.parse().unwrap())).collect();
    for _ in std::io::stdin().lines() {
        let free: Vec<String> = sides.iter().map(|side| side.check(&cuda).to_string()).collect();
        println!("{}", free.join(" "));
    }
}
