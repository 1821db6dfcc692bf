//! Graphs and nodes that end, and nodes that look other than they are.

use paravane_protocol::cuda_types::*;

use crate::boundary::Answer;
use crate::local;
use crate::remote::table;
use crate::state::graph_nodes;

pub(crate) fn cuGraphDestroy(graph: CUgraph) -> Answer {
    table::cuGraphDestroy(graph)?;
    graph_nodes::forget_graph(graph);
    Ok(())
}

pub(crate) fn cuGraphDestroyNode(node: CUgraphNode) -> Answer {
    local::destroy_node(node)
}

pub(crate) fn cuGraphNodeGetType(node: CUgraphNode, kind: *mut CUgraphNodeType) -> Answer {
    local::node_kind(node, kind)
}
