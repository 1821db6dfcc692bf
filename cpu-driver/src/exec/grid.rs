//! One launch, as the interpreter sees it: the kernel, its dimensions, its parameters and the
//! memory that it may touch. Shared by all threads that run CTAs of it, and never written.

use super::function::Function;
use crate::memory::{DeviceHeap, View, Workspace};
use std::sync::Arc;

/// A launch's immutable side.
pub struct Grid {
    /// All functions of the module, so that calls and function pointers find theirs.
    pub functions: Arc<[Function]>,
    /// Index of the kernel in `functions`.
    pub kernel: usize,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub dynamic_shared: u32,
    pub params: Box<[u8]>,
    pub grid_id: u32,
    /// Local memory that a thread may use for calls, in bytes.
    pub stack_limit: u32,
    pub view: View,
    /// Where `malloc` allocates, and how much at most.
    pub heap: Arc<DeviceHeap>,
    pub heap_limit: u64,
    /// What CTAs that run together meet at.
    pub workspace: Option<Workspace>,
}

impl Grid {
    pub fn function(&self) -> &Function {
        &self.functions[self.kernel]
    }

    /// CTAs of the launch.
    pub fn ctas(&self) -> u64 {
        self.grid.iter().map(|&n| u64::from(n)).product()
    }

    pub fn threads(&self) -> u32 {
        self.block.iter().product()
    }

    /// Coordinates of the CTA with that number, x running fastest.
    #[allow(clippy::cast_possible_truncation, reason = "each coordinate is below its u32 dimension")]
    pub fn cta_id(&self, number: u64) -> [u32; 3] {
        let (x, y) = (u64::from(self.grid[0]), u64::from(self.grid[1]));
        [(number % x) as u32, (number / x % y) as u32, (number / x / y) as u32]
    }
}
