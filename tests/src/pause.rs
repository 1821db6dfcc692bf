//! A front end that does not answer for a while.

use std::sync::{Condvar, Mutex};

/// While it is held, who waits here waits.
#[derive(Default)]
pub struct Pause {
    held: Mutex<bool>,
    goes_on: Condvar,
}

impl Pause {
    /// Holds it, or lets go.
    pub fn hold(&self, held: bool) {
        *self.held.lock().unwrap() = held;
        self.goes_on.notify_all();
    }

    /// Waits until it is not held.
    pub fn wait(&self) {
        drop(self.goes_on.wait_while(self.held.lock().unwrap(), |held| *held).unwrap());
    }
}
