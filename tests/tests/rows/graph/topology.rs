//! Nodes, edges, copies of graphs, ids.

use std::ptr;

use paravane_protocol::cuda_types::*;
use paravane_tests::cuda::Cuda;
use paravane_tests::{must, result_of, value_of};

use super::{NO_NODE, graph, zeroed};

fn empty(cuda: &Cuda, graph: CUgraph, before: &[CUgraphNode]) -> CUgraphNode {
    let mut node = NO_NODE;
    must!(cuda.cuGraphAddEmptyNode(&raw mut node, graph, before.as_ptr(), before.len()));
    node
}

/// a before b and c, both before d; e apart.
pub(crate) fn topology(cuda: &Cuda) {
    let graph = graph(cuda);
    let a = empty(cuda, graph, &[]);
    let [b, c] = [0; 2].map(|_| empty(cuda, graph, &[a]));
    let (d, e) = (empty(cuda, graph, &[b, c]), empty(cuda, graph, &[]));
    let mut count = 0;
    must!(cuda.cuGraphGetNodes(graph, ptr::null_mut(), &raw mut count));
    assert_eq!(count, 5);
    let mut nodes = [NO_NODE; 7];
    count = 7;
    must!(cuda.cuGraphGetNodes(graph, nodes.as_mut_ptr(), &raw mut count));
    assert_eq!((count, nodes), (5, [a, b, c, d, e, NO_NODE, NO_NODE]));
    count = 7;
    must!(cuda.cuGraphGetRootNodes(graph, nodes.as_mut_ptr(), &raw mut count));
    assert_eq!((count, &nodes[..2]), (2, &[a, e][..]));
    edges(cuda, graph, [a, b, c, d]);
    change(cuda, graph, [a, d, e]);
    let twice = [a, a];
    let mut refused = NO_NODE;
    let answer = result_of!(cuda.cuGraphAddEmptyNode(&raw mut refused, graph, twice.as_ptr(), 2));
    assert_eq!(answer, CUDA_ERROR_INVALID_VALUE);
    ids(cuda, graph, [a, b]);
    clone(cuda, graph, [b, d]);
    must!(cuda.cuGraphDestroyNode(b));
    let mut kind = CU_GRAPH_NODE_TYPE_KERNEL;
    assert_ne!(result_of!(cuda.cuGraphNodeGetType(b, &raw mut kind)), CUDA_SUCCESS);
    must!(cuda.cuGraphNodeGetType(c, &raw mut kind));
    assert_eq!(kind, CU_GRAPH_NODE_TYPE_EMPTY);
    wide(cuda, graph);
    must!(cuda.cuGraphDestroy(graph));
    assert_ne!(result_of!(cuda.cuGraphDestroy(graph)), CUDA_SUCCESS);
    drawn(cuda);
}

fn edges(cuda: &Cuda, graph: CUgraph, [a, b, c, d]: [CUgraphNode; 4]) {
    let ([mut from, mut to], mut count) = ([[NO_NODE; 4]; 2], 4);
    must!(cuda.cuGraphGetEdges(graph, from.as_mut_ptr(), to.as_mut_ptr(), &raw mut count));
    assert_eq!((count, from, to), (4, [a, a, b, c], [b, c, d, d]));
    let mut data = [CUgraphEdgeData { kind: 9, ..Default::default() }; 4];
    let (sources, targets) = (from.as_mut_ptr(), to.as_mut_ptr());
    must!(cuda.cuGraphGetEdges_v2(graph, sources, targets, data.as_mut_ptr(), &raw mut count));
    assert_eq!(data, [CUgraphEdgeData::default(); 4]);
    count = 4;
    must!(cuda.cuGraphNodeGetDependencies(d, from.as_mut_ptr(), &raw mut count));
    assert_eq!((count, &from[..2]), (2, &[b, c][..]));
    must!(cuda.cuGraphNodeGetDependencies_v2(a, ptr::null_mut(), ptr::null_mut(), &raw mut count));
    assert_eq!(count, 0);
    count = 4;
    must!(cuda.cuGraphNodeGetDependentNodes(a, to.as_mut_ptr(), &raw mut count));
    assert_eq!((count, &to[..2]), (2, &[b, c][..]));
    must!(cuda.cuGraphNodeGetDependentNodes_v2(a, to.as_mut_ptr(), data.as_mut_ptr(), &raw mut count));
    assert_eq!((count, to[1]), (2, c));
}

