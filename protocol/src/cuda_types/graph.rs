//! Types of graphs. Pointers into the program are plain numbers here, as are
//! handles: only the side that owns them makes something of one.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::{CUcontext, CUdeviceptr, CUevent, CUfunction, CUkernel, CUlaunchAttributeValue, CUmemorytype};
use super::{CUarray, CUstream, Handle, Word};

numbers! {
    /// What a node does.
    CUgraphNodeType(u32) {
        CU_GRAPH_NODE_TYPE_KERNEL = 0,
        CU_GRAPH_NODE_TYPE_MEMCPY = 1,
        CU_GRAPH_NODE_TYPE_MEMSET = 2,
        CU_GRAPH_NODE_TYPE_HOST = 3,
        CU_GRAPH_NODE_TYPE_GRAPH = 4,
        CU_GRAPH_NODE_TYPE_EMPTY = 5,
        CU_GRAPH_NODE_TYPE_WAIT_EVENT = 6,
        CU_GRAPH_NODE_TYPE_EVENT_RECORD = 7,
        CU_GRAPH_NODE_TYPE_EXT_SEMAS_SIGNAL = 8,
        CU_GRAPH_NODE_TYPE_EXT_SEMAS_WAIT = 9,
        CU_GRAPH_NODE_TYPE_MEM_ALLOC = 10,
        CU_GRAPH_NODE_TYPE_MEM_FREE = 11,
        CU_GRAPH_NODE_TYPE_BATCH_MEM_OP = 12,
        CU_GRAPH_NODE_TYPE_CONDITIONAL = 13,
    }
    /// How an update of an executable graph ended.
    CUgraphExecUpdateResult(u32) {
        CU_GRAPH_EXEC_UPDATE_SUCCESS = 0,
        CU_GRAPH_EXEC_UPDATE_ERROR = 1,
        CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED = 2,
        CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED = 3,
        CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED = 5,
        CU_GRAPH_EXEC_UPDATE_ERROR_NOT_SUPPORTED = 6,
    }
    /// Which figure of the memory that graphs hold.
    CUgraphMem_attribute(u32) {
        CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT = 0,
        CU_GRAPH_MEM_ATTR_USED_MEM_HIGH = 1,
        CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT = 2,
        CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH = 3,
    }
    /// The kind of a conditional node.
    CUgraphConditionalNodeType(u32) {
        CU_GRAPH_COND_TYPE_IF = 0,
        CU_GRAPH_COND_TYPE_WHILE = 1,
        CU_GRAPH_COND_TYPE_SWITCH = 2,
    }
}

handles! {
    /// A graph.
    CUgraph = 32
    /// A node of a graph.
    CUgraphNode = 33
    /// An executable graph.
    CUgraphExec = 34
    /// An object that graphs keep.
    CUuserObject = 35
}

/// When an edge's dependency is fulfilled; zeros mean full completion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs, reason = "CUDA's names")]
pub struct CUgraphEdgeData {
    pub from_port: u8,
    pub to_port: u8,
    pub kind: u8,
    pub reserved: [u8; 5],
}

