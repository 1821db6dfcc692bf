//! Operations between shim and worker that are no CUDA symbol of their own:
//! what several symbols are composed of. Their opcodes lie above CUDA's. Each
//! is awaited unless it says "posted". Arguments are words in the order given,
//! in [`crate::codec`]'s form.

/// Everything the guest can answer itself: driver version (word), device
/// count (word), then per device: name (bytes), uuid (bytes), total memory
/// (word), PCI bus id (bytes), attributes 0..=DEVICE_ATTRIBUTE_MAX (bytes,
/// `i32` each, `i32::MIN` where the library answered an error).
/// In: first device; 1 and the program's CUDA_VISIBLE_DEVICES (bytes), or 0
/// where it has none: the first HELLO of a process decides. Reply: as many
/// devices as fit, after a word more: 1 where the devices are the first of those
/// that the VM sees, in their order.
pub const HELLO: u16 = 0xf000;

/// Posted: makes a context current on the ring's thread. In: CUcontext or 0.
pub const SET_CURRENT: u16 = 0xf001;

/// Posted: the ring's guest thread has ended; the next one starts afresh.
pub const THREAD_END: u16 = 0xf002;

/// The area with this index holds further rings. In: area index.
pub const ADD_RINGS: u16 = 0xf003;

/// The area with this index becomes host memory, registered with the library.
/// In: area, address in the guest, bytes, CU_MEMHOSTALLOC flags. Reply: device
/// address.
pub const HOST_ADD: u16 = 0xf010;

/// In HOST_ADD's flags: the thread's stream captures do not mind, because the
/// program has not asked for this memory.
pub const HOST_ADD_UNASKED: u64 = 1 << 32;

/// In HOST_ADD's flags: the address is a managed variable's, and the area's pages
/// are laid there with the bytes that it holds.
pub const HOST_ADD_VARIABLE: u64 = 1 << 33;

/// Host memory ends. In: area, flags as above.
pub const HOST_REMOVE: u16 = 0xf011;

/// Whether a module's variable is managed. In: its address. Reply: 1
/// if it is; CUDA_ERROR_NOT_SUPPORTED where it is and the program cannot reach it.
pub const VARIABLE: u16 = 0xf013;

/// The area with this index becomes the process's staging. In: area.
pub const STAGING_ADD: u16 = 0xf012;

/// A linear copy. In: destination operand, source operand, bytes, stream,
/// flags ([`COPY_ASYNC`]). An operand is two words: kind
/// ([`OPERAND_DEVICE`] or an area's index plus [`OPERAND_AREA`]), address or
/// offset. Awaited or posted, as the sender chooses.
pub const COPY: u16 = 0xf020;

/// A 2D copy. In: destination operand, destination pitch, source operand,
/// source pitch, width in bytes, height, stream, flags.
pub const COPY_2D: u16 = 0xf021;

/// A linear copy to the device whose bytes are in the frame. In: device
/// address, stream, flags, bytes.
pub const COPY_INLINE: u16 = 0xf022;

/// A linear copy from the device into the reply. In: device address, bytes,
/// stream.
pub const COPY_REPLY: u16 = 0xf023;

/// A copy in three dimensions or with arrays. In: destination, source, width
/// in bytes, rows, slices, stream, flags. An end is seven words: kind and
/// address as an operand's ([`OPERAND_ARRAY`] with an array's id too); bytes,
/// rows and slices to skip, for arrays only; bytes from row to row; rows from
/// slice to slice.
pub const COPY_3D: u16 = 0xf024;

/// An image starts: the worker allocates. In: bytes.
pub const IMAGE_BEGIN: u16 = 0xf030;

/// Posted: a piece of the image lies in staging. In: offset in the image,
/// staging offset, bytes.
pub const IMAGE_PIECE: u16 = 0xf031;

/// A piece of a linked image goes to staging. In: CUlinkState, offset in the
/// image, area, offset in it, bytes.
pub const LINK_PIECE: u16 = 0xf0c0;

/// Nothing; the reply tells of a posted call that failed.
pub const NOTHING: u16 = 0xf005;

/// Waits until a host function is due. In: nothing. Reply: its number, and a
/// CUresult for it or [`CALLBACK_REFUSED`] (words).
pub const CALLBACK_NEXT: u16 = 0xf040;

/// Posted: a host function has returned. In: its number.
pub const CALLBACK_DONE: u16 = 0xf041;

/// Takes what kernels have printed. In: nothing. Reply: bytes; fewer than fit
/// when that is all.
pub const OUTPUT_TAKE: u16 = 0xf048;

/// Posted: what other processes were given a handle of is gone. In: the handle's
/// token (bytes).
pub const SHARE_END: u16 = 0xf050;

/// In place of a host function's CUresult: it was never enqueued and must not
/// run.
pub const CALLBACK_REFUSED: u64 = u64::MAX;

/// In place of a host function's CUresult: nothing reaches it any more. What was
/// to be called at its end is called now.
pub const CALLBACK_ENDED: u64 = u64::MAX - 1;

