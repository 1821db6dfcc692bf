//! What the front end tells of the window as of guest memory. QEMU answers SHMEM_MAP
//! before the mapping is in the guest's address space (hw/virtio/vhost-user.c: the
//! transaction commits after the answer); when it is there, it tells of a region more
//! (ADD_MEM_REG or SET_MEM_TABLE). A guest that heard of it earlier would write to
//! nothing, and lose what it wrote.
#![deny(clippy::indexing_slicing)]

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::memory::Identity;

/// How long a mapping is waited for. Front ends need not tell, so it has an end.
pub const WAIT: Duration = Duration::from_secs(2);

/// Files in the window, and in how many regions of memory the front end has told of
/// each.
pub type Regions = HashMap<Identity, usize>;

/// What it has told so far.
#[derive(Debug, Default)]
pub struct Told {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    regions: Regions,
    /// It was waited for in vain and has told nothing since: it is not waited for.
    silent: bool,
}

impl Told {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a memory table has of the window.
    pub fn set(&self, regions: Regions) {
        let mut state = self.state();
        state.silent &= regions.is_empty();
        state.regions = regions;
        self.changed.notify_all();
    }

    /// Waits until a file is told of that often, `longest` at most. Whether it was.
    pub fn wait(&self, file: Identity, times: usize, longest: Duration) -> bool {
        let is_told = |state: &State| state.regions.get(&file).is_some_and(|told| *told >= times);
        let missing = |state: &mut State| !state.silent && !is_told(state);
        let waited = self.changed.wait_timeout_while(self.state(), longest, missing);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let is_told = is_told(&state);
        state.silent |= !is_told && state.regions.is_empty();
        is_told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Identity = (1, 7);
    /// No test waits that long but one that fails.
    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn a_file_is_waited_for_until_it_is_told_of_as_often_as_it_is_mapped() {
        let told = Told::default();
        told.set(Regions::from([(FILE, 1), ((1, 8), 5)]));
        assert!(told.wait(FILE, 1, LONG));
        assert!(!told.wait(FILE, 2, Duration::ZERO));
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| told.wait(FILE, 2, LONG));
            told.set(Regions::from([(FILE, 2)]));
            assert!(waits.join().unwrap());
        });
    }

    #[test]
    fn a_front_end_that_tells_nothing_is_waited_for_once() {
        let told = Told::default();
        told.set(Regions::default());
        assert!(!told.wait(FILE, 1, Duration::ZERO));
        assert!(!told.wait(FILE, 1, LONG), "at once");
        told.set(Regions::default());
        assert!(!told.wait((1, 9), 1, LONG), "nothing was told");
        std::thread::scope(|scope| {
            told.set(Regions::from([(FILE, 1)]));
            let waits = scope.spawn(|| told.wait((1, 9), 1, LONG));
            told.set(Regions::from([(FILE, 1), ((1, 9), 1)]));
            assert!(waits.join().unwrap(), "it tells after all");
        });
    }

    #[test]
    fn one_mapping_that_is_not_told_of_does_not_make_a_front_end_silent() {
        let told = Told::default();
        told.set(Regions::from([(FILE, 1)]));
        assert!(!told.wait((1, 9), 1, Duration::ZERO));
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| told.wait((1, 9), 1, LONG));
            told.set(Regions::from([((1, 9), 1)]));
            assert!(waits.join().unwrap());
        });
    }
}
