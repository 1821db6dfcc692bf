//! Executable graphs: nodes in an order that their edges allow, child graphs laid out in their
//! parents. A launch makes a task of each node, with the nodes before it as what it waits for: so the
//! executor runs in parallel what the edges leave independent.

use super::object::Held;
use super::params::{ConditionalNode, KernelNode, Params};
use super::condition::Condition;
use super::{Answer, EXECS, Graph, next_id};
use crate::api::grid_of;
use crate::context::Context;
use crate::objects::EVENTS;
use crate::stream::{StepWork, Stream};
use crate::stream::branch::{Body, Branch};
use crate::stream::event::Record;
use crate::stream::host::Callback;
use crate::stream::kernel::Launch;
use crate::stream::memop::Batch;
use crate::stream::task::{Task, Work};
use paravane_protocol::cuda_types::*;
use std::collections::{HashMap, HashSet};
use std::ffi::c_void;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const AUTO_FREE_ON_LAUNCH: u64 = 1;
const USE_NODE_PRIORITY: u64 = 8;
const PRIORITY: u32 = 8;

/// One node at its place in a launch.
#[derive(Clone)]
pub struct Step {
    /// The node that it was made from.
    pub node: u64,
    pub params: Params,
    /// Steps that come before it.
    pub before: Vec<usize>,
    pub is_enabled: bool,
    /// A conditional node's bodies, each laid out by itself.
    bodies: Arc<Vec<Vec<Step>>>,
}

#[derive(Default)]
pub struct Inner {
    pub steps: Vec<Step>,
    conditions: Vec<Condition>,
    /// Kept for the graph; given back when the last launch is over.
    objects: Arc<Vec<Held>>,
    last: Option<Arc<Task>>,
}

pub struct Exec {
    pub handle: u64,
    pub id: u32,
    pub flags: u64,
    inner: Mutex<Inner>,
}

/// Why a graph cannot be instantiated: the code, and the node where there is one.
pub struct Refusal {
    pub code: CUresult,
    pub node: u64,
    /// CUDA_GRAPH_INSTANTIATE_*.
    pub reason: u32,
}

impl Refusal {
    const INVALID_STRUCTURE: u32 = 2;

    fn of(code: CUresult, node: u64) -> Self {
        Self { code, node, reason: 1 }
    }
}

/// Lays graphs out as steps.
struct Layout {
    steps: Vec<Step>,
    conditions: Vec<Condition>,
    /// The graph is a conditional node's body.
    is_body: bool,
}

impl Layout {
    fn push(&mut self, node: u64, params: Params, before: Vec<usize>) -> usize {
        self.steps.push(Step { node, params, before, is_enabled: true, bodies: Arc::default() });
        self.steps.len() - 1
    }

    /// Lays a graph out behind `outer`; the steps that end it.
    fn graph(&mut self, graph: &Graph, outer: &[usize]) -> Result<Vec<usize>, Refusal> {
        let state = graph.state();
        let cycle = Refusal { code: CUDA_ERROR_INVALID_VALUE, node: 0, reason: Refusal::INVALID_STRUCTURE };
        let nodes = state.ordered().ok_or(cycle)?;
        self.conditions.extend(state.conditions.iter().cloned());
        let mut before: HashMap<u64, Vec<u64>> = HashMap::new();
        let mut is_followed: HashSet<u64> = HashSet::new();
        for edge in &state.edges {
            before.entry(edge.to).or_default().push(edge.from);
            is_followed.insert(edge.from);
        }
        let mut place = HashMap::new();
        let mut ends = Vec::new();
        for node in nodes {
            let of_node: Vec<usize> = match before.get(&node.handle) {
                None => outer.to_vec(),
                Some(nodes) => nodes.iter().filter_map(|node| place.get(node).copied()).collect(),
            };
            let last = self.node(node.handle, node.params(), of_node)?;
            place.insert(node.handle, last);
            if !is_followed.contains(&node.handle) {
                ends.push(last);
            }
        }
        Ok(ends)
    }

    /// Lays one node out; the step that ends it.
    fn node(&mut self, node: u64, params: Params, before: Vec<usize>) -> Result<usize, Refusal> {
        // Allocations and events are of the whole launch.
        let is_outer = matches!(params, Params::Alloc(_) | Params::Free(_) | Params::Record(_) | Params::Wait(_));
        if self.is_body && is_outer {
            return Err(Refusal::of(CUDA_ERROR_NOT_SUPPORTED, node));
        }
        let at = self.push(node, params.clone(), before);
        match params {
            Params::Child(child) => {
                let inner = self.graph(&child, &[at])?;
                Ok(self.push(node, Params::Empty, if inner.is_empty() { vec![at] } else { inner }))
            }
            Params::Conditional(conditional) => {
                let bodies = self.bodies(&conditional).map_err(|refusal| Refusal { node, ..refusal })?;
                if let Some(step) = self.steps.get_mut(at) {
                    step.bodies = Arc::new(bodies);
                }
                Ok(at)
            }
            _ => Ok(at),
        }
    }