macro_rules! structures {
    ($($(#[$doc:meta])* $name:ident $bytes:literal { $($field:ident: $type:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        #[allow(non_snake_case, missing_docs, reason = "CUDA's names")]
        pub struct $name { $(pub $field: $type),* }
        const _: () = assert!(size_of::<$name>() == $bytes);
        impl Default for $name {
            fn default() -> Self {
                Self::new_zeroed()
            }
        }
    )*};
}

structures! {
    /// CUDA_KERNEL_NODE_PARAMS_v1.
    CUDA_KERNEL_NODE_PARAMS_v1 56 {
        func: CUfunction, gridDimX: u32, gridDimY: u32, gridDimZ: u32, blockDimX: u32, blockDimY: u32,
        blockDimZ: u32, sharedMemBytes: u32, pad: u32, kernelParams: u64, extra: u64,
    }
    /// CUDA_KERNEL_NODE_PARAMS_v2 and _v3.
    CUDA_KERNEL_NODE_PARAMS 72 {
        func: CUfunction, gridDimX: u32, gridDimY: u32, gridDimZ: u32, blockDimX: u32, blockDimY: u32,
        blockDimZ: u32, sharedMemBytes: u32, pad: u32, kernelParams: u64, extra: u64, kern: CUkernel,
        ctx: CUcontext,
    }
    /// CUDA_MEMCPY3D_v2.
    CUDA_MEMCPY3D 200 {
        srcXInBytes: u64, srcY: u64, srcZ: u64, srcLOD: u64, srcMemoryType: CUmemorytype, pad0: u32,
        srcHost: u64, srcDevice: CUdeviceptr, srcArray: CUarray, reserved0: u64, srcPitch: u64, srcHeight: u64,
        dstXInBytes: u64, dstY: u64, dstZ: u64, dstLOD: u64, dstMemoryType: CUmemorytype, pad1: u32,
        dstHost: u64, dstDevice: CUdeviceptr, dstArray: CUarray, reserved1: u64, dstPitch: u64, dstHeight: u64,
        WidthInBytes: u64, Height: u64, Depth: u64,
    }
    /// CUDA_MEMCPY_NODE_PARAMS.
    CUDA_MEMCPY_NODE_PARAMS 216 { flags: u32, reserved: u32, copyCtx: CUcontext, copyParams: CUDA_MEMCPY3D }
    /// CUDA_MEMSET_NODE_PARAMS_v1.
    CUDA_MEMSET_NODE_PARAMS 40 {
        dst: CUdeviceptr, pitch: u64, value: u32, elementSize: u32, width: u64, height: u64,
    }
    /// CUDA_MEMSET_NODE_PARAMS_v2.
    CUDA_MEMSET_NODE_PARAMS_v2 48 { set: CUDA_MEMSET_NODE_PARAMS, ctx: CUcontext }
    /// CUDA_HOST_NODE_PARAMS_v1.
    CUDA_HOST_NODE_PARAMS 16 { func: u64, userData: u64 }
    /// CUDA_HOST_NODE_PARAMS_v2.
    CUDA_HOST_NODE_PARAMS_v2 32 { host: CUDA_HOST_NODE_PARAMS, syncMode: u32, pad: u32, ctx: CUcontext }
    /// CUDA_CHILD_GRAPH_NODE_PARAMS.
    CUDA_CHILD_GRAPH_NODE_PARAMS 16 { graph: CUgraph, ownership: u32, pad: u32 }
    /// CUDA_EVENT_RECORD_NODE_PARAMS and CUDA_EVENT_WAIT_NODE_PARAMS.
    CUDA_EVENT_NODE_PARAMS 16 { event: CUevent, ctx: CUcontext }
    /// CUDA_EXT_SEM_SIGNAL_NODE_PARAMS and CUDA_EXT_SEM_WAIT_NODE_PARAMS.
    CUDA_EXT_SEM_NODE_PARAMS 24 { extSemArray: u64, paramsArray: u64, numExtSems: u32, pad: u32 }
    /// CUDA_MEM_ALLOC_NODE_PARAMS; the pool's properties are eleven words.
    CUDA_MEM_ALLOC_NODE_PARAMS 120 {
        poolProps: [u64; 11], accessDescs: u64, accessDescCount: u64, bytesize: u64, dptr: CUdeviceptr,
    }
    /// CUDA_MEM_FREE_NODE_PARAMS.
    CUDA_MEM_FREE_NODE_PARAMS 8 { dptr: CUdeviceptr }
    /// CUDA_BATCH_MEM_OP_NODE_PARAMS.
    CUDA_BATCH_MEM_OP_NODE_PARAMS 32 { ctx: CUcontext, count: u32, pad0: u32, paramArray: u64, flags: u32, pad1: u32 }
    /// CUDA_CONDITIONAL_NODE_PARAMS.
    CUDA_CONDITIONAL_NODE_PARAMS 32 {
        handle: u64, kind: CUgraphConditionalNodeType, size: u32, phGraph_out: u64, ctx: CUcontext,
    }
    /// CUDA_GRAPH_INSTANTIATE_PARAMS.
    CUDA_GRAPH_INSTANTIATE_PARAMS 32 {
        flags: u64, hUploadStream: CUstream, hErrNode_out: CUgraphNode, result_out: u32, pad: u32,
    }
    /// CUgraphExecUpdateResultInfo.
    CUgraphExecUpdateResultInfo 24 {
        result: CUgraphExecUpdateResult, pad: u32, errorNode: CUgraphNode, errorFromNode: CUgraphNode,
    }
    /// Any node's parameters: the form belongs to the type.
    CUgraphNodeParams 256 { kind: CUgraphNodeType, reserved0: [u32; 3], body: [u64; 29], reserved2: u64 }
}

impl CUgraphNodeParams {
    /// A node of this type with these parameters.
    pub fn new<T: IntoBytes + Immutable>(kind: CUgraphNodeType, of: &T) -> Self {
        let mut params = Self { kind, ..Self::default() };
        params.set(of);
        params
    }

    /// The parameters in a type's form.
    pub fn get<T: FromBytes>(&self) -> T {
        match T::read_from_prefix(self.body.as_bytes()) {
            Ok((form, _)) => form,
            Err(_) => T::new_zeroed(),
        }
    }

    /// Replaces the parameters.
    pub fn set<T: IntoBytes + Immutable>(&mut self, of: &T) {
        for (to, from) in self.body.as_mut_bytes().iter_mut().zip(of.as_bytes()) {
            *to = *from;
        }
    }
}

/// The attribute of a kernel node.
pub type CUkernelNodeAttrValue = CUlaunchAttributeValue;
