//! Events: a mark on a stream, and when the stream came by it.

use super::task::{Task, Work};
use super::{Kind, Stream, executor};
use crate::capture::Mark;
use crate::context::Context;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

/// One recording of an event.
#[derive(Default)]
pub struct Record {
    pub time: OnceLock<Instant>,
}

/// The latest recording: its mark, and the task that makes it unless that was done at once.
type Latest = (Arc<Record>, Option<Arc<Task>>);

pub struct Event {
    pub context: Arc<Context>,
    pub flags: u32,
    latest: Mutex<Option<Latest>>,
    /// Where it was recorded in a capture, if that was last.
    mark: Mutex<Mark>,
}

impl Event {
    pub fn new(context: &Arc<Context>, flags: u32) -> Self {
        Self { context: Arc::clone(context), flags, latest: Mutex::new(None), mark: Mutex::new(None) }
    }

    pub fn mark(&self) -> Mark {
        self.mark.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_mark(&self, mark: Mark) {
        *self.mark.lock().unwrap_or_else(PoisonError::into_inner) = mark;
    }

    /// Records the event on `stream`: at once when it is idle.
    pub fn record(&self, stream: &Arc<Stream>) {
        self.set_mark(None);
        let record = Arc::new(Record::default());
        let task = if stream.is_idle() {
            let _ = record.time.set(Instant::now());
            None
        } else {
            Some(stream.enqueue(Work::Record(Arc::clone(&record)), None))
        };
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some((record, task));
    }

    /// The event is recorded by a task that exists already.
    pub fn adopt(&self, record: &Arc<Record>, task: &Arc<Task>) {
        self.set_mark(None);
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some((Arc::clone(record), Some(Arc::clone(task))));
    }

    /// Records the event behind all streams of its context.
    pub fn record_context(&self) {
        self.set_mark(None);
        let record = Arc::new(Record::default());
        let all: Vec<Arc<Task>> = self.context.last_tasks();
        // A stream of its own, so that nothing else is held up.
        let mark = Arc::new(Stream::new(&self.context, Kind::NonBlocking, 0, 0));
        self.context.add_stream(&mark);
        let task = mark.enqueue_after(Work::Record(Arc::clone(&record)), all);
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some((record, Some(task)));
    }

    /// The task that later work has to wait for, if any.
    pub fn pending(&self) -> Option<Arc<Task>> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.as_ref().and_then(|(_, task)| task.clone()).filter(|task| !task.is_done())
    }

    pub fn synchronize(&self) {
        if let Some(task) = self.pending() {
            executor::wait(&task);
        }
    }

    /// When the stream came by; None when the event was never recorded.
    pub fn time(&self) -> Option<Instant> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.as_ref().and_then(|(record, _)| record.time.get().copied())
    }

    /// Whether it was ever recorded.
    pub fn is_recorded(&self) -> bool {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}
