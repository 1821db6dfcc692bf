//! A node's parameters: packed for the host with what their pointers point to,
//! and told to the program with pointers into memory that the node owns here.

use paravane_protocol::cuda_types::*;
use paravane_protocol::internal::{GRAPH_CONNECT, GRAPH_NODE_ADD, GRAPH_NODE_GET, GRAPH_NODE_SET, OPERAND_AREA};
use zerocopy::{FromBytes, IntoBytes};

use super::pageable;
use crate::boundary::Answer;
use crate::connection::with_ring;
use crate::custom::{add_repeated, forget, packed_params, repeated};
use crate::pointer;
use crate::remote::table;
use crate::state::graph_nodes::{self, Owned};
use crate::state::{functions, host_memory};
use pointer::{get as read, put as write};

/// Nodes or edges that go into one frame.
const PER_FRAME: usize = 512;
/// Bytes of an access descriptor.
const ACCESS_BYTES: usize = 12;
/// Operations of one call, as CUDA bounds them.
const OPS_MAX: u32 = 256;

/// Parameters as the host takes them.
pub(super) struct Packed {
    pub(super) params: CUgraphNodeParams,
    pub(super) side: Vec<u8>,
    /// The number of a host node's function, to be taken back when refused.
    pub(super) number: Option<u64>,
}

fn address<T>(number: u64) -> *mut T {
    number as *mut T
}

/// Packs any node but a copy of pageable memory.
pub(super) fn pack(asked: &CUgraphNodeParams) -> Answer<Packed> {
    let kind = asked.kind;
    let plain = |params| Packed { params, side: Vec::new(), number: None };
    Ok(match kind {
        CU_GRAPH_NODE_TYPE_KERNEL => {
            let of: CUDA_KERNEL_NODE_PARAMS = asked.get();
            let id = if of.func.0 == 0 { of.kern.0 } else { of.func.0 };
            if id == 0 {
                return Err(CUDA_ERROR_INVALID_VALUE);
            }
            let side = packed_params(id, address(of.kernelParams), address(of.extra))?;
            let of = CUDA_KERNEL_NODE_PARAMS { kernelParams: 0, extra: 0, ..of };
            Packed { side, ..plain(CUgraphNodeParams::new(kind, &of)) }
        }
        CU_GRAPH_NODE_TYPE_MEMCPY => plain(CUgraphNodeParams::new(kind, &pageable::reachable(asked.get())?)),
        CU_GRAPH_NODE_TYPE_HOST => {
            let of: CUDA_HOST_NODE_PARAMS = asked.get();
            let number = add_repeated(host_function(of.func), address(of.userData))?;
            let of = CUDA_HOST_NODE_PARAMS { func: 0, userData: number };
            Packed { number: Some(number), ..plain(CUgraphNodeParams::new(kind, &of)) }
        }
        CU_GRAPH_NODE_TYPE_MEM_ALLOC => {
            let of: CUDA_MEM_ALLOC_NODE_PARAMS = asked.get();
            let count = usize::try_from(of.accessDescCount).ok().filter(|count| *count <= PER_FRAME);
            let bytes = count.ok_or(CUDA_ERROR_INVALID_VALUE)? * ACCESS_BYTES;
            let side = pointer::bytes(address(of.accessDescs), bytes)?.to_vec();
            let of = CUDA_MEM_ALLOC_NODE_PARAMS { accessDescs: 0, ..of };
            Packed { side, ..plain(CUgraphNodeParams::new(kind, &of)) }
        }
        CU_GRAPH_NODE_TYPE_BATCH_MEM_OP => {
            let of: CUDA_BATCH_MEM_OP_NODE_PARAMS = asked.get();
            if of.count == 0 || of.count > OPS_MAX {
                return Err(CUDA_ERROR_INVALID_VALUE);
            }
            let bytes = of.count as usize * size_of::<CUstreamBatchMemOpParams>();
            let side = pointer::bytes(address(of.paramArray), bytes)?.to_vec();
            let of = CUDA_BATCH_MEM_OP_NODE_PARAMS { paramArray: 0, ..of };
            Packed { side, ..plain(CUgraphNodeParams::new(kind, &of)) }
        }
        // Semaphores cannot be imported, so none can be waited for.
        CU_GRAPH_NODE_TYPE_EXT_SEMAS_SIGNAL | CU_GRAPH_NODE_TYPE_EXT_SEMAS_WAIT => {
            return Err(CUDA_ERROR_NOT_SUPPORTED);
        }
        _ => plain(*asked),
    })
}

/// A function by its address; the program gave it as one.
#[allow(unsafe_code, reason = "a function's address is its number")]
fn host_function(number: u64) -> CUhostFn {
    let pointer: *const std::ffi::c_void = address(number);
    // SAFETY: an option of a function has the form of a pointer that may be
    // NULL; the program promises a function of this type there.
    unsafe { std::mem::transmute::<*const std::ffi::c_void, CUhostFn>(pointer) }
}

