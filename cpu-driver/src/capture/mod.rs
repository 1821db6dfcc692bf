//! Stream capture: while a stream is captured, what is put on it becomes nodes of a graph. A capture
//! spreads to other streams by events, and ends where it began. What would break it is an error, and
//! makes the capture invalid until it is ended.

mod rules;

pub use rules::{exchange_mode, refuse_captured, refuse_context, refuse_implicit, refuse_unsafe};

use crate::context::Context;
use crate::graph::Graph;
use crate::graph::params::Params;
use crate::stream::event::Event;
use crate::stream::{Kind, Stream};
use paravane_protocol::cuda_types::*;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::ThreadId;

type Answer<T = ()> = Result<T, CUresult>;

/// Captures that have begun and not ended.
static ALL: Mutex<Vec<Arc<Capture>>> = Mutex::new(Vec::new());
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// One capture.
pub struct Capture {
    pub id: u64,
    mode: CUstreamCaptureMode,
    /// The id of the stream that it began on.
    origin: u64,
    thread: ThreadId,
    context: Arc<Context>,
    pub graph: Arc<Graph>,
    /// The graph was the program's before: it stays whatever happens.
    is_given: bool,
    is_valid: AtomicBool,
    streams: Mutex<Vec<Weak<Stream>>>,
    /// The last nodes of streams that were destroyed meanwhile.
    left: Mutex<Vec<u64>>,
}

/// A stream's part in a capture: the nodes that the next one comes behind.
pub struct Part {
    pub capture: Arc<Capture>,
    pub last: Vec<u64>,
    /// What a program was told, where it may look at it.
    pub told: Vec<CUgraphNode>,
    pub told_data: Vec<CUgraphEdgeData>,
}

impl Part {
    fn new(capture: &Arc<Capture>, last: Vec<u64>) -> Self {
        Self { capture: Arc::clone(capture), last, told: Vec::new(), told_data: Vec::new() }
    }
}

/// A stream's side of captures.
#[derive(Default)]
pub struct Slot {
    is_taken: AtomicBool,
    part: Mutex<Option<Part>>,
}

impl Slot {
    #[inline]
    pub fn is_taken(&self) -> bool {
        self.is_taken.load(Ordering::Acquire)
    }

    pub fn lock(&self) -> MutexGuard<'_, Option<Part>> {
        self.part.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, part: Option<Part>) {
        let mut slot = self.lock();
        self.is_taken.store(part.is_some(), Ordering::Release);
        *slot = part;
    }
}

/// Whether anything is captured.
#[inline]
pub fn is_any() -> bool {
    COUNT.load(Ordering::Acquire) > 0
}

fn all() -> MutexGuard<'static, Vec<Arc<Capture>>> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Capture {
    pub fn is_valid(&self) -> bool {
        self.is_valid.load(Ordering::Acquire)
    }

    fn invalidate(&self) {
        self.is_valid.store(false, Ordering::Release);
    }

    fn streams(&self) -> Vec<Arc<Stream>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect()
    }

    fn join(self: &Arc<Self>, stream: &Arc<Stream>, last: Vec<u64>) {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(stream));
        stream.capture.set(Some(Part::new(self, last)));
    }

    fn is_going_on(&self) -> bool {
        all().iter().any(|other| other.id == self.id)
    }

    /// Gives every stream free.
    fn close(&self) {
        let mut all = all();
        all.retain(|other| other.id != self.id);
        COUNT.store(all.len(), Ordering::Release);
        drop(all);
        for stream in self.streams() {
            stream.capture.set(None);
        }
    }

    /// Whether everything in other streams leads to what `last` are.
    fn is_joined(&self, last: &[u64]) -> bool {
        let mut reached: HashSet<u64> = last.iter().copied().collect();
        let mut looked_at: Vec<u64> = last.to_vec();
        let edges = self.graph.state().edges.clone();
        while let Some(node) = looked_at.pop() {
            let before = edges.iter().filter(|edge| edge.to == node).map(|edge| edge.from);
            looked_at.extend(before.filter(|node| reached.insert(*node)));
        }
        let others = self.streams().into_iter().filter(|stream| stream.id != self.origin);
        others.into_iter().all(|stream| {
            let part = stream.capture.lock();
            part.as_ref().is_none_or(|part| part.last.iter().all(|node| reached.contains(node)))
        }) && self.left.lock().unwrap_or_else(PoisonError::into_inner).iter().all(|node| reached.contains(node))
    }
}

