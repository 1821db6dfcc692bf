//! A decoded function: operations, what its frames hold, and where its parameters lie. Made by
//! `decode`, kept by a module, read by every warp that runs it.

use super::matrix::{Product, TileMove};
use super::op::Op;
use super::surface::Access;
use super::texture::Fetch;

/// A value that a warp's lanes know about themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Special {
    Tid(u8),
    NTid(u8),
    CtaId(u8),
    NCtaId(u8),
    LaneId,
    WarpId,
    NWarpId,
    GridId,
    LaneMask(MaskOf),
    DynamicShared,
    TotalShared,
    /// End of the kernel's static shared memory, where the dynamic begins.
    StaticShared,
    /// Start of the frame's local memory, as an offset in the thread's.
    FrameLocal,
    EnvReg(u8),
    Zero,
    One,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MaskOf {
    Eq,
    Le,
    Lt,
    Ge,
    Gt,
}

/// A constant that every frame holds in all lanes of a slot.
#[derive(Debug, Clone, Copy)]
pub struct Constant {
    pub slot: u32,
    /// Bytes of a lane: 1, 2, 4, 8; 0 for a predicate.
    pub width: u8,
    pub bits: u64,
}

/// Where a parameter lies: in a kernel's parameter buffer, or in the local memory of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParamLayout {
    pub offset: u32,
    pub size: u32,
}

/// Bytes that a call copies, per lane, from one local offset to another.
#[derive(Debug, Clone, Copy)]
pub enum Argument {
    /// From the caller's frame (or, for results, to it).
    Local { here: u32, there: u32, size: u32 },
    /// From or to a register slot of `size` bytes a lane.
    Slot { slot: u32, there: u32, size: u32 },
}

#[derive(Debug, Clone, Copy)]
pub enum Target {
    Function(u32),
    /// Slot of a 64-bit function address.
    Indirect(u32),
    Builtin(Builtin),
}

/// Functions that a device's runtime provides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Builtin {
    Vprintf,
    AssertFail,
    Malloc,
    Free,
    SetConditional,
}

impl Builtin {
    /// The function that a program means by `name` when it defines none of that name.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "vprintf" => Self::Vprintf,
            "__assertfail" => Self::AssertFail,
            "malloc" => Self::Malloc,
            "free" => Self::Free,
            "cudaGraphSetConditional" => Self::SetConditional,
            _ => return None,
        })
    }
}

#[derive(Debug)]
pub struct CallSite {
    pub target: Target,
    pub arguments: Vec<Argument>,
    pub results: Vec<Argument>,
}

#[derive(Default)]
pub struct Function {
    pub name: String,
    pub is_entry: bool,
    /// Operations; the last one never falls through. Empty for a function without a body.
    pub ops: Box<[Op]>,
    pub calls: Box<[CallSite]>,
    /// What `mma` and its like multiply, and the tiles that `wmma` loads and stores.
    pub products: Box<[Product]>,
    pub tile_moves: Box<[TileMove]>,
    /// Texts of instructions that trap when they are executed.
    pub texts: Box<[String]>,
    /// Targets of `brx.idx`, as operation indices.
    pub branch_tables: Box<[Box<[u32]>]>,
    /// What `tex` and its like, `suld` and its like work on.
    pub fetches: Vec<Fetch>,
    pub accesses: Vec<Access>,
    /// Bytes of a register frame.
    pub frame_size: u32,
    pub constants: Vec<Constant>,
    pub specials: Vec<(Special, u32)>,
    /// Bytes of local memory of one thread's frame, results and parameters of a `.func` included.
    pub local_size: u32,
    /// Static shared memory of the module's variables that a kernel may use.
    pub shared_size: u32,
    pub params: Vec<ParamLayout>,
    pub param_size: u32,
    pub registers: u32,
    pub max_threads: Option<u32>,
    pub required_block: Option<[u32; 3]>,
    /// `.maxnreg`.
    pub max_registers: Option<u32>,
    /// A kernel that does nothing: its launch completes as it is submitted.
    pub is_empty: bool,
    /// Whether it calls anything.
    pub has_calls: bool,
}

// SAFETY: operations hold plain numbers and function pointers; tables are never written after decode.
unsafe impl Send for Function {}
// SAFETY: as above.
unsafe impl Sync for Function {}
