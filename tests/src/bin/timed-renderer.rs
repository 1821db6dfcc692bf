//! A renderer with the product's own loop, lease and account, whose GPU is a
//! thread that sleeps: a submit's first word is how many milliseconds it takes
//! to draw. It says in the file beside it what it draws, as it begins. For a Vulkan
//! context it says what the layer of a render server's process would: a second
//! word is how much memory is allocated before, if that may be.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use paravane_backend::packet::{self, Packet};
use paravane_backend::renderer::vulkan::Counter;
use paravane_backend::renderer::{Executed, Fence, Fences, Library, Message, serve};
use paravane_protocol::virtio_gpu::{CAPSET_VENUS, CtxCreate, ctrl};
use paravane_protocol::vulkan::{ADMIT, Answer, Ask, HELLO, OVER, TAKE};
use paravane_tests::gl::stand_in;
use zerocopy::{FromBytes, IntoBytes};

struct Gpu {
    queue: Sender<(Fence, Duration)>,
    /// What was executed behind the last fence.
    work: Duration,
    log: File,
    /// What a render server inherits.
    layer: Option<OwnedFd>,
    /// Gates and notes of Vulkan's contexts.
    devices: HashMap<u32, [OwnedFd; 2]>,
}

fn main() {
    let Some((socket, log)) = stand_in() else { return };
    let start = |fences: &Arc<Fences>| {
        let (queue, work) = channel();
        let vulkan = std::env::args().any(|word| word == "--vulkan");
        let layer = vulkan.then(|| {
            let (counter, inherited) = Counter::open().unwrap();
            counter.start(fences).unwrap();
            inherited
        });
        let fences = Arc::clone(fences);
        std::thread::spawn(move || draw(&work, &fences));
        Ok(Gpu { queue, work: Duration::ZERO, log, layer, devices: HashMap::new() })
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
        let context = message.head.context.get();
        match (message.head.kind.get(), &self.layer) {
            (ctrl::CTX_CREATE, Some(layer)) if is_vulkans(&message) => {
                self.devices.insert(context, hello(layer, context));
            }
            (ctrl::CTX_DESTROY, _) => drop(self.devices.remove(&context)),
            _ => {}
        }
        if let (ctrl::SUBMIT_3D, Some(device)) = (message.head.kind.get(), self.devices.get(&context)) {
            let [milliseconds, bytes] = <[u32; 2]>::read_from_bytes(&message.body).unwrap();
            let taken = ask(&device[1], TAKE, bytes.into()).granted.get() == 1;
            writeln!(self.log, "allocates {bytes}: {taken}").unwrap();
            let ticket = ask(&device[0], ADMIT, 1).ticket.get();
            std::thread::sleep(Duration::from_millis(milliseconds.into()));
            tell(&device[1], Ask::new(OVER, ticket, 0), Vec::new());
            return Ok(Executed::default());
        }
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

fn is_vulkans(created: &Message) -> bool {
    CtxCreate::read_from_bytes(&created.body).unwrap().context_init.get() == CAPSET_VENUS
}

/// A device of a context's process: gate and notes.
fn hello(layer: &OwnedFd, context: u32) -> [OwnedFd; 2] {
    let [(gate, gate_there), (notes, notes_there)] = [packet::pair().unwrap(), packet::pair().unwrap()];
    tell(layer, Ask::new(HELLO, context.into(), 0), vec![gate_there, notes_there]);
    for socket in [&gate, &notes] {
        rustix::io::ioctl_fionbio(socket, false).unwrap();
    }
    assert_eq!(hear(&gate), Answer::new(true, 0));
    [gate, notes]
}

fn tell(socket: &OwnedFd, ask: Ask, fds: Vec<OwnedFd>) {
    Packet { bytes: ask.as_bytes().to_vec(), fds }.send(socket.as_fd()).unwrap();
}

fn hear(socket: &OwnedFd) -> Answer {
    let packet = Packet::receive(socket.as_fd(), size_of::<Answer>()).unwrap();
    Answer::read_from_bytes(&packet.bytes).unwrap()
}

fn ask(socket: &OwnedFd, kind: u32, first: u64) -> Answer {
    tell(socket, Ask::new(kind, first, 1), Vec::new());
    hear(socket)
}
