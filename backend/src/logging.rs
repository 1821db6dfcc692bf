//! Where log lines go: stderr, for backend and workers alike.

use log::LevelFilter;

/// Starts logging. The crates below log what guests do wrong without a bound,
/// so they are left out; `fault_log.rs` says it bounded.
pub fn start(level: LevelFilter) {
    let mut builder = env_logger::Builder::new();
    builder.filter_level(level);
    builder.filter_module("virtio_queue", LevelFilter::Off);
    builder.filter_module("vhost_user_backend", level.min(LevelFilter::Error));
    builder.filter_module("vhost", level.min(LevelFilter::Error));
    // Fails where a logger is set already: a worker that chose its own.
    let _ = builder.try_init();
}