/// Begins a capture: into a new graph, or behind nodes of one that is there.
pub fn begin(stream: &Arc<Stream>, mode: CUstreamCaptureMode, into: Option<(Arc<Graph>, Vec<u64>)>) -> Answer {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    if mode > CU_STREAM_CAPTURE_MODE_RELAXED {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    if stream.kind == Kind::Legacy {
        return Err(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    }
    if stream.capture.is_taken() {
        return Err(CUDA_ERROR_ILLEGAL_STATE);
    }
    let is_given = into.is_some();
    let (graph, last) = into.unwrap_or_else(|| (Graph::create(), Vec::new()));
    let capture = Arc::new(Capture {
        id: NEXT.fetch_add(1, Ordering::Relaxed),
        mode,
        origin: stream.id,
        thread: std::thread::current().id(),
        context: Arc::clone(&stream.context),
        graph,
        is_given,
        is_valid: AtomicBool::new(true),
        streams: Mutex::default(),
        left: Mutex::default(),
    });
    capture.join(stream, last);
    let mut all = all();
    all.push(capture);
    COUNT.store(all.len(), Ordering::Release);
    Ok(())
}

/// Ends the capture that began on `stream`; its graph.
pub fn end(stream: &Stream) -> Answer<Arc<Graph>> {
    let (capture, last) = {
        let part = stream.capture.lock();
        let part = part.as_ref().ok_or(CUDA_ERROR_ILLEGAL_STATE)?;
        (Arc::clone(&part.capture), part.last.clone())
    };
    if capture.origin != stream.id {
        return Err(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
    }
    if capture.mode != CU_STREAM_CAPTURE_MODE_RELAXED && capture.thread != std::thread::current().id() {
        return Err(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
    }
    let is_joined = capture.is_joined(&last);
    capture.close();
    let failure = match (capture.is_valid(), is_joined) {
        (false, _) => CUDA_ERROR_STREAM_CAPTURE_INVALIDATED,
        (true, false) => CUDA_ERROR_STREAM_CAPTURE_UNJOINED,
        (true, true) => return Ok(Arc::clone(&capture.graph)),
    };
    if !capture.is_given {
        capture.graph.end();
    }
    Err(failure)
}

/// A stream is destroyed. Of the stream that a capture began on, the capture cannot be ended any more; of another, what
/// it had still has to be joined.
pub fn abandon(stream: &Stream) {
    let part = stream.capture.lock().as_ref().map(|part| (Arc::clone(&part.capture), part.last.clone()));
    let Some((capture, last)) = part else { return };
    if capture.origin != stream.id {
        stream.capture.set(None);
        capture.left.lock().unwrap_or_else(PoisonError::into_inner).extend(last);
        return;
    }
    capture.invalidate();
    capture.close();
    if !capture.is_given {
        capture.graph.end();
    }
}

/// Adds what was put on a captured stream.
pub fn add(stream: &Stream, params: Params) -> Answer<u64> {
    let mut part = stream.capture.lock();
    let part = part.as_mut().ok_or(CUDA_ERROR_ILLEGAL_STATE)?;
    if !part.capture.is_valid() {
        return Err(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    }
    let node = part.capture.graph.add(&part.last, &[], params)?;
    part.last = vec![node];
    Ok(node)
}

/// The graph that a captured stream's work becomes part of.
pub fn graph_of(stream: &Stream) -> Answer<Arc<Graph>> {
    let part = stream.capture.lock();
    Ok(Arc::clone(&part.as_ref().ok_or(CUDA_ERROR_ILLEGAL_STATE)?.capture.graph))
}

/// An event's mark in a capture: what waits for it comes behind these nodes.
pub type Mark = Option<(Arc<Capture>, Vec<u64>)>;

/// The event is recorded on a captured stream.
pub fn record(stream: &Stream, event: &Event) -> Answer {
    let part = stream.capture.lock();
    let part = part.as_ref().ok_or(CUDA_ERROR_ILLEGAL_STATE)?;
    if !part.capture.is_valid() {
        return Err(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    }
    event.set_mark(Some((Arc::clone(&part.capture), part.last.clone())));
    Ok(())
}

/// The event's mark is no time that could be asked for.
pub fn refuse_marked(event: &Event) -> Answer {
    match event.mark() {
        Some((capture, _)) => {
            capture.invalidate();
            Err(CUDA_ERROR_CAPTURED_EVENT)
        }
        None => Ok(()),
    }
}

/// A stream waits for an event where one of both is captured; false when neither is.
pub fn wait(stream: &Arc<Stream>, event: &Event) -> Answer<bool> {
    let own = stream.capture.lock().as_ref().map(|part| Arc::clone(&part.capture));
    match (own, event.mark()) {
        (None, None) => Ok(false),
        (_, Some((theirs, _))) if !theirs.is_going_on() => Err(CUDA_ERROR_CAPTURED_EVENT),
        (_, Some((theirs, _))) if !theirs.is_valid() => Err(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED),
        (None, Some((theirs, nodes))) => {
            if stream.kind == Kind::Legacy {
                theirs.invalidate();
                return Err(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
            }
            theirs.join(stream, nodes);
            Ok(true)
        }
        (Some(own), Some((theirs, nodes))) => {
            if own.id != theirs.id {
                own.invalidate();
                theirs.invalidate();
                return Err(CUDA_ERROR_STREAM_CAPTURE_MERGE);
            }
            if let Some(part) = stream.capture.lock().as_mut() {
                let new: Vec<u64> = nodes.into_iter().filter(|node| !part.last.contains(node)).collect();
                part.last.extend(new);
            }
            Ok(true)
        }
        (Some(own), None) if event.is_recorded() => {
            own.invalidate();
            Err(CUDA_ERROR_STREAM_CAPTURE_ISOLATION)
        }
        // An event that was never recorded has nothing to wait for.
        (Some(_), None) => Ok(true),
    }
}
