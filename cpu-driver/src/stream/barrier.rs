//! What a whole context waits for: cuCtxWaitEvent makes all later work of its streams wait for an
//! event, whatever the stream.

use super::task::Task;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Tasks that every new task of a context waits for.
#[derive(Default)]
pub struct Barrier {
    up: AtomicBool,
    tasks: Mutex<Vec<Arc<Task>>>,
}

impl Barrier {
    /// Whether there may be something to wait for.
    #[inline]
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire) && !self.tasks().is_empty()
    }

    /// From now on `task` is waited for.
    pub fn add(&self, task: Arc<Task>) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.push(task);
        self.up.store(true, Ordering::Release);
    }

    /// Tasks that are not done yet.
    pub fn tasks(&self) -> Vec<Arc<Task>> {
        if !self.up.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.retain(|task| !task.is_done());
        self.up.store(!tasks.is_empty(), Ordering::Release);
        tasks.clone()
    }
}
