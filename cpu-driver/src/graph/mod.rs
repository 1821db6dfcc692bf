//! Graphs: nodes and the edges between them. `params` says what a node does, `exec` runs a graph that
//! is instantiated, `memory` keeps what allocation nodes hold, `object` what graphs keep alive.

pub mod condition;
pub mod exec;
pub mod memory;
pub mod object;
pub mod params;

use crate::registry::Registry;
use condition::Condition;
use exec::Exec;
use object::{Held, UserObject};
use params::Params;
use paravane_protocol::cuda_types::{
    CUDA_ERROR_INVALID_HANDLE, CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_NOT_SUPPORTED, CUgraphEdgeData, CUresult,
};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub static GRAPHS: Registry<Graph> = Registry::new(32);
pub static NODES: Registry<Node> = Registry::new(33);
pub static EXECS: Registry<Exec> = Registry::new(34);
pub static USER_OBJECTS: Registry<UserObject> = Registry::new(35);

type Answer<T = ()> = Result<T, CUresult>;

/// One node.
pub struct Node {
    pub handle: u64,
    /// Its number within its graph, and among all nodes.
    pub local_id: u32,
    pub tools_id: u64,
    /// The graph that it is in.
    pub graph: u64,
    /// The node that it is a clone of, or 0.
    pub origin: u64,
    params: Mutex<Params>,
}

