//! The shim's log: a file that PARAVANE_LOG names, nothing otherwise. A
//! library must not write to its program's output.

use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, Once, PoisonError};

use log::{LevelFilter, Log, Metadata, Record};

struct Journal(Mutex<File>);

impl Log for Journal {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = std::process::id();
        // A log that cannot be written has nowhere to say so.
        let _ = writeln!(file, "{pid} {:5} {}", record.level(), record.args());
    }

    fn flush(&self) {}
}

/// Opens the log if PARAVANE_LOG names a file. PARAVANE_LOG_LEVEL is one of
/// error, warn (default), info, debug.
pub(crate) fn open() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let Some(path) = std::env::var_os("PARAVANE_LOG") else { return };
        let Ok(file) = File::options().create(true).append(true).open(path) else { return };
        let level = std::env::var("PARAVANE_LOG_LEVEL")
            .ok()
            .and_then(|name| name.parse().ok())
            .unwrap_or(LevelFilter::Warn);
        if log::set_boxed_logger(Box::new(Journal(Mutex::new(file)))).is_ok() {
            log::set_max_level(level);
        }
    });
}
