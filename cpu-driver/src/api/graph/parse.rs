//! What a node is to do, read from the program's structures and checked.

use super::super::copy_3d::of_node;
use super::super::launch::{check_kernel, parameters};
use super::super::library::kernel;
use super::super::{Shape, current, device, memop};
use super::{Answer, graph, list};
use crate::graph::params::{
    AllocNode, Arguments, ConditionalNode, CopyNode, KernelNode, MemoryNode, Params, SetNode,
};
use crate::device::{DEVICES_MAX, Device};
use crate::graph::condition::Condition;
use crate::graph::{Graph, memory as graph_memory};
use crate::memory::{Owner, Sort, arena};
use crate::objects::EVENTS;
use crate::stream::task::Set;
use crate::transfer::{Place, place};
use paravane_protocol::cuda_types::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

fn pointer<T>(address: u64) -> *mut T {
    std::ptr::with_exposed_provenance_mut(usize::try_from(address).unwrap_or(0))
}

/// Reads a node for `of`, the graph that it is to be in.
pub(super) fn parse(asked: &CUgraphNodeParams, of: &Graph) -> Answer<Params> {
    match asked.kind {
        CU_GRAPH_NODE_TYPE_KERNEL => kernel_node(&asked.get()).map(Params::Kernel),
        CU_GRAPH_NODE_TYPE_MEMCPY => copy_node(asked.get()).map(Params::Copy),
        CU_GRAPH_NODE_TYPE_MEMSET => set_node(asked.get()).map(Params::Set),
        CU_GRAPH_NODE_TYPE_HOST => {
            let host: CUDA_HOST_NODE_PARAMS_v2 = asked.get();
            if host.host.func == 0 { Err(CUDA_ERROR_INVALID_VALUE) } else { Ok(Params::Host(host)) }
        }
        CU_GRAPH_NODE_TYPE_GRAPH => child_node(&asked.get(), of),
        CU_GRAPH_NODE_TYPE_EMPTY => Ok(Params::Empty),
        CU_GRAPH_NODE_TYPE_EVENT_RECORD => event_node(asked.get()).map(Params::Record),
        CU_GRAPH_NODE_TYPE_WAIT_EVENT => event_node(asked.get()).map(Params::Wait),
        CU_GRAPH_NODE_TYPE_MEM_ALLOC => alloc_node(asked.get()).map(Params::Alloc),
        CU_GRAPH_NODE_TYPE_MEM_FREE => free_node(&asked.get(), of),
        CU_GRAPH_NODE_TYPE_BATCH_MEM_OP => memory_node(asked.get()).map(Params::Memory),
        CU_GRAPH_NODE_TYPE_CONDITIONAL => conditional_node(asked.get(), of).map(Params::Conditional),
        CU_GRAPH_NODE_TYPE_EXT_SEMAS_SIGNAL | CU_GRAPH_NODE_TYPE_EXT_SEMAS_WAIT => Err(CUDA_ERROR_NOT_SUPPORTED),
        _ => Err(CUDA_ERROR_INVALID_VALUE),
    }
}

fn kernel_node(asked: &CUDA_KERNEL_NODE_PARAMS) -> Answer<KernelNode> {
    let handle = if asked.func.0 == 0 { asked.kern.0 } else { asked.func.0 };
    if handle == 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let kernel = kernel(handle)?;
    let shape = Shape {
        grid: [asked.gridDimX, asked.gridDimY, asked.gridDimZ],
        block: [asked.blockDimX, asked.blockDimY, asked.blockDimZ],
        shared: asked.sharedMemBytes,
        cooperative: false,
    };
    shape.check(kernel.max_threads)?;
    check_kernel(&kernel, &shape, kernel.module.context.multiprocessors())?;
    // SAFETY: the caller describes the kernel's parameters as CUDA demands.
    let bytes = unsafe { parameters(&kernel, pointer(asked.kernelParams), pointer(asked.extra)) }?;
    let arguments = Arc::new(Arguments::new(&kernel, bytes));
    let context = CUcontext(kernel.module.context.handle);
    Ok(KernelNode {
        function: asked.func,
        library_kernel: if asked.func.0 == 0 { asked.kern } else { CUkernel(0) },
        context,
        kernel,
        shape,
        arguments,
        attributes: BTreeMap::new(),
    })
}