fn function_number(func: CUhostFn) -> u64 {
    func.map_or(0, |func| func as *const () as u64)
}

/// The program's array as bytes; NULL is fine without elements.
fn array<'a, T>(from: *const T, count: usize) -> Answer<&'a [u8]> {
    let bytes = count.checked_mul(size_of::<T>()).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    pointer::bytes(from.cast(), bytes)
}

/// Adds a packed node; the reply's address and body graphs.
pub(super) fn send(
    graph: CUgraph,
    before: &[u8],
    data: &[u8],
    packed: Packed,
) -> Answer<(CUgraphNode, u64, Vec<u64>)> {
    // Nodes before it beyond what a frame holds are connected afterwards.
    let first = before.len().min(PER_FRAME * size_of::<CUgraphNode>());
    let (before, rest) = before.split_at(first);
    let (data, rest_data) = data.split_at(data.len().min(first));
    let added = with_ring(|ring| {
        ring.call(
            GRAPH_NODE_ADD,
            |to| {
                to.word(graph.0);
                to.bytes(before);
                to.bytes(data);
                to.bytes(packed.params.as_bytes());
                to.bytes(&packed.side);
                Ok(())
            },
            |from| {
                let (node, made, count) = (from.word(), from.word(), from.word());
                let bodies = (0..count.min(PER_FRAME as u64)).map(|_| from.word()).collect();
                (CUgraphNode(node), made, bodies)
            },
        )
    });
    if added.is_err() {
        packed.number.into_iter().for_each(forget);
    }
    let added = added?;
    let to: Vec<u64> = vec![added.0.0; rest.len() / size_of::<CUgraphNode>()];
    connect(graph, false, rest, to.as_bytes(), rest_data)?;
    Ok(added)
}

/// Adds or removes edges, a frame at a time.
pub(super) fn connect(graph: CUgraph, removes: bool, from: &[u8], to: &[u8], data: &[u8]) -> Answer {
    const PER_CALL: usize = PER_FRAME * size_of::<CUgraphNode>();
    let mut data = data.chunks(PER_CALL);
    for (from, to) in from.chunks(PER_CALL).zip(to.chunks(PER_CALL)) {
        let data = data.next().unwrap_or(&[]);
        with_ring(|ring| {
            ring.call(
                GRAPH_CONNECT,
                |into| {
                    into.word(graph.0);
                    into.word(u64::from(removes));
                    [from, to, data].into_iter().for_each(|bytes| into.bytes(bytes));
                    Ok(())
                },
                |_| (),
            )
        })?;
    }
    Ok(())
}

