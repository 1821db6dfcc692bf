//! A CUDA program whose memory is to lie elsewhere now and then, without its
//! noticing: `swap-program LIBCUDA BYTES [PAUSE_MS]` fills that much device memory, has
//! kernels follow addresses through all of it, and compares every byte with what
//! it must be. It prints how often it has done so each time, and ends with its standard input.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program fails by panicking")]

use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::{must, value_of};

const NULL: CUdeviceptr = CUdeviceptr(0);
const WALK: &str = concat!(include_str!("../walk.ptx"), "\0");
/// A node in so many bytes.
const NODE: usize = 16 << 10;
const BLOCKS: usize = 5;
const SMALL: usize = 16;
const SMALL_BYTES: usize = 3 * NODE;
/// It works so long at a time.
const BURST: Duration = Duration::from_millis(100);

static ENDS: AtomicBool = AtomicBool::new(false);

/// Device memory, and what it must hold.
struct Block {
    at: CUdeviceptr,
    bytes: Vec<u8>,
}

impl Block {
    fn new(cuda: &Cuda, bytes: usize, seed: usize) -> Self {
        let at = value_of!(cuda.cuMemAlloc_v2(NULL, bytes));
        let pattern = |index: usize| u8::try_from((index ^ (index >> 9) ^ (seed * 37)) % 251).unwrap();
        Self { at, bytes: (0..bytes).map(pattern).collect() }
    }

    fn nodes(&self) -> impl Iterator<Item = u64> {
        let at = self.at.0;
        (0..self.bytes.len() / NODE).map(move |node| at + u64::try_from(node * NODE).unwrap())
    }

    fn put(&mut self, node: u64, word: usize, value: u64) {
        let at = usize::try_from(node - self.at.0).unwrap() + word * 8;
        self.bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    fn send(&self, cuda: &Cuda) {
        must!(cuda.cuMemcpyHtoD_v2(self.at, self.bytes.as_ptr() as Pointer, self.bytes.len()));
    }

    fn check(&self, cuda: &Cuda) {
        let mut back = vec![0_u8; self.bytes.len()];
        must!(cuda.cuMemcpyDtoH_v2(back.as_mut_ptr().cast(), self.at, back.len()));
        if let Some(wrong) = back.iter().zip(&self.bytes).position(|(is, must)| is != must) {
            panic!("byte {wrong} of {} at {:#x} is wrong", back.len(), self.at.0);
        }
    }
}

/// All of the program's blocks, with a way through all their nodes that crosses from one to the next.
struct World {
    blocks: Vec<Block>,
    order: Vec<(usize, u64)>,
    walks: u64,
}

impl World {
    fn new(cuda: &Cuda, bytes: usize) -> Self {
        let sizes = (0..BLOCKS).map(|_| bytes / BLOCKS / NODE * NODE).chain((0..SMALL).map(|_| SMALL_BYTES));
        let blocks: Vec<Block> = sizes.enumerate().map(|(seed, bytes)| Block::new(cuda, bytes, seed)).collect();
        let mut world = Self { blocks, order: Vec::new(), walks: 0 };
        world.link(cuda);
        world
    }

    /// Lays the way anew.
    fn link(&mut self, cuda: &Cuda) {
        let all = self.blocks.iter().enumerate().flat_map(|(block, of)| of.nodes().map(move |node| (block, node)));
        let mut order: Vec<(usize, u64)> = all.collect();
        // From block to block, and back and forth in each.
        order.sort_by_key(|(block, node)| ((node / 8) ^ (node >> 21)) % 1021 * 64 + u64::try_from(*block).unwrap());
        for (at, (block, node)) in order.iter().enumerate() {
            let next = order[(at + 1) % order.len()].1;
            self.blocks[*block].put(*node, 0, next);
            self.blocks[*block].put(*node, 1, 0);
        }
        (self.order, self.walks) = (order, 0);
        self.blocks.iter().for_each(|block| block.send(cuda));
    }

    fn check(&mut self, cuda: &Cuda) {
        for (block, node) in self.order.clone() {
            self.blocks[block].put(node, 1, self.walks);
        }
        self.blocks.iter().for_each(|block| block.check(cuda));
    }
}

/// The way of a walk, captured once: the graph holds addresses only.
fn walk(cuda: &Cuda, world: &World, stream: CUstream) -> CUgraphExec {
    let module = value_of!(cuda.cuModuleLoadData(CUmodule(0), WALK.as_ptr() as Pointer));
    let function = value_of!(cuda.cuModuleGetFunction(CUfunction(0), module, c"walk".as_ptr()));
    let (mut first, mut steps) = (world.order[0].1, u32::try_from(world.order.len()).unwrap());
    let mut params: [Pointer; 2] = [(&raw mut first).cast(), (&raw mut steps).cast()];
    must!(cuda.cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    must!(cuda.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, params.as_mut_ptr(), ptr::null_mut()));
    let mut graph = CUgraph(0);
    must!(cuda.cuStreamEndCapture(stream, &raw mut graph));
    value_of!(cuda.cuGraphInstantiateWithFlags(CUgraphExec(0), graph, 0))
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, libcuda, bytes, rest @ ..] = arguments.as_slice() else { panic!("usage: swap-program LIBCUDA BYTES [PAUSE_MS]") };
    std::thread::spawn(|| {
        // Whatever ends it: nobody waits for more.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        ENDS.store(true, Ordering::SeqCst);
    });
    let pause = Duration::from_millis(rest.first().map_or(0, |pause| pause.parse().unwrap()));
    let cuda = Cuda::load(Path::new(libcuda));
    must!(cuda.cuInit(0));
    let context = value_of!(cuda.cuDevicePrimaryCtxRetain(CUcontext(0), CUdevice(0)));
    must!(cuda.cuCtxSetCurrent(context));
    let cuda = &cuda;
    let stream = value_of!(cuda.cuStreamCreate(CUstream(0), 1));
    let mut world = World::new(cuda, bytes.parse().unwrap());
    let mut exec = walk(cuda, &world, stream);
    let mut checks = 0;
    while !ENDS.load(Ordering::SeqCst) {
        let since = Instant::now();
        while since.elapsed() < BURST {
            (0..4).for_each(|_| must!(cuda.cuGraphLaunch(exec, stream)));
            world.walks += 4;
            must!(cuda.cuStreamSynchronize(stream));
        }
        world.check(cuda);
        checks += 1;
        println!("{checks}");
        std::thread::sleep(pause);
        if checks % 4 == 0 {
            // Another small one and another large one, wherever they come to lie.
            for at in [checks / 4 % BLOCKS, BLOCKS + checks / 4 % SMALL] {
                let bytes = world.blocks[at].bytes.len();
                must!(cuda.cuMemFree_v2(world.blocks[at].at));
                world.blocks[at] = Block::new(cuda, bytes, checks + at);
            }
            world.link(cuda);
            must!(cuda.cuGraphExecDestroy(exec));
            exec = walk(cuda, &world, stream);
        }
    }
}
