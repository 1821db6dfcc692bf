//! A guest process that launches kernels until it is told to end, or dies with its worker: `guest-program steady`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use crate::backend::{eventually, executable};

/// Kernels between two looks of the program at their result.
pub const BATCH: u64 = 50;

/// See above. Dropping it kills it.
pub struct Steady {
    child: Child,
    input: Option<ChildStdin>,
    seen: Arc<AtomicU64>,
    reader: Option<JoinHandle<()>>,
}

impl Steady {
    /// Starts `guest-program` over a socket.
    pub fn start(program: &str, socket: &Path) -> Self {
        let mut child = Command::new(program)
            .args(["steady".as_ref(), executable().with_file_name("libcuda.so").as_os_str()])
            .env("PARAVANE_SOCKET", socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let seen = Arc::new(AtomicU64::new(0));
        let (lines, told) = (BufReader::new(child.stdout.take().unwrap()).lines(), Arc::clone(&seen));
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                told.store(line.parse().unwrap(), Ordering::SeqCst);
            }
        });
        Self { input: child.stdin.take(), child, seen, reader: Some(reader) }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kernels whose results it has seen.
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::SeqCst)
    }

    /// Waits until it has got on from here.
    pub fn gets_on(&self, what: &str) {
        let before = self.seen();
        // Two: the one under way may have begun before.
        eventually(what, || self.seen() >= before + 2 * BATCH);
    }

    /// Waits until it has ended by itself, and says what it had seen then, and whether it ended well.
    pub fn ended(mut self) -> (u64, bool) {
        let mut status = None;
        eventually("the program ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        self.reader.take().unwrap().join().unwrap();
        (self.seen(), status.unwrap().success())
    }

    /// Tells it to end.
    pub fn end(mut self) -> u64 {
        self.input = None;
        let (seen, well) = self.ended();
        assert!(well, "the program failed after {seen} kernels");
        seen
    }
}

impl Drop for Steady {
    fn drop(&mut self) {
        // It may have ended; both then fail, and nothing is left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
