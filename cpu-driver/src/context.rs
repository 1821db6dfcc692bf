//! Contexts: whose streams, memory and failure. The stack of current contexts is each thread's own.

use crate::device::Device;
use crate::exec::fault::{Fault, FaultKind};
use crate::memory::{DeviceHeap, Owner, Sort, arena};
use crate::registry::Registry;
use crate::stream::task::Task;
use crate::stream::executor::{self, Executor};
use crate::stream::{Barrier, Kind, Stream};
use paravane_protocol::cuda_types::{
    CUDA_ERROR_ASSERT, CUDA_ERROR_ILLEGAL_ADDRESS, CUDA_ERROR_ILLEGAL_INSTRUCTION, CUDA_ERROR_LAUNCH_FAILED,
    CUDA_ERROR_MISALIGNED_ADDRESS, CUresult,
};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

pub struct Context {
    /// Its handle.
    pub handle: u64,
    pub device: Device,
    /// Its device's.
    pub executor: &'static Executor,
    /// The number under which its memory, its modules and its events are filed: its own, or for a green
    /// context its primary one's.
    pub owner: u64,
    /// Of a green context.
    pub green: Option<Green>,
    pub flags: AtomicU32,
    pub is_primary: bool,
    pub id: u64,
    /// Tasks that are not done: in all streams, in the legacy and blocking ones, in the legacy one.
    pub pending: AtomicU64,
    pub pending_blocking: AtomicU64,
    pub pending_legacy: AtomicU64,
    /// Held while a task is put on any of its streams.
    pub order: Mutex<()>,
    /// What all later work waits for.
    pub barrier: Barrier,
    /// The CUresult that every call answers since a kernel failed; 0 while none has.
    failure: AtomicU32,
    /// Times that it was cleared.
    pub epoch: AtomicU64,
    /// Destroyed, or the primary one and not retained.
    pub is_dead: AtomicBool,
    pub stack_limit: AtomicUsize,
    pub printf_limit: AtomicUsize,
    pub heap_limit: AtomicUsize,
    /// Where its kernels allocate.
    pub heap: Arc<DeviceHeap>,
    pub cache_config: AtomicU32,
    streams: Mutex<Vec<Weak<Stream>>>,
    legacy: Mutex<Option<Arc<Stream>>>,
    /// The green contexts of a primary one.
    greens: Mutex<Vec<Weak<Context>>>,
}

/// What makes a context a green one: it has streams of its own and some of the multiprocessors; all else
/// is its primary context's.
pub struct Green {
    pub primary: Arc<Context>,
    pub multiprocessors: u32,
    /// Concurrency and scope of its queues, as they were asked for.
    pub queues: [u32; 2],
}

pub static CONTEXTS: Registry<Context> = Registry::new(1);

thread_local! {
    static STACK: Stack = const { Stack(RefCell::new(Vec::new())) };
    static PER_THREAD: RefCell<HashMap<(u64, u64), Arc<Stream>>> = RefCell::new(HashMap::new());
}

/// A thread's contexts, the current one last.
struct Stack(RefCell<Vec<Arc<Context>>>);

/// The main thread's, from the end of its thread-local data to that of the process: exit handlers run in between.
static LAST: Mutex<Vec<Arc<Context>>> = Mutex::new(Vec::new());

impl Drop for Stack {
    fn drop(&mut self) {
        if rustix::thread::gettid() == rustix::process::getpid() {
            *last() = self.0.take();
        }
    }
}

/// Whether the calling thread's own data is gone already.
fn is_over() -> bool {
    STACK.try_with(|_| ()).is_err()
}

fn last() -> MutexGuard<'static, Vec<Arc<Context>>> {
    LAST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Changes the calling thread's stack.
fn with_stack<R>(change: impl FnOnce(&mut Vec<Arc<Context>>) -> R) -> R {
    if is_over() { change(&mut last()) } else { STACK.with(|stack| change(&mut stack.0.borrow_mut())) }
}

impl Context {
    /// A new context.
    pub fn create(device: Device, flags: u32, is_primary: bool) -> Arc<Self> {
        let id = next_id();
        CONTEXTS.insert_with(|handle| Self::new(handle, device, id, flags, is_primary)).1
    }

