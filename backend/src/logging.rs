//! Where log lines go: stderr, for backend and workers alike.

use std::sync::Mutex;
use std::time::Instant;

use env_logger::{Builder, Logger};
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::fault_log::Budget;

fn builder(level: LevelFilter) -> Builder {
    let mut builder = Builder::new();
    builder.filter_level(level);
    builder.filter_module("virtio_queue", LevelFilter::Off);
    builder.filter_module("vhost_user_backend", level.min(LevelFilter::Error));
    builder.filter_module("vhost", level.min(LevelFilter::Error));
    builder
}

/// Starts logging. The crates below log what guests do wrong without a bound,
/// so they are left out; `fault_log.rs` says it bounded.
pub fn start(level: LevelFilter) {
    // Fails where a logger is set already.
    let _ = builder(level).try_init();
}

/// Starts logging in a worker, where most of what is said is its guest's doing.
pub fn start_in_worker(level: LevelFilter) {
    let bounded = Bounded { logger: builder(level).build(), budget: Mutex::default() };
    if log::set_boxed_logger(Box::new(bounded)).is_ok() {
        log::set_max_level(level);
    }
}

/// So many lines at a time, but for those that only somebody sees who looks for
/// a fault.
struct Bounded {
    logger: Logger,
    budget: Mutex<Budget>,
}

impl Log for Bounded {
    fn enabled(&self, metadata: &Metadata) -> bool {
        self.logger.enabled(metadata)
    }

    fn log(&self, record: &Record) {
        if !self.logger.matches(record) {
            return;
        }
        let may = record.level() > Level::Info || Budget::take_now(&self.budget, Instant::now()).is_some();
        if may {
            self.logger.log(record);
        }
    }

    fn flush(&self) {
        self.logger.flush();
    }
}

#[cfg(test)]
mod tests {
    use paravane_protocol::limits::FAULT_LOGS_MAX;

    use super::*;

    #[test]
    fn a_worker_says_so_much_at_a_time() {
        let budget = Mutex::<Budget>::default();
        let now = Instant::now();
        let said = (0..1000).filter(|_| Budget::take_now(&budget, now).is_some()).count();
        assert_eq!(u32::try_from(said), Ok(FAULT_LOGS_MAX));
    }
}
