//! What a node does, checked when it was added: everything that a launch needs and everything that
//! the program may ask back.

#![allow(non_snake_case, reason = "CUDA's names")]

use super::memory::Allocation;
use super::Graph;
use crate::api::Shape;
use crate::objects::Kernel;
use crate::stream::memop::MemOp;
use crate::stream::task::{Copy, Set};
use paravane_protocol::cuda_types::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A kernel node.
#[derive(Clone)]
pub struct KernelNode {
    /// Handles as the program gave them; one of them is 0.
    pub function: CUfunction,
    pub library_kernel: CUkernel,
    pub context: CUcontext,
    pub kernel: Arc<Kernel>,
    pub shape: Shape,
    pub arguments: Arc<Arguments>,
    /// Attributes that were set, by cuda.h's numbers.
    pub attributes: BTreeMap<u32, CUlaunchAttributeValue>,
}

/// A kernel's parameters: their bytes, and where each begins.
pub struct Arguments {
    pub bytes: Box<[u8]>,
    /// Addresses of the values, as a program's array of parameters has them.
    pub pointers: Box<[usize]>,
}

impl Arguments {
    pub fn new(kernel: &Kernel, bytes: Box<[u8]>) -> Self {
        let start = bytes.as_ptr().expose_provenance();
        let pointers = kernel.function().params.iter().map(|place| start + place.offset as usize).collect();
        Self { bytes, pointers }
    }
}

/// A copy of up to three dimensions.
#[derive(Clone)]
pub struct CopyNode {
    pub asked: CUDA_MEMCPY_NODE_PARAMS,
    pub copy: Copy,
}

#[derive(Clone)]
pub struct SetNode {
    pub asked: CUDA_MEMSET_NODE_PARAMS_v2,
    pub set: Set,
}

#[derive(Clone)]
pub struct MemoryNode {
    pub asked: CUDA_BATCH_MEM_OP_NODE_PARAMS,
    pub operations: Arc<[CUstreamBatchMemOpParams]>,
    pub checked: Arc<[MemOp]>,
}

#[derive(Clone)]
pub struct AllocNode {
    pub asked: CUDA_MEM_ALLOC_NODE_PARAMS,
    /// The access descriptors, twelve bytes each.
    pub access: Arc<[u8]>,
    pub allocation: Arc<Allocation>,
}

#[derive(Clone)]
pub struct ConditionalNode {
    pub asked: CUDA_CONDITIONAL_NODE_PARAMS,
    pub bodies: Arc<[Arc<Graph>]>,
    /// The bodies' handles, as the program gets them.
    pub handles: Arc<[u64]>,
}

/// What a node does.
#[derive(Clone)]
pub enum Params {
    Kernel(KernelNode),
    Copy(CopyNode),
    Set(SetNode),
    Host(CUDA_HOST_NODE_PARAMS_v2),
    Child(Arc<Graph>),
    Empty,
    Record(CUDA_EVENT_NODE_PARAMS),
    Wait(CUDA_EVENT_NODE_PARAMS),
    Alloc(AllocNode),
    Free(CUdeviceptr),
    Memory(MemoryNode),
    Conditional(ConditionalNode),
}

impl Params {
    pub fn kind(&self) -> CUgraphNodeType {
        match self {
            Self::Kernel(_) => CU_GRAPH_NODE_TYPE_KERNEL,
            Self::Copy(_) => CU_GRAPH_NODE_TYPE_MEMCPY,
            Self::Set(_) => CU_GRAPH_NODE_TYPE_MEMSET,
            Self::Host(_) => CU_GRAPH_NODE_TYPE_HOST,
            Self::Child(_) => CU_GRAPH_NODE_TYPE_GRAPH,
            Self::Empty => CU_GRAPH_NODE_TYPE_EMPTY,
            Self::Record(_) => CU_GRAPH_NODE_TYPE_EVENT_RECORD,
            Self::Wait(_) => CU_GRAPH_NODE_TYPE_WAIT_EVENT,
            Self::Alloc(_) => CU_GRAPH_NODE_TYPE_MEM_ALLOC,
            Self::Free(_) => CU_GRAPH_NODE_TYPE_MEM_FREE,
            Self::Memory(_) => CU_GRAPH_NODE_TYPE_BATCH_MEM_OP,
            Self::Conditional(_) => CU_GRAPH_NODE_TYPE_CONDITIONAL,
        }
    }

    /// The parameters in CUDA's form. Pointers are to what the node owns.
    pub fn tell(&self) -> CUgraphNodeParams {
        let kind = self.kind();
        match self {
            Self::Kernel(node) => CUgraphNodeParams::new(kind, &node.tell()),
            Self::Copy(node) => CUgraphNodeParams::new(kind, &node.asked),
            Self::Set(node) => CUgraphNodeParams::new(kind, &node.asked),
            Self::Host(asked) => CUgraphNodeParams::new(kind, asked),
            Self::Child(child) => {
                let child = CUDA_CHILD_GRAPH_NODE_PARAMS { graph: CUgraph(child.handle), ownership: 0, pad: 0 };
                CUgraphNodeParams::new(kind, &child)
            }
            Self::Empty => CUgraphNodeParams { kind, ..CUgraphNodeParams::default() },
            Self::Record(asked) | Self::Wait(asked) => CUgraphNodeParams::new(kind, asked),
            Self::Alloc(node) => {
                let accessDescs = if node.access.is_empty() { 0 } else { exposed(node.access.as_ptr()) };
                CUgraphNodeParams::new(kind, &CUDA_MEM_ALLOC_NODE_PARAMS { accessDescs, ..node.asked })
            }
            Self::Free(dptr) => CUgraphNodeParams::new(kind, &CUDA_MEM_FREE_NODE_PARAMS { dptr: *dptr }),
            Self::Memory(node) => {
                let paramArray = exposed(node.operations.as_ptr());
                CUgraphNodeParams::new(kind, &CUDA_BATCH_MEM_OP_NODE_PARAMS { paramArray, ..node.asked })
            }
            Self::Conditional(node) => {
                let phGraph_out = exposed(node.handles.as_ptr());
                CUgraphNodeParams::new(kind, &CUDA_CONDITIONAL_NODE_PARAMS { phGraph_out, ..node.asked })
            }
        }
    }

    /// The node is gone, and with it what only it had.
    pub fn end(&self) {
        match self {
            Self::Child(child) => child.end(),
            Self::Conditional(node) => node.bodies.iter().for_each(|body| body.end()),
            Self::Alloc(node) => node.allocation.end(),
            _ => {}
        }
    }
}

/// An address as CUDA's structures carry it here.
pub fn exposed<T>(pointer: *const T) -> u64 {
    u64::try_from(pointer.expose_provenance()).unwrap_or(0)
}

impl KernelNode {
    fn tell(&self) -> CUDA_KERNEL_NODE_PARAMS {
        let Shape { grid: [gx, gy, gz], block: [bx, by, bz], shared, .. } = self.shape;
        CUDA_KERNEL_NODE_PARAMS {
            func: self.function,
            gridDimX: gx,
            gridDimY: gy,
            gridDimZ: gz,
            blockDimX: bx,
            blockDimY: by,
            blockDimZ: bz,
            sharedMemBytes: shared,
            pad: 0,
            kernelParams: if self.arguments.pointers.is_empty() { 0 } else { exposed(self.arguments.pointers.as_ptr()) },
            extra: 0,
            kern: self.library_kernel,
            ctx: self.context,
        }
    }
}