fn change(cuda: &Cuda, graph: CUgraph, [a, d, e]: [CUgraphNode; 3]) {
    let none = ptr::null();
    must!(cuda.cuGraphAddDependencies(graph, &raw const d, &raw const e, 1));
    let again = result_of!(cuda.cuGraphAddDependencies(graph, &raw const d, &raw const e, 1));
    assert_eq!(again, CUDA_ERROR_INVALID_VALUE);
    must!(cuda.cuGraphRemoveDependencies(graph, &raw const d, &raw const e, 1));
    must!(cuda.cuGraphAddDependencies_v2(graph, &raw const e, &raw const a, none, 1));
    let data = CUgraphEdgeData::default();
    must!(cuda.cuGraphRemoveDependencies_v2(graph, &raw const e, &raw const a, &raw const data, 1));
    // A circle is told when the graph is to run.
    must!(cuda.cuGraphAddDependencies(graph, &raw const d, &raw const a, 1));
    let mut exec = CUgraphExec(0);
    let refused = result_of!(cuda.cuGraphInstantiateWithFlags(&raw mut exec, graph, 0));
    assert_eq!(refused, CUDA_ERROR_INVALID_VALUE);
    must!(cuda.cuGraphRemoveDependencies(graph, &raw const d, &raw const a, 1));
}

fn ids(cuda: &Cuda, graph: CUgraph, [a, b]: [CUgraphNode; 2]) {
    let mut containing = CUgraph(0);
    must!(cuda.cuGraphNodeGetContainingGraph(a, &raw mut containing));
    assert_eq!(containing, graph);
    let [mut first, mut second] = [9; 2];
    must!(cuda.cuGraphNodeGetLocalId(a, &raw mut first));
    must!(cuda.cuGraphNodeGetLocalId(b, &raw mut second));
    assert_ne!(first, second);
    let [mut first, mut second] = [0; 2];
    must!(cuda.cuGraphNodeGetToolsId(a, &raw mut first));
    must!(cuda.cuGraphNodeGetToolsId(b, &raw mut second));
    assert_ne!(first, second);
    let other = super::graph(cuda);
    let [mut first, mut second] = [0; 2];
    must!(cuda.cuGraphGetId(graph, &raw mut first));
    must!(cuda.cuGraphGetId(other, &raw mut second));
    assert_ne!(first, second);
    must!(cuda.cuGraphDestroy(other));
}

fn clone(cuda: &Cuda, graph: CUgraph, [b, d]: [CUgraphNode; 2]) {
    let copy = value_of!(cuda.cuGraphClone(CUgraph(0), graph));
    let [twin_b, twin_d] = [b, d].map(|node| value_of!(cuda.cuGraphNodeFindInClone(NO_NODE, node, copy)));
    assert!(![b, d].contains(&twin_b));
    let (mut before, mut count) = ([NO_NODE; 2], 2);
    must!(cuda.cuGraphNodeGetDependencies(twin_d, before.as_mut_ptr(), &raw mut count));
    assert_eq!((count, before[0]), (2, twin_b));
    must!(cuda.cuGraphDestroy(copy));
    let mut node = NO_NODE;
    assert_ne!(result_of!(cuda.cuGraphNodeFindInClone(&raw mut node, b, copy)), CUDA_SUCCESS);
}

/// More nodes and edges than a frame or a reply holds.
fn wide(cuda: &Cuda, graph: CUgraph) {
    let many: Vec<CUgraphNode> = (0..1100).map(|_| empty(cuda, graph, &[])).collect();
    let last = empty(cuda, graph, &many);
    let (mut before, mut count) = (vec![NO_NODE; 1100], 1100);
    must!(cuda.cuGraphNodeGetDependencies(last, before.as_mut_ptr(), &raw mut count));
    assert_eq!((count, before), (1100, many));
    super::run(cuda, graph);
}

fn drawn(cuda: &Cuda) {
    let graph = graph(cuda);
    let at = zeroed(cuda, 4);
    let set = super::add_set(cuda, graph, &[], at, 1);
    empty(cuda, graph, &[set]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("graph.dot");
    let text = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    must!(cuda.cuGraphDebugDotPrint(graph, text.as_ptr(), 0));
    let drawn = std::fs::read_to_string(path).unwrap();
    assert!(drawn.starts_with("digraph ") && drawn.matches(" -> ").count() == 1, "{drawn}");
    must!(cuda.cuGraphDestroy(graph));
    must!(cuda.cuMemFree_v2(at));
}
