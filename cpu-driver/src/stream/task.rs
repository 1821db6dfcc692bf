//! A task: one piece of work on a stream, and what waits for it.

use super::Stream;
use super::branch::Branch;
use super::event::Record;
use super::executor::Executor;
use super::host::Callback;
use super::kernel::Launch;
use super::memop::Batch;
use crate::graph::condition::Condition;
use crate::memory::Freed;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Mutex;

/// What a task does when its turn comes.
pub enum Work {
    /// Marks a place in the stream.
    Nothing,
    Kernel(Launch),
    Copy(Copy),
    Set(Set),
    Record(Arc<Record>),
    Host(Callback),
    Memory(Batch),
    /// Conditional handles get what they are as a launch begins.
    Assign(Arc<Vec<Condition>>),
    /// A conditional node.
    Branch(Branch),
    /// The tasks of a conditional node's body are over.
    Then(Arc<Task>),
    /// As `Nothing`, and holds something until its turn.
    Keep(Arc<dyn std::any::Any + Send + Sync>),
    /// Gives stream-ordered memory back.
    Free(Freed),
}

/// Bytes from one address to another, in rows and slices.
#[derive(Debug, Clone)]
pub struct Copy {
    pub to: u64,
    pub from: Source,
    pub row: usize,
    pub rows: usize,
    pub to_pitch: usize,
    pub from_pitch: usize,
    pub slices: usize,
    /// Bytes from slice to slice.
    pub to_slice: usize,
    pub from_slice: usize,
}

impl Copy {
    /// A single row.
    pub fn flat(to: u64, from: Source, row: usize) -> Self {
        let (rows, slices) = (1, 1);
        Self { to, from, row, rows, to_pitch: row, from_pitch: row, slices, to_slice: row, from_slice: row }
    }
}

/// Where a copy's bytes come from.
#[derive(Debug, Clone)]
pub enum Source {
    Address(u64),
    /// Taken from the program's memory when the copy was put on the stream.
    Staged(Arc<[u8]>),
}

/// A value repeated over memory, in rows.
#[derive(Debug, Clone, Copy)]
pub struct Set {
    pub to: u64,
    pub value: u32,
    /// Bytes of the value: 1, 2 or 4.
    pub width: usize,
    /// Values in a row.
    pub count: usize,
    pub rows: usize,
    pub pitch: usize,
}

pub struct Task {
    pub stream: Arc<Stream>,
    pub work: Work,
    /// As of streams: lower numbers are more urgent.
    pub priority: i32,
    done: AtomicBool,
    /// Tasks that must end before this one may begin, and one while it is being submitted.
    pub(super) waits_for: AtomicUsize,
    pub(super) followers: Mutex<Vec<Arc<Task>>>,
}

impl Task {
    pub fn new(stream: &Arc<Stream>, work: Work) -> Self {
        let priority = match &work {
            Work::Kernel(launch) => launch.priority,
            _ => None,
        };
        Self {
            stream: Arc::clone(stream),
            work,
            priority: priority.unwrap_or_else(|| stream.priority.load(Ordering::Relaxed)),
            done: AtomicBool::new(false),
            waits_for: AtomicUsize::new(1),
            followers: Mutex::new(Vec::new()),
        }
    }

    /// Its device's.
    pub(super) fn executor(&self) -> &'static Executor {
        self.stream.context.executor
    }

    #[inline]
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    pub(super) fn set_done(&self) {
        self.done.store(true, Ordering::Release);
    }

    /// Whether the work is so small that whoever finds it ready does it.
    pub(super) fn is_trivial(&self) -> bool {
        matches!(self.work, Work::Nothing | Work::Assign(_) | Work::Record(_) | Work::Keep(_) | Work::Free(_))
    }
}
