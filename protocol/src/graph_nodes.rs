//! CUDA's functions for single kinds of graph nodes, as the one form that all
//! kinds have ([`crate::cuda_types::CUgraphNodeParams`]). Shim and cpu-driver
//! make theirs from here: each brings functions that add, tell and set a node
//! in that form, and that read and write the program's structures.

/// Makes the functions. `$head` is what stands before `fn`. In scope must be
/// `add(*mut CUgraphNode, CUgraph, *const CUgraphNode, *const CUgraphEdgeData,
/// usize, CUgraphNodeParams) -> Answer<CUgraphNodeParams>`, `tell(CUgraphNode,
/// Option<CUgraphNodeType>) -> Answer<CUgraphNodeParams>`, `set(CUgraphNode,
/// CUgraphNodeParams) -> Answer`, `set_exec(CUgraphExec, CUgraphNode,
/// CUgraphNodeParams) -> Answer`, `read(*const T) -> Answer<T>` and
/// `write(*mut T, T) -> Answer`.
#[macro_export]
macro_rules! graph_node_functions {
    (@kind [$($head:tt)*] $kind:ident, $params:ident, $add:ident $get:ident $set:ident $exec:ident) => {
        $($head)* fn $add(node: *mut CUgraphNode, graph: CUgraph, before: *const CUgraphNode, count: usize, params: *const $params) -> Answer {
            add(node, graph, before, NO_EDGE_DATA, count, CUgraphNodeParams::new($kind, &read(params)?)).map(|_| ())
        }

        $($head)* fn $get(node: CUgraphNode, params: *mut $params) -> Answer {
            write(params, tell(node, Some($kind))?.get())
        }

        $($head)* fn $set(node: CUgraphNode, params: *const $params) -> Answer {
            set(node, CUgraphNodeParams::new($kind, &read(params)?))
        }

        $($head)* fn $exec(exec: CUgraphExec, node: CUgraphNode, params: *const $params) -> Answer {
            set_exec(exec, node, CUgraphNodeParams::new($kind, &read(params)?))
        }
    };
    ($($head:tt)*) => {
        const NO_EDGE_DATA: *const CUgraphEdgeData = std::ptr::null();

        $crate::graph_node_functions! { @kind [$($head)*] CU_GRAPH_NODE_TYPE_KERNEL, CUDA_KERNEL_NODE_PARAMS_v1,
            cuGraphAddKernelNode cuGraphKernelNodeGetParams cuGraphKernelNodeSetParams cuGraphExecKernelNodeSetParams }
        $crate::graph_node_functions! { @kind [$($head)*] CU_GRAPH_NODE_TYPE_KERNEL, CUDA_KERNEL_NODE_PARAMS,
            cuGraphAddKernelNode_v2 cuGraphKernelNodeGetParams_v2 cuGraphKernelNodeSetParams_v2 cuGraphExecKernelNodeSetParams_v2 }
        $crate::graph_node_functions! { @kind [$($head)*] CU_GRAPH_NODE_TYPE_HOST, CUDA_HOST_NODE_PARAMS,
            cuGraphAddHostNode cuGraphHostNodeGetParams cuGraphHostNodeSetParams cuGraphExecHostNodeSetParams }
        $crate::graph_node_functions! { @kind [$($head)*] CU_GRAPH_NODE_TYPE_BATCH_MEM_OP, CUDA_BATCH_MEM_OP_NODE_PARAMS,
            cuGraphAddBatchMemOpNode cuGraphBatchMemOpNodeGetParams cuGraphBatchMemOpNodeSetParams cuGraphExecBatchMemOpNodeSetParams }

        /// A copy with its context in the one form.
        fn copy_node(copy: CUDA_MEMCPY3D, ctx: CUcontext) -> CUgraphNodeParams {
            let copy = CUDA_MEMCPY_NODE_PARAMS { flags: 0, reserved: 0, copyCtx: ctx, copyParams: copy };
            CUgraphNodeParams::new(CU_GRAPH_NODE_TYPE_MEMCPY, &copy)
        }

        $($head)* fn cuGraphAddMemcpyNode(node: *mut CUgraphNode, graph: CUgraph, before: *const CUgraphNode, count: usize, params: *const CUDA_MEMCPY3D, ctx: CUcontext) -> Answer {
            add(node, graph, before, NO_EDGE_DATA, count, copy_node(read(params)?, ctx)).map(|_| ())
        }

        $($head)* fn cuGraphMemcpyNodeGetParams(node: CUgraphNode, params: *mut CUDA_MEMCPY3D) -> Answer {
            let told: CUDA_MEMCPY_NODE_PARAMS = tell(node, Some(CU_GRAPH_NODE_TYPE_MEMCPY))?.get();
            write(params, told.copyParams)
        }

        $($head)* fn cuGraphMemcpyNodeSetParams(node: CUgraphNode, params: *const CUDA_MEMCPY3D) -> Answer {
            // The context stays.
            let told: CUDA_MEMCPY_NODE_PARAMS = tell(node, Some(CU_GRAPH_NODE_TYPE_MEMCPY))?.get();
            set(node, copy_node(read(params)?, told.copyCtx))
        }

        $($head)* fn cuGraphExecMemcpyNodeSetParams(exec: CUgraphExec, node: CUgraphNode, params: *const CUDA_MEMCPY3D, ctx: CUcontext) -> Answer {
            set_exec(exec, node, copy_node(read(params)?, ctx))
        }

        /// A memset with its context in the one form.
        fn set_node(set: CUDA_MEMSET_NODE_PARAMS, ctx: CUcontext) -> CUgraphNodeParams {
            CUgraphNodeParams::new(CU_GRAPH_NODE_TYPE_MEMSET, &CUDA_MEMSET_NODE_PARAMS_v2 { set, ctx })
        }

        $($head)* fn cuGraphAddMemsetNode(node: *mut CUgraphNode, graph: CUgraph, before: *const CUgraphNode, count: usize, params: *const CUDA_MEMSET_NODE_PARAMS, ctx: CUcontext) -> Answer {
            add(node, graph, before, NO_EDGE_DATA, count, set_node(read(params)?, ctx)).map(|_| ())
        }

        $($head)* fn cuGraphMemsetNodeGetParams(node: CUgraphNode, params: *mut CUDA_MEMSET_NODE_PARAMS) -> Answer {
            let told: CUDA_MEMSET_NODE_PARAMS_v2 = tell(node, Some(CU_GRAPH_NODE_TYPE_MEMSET))?.get();
            write(params, told.set)
        }

        $($head)* fn cuGraphMemsetNodeSetParams(node: CUgraphNode, params: *const CUDA_MEMSET_NODE_PARAMS) -> Answer {
            let told: CUDA_MEMSET_NODE_PARAMS_v2 = tell(node, Some(CU_GRAPH_NODE_TYPE_MEMSET))?.get();
            set(node, set_node(read(params)?, told.ctx))
        }

        $($head)* fn cuGraphExecMemsetNodeSetParams(exec: CUgraphExec, node: CUgraphNode, params: *const CUDA_MEMSET_NODE_PARAMS, ctx: CUcontext) -> Answer {
            set_exec(exec, node, set_node(read(params)?, ctx))
        }

        $($head)* fn cuGraphAddChildGraphNode(node: *mut CUgraphNode, graph: CUgraph, before: *const CUgraphNode, count: usize, child: CUgraph) -> Answer {
            let child = CUDA_CHILD_GRAPH_NODE_PARAMS { graph: child, ownership: 0, pad: 0 };
            add(node, graph, before, NO_EDGE_DATA, count, CUgraphNodeParams::new(CU_GRAPH_NODE_TYPE_GRAPH, &child)).map(|_| ())
        }

        $($head)* fn cuGraphAddEmptyNode(node: *mut CUgraphNode, graph: CUgraph, before: *const CUgraphNode, count: usize) -> Answer {
            let empty = CUgraphNodeParams { kind: CU_GRAPH_NODE_TYPE_EMPTY, ..CUgraphNodeParams::default() };
            add(node, graph, before, NO_EDGE_DATA, count, empty).map(|_| ())
        }

        /// An event node of one of the two kinds.
        fn event_node(kind: CUgraphNodeType, event: CUevent) -> CUgraphNodeParams {
            CUgraphNodeParams::new(kind, &CUDA_EVENT_NODE_PARAMS { event, ctx: CUcontext(0) })
        }

        $($head)* fn cuGraphAddEventRecordNode(node: *mut CUgraphNode, graph: CUgraph, before: *const CUgraphNode, count: usize, event: CUevent) -> Answer {
            add(node, graph, before, NO_EDGE_DATA, count, event_node(CU_GRAPH_NODE_TYPE_EVENT_RECORD, event)).map(|_| ())
        }

        $($head)* fn cuGraphAddEventWaitNode(node: *mut CUgraphNode, graph: CUgraph, before: *const CUgraphNode, count: usize, event: CUevent) -> Answer {
            add(node, graph, before, NO_EDGE_DATA, count, event_node(CU_GRAPH_NODE_TYPE_WAIT_EVENT, event)).map(|_| ())
        }

        $($head)* fn cuGraphAddMemAllocNode(node: *mut CUgraphNode, graph: CUgraph, before: *const CUgraphNode, count: usize, params: *mut CUDA_MEM_ALLOC_NODE_PARAMS) -> Answer {
            let asked = read(params.cast_const())?;
            let made = add(node, graph, before, NO_EDGE_DATA, count, CUgraphNodeParams::new(CU_GRAPH_NODE_TYPE_MEM_ALLOC, &asked))?;
            let made: CUDA_MEM_ALLOC_NODE_PARAMS = made.get();
            write(params, CUDA_MEM_ALLOC_NODE_PARAMS { dptr: made.dptr, ..asked })
        }

        $($head)* fn cuGraphMemAllocNodeGetParams(node: CUgraphNode, params: *mut CUDA_MEM_ALLOC_NODE_PARAMS) -> Answer {
            write(params, tell(node, Some(CU_GRAPH_NODE_TYPE_MEM_ALLOC))?.get())
        }

        $($head)* fn cuGraphAddMemFreeNode(node: *mut CUgraphNode, graph: CUgraph, before: *const CUgraphNode, count: usize, dptr: CUdeviceptr) -> Answer {
            let free = CUgraphNodeParams::new(CU_GRAPH_NODE_TYPE_MEM_FREE, &CUDA_MEM_FREE_NODE_PARAMS { dptr });
            add(node, graph, before, NO_EDGE_DATA, count, free).map(|_| ())
        }

        $($head)* fn cuGraphAddNode(node: *mut CUgraphNode, graph: CUgraph, before: *const CUgraphNode, count: usize, params: *mut CUgraphNodeParams) -> Answer {
            write(params, add(node, graph, before, NO_EDGE_DATA, count, read(params.cast_const())?)?)
        }

        $($head)* fn cuGraphAddNode_v2(node: *mut CUgraphNode, graph: CUgraph, before: *const CUgraphNode, data: *const CUgraphEdgeData, count: usize, params: *mut CUgraphNodeParams) -> Answer {
            write(params, add(node, graph, before, data, count, read(params.cast_const())?)?)
        }

        $($head)* fn cuGraphAddNode_v3(node: *mut CUgraphNode, graph: CUgraph, before: *const CUgraphNode, data: *const CUgraphEdgeData, count: usize, params: *mut CUgraphNodeParams) -> Answer {
            write(params, add(node, graph, before, data, count, read(params.cast_const())?)?)
        }

        $($head)* fn cuGraphNodeSetParams(node: CUgraphNode, params: *mut CUgraphNodeParams) -> Answer {
            set(node, read(params.cast_const())?)
        }

        $($head)* fn cuGraphNodeSetParams_v2(node: CUgraphNode, params: *mut CUgraphNodeParams) -> Answer {
            set(node, read(params.cast_const())?)
        }

        $($head)* fn cuGraphNodeGetParams(node: CUgraphNode, params: *mut CUgraphNodeParams) -> Answer {
            write(params, tell(node, None)?)
        }

        $($head)* fn cuGraphExecNodeSetParams(exec: CUgraphExec, node: CUgraphNode, params: *mut CUgraphNodeParams) -> Answer {
            set_exec(exec, node, read(params.cast_const())?)
        }
    };
}