    /// A new green context.
    pub fn create_green(green: Green) -> Arc<Self> {
        let primary = Arc::clone(&green.primary);
        let id = next_id();
        let make = |handle| {
            let heap = Arc::clone(&primary.heap);
            let flags = primary.flags.load(Ordering::Relaxed);
            Self { owner: primary.handle, green: Some(green), heap, ..Self::new(handle, primary.device, id, flags, false) }
        };
        let context = CONTEXTS.insert_with(make).1;
        let mut greens = primary.greens.lock().unwrap_or_else(PoisonError::into_inner);
        greens.retain(|green| green.strong_count() > 0);
        greens.push(Arc::downgrade(&context));
        context
    }

    /// Whose data this context works on: itself, or a green one's primary context.
    pub fn home(&self) -> &Self {
        self.green.as_ref().map_or(self, |green| &green.primary)
    }

    /// As `home`, to be kept: what is made in a green context outlives it.
    pub fn owned_home(self: &Arc<Self>) -> Arc<Self> {
        Arc::clone(self.green.as_ref().map_or(self, |green| &green.primary))
    }

    /// What an allocation of its memory is.
    pub fn memory(&self, sort: Sort, size: u64) -> Owner {
        Owner::new(self.owner, self.device, sort, size)
    }

    /// On how many multiprocessors its kernels run.
    pub fn multiprocessors(&self) -> u32 {
        let all = || crate::api::multiprocessors().cast_unsigned();
        self.green.as_ref().map_or_else(all, |green| green.multiprocessors)
    }

    /// How many threads may run one of its kernels.
    pub fn threads_max(&self) -> usize {
        self.green.as_ref().map_or(usize::MAX, |green| green.multiprocessors as usize)
    }

    fn greens(&self) -> Vec<Arc<Self>> {
        self.greens.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect()
    }

    /// Whether anything holds all its streams up.
    #[inline]
    pub fn is_held_up(&self) -> bool {
        self.barrier.is_up() || self.green.as_ref().is_some_and(|green| green.primary.barrier.is_up())
    }

    /// What all its streams wait for.
    pub fn held_up_by(&self) -> Vec<Arc<Task>> {
        let mut tasks = self.barrier.tasks();
        tasks.extend(self.green.iter().flat_map(|green| green.primary.barrier.tasks()));
        tasks
    }

    fn new(handle: u64, device: Device, id: u64, flags: u32, is_primary: bool) -> Self {
        Self {
            handle,
            device,
            executor: executor::of(device),
            owner: handle,
            green: None,
            flags: AtomicU32::new(flags),
            is_primary,
            id,
            pending: AtomicU64::new(0),
            pending_blocking: AtomicU64::new(0),
            pending_legacy: AtomicU64::new(0),
            order: Mutex::new(()),
            barrier: Barrier::default(),
            failure: AtomicU32::new(0),
            epoch: AtomicU64::new(0),
            is_dead: AtomicBool::new(false),
            stack_limit: AtomicUsize::new(1024),
            printf_limit: AtomicUsize::new(1 << 20),
            heap_limit: AtomicUsize::new(8 << 20),
            heap: Arc::new(DeviceHeap::new(handle, device)),
            cache_config: AtomicU32::new(0),
            streams: Mutex::default(),
            legacy: Mutex::default(),
            greens: Mutex::default(),
        }
    }

    /// The failure that every call answers, if a kernel has failed.
    pub fn failure(&self) -> Option<CUresult> {
        match self.home().failure.load(Ordering::Acquire) {
            0 => None,
            code => Some(CUresult(code)),
        }
    }

