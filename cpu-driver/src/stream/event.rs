//! Events: a mark on a stream, and when the stream came by it.

use super::memop::{self, Batch, MemOp, Until, Update};
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
    /// Where an interprocess event counts: recordings, and those whose streams have come by.
    page: Option<u64>,
    /// Where it was recorded in a capture, if that was last.
    mark: Mutex<Mark>,
}

impl Event {
    pub fn new(context: &Arc<Context>, flags: u32) -> Self {
        let (latest, mark) = (Mutex::new(None), Mutex::new(None));
        Self { context: Arc::clone(context), flags, latest, page: None, mark }
    }

    /// An event whose state lies in a page that other processes share.
    pub fn shared(context: &Arc<Context>, flags: u32, page: u64) -> Self {
        Self { page: Some(page), ..Self::new(context, flags) }
    }

    pub fn page(&self) -> Option<u64> {
        self.page
    }

    /// A recording has begun: what its stream does when it comes by.
    fn begin(page: u64) -> Work {
        memop::count(page);
        let counted = MemOp::Update { at: page + 8, is_wide: true, value: 1, update: Update::Add };
        Work::Memory(Batch::new(Arc::new([counted])))
    }

    /// The recordings until now, unless all their streams have come by.
    fn outstanding(page: u64) -> Option<u64> {
        let recorded = memop::counted(page);
        (memop::counted(page + 8) < recorded).then_some(recorded)
    }

    /// Whether the streams of all recordings have come by.
    pub fn is_done(&self) -> bool {
        match self.page {
            Some(page) => Self::outstanding(page).is_none(),
            None => self.pending().is_none(),
        }
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
        if let Some(page) = self.page {
            stream.enqueue(Self::begin(page), None);
            return;
        }
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

    /// Records the event behind all streams of a context.
    pub fn record_context(&self, context: &Context) {
        self.set_mark(None);
        let record = Arc::new(Record::default());
        let all: Vec<Arc<Task>> = context.last_tasks();
        let mark = self.own_stream();
        if let Some(page) = self.page {
            mark.enqueue_after(Self::begin(page), all);
            return;
        }
        let task = mark.enqueue_after(Work::Record(Arc::clone(&record)), all);
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some((record, Some(task)));
    }

    /// A stream for one task, so that nothing else is held up.
    fn own_stream(&self) -> Arc<Stream> {
        let stream = Arc::new(Stream::new(&self.context, Kind::NonBlocking, 0, 0));
        self.context.add_stream(&stream);
        stream
    }

    /// The task that later work has to wait for, if any.
    pub fn pending(&self) -> Option<Arc<Task>> {
        if let Some(page) = self.page {
            let value = Self::outstanding(page)?;
            let wait = MemOp::Wait { at: page + 8, is_wide: true, value, until: Until::AtLeast };
            return Some(self.own_stream().enqueue(Work::Memory(Batch::new(Arc::new([wait]))), None));
        }
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
