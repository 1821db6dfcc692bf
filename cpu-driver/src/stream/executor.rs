//! The executors: each device's threads, which run its ready tasks. They start with the first task that needs one, spin
//! briefly when there is nothing to do, and then sleep. A thread that waits for a task helps first.

use super::clock::BusyClock;
use super::kernel::Left;
use super::task::{Task, Work};
use super::{branch, host, memop};
use crate::device::{DEVICES_MAX, Device};
use crate::graph::condition::Condition;
use crate::transfer;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};

/// Turns of a waiting loop before it sleeps: about ten microseconds, for what is done at once.
const SPINS: u32 = 200;

/// A ready task, or a call for help with one that runs already.
struct Entry {
    task: Arc<Task>,
    is_help: bool,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Entry>,
    threads: usize,
    sleeping: usize,
    clock: BusyClock,
}

/// A device's threads and what they have to do.
pub struct Executor {
    state: Mutex<State>,
    wake: Condvar,
    done: Condvar,
    /// Threads that sleep on `done`.
    waiters: AtomicUsize,
    /// Threads that run a task, helpers included; changed under the lock.
    active: AtomicUsize,
    /// Ready tasks that nobody runs yet.
    fresh: AtomicUsize,
    limit: usize,
}

/// One for each device, by ordinal.
static EXECUTORS: LazyLock<[Executor; DEVICES_MAX]> = LazyLock::new(|| {
    let limit = configured_threads();
    std::array::from_fn(|_| Executor {
        state: Mutex::default(),
        wake: Condvar::new(),
        done: Condvar::new(),
        waiters: AtomicUsize::new(0),
        active: AtomicUsize::new(0),
        fresh: AtomicUsize::new(0),
        limit,
    })
});

/// The device's executor.
pub fn of(device: Device) -> &'static Executor {
    &EXECUTORS[device.index()]
}

/// `PARAVANE_CPU_THREADS` for each device, else one per processor. One thread runs CTAs in their order.
fn configured_threads() -> usize {
    let asked = std::env::var("PARAVANE_CPU_THREADS").ok().and_then(|text| text.parse().ok());
    let default = || std::thread::available_parallelism().map_or(1, usize::from);
    asked.unwrap_or_else(default).clamp(1, 1024)
}

impl Executor {
    /// Whether as many threads run tasks as may.
    fn is_full(&self) -> bool {
        self.active.load(Ordering::Relaxed) >= self.limit
    }

    /// Nanoseconds that the device has worked. Kernels without effect and short copies on an idle stream
    /// are done by their caller and count nothing.
    pub fn busy_ns(&self) -> u64 {
        lock(self).clock.busy_ns()
    }

    /// Wakes who waits for a task that is over now.
    fn tell_waiters(&self) {
        if self.waiters.load(Ordering::SeqCst) > 0 {
            // Under the lock, so that nobody falls asleep between its look and this call.
            drop(lock(self));
            self.done.notify_all();
        }
    }
}

/// Reads the configuration, so that nothing is left to read once a sandbox is closed.
pub fn prepare() {
    LazyLock::force(&EXECUTORS);
}

fn lock(executor: &Executor) -> MutexGuard<'_, State> {
    executor.state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Files a task behind `before`; runs or queues it at once when nothing is left of them.
pub fn submit(task: &Arc<Task>, before: &[Arc<Task>]) {
    for other in before {
        let mut followers = other.followers.lock().unwrap_or_else(PoisonError::into_inner);
        if !other.is_done() {
            task.waits_for.fetch_add(1, Ordering::AcqRel);
            followers.push(Arc::clone(task));
        }
    }
    release(task);
}

/// One thing less that `task` waits for.
fn release(task: &Arc<Task>) {
    if task.waits_for.fetch_sub(1, Ordering::AcqRel) == 1 {
        ready(task);
    }
}

fn ready(task: &Arc<Task>) {
    if is_settled(task) {
        complete(task);
        return;
    }
    match &task.work {
        Work::Host(_) => host::submit(task),
        Work::Memory(_) => memop::submit(task),
        Work::Then(of) => {
            complete(task);
            branch::is_over(of);
        }
        _ => again(task),
    }
}

/// Whether a ready task is over without anybody running it.
fn is_settled(task: &Task) -> bool {
    let goes_on = matches!(task.work, Work::Host(_) | Work::Then(_));
    let settled = task.is_trivial() || task.stream.context.failure().is_some() && !goes_on;
    match &task.work {
        Work::Record(record) if settled => {
            let _ = record.time.set(std::time::Instant::now());
        }
        Work::Free(freed) if settled => freed.settle(),
        Work::Assign(conditions) if settled => conditions.iter().for_each(Condition::assign),
        _ => {}
    }
    settled
}

/// A task that is not over has a turn.
pub(super) fn again(task: &Arc<Task>) {
    queue(task.executor(), Entry { task: Arc::clone(task), is_help: false });
}

fn queue(executor: &'static Executor, entry: Entry) {
    let mut state = lock(executor);
    if !entry.is_help {
        executor.fresh.fetch_add(1, Ordering::Relaxed);
    }
    // Behind what is as urgent or more.
    let place = state.ready.iter().rposition(|other| other.task.priority <= entry.task.priority);
    state.ready.insert(place.map_or(0, |before| before + 1), entry);
    if state.sleeping > 0 {
        drop(state);
        executor.wake.notify_one();
    } else if state.threads < executor.limit {
        state.threads += 1;
        drop(state);
        let spawned = std::thread::Builder::new().name("paravane-cta".into()).spawn(move || work_forever(executor));
        if let Err(error) = spawned {
            log::error!("no thread to run kernels on: {error}");
            lock(executor).threads -= 1;
        }
    }
}