    fn bodies(&mut self, node: &ConditionalNode) -> Result<Vec<Vec<Step>>, Refusal> {
        node.bodies
            .iter()
            .map(|body| {
                let mut layout = Layout { steps: Vec::new(), conditions: Vec::new(), is_body: true };
                layout.graph(body, &[])?;
                self.conditions.append(&mut layout.conditions);
                Ok(layout.steps)
            })
            .collect()
    }
}

/// The step of a node, in bodies too.
pub fn step_of(steps: &mut [Step], node: u64) -> Option<&mut Step> {
    if let Some(place) = steps.iter().position(|step| step.node == node) {
        return steps.get_mut(place);
    }
    steps.iter_mut().filter(|step| !step.bodies.is_empty()).find_map(|step| {
        Arc::make_mut(&mut step.bodies).iter_mut().find_map(|body| step_of(body, node))
    })
}

/// Whether steps can become others of the same form; what differs, and at which node.
fn check_update(ours: &[Step], theirs: &[Step]) -> Result<(), (CUgraphExecUpdateResult, u64)> {
    if ours.len() != theirs.len() {
        return Err((CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED, 0));
    }
    for (ours, theirs) in ours.iter().zip(theirs) {
        if ours.params.kind() != theirs.params.kind() {
            return Err((CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED, theirs.node));
        }
        if ours.before != theirs.before || ours.bodies.len() != theirs.bodies.len() {
            return Err((CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED, theirs.node));
        }
        if matches!(ours.params, Params::Alloc(_) | Params::Free(_)) {
            return Err((CU_GRAPH_EXEC_UPDATE_ERROR_NOT_SUPPORTED, theirs.node));
        }
        may_become(&ours.params, &theirs.params).map_err(|_| (CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED, theirs.node))?;
        for (ours, theirs) in ours.bodies.iter().zip(theirs.bodies.iter()) {
            check_update(ours, theirs)?;
        }
    }
    Ok(())
}

/// What a graph and those in its nodes keep.
fn kept_by(graph: &Graph, objects: &mut Vec<Held>) {
    let state = graph.state();
    objects.extend(state.objects.iter().map(Held::again));
    for node in &state.nodes {
        if let Params::Child(child) = node.params() {
            kept_by(&child, objects);
        }
    }
}

fn prepared(graph: &Graph) -> Result<Inner, Refusal> {
    let mut layout = Layout { steps: Vec::new(), conditions: Vec::new(), is_body: false };
    layout.graph(graph, &[])?;
    let mut objects = Vec::new();
    kept_by(graph, &mut objects);
    let Layout { steps, conditions, .. } = layout;
    Ok(Inner { steps, conditions, objects: Arc::new(objects), last: None })
}

impl Exec {
    /// Instantiates a graph.
    pub fn create(graph: &Graph, flags: u64) -> Result<Arc<Self>, Refusal> {
        let inner = prepared(graph)?;
        let make = |handle| Self { handle, id: next_id(), flags, inner: Mutex::new(inner) };
        Ok(EXECS.insert_with(make).1)
    }

    pub fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over a graph of the same form; what differs, and at which of its nodes.
    pub fn update(&self, graph: &Graph) -> Result<(), (CUgraphExecUpdateResult, u64)> {
        let new = prepared(graph).map_err(|refusal| (CU_GRAPH_EXEC_UPDATE_ERROR, refusal.node))?;
        let mut inner = self.inner();
        check_update(&inner.steps, &new.steps)?;
        for (ours, theirs) in inner.steps.iter_mut().zip(new.steps) {
            ours.params = theirs.params;
            ours.bodies = theirs.bodies;
        }
        inner.conditions = new.conditions;
        inner.objects = new.objects;
        Ok(())
    }

