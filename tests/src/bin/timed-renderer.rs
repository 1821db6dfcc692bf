//! A renderer with the product's own loop, lease and account, whose GPU is a
//! thread that sleeps: a submit's first word is how many milliseconds it takes
//! to draw. It says in the file beside it what it draws, as it begins.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::convert::Infallible;
use std::fs::File;
use std::io::Write;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use paravane_backend::renderer::{Executed, Fence, Fences, Library, Message, serve};
use paravane_protocol::virtio_gpu::ctrl;
use paravane_tests::gl::stand_in;

struct Gpu {
    queue: Sender<(Fence, Duration)>,
    /// What was executed behind the last fence.
    work: Duration,
    log: File,
}

fn main() {
    let Some((socket, log)) = stand_in() else { return };
    let start = |fences: &Arc<Fences>| {
        let (queue, work) = channel();
        let fences = Arc::clone(fences);
        std::thread::spawn(move || draw(&work, &fences));
        Ok(Gpu { queue, work: Duration::ZERO, log })
    };
    serve(&socket, start).unwrap();
}

fn draw(queue: &Receiver<(Fence, Duration)>, fences: &Fences) {
    while let Ok((fence, work)) = queue.recv() {
        std::thread::sleep(work);
        fences.signalled(fence);
    }
}

impl Library for Gpu {
    type Error = Infallible;

    fn execute(&mut self, message: Message) -> Result<Executed, Infallible> {
        if let (ctrl::SUBMIT_3D, Some(word)) = (message.head.kind.get(), message.body.first_chunk()) {
            let milliseconds = u32::from_le_bytes(*word);
            self.work += Duration::from_millis(milliseconds.into());
            writeln!(self.log, "draws {milliseconds} ms").unwrap();
        }
        Ok(Executed::default())
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