/// A node joins a graph. In: graph, nodes before it (bytes, ids), data of these
/// edges (bytes, may be empty), parameters (bytes, CUgraphNodeParams with ids
/// for handles and no pointers), what its pointers point to (bytes). Reply:
/// node, address that it allocates, count of its body graphs, these.
pub const GRAPH_NODE_ADD: u16 = 0xf0a0;

/// A node changes what it does. In: node, executable graph or 0, parameters,
/// what its pointers point to.
pub const GRAPH_NODE_SET: u16 = 0xf0a1;

/// What a node does. In: node. Reply: parameters, what its pointers point to.
pub const GRAPH_NODE_GET: u16 = 0xf0a2;

/// Nodes or edges. In: which (GRAPH_LIST_…), graph or node, how many were told
/// before. Reply: how many there are, then as many as fit: from, to, edge data
/// (words); a node is in "from".
pub const GRAPH_LIST: u16 = 0xf0a3;

/// Edges are added or removed. In: graph, 1 to remove, from (bytes), to
/// (bytes), edge data (bytes, may be empty).
pub const GRAPH_CONNECT: u16 = 0xf0a4;

/// Posted: the capture that made a graph has failed, and the graph is gone. In:
/// graph.
pub const GRAPH_END: u16 = 0xf0a5;

/// [`GRAPH_LIST`]: all nodes of a graph.
pub const GRAPH_LIST_NODES: u64 = 0;
/// [`GRAPH_LIST`]: nodes of a graph that nothing comes before.
pub const GRAPH_LIST_ROOTS: u64 = 1;
/// [`GRAPH_LIST`]: edges of a graph.
pub const GRAPH_LIST_EDGES: u64 = 2;
/// [`GRAPH_LIST`]: edges that lead to a node.
pub const GRAPH_LIST_BEFORE: u64 = 3;
/// [`GRAPH_LIST`]: edges that lead from a node.
pub const GRAPH_LIST_AFTER: u64 = 4;

/// A reading of the host's NVML about the VM's devices. In: a row's number in
/// [`crate::nvml_api`], then its arguments. Reply: an nvmlReturn_t (word), then
/// for NVML_SUCCESS the row's results (bytes).
pub const NVML_READ: u16 = 0xf0d0;

/// The VM's processes that use a device. In: device, how many were told before.
/// Reply: how many there are (word), then as many
/// [`crate::nvml_types::ProcessUse`] as fit (bytes).
pub const NVML_PROCESSES: u16 = 0xf0d1;

/// Memory of a device as the VM has it. In: device. Reply: total, used, free
/// (words).
pub const MEMORY: u16 = 0xf0d3;

/// What the VM's devices are driven by. In: nothing. Reply: the version of the
/// driver (bytes), empty where the host has no NVML.
pub const NVML_DRIVER: u16 = 0xf0d2;

/// Operand: a device address follows.
pub const OPERAND_DEVICE: u64 = 0;
/// Operand: the area's index is in the low 16 bits, its offset follows.
pub const OPERAND_AREA: u64 = 1 << 16;
/// Operand of [`COPY_3D`]: an array's id follows.
pub const OPERAND_ARRAY: u64 = 1 << 17;
/// The copy is enqueued on its stream and not waited for.
pub const COPY_ASYNC: u64 = 1;

/// The operation's name for logs.
pub fn name(opcode: u16) -> Option<&'static str> {
    Some(match opcode {
        HELLO => "HELLO",
        SET_CURRENT => "SET_CURRENT",
        THREAD_END => "THREAD_END",
        ADD_RINGS => "ADD_RINGS",
        NOTHING => "NOTHING",
        HOST_ADD => "HOST_ADD",
        HOST_REMOVE => "HOST_REMOVE",
        VARIABLE => "VARIABLE",
        STAGING_ADD => "STAGING_ADD",
        COPY => "COPY",
        COPY_2D => "COPY_2D",
        COPY_INLINE => "COPY_INLINE",
        COPY_REPLY => "COPY_REPLY",
        COPY_3D => "COPY_3D",
        IMAGE_BEGIN => "IMAGE_BEGIN",
        IMAGE_PIECE => "IMAGE_PIECE",
        LINK_PIECE => "LINK_PIECE",
        CALLBACK_NEXT => "CALLBACK_NEXT",
        CALLBACK_DONE => "CALLBACK_DONE",
        GRAPH_NODE_ADD => "GRAPH_NODE_ADD",
        GRAPH_NODE_SET => "GRAPH_NODE_SET",
        GRAPH_NODE_GET => "GRAPH_NODE_GET",
        GRAPH_LIST => "GRAPH_LIST",
        GRAPH_CONNECT => "GRAPH_CONNECT",
        GRAPH_END => "GRAPH_END",
        SHARE_END => "SHARE_END",
        OUTPUT_TAKE => "OUTPUT_TAKE",
        NVML_READ => "NVML_READ",
        NVML_PROCESSES => "NVML_PROCESSES",
        NVML_DRIVER => "NVML_DRIVER",
        MEMORY => "MEMORY",
        _ => return None,
    })
}