    /// Makes the context fail for good; the first fault counts.
    pub fn fail(&self, fault: &Fault) {
        let code = match fault.kind {
            FaultKind::IllegalAddress | FaultKind::StackOverflow => CUDA_ERROR_ILLEGAL_ADDRESS,
            FaultKind::MisalignedAddress => CUDA_ERROR_MISALIGNED_ADDRESS,
            FaultKind::IllegalInstruction => CUDA_ERROR_ILLEGAL_INSTRUCTION,
            FaultKind::Assert => CUDA_ERROR_ASSERT,
            FaultKind::LaunchFailed => CUDA_ERROR_LAUNCH_FAILED,
        };
        crate::report::fault(code, fault);
        let _ = self.home().failure.compare_exchange(0, code.0, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// A stream was to wait for or to write memory that is not there any more.
    pub fn fail_word(&self) {
        let code = CUDA_ERROR_ILLEGAL_ADDRESS.0;
        let _ = self.home().failure.compare_exchange(0, code, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// The interpreter itself failed.
    pub fn fail_internal(&self) {
        log::error!("the interpreter failed; its context is lost");
        let code = CUDA_ERROR_LAUNCH_FAILED.0;
        let _ = self.home().failure.compare_exchange(0, code, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// The legacy default stream, if anything ever used it.
    pub fn legacy(&self) -> Option<Arc<Stream>> {
        self.legacy.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Files a stream, so that the legacy default stream finds it.
    pub fn add_stream(&self, stream: &Arc<Stream>) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.retain(|stream| stream.strong_count() > 0);
        streams.push(Arc::downgrade(stream));
    }

    /// Streams that live, the legacy one excepted.
    pub fn streams(&self) -> Vec<Arc<Stream>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect()
    }

    /// The last task of every stream that has one to do, its green contexts' streams among them.
    pub fn last_tasks(&self) -> Vec<Arc<Task>> {
        let own = self.streams().into_iter().chain(self.legacy()).filter_map(|stream| stream.last());
        let greens = self.greens();
        own.chain(greens.iter().flat_map(|green| green.last_tasks())).collect()
    }

    /// Waits for everything on all streams.
    pub fn synchronize(self: &Arc<Self>) {
        let idle = |context: &Self| context.pending.load(Ordering::Acquire) == 0;
        if idle(self) && self.greens().iter().all(|green| idle(green)) {
            return;
        }
        for task in self.last_tasks() {
            executor::wait(&task);
        }
    }

    /// Gives everything back that the context holds; its handle stays.
    pub fn clear(self: &Arc<Self>) {
        self.synchronize();
        crate::objects::remove_context(self.handle);
        crate::peers::forget(self);
        arena().release_context(self.handle);
        self.heap.clear();
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).clear();
        *self.legacy.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.epoch.fetch_add(1, Ordering::Relaxed);
        self.failure.store(0, Ordering::Release);
    }
}

/// How many contexts live; the primary one does while it is retained, and green ones are part of it.
pub fn alive() -> u64 {
    CONTEXTS.count(|context| context.green.is_none() && !context.is_dead.load(Ordering::Relaxed))
}

/// A number that no context had before.
fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The legacy default stream of `context`.
pub fn legacy_stream(context: &Arc<Context>) -> Arc<Stream> {
    let mut legacy = context.legacy.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(legacy.get_or_insert_with(|| Arc::new(Stream::new(context, Kind::Legacy, 0, 0))))
}

/// The calling thread's default stream of `context`.
pub fn per_thread_stream(context: &Arc<Context>) -> Arc<Stream> {
    PER_THREAD.with_borrow_mut(|streams| {
        let stream = streams.entry((context.id, context.epoch.load(Ordering::Relaxed))).or_insert_with(|| {
            let stream = Arc::new(Stream::new(context, Kind::Blocking, 0, 0));
            context.add_stream(&stream);
            stream
        });
        Arc::clone(stream)
    })
}

/// The calling thread's current context.
pub fn current() -> Option<Arc<Context>> {
    with_current(|context| context.cloned())
}

/// Looks at the current context without taking a share in it.
pub fn with_current<R>(look: impl FnOnce(Option<&Arc<Context>>) -> R) -> R {
    if is_over() {
        let context = last().last().cloned();
        return look(context.as_ref());
    }
    STACK.with(|stack| look(stack.0.borrow().last()))
}

/// Replaces the top of the stack, or takes it away.
pub fn set_current(context: Option<Arc<Context>>) {
    with_stack(|stack| {
        stack.pop();
        stack.extend(context);
    });
}

pub fn push(context: Arc<Context>) {
    with_stack(|stack| stack.push(context));
}

pub fn pop() -> Option<Arc<Context>> {
    with_stack(Vec::pop)
}