impl Node {
    pub fn params(&self) -> Params {
        self.params.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_params(&self, params: Params) {
        *self.params.lock().unwrap_or_else(PoisonError::into_inner) = params;
    }

    pub fn change<T>(&self, change: impl FnOnce(&mut Params) -> T) -> T {
        change(&mut self.params.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// That one node comes before another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    pub from: u64,
    pub to: u64,
    pub data: CUgraphEdgeData,
}

#[derive(Default)]
pub struct State {
    pub nodes: Vec<Arc<Node>>,
    pub edges: Vec<Edge>,
    pub objects: Vec<Held>,
    pub conditions: Vec<Condition>,
    next_local: u32,
}

pub struct Graph {
    pub handle: u64,
    pub id: u32,
    /// Part of a node: it ends with that.
    pub is_embedded: AtomicBool,
    state: Mutex<State>,
}

fn next_id() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Graph {
    /// A new empty graph.
    pub fn create() -> Arc<Self> {
        let make = |handle| Self {
            handle,
            id: next_id(),
            is_embedded: AtomicBool::new(false),
            state: Mutex::default(),
        };
        GRAPHS.insert_with(make).1
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a node behind others; an edge's data may be left out.
    pub fn add(&self, before: &[u64], data: &[CUgraphEdgeData], params: Params) -> Answer<u64> {
        self.add_clone(before, data, params, 0)
    }

    fn add_clone(&self, before: &[u64], data: &[CUgraphEdgeData], params: Params, origin: u64) -> Answer<u64> {
        static TOOLS_ID: AtomicU64 = AtomicU64::new(1);
        let mut state = self.state();
        let unique: HashSet<u64> = before.iter().copied().collect();
        if unique.len() != before.len() || !before.iter().all(|node| state.holds(*node)) {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        for (number, from) in before.iter().enumerate() {
            state.check_edge(*from, data.get(number).copied().unwrap_or_default())?;
        }
        let local_id = state.next_local;
        state.next_local += 1;
        let (handle, node) = NODES.insert_with(|handle| Node {
            handle,
            local_id,
            tools_id: TOOLS_ID.fetch_add(1, Ordering::Relaxed),
            graph: self.handle,
            origin,
            params: Mutex::new(params),
        });
        state.nodes.push(node);
        for (number, from) in before.iter().enumerate() {
            let data = data.get(number).copied().unwrap_or_default();
            state.edges.push(Edge { from: *from, to: handle, data });
        }
        Ok(handle)
    }

    /// Adds edges, all or none.
    pub fn connect(&self, edges: &[Edge]) -> Answer {
        let mut state = self.state();
        let mut known: HashSet<(u64, u64)> = state.edges.iter().map(|edge| (edge.from, edge.to)).collect();
        for edge in edges {
            let fits = edge.from != edge.to && state.holds(edge.from) && state.holds(edge.to);
            if !fits || !known.insert((edge.from, edge.to)) {
                return Err(CUDA_ERROR_INVALID_VALUE);
            }
            state.check_edge(edge.from, edge.data)?;
        }
        state.edges.extend_from_slice(edges);
        Ok(())
    }

    /// Removes edges, all or none.
    pub fn disconnect(&self, edges: &[Edge]) -> Answer {
        let mut state = self.state();
        state.check_fixed()?;
        if !edges.iter().all(|edge| state.edges.contains(edge)) {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        state.edges.retain(|edge| !edges.contains(edge));
        Ok(())
    }

    /// Takes a node out with its edges.
    pub fn remove(&self, node: u64) -> Answer {
        let mut state = self.state();
        state.check_fixed()?;
        if !state.holds(node) {
            return Err(CUDA_ERROR_INVALID_HANDLE);
        }
        state.edges.retain(|edge| edge.from != node && edge.to != node);
        state.nodes.retain(|other| other.handle != node);
        drop(state);
        if let Some(node) = NODES.remove(node) {
            node.params().end();
        }
        Ok(())
    }

    /// A graph of its own with the same nodes, edges and objects. What memory nodes or conditional
    /// nodes are in cannot be copied.
    pub fn copy(&self) -> Answer<Arc<Self>> {
        let copy = Self::create();
        match self.copy_into(&copy) {
            Ok(()) => Ok(copy),
            Err(error) => {
                copy.end();
                Err(error)
            }
        }
    }

    fn copy_into(&self, copy: &Self) -> Answer {
        let state = self.state();
        let mut twins = HashMap::new();
        for node in &state.nodes {
            let params = match node.params() {
                Params::Child(child) => {
                    let child = child.copy()?;
                    child.is_embedded.store(true, Ordering::Relaxed);
                    Params::Child(child)
                }
                Params::Alloc(_) | Params::Free(_) | Params::Conditional(_) => return Err(CUDA_ERROR_NOT_SUPPORTED),
                other => other,
            };
            twins.insert(node.handle, copy.add_clone(&[], &[], params, node.handle)?);
        }
        let twin = |node: u64| twins.get(&node).copied().unwrap_or(0);
        let edges = state.edges.iter().map(|edge| Edge { from: twin(edge.from), to: twin(edge.to), ..*edge });
        let mut of_copy = copy.state();
        of_copy.edges = edges.collect();
        of_copy.objects = state.objects.iter().map(Held::again).collect();
        Ok(())
    }

    /// The graph and all its nodes are gone.
    pub fn end(&self) {
        GRAPHS.remove(self.handle);
        let state = std::mem::take(&mut *self.state());
        for node in state.nodes {
            NODES.remove(node.handle);
            node.params().end();
        }
    }
}

impl State {
    pub fn holds(&self, node: u64) -> bool {
        NODES.with(node, |node| self.nodes.last().is_some_and(|any| any.graph == node.graph)).unwrap_or(false)
    }

    /// Only kernels have ports, and only kernels' edges may be programmatic.
    fn check_edge(&self, from: u64, data: CUgraphEdgeData) -> Answer {
        if data == CUgraphEdgeData::default() {
            return Ok(());
        }
        let is_kernel = NODES.with(from, |node| matches!(node.params(), Params::Kernel(_))).unwrap_or(false);
        let is_known = data.from_port <= 2 && data.to_port == 0 && data.kind <= 1 && data.reserved == [0; 5];
        let fits = data.kind == 0 || data.from_port != 0;
        if is_kernel && is_known && fits { Ok(()) } else { Err(CUDA_ERROR_INVALID_VALUE) }
    }

    /// Nodes and edges of a graph with memory nodes stay.
    fn check_fixed(&self) -> Answer {
        let has_memory = self.nodes.iter().any(|node| matches!(node.params(), Params::Alloc(_) | Params::Free(_)));
        if has_memory { Err(CUDA_ERROR_NOT_SUPPORTED) } else { Ok(()) }
    }

    /// Nodes in an order that their edges allow, those added first in front; None for a cycle.
    pub fn ordered(&self) -> Option<Vec<Arc<Node>>> {
        let mut missing: HashMap<u64, usize> = self.nodes.iter().map(|node| (node.handle, 0)).collect();
        let mut after: HashMap<u64, Vec<u64>> = HashMap::new();
        for edge in &self.edges {
            *missing.get_mut(&edge.to)? += 1;
            after.entry(edge.from).or_default().push(edge.to);
        }
        let place: HashMap<u64, usize> = self.nodes.iter().enumerate().map(|(n, node)| (node.handle, n)).collect();
        let is_free = |node: &&Arc<Node>| missing.get(&node.handle) == Some(&0);
        let mut free: std::collections::BTreeSet<usize> =
            self.nodes.iter().filter(is_free).filter_map(|node| place.get(&node.handle).copied()).collect();
        let mut ordered = Vec::new();
        while let Some(first) = free.pop_first() {
            let node = self.nodes.get(first)?;
            for next in after.get(&node.handle).into_iter().flatten() {
                let left = missing.get_mut(next)?;
                *left -= 1;
                if *left == 0 {
                    free.insert(*place.get(next)?);
                }
            }
            ordered.push(Arc::clone(node));
        }
        (ordered.len() == self.nodes.len()).then_some(ordered)
    }
}
