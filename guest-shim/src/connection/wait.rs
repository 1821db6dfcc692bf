//! Waiting for the host's progress where no doorbell tells of it.

use std::time::Duration;

use paravane_protocol::patience::{Patience, Step};

use crate::boundary::Answer;

/// Waits with short sleeps, without a doorbell: for progress of the host that
/// is certain to come soon.
pub(crate) fn until(mut ready: impl FnMut() -> Answer<bool>) -> Answer {
    let mut patience = Patience::default();
    let mut wait = patience.wait();
    while !ready()? {
        if wait.step() == Step::Sleep {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
    Ok(())
}