/// Whether the device reaches memory, as far as this device knows it.
fn reaches(start: u64, bytes: u64) -> bool {
    if start.wrapping_sub(arena().base()) < arena().size() {
        return arena().holds(start, bytes);
    }
    place(start) == Place::Pinned
}

fn copy_node(asked: CUDA_MEMCPY_NODE_PARAMS) -> Answer<CopyNode> {
    Ok(CopyNode { asked, copy: of_node(&asked.copyParams)? })
}

fn set_node(asked: CUDA_MEMSET_NODE_PARAMS_v2) -> Answer<SetNode> {
    let of = asked.set;
    let size = |n: u64| usize::try_from(n).map_err(|_| CUDA_ERROR_INVALID_VALUE);
    let width = of.elementSize as usize;
    if !matches!(width, 1 | 2 | 4) || of.width == 0 || of.height == 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let (count, rows) = (size(of.width)?, size(of.height)?);
    let row = count.checked_mul(width).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    let pitch = if rows == 1 { row } else { size(of.pitch)? };
    let extent = pitch.checked_mul(rows - 1).and_then(|before| before.checked_add(row));
    let extent = extent.and_then(|n| u64::try_from(n).ok()).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    let is_aligned = of.dst.0.is_multiple_of(of.elementSize.into()) && pitch.is_multiple_of(width);
    if !is_aligned || pitch < row || !reaches(of.dst.0, extent) {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    Ok(SetNode { asked, set: Set { to: of.dst.0, value: of.value, width, count, rows, pitch } })
}

/// A child graph: a copy of what the program names, or that itself where it hands it over.
fn child_node(asked: &CUDA_CHILD_GRAPH_NODE_PARAMS, of: &Graph) -> Answer<Params> {
    const MOVE: u32 = 1;
    let named = graph(asked.graph)?;
    if named.handle == of.handle {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let child = match asked.ownership {
        0 => named.copy()?,
        MOVE if !named.is_embedded.load(Ordering::Relaxed) => named,
        _ => return Err(CUDA_ERROR_INVALID_VALUE),
    };
    child.is_embedded.store(true, Ordering::Relaxed);
    Ok(Params::Child(child))
}

fn event_node(asked: CUDA_EVENT_NODE_PARAMS) -> Answer<CUDA_EVENT_NODE_PARAMS> {
    EVENTS.get(asked.event.0).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    Ok(asked)
}

fn alloc_node(asked: CUDA_MEM_ALLOC_NODE_PARAMS) -> Answer<AllocNode> {
    const ACCESS_BYTES: usize = 12;
    // Pinned memory without a handle to share, on a device.
    let [kinds, location, ..] = asked.poolProps;
    let device = location_of_word(location)?;
    if kinds != 1 || asked.bytesize == 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let count = usize::try_from(asked.accessDescCount).ok().filter(|count| *count <= DEVICES_MAX);
    let bytes = count.ok_or(CUDA_ERROR_INVALID_VALUE)? * ACCESS_BYTES;
    let access: Arc<[u8]> = list(pointer::<u8>(asked.accessDescs).cast_const(), bytes)?.into();
    let mut reach = device.bit();
    for asked in access.chunks_exact(ACCESS_BYTES) {
        let word = |at: usize| asked.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes);
        let of = location_of_word(u64::from(word(4)) << 32 | u64::from(word(0)))?;
        if word(8) == CU_MEM_ACCESS_FLAGS_PROT_READWRITE.0 {
            reach |= of.bit();
        }
    }
    allocated(asked, device, reach, access)
}

/// The device of a CUmemLocation that is read as one word.
fn location_of_word(word: u64) -> Answer<Device> {
    let [kind, ordinal] = [u32::from_word(word), u32::from_word(word >> 32)];
    if kind != CU_MEM_LOCATION_TYPE_DEVICE.0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    device(CUdevice(ordinal.cast_signed())).map_err(|_| CUDA_ERROR_INVALID_VALUE)
}

/// An allocation node with memory of its own.
fn allocated(asked: CUDA_MEM_ALLOC_NODE_PARAMS, device: Device, reach: u8, access: Arc<[u8]>) -> Answer<AllocNode> {
    // No context's: it ends with its graph.
    let owner = Owner::new(0, device, Sort::Graph, asked.bytesize);
    let at = arena().allocate(owner).ok_or(CUDA_ERROR_OUT_OF_MEMORY)?;
    arena().set_reach(at, asked.bytesize, reach);
    let allocation = graph_memory::file(at, device, asked.bytesize);
    Ok(AllocNode { asked: CUDA_MEM_ALLOC_NODE_PARAMS { dptr: CUdeviceptr(at), ..asked }, access, allocation })
}

/// What a stream-ordered allocation is in a capture: pinned memory of the device.
pub(in crate::api) fn captured_alloc(device: Device, bytes: u64) -> Answer<AllocNode> {
    let mut poolProps = [0; 11];
    (poolProps[0], poolProps[1]) = (1, u64::from(device.cuda().0.cast_unsigned()) << 32 | 1);
    let (accessDescs, accessDescCount, dptr) = (0, 0, CUdeviceptr(0));
    let asked = CUDA_MEM_ALLOC_NODE_PARAMS { poolProps, accessDescs, accessDescCount, bytesize: bytes, dptr };
    allocated(asked, device, device.bit(), Arc::default())
}

/// What a stream-ordered free is in a capture: of memory that a graph has allocated.
pub(in crate::api) fn captured_free(dptr: CUdeviceptr, of: &Graph) -> Answer<Params> {
    free_node(&CUDA_MEM_FREE_NODE_PARAMS { dptr }, of)
}

fn free_node(asked: &CUDA_MEM_FREE_NODE_PARAMS, of: &Graph) -> Answer<Params> {
    graph_memory::find(asked.dptr.0).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    let is_freed = |params: Params| matches!(params, Params::Free(dptr) if dptr == asked.dptr);
    if of.state().nodes.iter().any(|node| is_freed(node.params())) {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    Ok(Params::Free(asked.dptr))
}

fn memory_node(asked: CUDA_BATCH_MEM_OP_NODE_PARAMS) -> Answer<MemoryNode> {
    // SAFETY: the caller passes an array of that length.
    let operations = unsafe { memop::operations(asked.count, pointer(asked.paramArray)) }?;
    let checked = memop::batch(operations, asked.flags, true)?;
    Ok(MemoryNode { asked, operations: operations.into(), checked })
}

fn conditional_node(asked: CUDA_CONDITIONAL_NODE_PARAMS, of: &Graph) -> Answer<ConditionalNode> {
    const BODIES_MAX: u32 = 1024;
    let size = match asked.kind {
        CU_GRAPH_COND_TYPE_IF => 1..=2,
        CU_GRAPH_COND_TYPE_WHILE => 1..=1,
        CU_GRAPH_COND_TYPE_SWITCH => 1..=BODIES_MAX,
        _ => return Err(CUDA_ERROR_INVALID_VALUE),
    };
    let is_known = of.state().conditions.iter().any(|condition: &Condition| condition.handle == asked.handle);
    if !is_known || !size.contains(&asked.size) {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    if asked.ctx.0 == 0 {
        current()?;
    }
    let bodies: Arc<[Arc<Graph>]> = (0..asked.size)
        .map(|_| {
            let body = Graph::create();
            body.is_embedded.store(true, Ordering::Relaxed);
            body
        })
        .collect();
    let handles = bodies.iter().map(|body| body.handle).collect();
    Ok(ConditionalNode { asked, bodies, handles })
}