    /// Replaces what one node does.
    pub fn set(&self, node: u64, params: Params) -> Answer {
        let mut inner = self.inner();
        let step = step_of(&mut inner.steps, node).ok_or(CUDA_ERROR_INVALID_VALUE)?;
        may_become(&step.params, &params)?;
        step.params = match (&step.params, params) {
            // Attributes stay.
            (Params::Kernel(old), Params::Kernel(new)) => {
                let shape = crate::api::Shape { cooperative: old.shape.cooperative, ..new.shape };
                Params::Kernel(KernelNode { attributes: old.attributes.clone(), shape, ..new })
            }
            (_, params) => params,
        };
        Ok(())
    }

    /// Replaces a child graph by one of the same form.
    pub fn set_child(&self, node: u64, child: &Graph) -> Answer {
        let mut inner = self.inner();
        let first = inner.steps.iter().position(|step| step.node == node).ok_or(CUDA_ERROR_INVALID_VALUE)?;
        let entry = inner.steps.get(first).cloned().ok_or(CUDA_ERROR_INVALID_VALUE)?;
        let mut layout = Layout { steps: vec![entry], conditions: Vec::new(), is_body: false };
        layout.graph(child, &[0]).map_err(|refusal| refusal.code)?;
        let new = layout.steps;
        let old = inner.steps.get_mut(first..first + new.len()).ok_or(CUDA_ERROR_INVALID_VALUE)?;
        for (ours, theirs) in old.iter().zip(&new).skip(1) {
            let shifted: Vec<usize> = ours.before.iter().map(|n| n.wrapping_sub(first)).collect();
            if shifted != theirs.before {
                return Err(CUDA_ERROR_INVALID_VALUE);
            }
            may_become(&ours.params, &theirs.params)?;
        }
        for (ours, theirs) in old.iter_mut().zip(new).skip(1) {
            ours.params = theirs.params;
        }
        let mut objects = inner.objects.iter().map(Held::again).collect();
        kept_by(child, &mut objects);
        inner.objects = Arc::new(objects);
        Ok(())
    }

    /// Puts the whole graph on a stream, behind the launch before.
    pub fn launch(self: &Arc<Self>, stream: &Arc<Stream>) -> Answer {
        let mut inner = self.inner();
        self.allocate(&inner)?;
        let context = Arc::clone(&stream.context);
        let by_priority = self.flags & USE_NODE_PRIORITY != 0;
        let set = Arc::new(inner.conditions.clone());
        if !set.is_empty() {
            stream.enqueue(Work::Assign(Arc::clone(&set)), inner.last.clone());
        }
        let works = inner.steps.iter().map(|step| {
            let also = match &step.params {
                Params::Wait(asked) => EVENTS.get(asked.event.0).and_then(|event| event.pending()),
                _ => None,
            };
            let event = match &step.params {
                Params::Record(asked) if step.is_enabled => EVENTS.get(asked.event.0),
                _ => None,
            };
            let work = work_of_step(step, &context, by_priority, &set);
            StepWork { work, before: &step.before, also, event }
        });
        let kept: Arc<Vec<Held>> = Arc::clone(&inner.objects);
        let last = stream.enqueue_steps(inner.last.clone(), works, Work::Keep(kept));
        inner.last = Some(last);
        Ok(())
    }

    /// A graph with the same work, for a node of another. Memory nodes and conditional nodes cannot be in one.
    pub fn as_child(&self) -> Answer<Arc<Graph>> {
        let inner = self.inner();
        let child = Graph::create();
        child.is_embedded.store(true, Ordering::Relaxed);
        let mut nodes = Vec::new();
        for step in &inner.steps {
            let params = match &step.params {
                Params::Alloc(_) | Params::Free(_) | Params::Conditional(_) => Err(CUDA_ERROR_NOT_SUPPORTED),
                // What is in it are steps of their own.
                Params::Child(_) => Ok(Params::Empty),
                _ if !step.is_enabled => Ok(Params::Empty),
                other => Ok(other.clone()),
            };
            let before: Vec<u64> = step.before.iter().filter_map(|place| nodes.get(*place).copied()).collect();
            let added = params.and_then(|params| child.add(&before, &[], params));
            nodes.push(added.inspect_err(|_| child.end())?);
        }
        child.state().objects = inner.objects.iter().map(Held::again).collect();
        Ok(child)
    }

