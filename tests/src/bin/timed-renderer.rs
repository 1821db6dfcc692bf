//! A renderer with the product's own loop, lease and account, whose GPU is a
//! thread that sleeps: a submit's first word is how many milliseconds it takes
//! to draw. It says in the file beside it what it draws, as it begins.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use paravane_backend::renderer::{Fence, Fences, Library, Message, serve};
use paravane_protocol::virtio_gpu::ctrl;

struct Gpu {
    queue: Sender<(Fence, Duration)>,
    /// What was executed behind the last fence.
    work: Duration,
    log: File,
}

fn main() {
    let what: Vec<String> = std::env::args().collect();
    if what[1] == "probe" {
        println!("{}", serde_json::json!({ "capsets": [{ "id": 2, "version": 3, "data": [1, 2, 3] }] }));
        return;
    }
    let socket: OwnedFd = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let log = std::path::Path::new(&what[0]).with_extension("log");
    let log = OpenOptions::new().append(true).create(true).open(log).unwrap();
    let start = |fences: &Arc<Fences>| {
        let (queue, work) = channel();
        let fences = Arc::clone(fences);
        std::thread::spawn(move || draw(&work, &fences));
        Ok(Gpu { queue, work: Duration::ZERO, log })
    };
    serve(&UnixStream::from(socket), start).unwrap();
}

fn draw(queue: &Receiver<(Fence, Duration)>, fences: &Fences) {
    while let Ok((fence, work)) = queue.recv() {
        std::thread::sleep(work);
        fences.signalled(fence);
    }
}

impl Library for Gpu {
    type Error = Infallible;

    fn execute(&mut self, message: Message) -> Result<Vec<u8>, Infallible> {
        if let (ctrl::SUBMIT_3D, Some(word)) = (message.head.kind.get(), message.body.first_chunk()) {
            let milliseconds = u32::from_le_bytes(*word);
            self.work += Duration::from_millis(milliseconds.into());
            writeln!(self.log, "draws {milliseconds} ms").unwrap();
        }
        Ok(Vec::new())
    }

    fn create_fence(&mut self, _: u32, fence: Fence) -> Result<(), Infallible> {
        self.queue.send((fence, std::mem::take(&mut self.work))).unwrap();
        Ok(())
    }

    fn poll(&self) {}

    fn wants(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
