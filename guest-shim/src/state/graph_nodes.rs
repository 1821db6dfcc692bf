//! What the guest keeps of graph nodes: memory that the program was given
//! pointers into, and the copies whose ends the host cannot reach.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use paravane_protocol::cuda_types::*;

/// Bytes that a node owns, and pointers to some of them. CUDA promises them as
/// long as the node is there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Owned {
    words: Vec<u64>,
    pointers: Vec<u64>,
}

impl Owned {
    /// A copy of `bytes`, with pointers to these offsets.
    pub(crate) fn new(bytes: &[u8], offsets: impl Iterator<Item = usize>) -> Self {
        let word = |chunk: &[u8]| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(word)
        };
        let words: Vec<u64> = bytes.chunks(8).map(word).collect();
        let start = words.as_ptr() as u64;
        let pointers = offsets.map(|offset| start + offset as u64).collect();
        Self { words, pointers }
    }

    /// The bytes' address; NULL for none.
    pub(crate) fn bytes(&self) -> u64 {
        if self.words.is_empty() { 0 } else { self.words.as_ptr() as u64 }
    }

    /// The pointers' address; NULL for none.
    pub(crate) fn pointers(&self) -> u64 {
        if self.pointers.is_empty() { 0 } else { self.pointers.as_ptr() as u64 }
    }
}

#[derive(Default)]
struct Known {
    /// By node; what it owned before its parameters changed too.
    owned: HashMap<u64, Vec<Arc<Owned>>>,
    /// By node: copies to or from pageable memory, as the program asked.
    copies: HashMap<u64, CUDA_MEMCPY_NODE_PARAMS>,
    /// The nodes of a graph that are in either.
    of_graph: HashMap<u64, Vec<u64>>,
}

static KNOWN: Mutex<Option<Known>> = Mutex::new(None);

fn lock() -> MutexGuard<'static, Option<Known>> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps what a node owns; what it had already stays where it is.
pub(crate) fn own(node: CUgraphNode, owned: Owned) -> Arc<Owned> {
    let mut known = lock();
    let of_node = known.get_or_insert_default().owned.entry(node.0).or_default();
    // Equal bytes at another address have other pointers.
    if let Some(same) = of_node.iter().find(|had| had.words == owned.words) {
        return Arc::clone(same);
    }
    let owned = Arc::new(owned);
    of_node.push(Arc::clone(&owned));
    owned
}

/// A node is a copy that the host cannot do alone.
pub(crate) fn set_copy(graph: CUgraph, node: CUgraphNode, copy: CUDA_MEMCPY_NODE_PARAMS) {
    let mut known = lock();
    let known = known.get_or_insert_default();
    known.copies.insert(node.0, copy);
    known.of_graph.entry(graph.0).or_default().push(node.0);
}

/// The copy that a node is, if the host cannot do it alone.
pub(crate) fn copy(node: CUgraphNode) -> Option<CUDA_MEMCPY_NODE_PARAMS> {
    lock().as_ref()?.copies.get(&node.0).copied()
}

/// A node is gone.
pub(crate) fn forget(node: CUgraphNode) {
    if let Some(known) = lock().as_mut() {
        known.owned.remove(&node.0);
        known.copies.remove(&node.0);
    }
}

/// A graph is gone with its nodes.
pub(crate) fn forget_graph(graph: CUgraph) {
    let nodes = lock().as_mut().and_then(|known| known.of_graph.remove(&graph.0)).unwrap_or_default();
    nodes.into_iter().for_each(|node| forget(CUgraphNode(node)));
}
