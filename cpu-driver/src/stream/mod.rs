//! Streams: order among tasks. A task waits for its stream's last task, for what the legacy default
//! stream's rules add, and for recorded events; ready tasks go to the executor.

mod barrier;
mod clock;
pub mod branch;
pub mod event;
pub mod executor;
pub mod host;
pub mod kernel;
pub mod memop;
pub mod task;

pub use barrier::Barrier;

use crate::capture::Slot;
use crate::context::Context;
use paravane_protocol::cuda_types::CUlaunchAttributeValue;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use task::{Task, Work};

/// How a stream stands to the legacy default stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The legacy default stream itself.
    Legacy,
    /// Waits for the legacy stream, and it for this one.
    Blocking,
    NonBlocking,
}

pub struct Stream {
    pub context: Arc<Context>,
    pub kind: Kind,
    pub flags: u32,
    pub priority: AtomicI32,
    pub id: u64,
    /// Attributes that were set and have no field of their own, by cuda.h's numbers.
    pub attributes: Mutex<BTreeMap<u32, CUlaunchAttributeValue>>,
    /// Tasks that are not done; zero means that the stream is idle.
    pub(crate) pending: AtomicU64,
    /// Its part in a capture.
    pub capture: Slot,
    last: Mutex<Option<Arc<Task>>>,
}

/// One of several works that are put on a stream together.
pub struct StepWork<'a> {
    pub work: Work,
    /// Numbers of the works that it waits for.
    pub before: &'a [usize],
    /// One more task that it waits for.
    pub also: Option<Arc<Task>>,
    /// The event that a record belongs to.
    pub event: Option<Arc<event::Event>>,
}

impl Stream {
    pub fn new(context: &Arc<Context>, kind: Kind, flags: u32, priority: i32) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(3);
        Self {
            context: Arc::clone(context),
            kind,
            flags,
            priority: AtomicI32::new(priority),
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            attributes: Mutex::default(),
            pending: AtomicU64::new(0),
            capture: Slot::default(),
            last: Mutex::new(None),
        }
    }

    /// Whether a task put here now would have nothing to wait for.
    #[inline]
    pub fn is_idle(&self) -> bool {
        if self.pending.load(Ordering::Acquire) != 0 || self.context.is_held_up() {
            return false;
        }
        match self.kind {
            Kind::NonBlocking => true,
            // Tasks of the legacy and of blocking streams are counted together.
            Kind::Legacy => self.context.pending_blocking.load(Ordering::Acquire) == 0,
            Kind::Blocking => self.context.pending_legacy.load(Ordering::Acquire) == 0,
        }
    }

    /// The last task, unless it is done.
    pub fn last(&self) -> Option<Arc<Task>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone().filter(|task| !task.is_done())
    }

    /// What a new task here waits for, besides events.
    fn predecessors(&self) -> Vec<Arc<Task>> {
        let mut all: Vec<Arc<Task>> = self.last().into_iter().collect();
        all.extend(self.context.held_up_by());
        match self.kind {
            Kind::NonBlocking => {}
            Kind::Blocking => all.extend(self.context.legacy().and_then(|legacy| legacy.last())),
            Kind::Legacy => {
                all.extend(self.context.streams().iter().filter(|s| s.kind == Kind::Blocking).filter_map(|s| s.last()));
            }
        }
        all
    }

    /// Puts `work` on the stream, after everything before it and after `also`.
    pub fn enqueue(self: &Arc<Self>, work: Work, also: Option<Arc<Task>>) -> Arc<Task> {
        self.enqueue_after(work, also)
    }

    /// As `enqueue`, after any number of tasks.
    pub fn enqueue_after(self: &Arc<Self>, work: Work, also: impl IntoIterator<Item = Arc<Task>>) -> Arc<Task> {
        // One enqueue at a time in a context: the legacy stream's rules look at all streams.
        let _order = self.context.order.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = self.predecessors();
        before.extend(also);
        let task = Arc::new(Task::new(self, work));
        self.count(1);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&task));
        executor::submit(&task, &before);
        task
    }

    /// Puts several works on the stream at once, each behind the ones it names; the first of them
    /// behind everything before and behind `also`. What comes later on the stream waits for `end`,
    /// which waits for all.
    pub fn enqueue_steps<'a>(
        self: &Arc<Self>,
        also: Option<Arc<Task>>,
        steps: impl Iterator<Item = StepWork<'a>>,
        end: Work,
    ) -> Arc<Task> {
        let _order = self.context.order.lock().unwrap_or_else(PoisonError::into_inner);
        let mut first = self.predecessors();
        first.extend(also.filter(|task| !task.is_done()));
        let tasks = self.put_steps(first, steps);
        let last = Arc::new(Task::new(self, end));
        self.count(1);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&last));
        executor::submit(&last, &tasks);
        last
    }

    /// As `enqueue_steps` for work within a task of this stream, which is not over before `end` is.
    pub(super) fn submit_steps<'a>(self: &Arc<Self>, steps: impl Iterator<Item = StepWork<'a>>, end: Work) {
        let tasks = self.put_steps(Vec::new(), steps);
        let last = Arc::new(Task::new(self, end));
        self.count(1);
        executor::submit(&last, &tasks);
    }

    /// Submits works; their tasks, and those that the first of them wait for.
    fn put_steps<'a>(
        self: &Arc<Self>,
        first: Vec<Arc<Task>>,
        steps: impl Iterator<Item = StepWork<'a>>,
    ) -> Vec<Arc<Task>> {
        let mut tasks: Vec<Arc<Task>> = Vec::new();
        for step in steps {
            let task = Arc::new(Task::new(self, step.work));
            self.count(1);
            let mut before: Vec<Arc<Task>> = step.before.iter().filter_map(|n| tasks.get(*n).cloned()).collect();
            if step.before.is_empty() {
                before.extend(first.iter().cloned());
            }
            before.extend(step.also);
            if let (Some(event), Work::Record(record)) = (&step.event, &task.work) {
                event.adopt(record, &task);
            }
            executor::submit(&task, &before);
            tasks.push(task);
        }
        tasks.extend(first);
        tasks
    }

    fn count(&self, step: u64) {
        self.pending.fetch_add(step, Ordering::AcqRel);
        if self.kind != Kind::NonBlocking {
            self.context.pending_blocking.fetch_add(step, Ordering::AcqRel);
        }
        if self.kind == Kind::Legacy {
            self.context.pending_legacy.fetch_add(step, Ordering::AcqRel);
        }
        self.context.pending.fetch_add(step, Ordering::AcqRel);
    }

    /// Called once by each task as it ends.
    pub(crate) fn task_done(&self) {
        self.count(u64::MAX);
        if self.pending.load(Ordering::Acquire) == 0 {
            // Frees the last task, unless a newer one has come.
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.as_ref().is_some_and(|task| task.is_done()) {
                *last = None;
            }
        }
    }

    /// Waits until everything that is on the stream now is done; for the legacy stream, also what
    /// is on the blocking ones.
    pub fn synchronize(&self) {
        if self.is_idle() {
            return;
        }
        let waited_for = {
            let _order = self.context.order.lock().unwrap_or_else(PoisonError::into_inner);
            self.predecessors()
        };
        for task in waited_for {
            executor::wait(&task);
        }
    }

    /// Whether everything on the stream is done.
    pub fn query(&self) -> bool {
        self.is_idle() || self.predecessors().is_empty()
    }
}