/// Ends a task: lets its followers begin and wakes who waits for it.
pub fn complete(task: &Arc<Task>) {
    // A list, because a chain of tasks that are over at once may be long.
    let mut over = vec![Arc::clone(task)];
    let mut executor = task.executor();
    while let Some(task) = over.pop() {
        if !std::ptr::eq(executor, task.executor()) {
            executor.tell_waiters();
            executor = task.executor();
        }
        task.set_done();
        task.stream.task_done();
        let followers = std::mem::take(&mut *task.followers.lock().unwrap_or_else(PoisonError::into_inner));
        for follower in followers {
            if follower.waits_for.fetch_sub(1, Ordering::AcqRel) != 1 {
                continue;
            }
            if is_settled(&follower) {
                over.push(follower);
            } else {
                ready(&follower);
            }
        }
    }
    executor.tell_waiters();
}

/// Takes the first entry that still has something to do.
fn take(executor: &Executor, state: &mut State) -> Option<Entry> {
    if executor.is_full() {
        return None;
    }
    while let Some(entry) = state.ready.pop_front() {
        if !entry.is_help {
            executor.fresh.fetch_sub(1, Ordering::Relaxed);
        }
        let useful = !entry.task.is_done() && !matches!(&entry.task.work, Work::Kernel(launch) if !launch.has_work());
        if useful || !entry.is_help && !entry.task.is_done() {
            if executor.active.fetch_add(1, Ordering::Relaxed) == 0 {
                state.clock.start();
            }
            return Some(entry);
        }
    }
    None
}

fn work_forever(executor: &'static Executor) {
    loop {
        let mut state = lock(executor);
        let Some(entry) = take(executor, &mut state) else {
            drop(state);
            idle(executor);
            continue;
        };
        drop(state);
        run(executor, &entry, || false);
    }
}

/// Waits for something to do.
fn idle(executor: &'static Executor) {
    for _ in 0..SPINS {
        if executor.fresh.load(Ordering::Relaxed) > 0 && !executor.is_full() {
            return;
        }
        std::hint::spin_loop();
    }
    let mut state = lock(executor);
    let nothing = |state: &State| state.ready.is_empty() || executor.is_full();
    state.sleeping += 1;
    while nothing(&state) {
        state = executor.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    state.sleeping -= 1;
}

/// Runs a task that `take` gave: until it is done, until a slice is over and others wait, or until
/// `enough` tells that the thread has what it came for.
fn run(executor: &'static Executor, entry: &Entry, enough: impl Fn() -> bool) {
    let task = &entry.task;
    let outcome = catch_unwind(AssertUnwindSafe(|| perform(executor, entry, enough)));
    let mut state = lock(executor);
    if executor.active.fetch_sub(1, Ordering::Relaxed) == 1 {
        state.clock.stop();
    }
    let more = !state.ready.is_empty() && state.sleeping > 0;
    drop(state);
    if more {
        executor.wake.notify_one();
    }
    match outcome {
        Ok(Left::Complete) => finish(task),
        Ok(Left::Unfinished) => queue(executor, Entry { task: Arc::clone(task), is_help: false }),
        Ok(Left::Nothing) => {}
        Err(_) => {
            task.stream.context.fail_internal();
            complete(task);
        }
    }
}

fn perform(executor: &'static Executor, entry: &Entry, enough: impl Fn() -> bool) -> Left {
    let task = &entry.task;
    match &task.work {
        Work::Kernel(launch) => {
            let most = task.stream.context.threads_max();
            let Some(inside) = launch.enter(most, entry.is_help) else { return Left::Nothing };
            if launch.grid.ctas() > 1 && executor.limit > 1 && inside < most && launch.has_work() {
                queue(executor, Entry { task: Arc::clone(task), is_help: true });
            }
            let left = launch.work(|slice_is_over| enough() || executor.fresh.load(Ordering::Relaxed) > 0 && slice_is_over());
            launch.leave();
            left
        }
        Work::Copy(copy) => {
            transfer::copy(copy);
            Left::Complete
        }
        Work::Set(set) => {
            transfer::set(set);
            Left::Complete
        }
        Work::Branch(_) => {
            branch::run(task);
            Left::Nothing
        }
        Work::Nothing | Work::Assign(_) | Work::Record(_) | Work::Host(_) | Work::Memory(_) | Work::Keep(_) | Work::Free(_) | Work::Then(_) => {
            Left::Complete
        }
    }
}

fn finish(task: &Arc<Task>) {
    if let Work::Kernel(launch) = &task.work
        && let Some(fault) = launch.fault()
    {
        task.stream.context.fail(&fault);
    }
    complete(task);
}

/// Waits until `task` is done: helps, spins briefly, sleeps.
pub fn wait(task: &Task) {
    let executor = task.executor();
    while !task.is_done() {
        let mut state = lock(executor);
        if let Some(other) = take(executor, &mut state) {
            drop(state);
            run(executor, &other, || task.is_done());
            continue;
        }
        drop(state);
        if spin_until_done(task) {
            return;
        }
        executor.waiters.fetch_add(1, Ordering::SeqCst);
        let mut state = lock(executor);
        while !task.is_done() && (state.ready.is_empty() || executor.is_full()) {
            state = executor.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        executor.waiters.fetch_sub(1, Ordering::SeqCst);
    }
}

fn spin_until_done(task: &Task) -> bool {
    (0..SPINS).any(|_| {
        std::hint::spin_loop();
        task.is_done()
    })
}