fn add(
    node: *mut CUgraphNode,
    graph: CUgraph,
    before: *const CUgraphNode,
    data: *const CUgraphEdgeData,
    count: usize,
    asked: CUgraphNodeParams,
) -> Answer<CUgraphNodeParams> {
    if node.is_null() {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let before = array(before, count)?;
    let data = if data.is_null() { &[] } else { array(data, count)? };
    if asked.kind == CU_GRAPH_NODE_TYPE_MEMCPY && pageable::is_pageable(&asked.get())? {
        let added = pageable::add(graph, before, data, asked.get())?;
        pointer::put(node, added)?;
        return Ok(asked);
    }
    let (added, made, bodies) = send(graph, before, data, pack(&asked)?)?;
    pointer::put(node, added)?;
    let mut told = asked;
    match asked.kind {
        CU_GRAPH_NODE_TYPE_MEM_ALLOC => {
            let of: CUDA_MEM_ALLOC_NODE_PARAMS = asked.get();
            crate::state::ranges::insert(made, of.bytesize);
            told.set(&CUDA_MEM_ALLOC_NODE_PARAMS { dptr: CUdeviceptr(made), ..of });
        }
        CU_GRAPH_NODE_TYPE_CONDITIONAL => {
            let of: CUDA_CONDITIONAL_NODE_PARAMS = asked.get();
            let owned = graph_nodes::own(added, Owned::new(bodies.as_bytes(), std::iter::empty()));
            told.set(&CUDA_CONDITIONAL_NODE_PARAMS { phGraph_out: owned.bytes(), ..of });
        }
        _ => {}
    }
    Ok(told)
}

fn set_on(exec: CUgraphExec, node: CUgraphNode, asked: &CUgraphNodeParams) -> Answer {
    if graph_nodes::copy(node).is_some() {
        return pageable::set(exec, node, asked);
    }
    let packed = pack(asked)?;
    let changed = with_ring(|ring| {
        ring.call(
            GRAPH_NODE_SET,
            |to| {
                to.word(node.0);
                to.word(exec.0);
                to.bytes(packed.params.as_bytes());
                to.bytes(&packed.side);
                Ok(())
            },
            |_| (),
        )
    });
    changed.inspect_err(|_| packed.number.into_iter().for_each(forget))
}

fn set(node: CUgraphNode, asked: CUgraphNodeParams) -> Answer {
    set_on(CUgraphExec(0), node, &asked)
}

fn set_exec(exec: CUgraphExec, node: CUgraphNode, asked: CUgraphNodeParams) -> Answer {
    if exec.0 == 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    set_on(exec, node, &asked)
}

fn tell(node: CUgraphNode, kind: Option<CUgraphNodeType>) -> Answer<CUgraphNodeParams> {
    if let Some(copy) = graph_nodes::copy(node) {
        let is_asked = kind.is_none_or(|kind| kind == CU_GRAPH_NODE_TYPE_MEMCPY);
        let told = CUgraphNodeParams::new(CU_GRAPH_NODE_TYPE_MEMCPY, &copy);
        return if is_asked { Ok(told) } else { Err(CUDA_ERROR_INVALID_VALUE) };
    }
    let (params, side) = with_ring(|ring| {
        ring.call(
            GRAPH_NODE_GET,
            |to| {
                to.word(node.0);
                Ok(())
            },
            |from| (from.bytes().to_vec(), from.bytes().to_vec()),
        )
    })?;
    let params = CUgraphNodeParams::read_from_bytes(&params).map_err(|_| CUDA_ERROR_UNKNOWN)?;
    if kind.is_some_and(|kind| kind != params.kind) {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    unpack(node, params, &side)
}

/// Gives the program pointers for what came beside the parameters.
fn unpack(node: CUgraphNode, mut params: CUgraphNodeParams, side: &[u8]) -> Answer<CUgraphNodeParams> {
    let bytes = || graph_nodes::own(node, Owned::new(side, std::iter::empty())).bytes();
    match params.kind {
        CU_GRAPH_NODE_TYPE_KERNEL => {
            let of: CUDA_KERNEL_NODE_PARAMS = params.get();
            let id = if of.func.0 == 0 { of.kern.0 } else { of.func.0 };
            let offsets = match functions::get(id) {
                Ok(function) => function.params.iter().map(|(offset, _)| *offset as usize).collect(),
                Err(_) => Vec::new(),
            };
            let owned = graph_nodes::own(node, Owned::new(side, offsets.into_iter()));
            params.set(&CUDA_KERNEL_NODE_PARAMS { kernelParams: owned.pointers(), ..of });
        }
        CU_GRAPH_NODE_TYPE_MEMCPY => {
            let mut of: CUDA_MEMCPY_NODE_PARAMS = params.get();
            let copy = &mut of.copyParams;
            (copy.srcHost, copy.reserved0) = (told_host(copy.reserved0, copy.srcHost), 0);
            (copy.dstHost, copy.reserved1) = (told_host(copy.reserved1, copy.dstHost), 0);
            params.set(&of);
        }
        CU_GRAPH_NODE_TYPE_HOST => {
            let of: CUDA_HOST_NODE_PARAMS = params.get();
            let (func, data) = repeated(of.userData).ok_or(CUDA_ERROR_NOT_SUPPORTED)?;
            params.set(&CUDA_HOST_NODE_PARAMS { func: function_number(func), userData: data as u64 });
        }
        CU_GRAPH_NODE_TYPE_GRAPH => {
            let mut graph = CUgraph(0);
            crate::custom::cuGraphChildGraphNodeGetGraph(node, &raw mut graph)?;
            params.set(&CUDA_CHILD_GRAPH_NODE_PARAMS { graph, ownership: 0, pad: 0 });
        }
        CU_GRAPH_NODE_TYPE_MEM_ALLOC => {
            let of: CUDA_MEM_ALLOC_NODE_PARAMS = params.get();
            params.set(&CUDA_MEM_ALLOC_NODE_PARAMS { accessDescs: bytes(), ..of });
        }
        CU_GRAPH_NODE_TYPE_BATCH_MEM_OP => {
            let of: CUDA_BATCH_MEM_OP_NODE_PARAMS = params.get();
            params.set(&CUDA_BATCH_MEM_OP_NODE_PARAMS { paramArray: bytes(), ..of });
        }
        _ => {}
    }
    Ok(params)
}

/// The program's address of an area's bytes; 0 for none.
fn told_host(kind: u64, offset: u64) -> u64 {
    let area = kind.checked_sub(OPERAND_AREA).and_then(|area| u16::try_from(area).ok());
    area.and_then(|area| host_memory::address_of(area, offset)).map_or(0, |address| address as u64)
}

paravane_protocol::graph_node_functions!(pub(crate));

/// Forgets what the guest keeps of a node that is gone.
pub(crate) fn destroy_node(node: CUgraphNode) -> Answer {
    table::cuGraphDestroyNode(node)?;
    graph_nodes::forget(node);
    Ok(())
}