    /// Memory nodes: what a launch allocates must be free.
    fn allocate(&self, inner: &Inner) -> Answer {
        for step in &inner.steps {
            match &step.params {
                Params::Alloc(node) => {
                    if self.flags & AUTO_FREE_ON_LAUNCH != 0 {
                        node.allocation.give_back();
                    }
                    if !node.allocation.take() {
                        return Err(CUDA_ERROR_INVALID_VALUE);
                    }
                }
                Params::Free(dptr) => {
                    let allocation = super::memory::find(dptr.0).ok_or(CUDA_ERROR_INVALID_VALUE)?;
                    if !allocation.give_back() {
                        return Err(CUDA_ERROR_INVALID_VALUE);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The program gives the handle up; launches on their way go on.
    pub fn end(&self) {
        EXECS.remove(self.handle);
        *self.inner() = Inner::default();
    }
}

/// Whether an executable node can change so.
fn may_become(old: &Params, new: &Params) -> Answer {
    let fits = match (old, new) {
        (Params::Copy(old), Params::Copy(new)) => {
            let kinds = |node: &super::params::CopyNode| {
                let copy = node.asked.copyParams;
                (copy.srcMemoryType, copy.dstMemoryType)
            };
            kinds(old) == kinds(new)
        }
        (Params::Kernel(old), Params::Kernel(new)) => {
            old.kernel.module.context.owner == new.kernel.module.context.owner
        }
        (Params::Memory(old), Params::Memory(new)) => old.operations.len() == new.operations.len(),
        (old, new) => old.kind() == new.kind(),
    };
    if fits { Ok(()) } else { Err(CUDA_ERROR_INVALID_VALUE) }
}

fn kernel_work(node: &KernelNode, context: &Context, by_priority: bool) -> Work {
    if node.kernel.is_empty && !node.shape.cooperative {
        return Work::Nothing;
    }
    // Another device's kernel works on that device's memory, by the launching stream's threads.
    let own = &node.kernel.module.context;
    let context = if own.device == context.device { context } else { own };
    let grid = grid_of(&node.kernel, &node.shape, node.arguments.bytes.clone(), context);
    let mut launch = Launch::new(Arc::new(grid), node.shape.cooperative);
    if by_priority {
        launch.priority = node.attributes.get(&PRIORITY).map(|value| i32::from_word(value.words[0]));
    }
    Work::Kernel(launch)
}

/// A host node's function and its argument.
fn callback(asked: &CUDA_HOST_NODE_PARAMS) -> Callback {
    let data = usize::try_from(asked.userData).unwrap_or(0);
    Callback::Function(function_at(asked.func), data)
}

#[allow(unsafe_code, reason = "a function's address is its number")]
fn function_at(address: u64) -> CUhostFn {
    let pointer = std::ptr::with_exposed_provenance::<c_void>(usize::try_from(address).unwrap_or(0));
    // SAFETY: an option of a function has the form of a pointer that may be NULL; the program gave
    // it as such.
    unsafe { std::mem::transmute::<*const c_void, CUhostFn>(pointer) }
}

fn work_of_step(step: &Step, context: &Arc<Context>, by_priority: bool, conditions: &Arc<Vec<Condition>>) -> Work {
    match &step.params {
        _ if !step.is_enabled => Work::Nothing,
        Params::Conditional(node) => branch(node, &step.bodies, context, by_priority, conditions),
        params => work_of(params, context, by_priority),
    }
}

fn branch(
    node: &ConditionalNode,
    bodies: &Arc<Vec<Vec<Step>>>,
    context: &Arc<Context>,
    by_priority: bool,
    conditions: &Arc<Vec<Condition>>,
) -> Work {
    let Some(condition) = conditions.iter().find(|condition| condition.handle == node.asked.handle) else {
        return Work::Nothing;
    };
    let body = |number: usize| -> Body {
        let (bodies, context, conditions) = (Arc::clone(bodies), Arc::clone(context), Arc::clone(conditions));
        let work = move |step: &Step| (work_of_step(step, &context, by_priority, &conditions), step.before.clone());
        Box::new(move || bodies.get(number).into_iter().flatten().map(&work).collect())
    };
    let value = Arc::clone(&condition.value);
    Work::Branch(Branch { value, kind: node.asked.kind, bodies: (0..bodies.len()).map(body).collect() })
}

fn work_of(params: &Params, context: &Context, by_priority: bool) -> Work {
    match params {
        Params::Kernel(node) => kernel_work(node, context, by_priority),
        Params::Copy(node) => Work::Copy(node.copy.clone()),
        Params::Set(node) => Work::Set(node.set),
        Params::Host(asked) => Work::Host(callback(&asked.host)),
        Params::Record(_) => Work::Record(Arc::new(Record::default())),
        Params::Memory(node) => Work::Memory(Batch::new(Arc::clone(&node.checked))),
        Params::Child(_) | Params::Empty | Params::Wait(_) | Params::Alloc(_) | Params::Free(_) | Params::Conditional(_) => {
            Work::Nothing
        }
    }
}
