//! Messages in their order: each that makes the GPU work passes the VM's gate
//! before, and has a fence behind it, by which it is measured.

use std::fmt::Display;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use paravane_protocol::virtio_gpu::ctrl;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::fences::{Fence, Fences};
use super::hear::{Message, hear};
use super::lease::{RendererLease, shape};
use crate::gl::wire;

/// How often fences are looked after that the library does not report by itself.
const LOOK: Duration = Duration::from_millis(2);

/// What draws. Fences that are signalled are told to the [`Fences`] that it was
/// made with, from any thread.
pub trait Library {
    /// Why something is not drawn.
    type Error: Display;

    /// Executes a message; the reply's body.
    fn execute(&mut self, message: Message) -> Result<Vec<u8>, Self::Error>;

    /// Makes a fence that is signalled when all is drawn that was executed
    /// before it; `context` has executed something last.
    fn create_fence(&mut self, context: u32, fence: Fence) -> Result<(), Self::Error>;

    /// Looks after fences.
    fn poll(&self);
}

/// Serves the device at the other end of `socket` until it has gone, by the
/// library that `start` makes.
///
/// # Errors
/// The device says what it must not, or there is no library.
pub fn serve<L: Library>(socket: &UnixStream, start: impl FnOnce(&Arc<Fences>) -> io::Result<L>) -> io::Result<()> {
    let Some(first) = hear(socket)? else { return Ok(()) };
    let lease = RendererLease::new(first)?;
    let fences = Arc::new(Fences::new(socket.try_clone()?, lease));
    let library = start(&fences)?;
    let mut serving = Serving { library, fences };
    loop {
        serving.wait(socket)?;
        let Some(message) = hear(socket)? else { return Ok(()) };
        serving.run(message);
    }
}

struct Serving<L> {
    library: L,
    fences: Arc<Fences>,
}

impl<L: Library> Serving<L> {
    /// Waits for a message, and meanwhile for fences.
    fn wait(&self, socket: &UnixStream) -> io::Result<()> {
        loop {
            let limit = self.fences.any().then_some(LOOK).and_then(|limit| Timespec::try_from(limit).ok());
            let mut fds = [PollFd::new(socket, PollFlags::IN)];
            match poll(&mut fds, limit.as_ref()) {
                Ok(0) => self.library.poll(),
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn run(&mut self, message: Message) {
        let head = message.head;
        let (seq, context, kind) = (head.seq.get(), head.context.get(), head.kind.get());
        let admit = |shape| self.fences.lease().admit(shape, || self.library.poll());
        let work = shape(&message).map(admit);
        let (refused, wanted) = match self.library.execute(message) {
            Err(error) => {
                log::debug!("message {seq} of context {context}: {error}");
                self.fences.reply(seq, false, &[]);
                (true, wire::NO_FENCE)
            }
            Ok(body) => {
                let wanted = head.fence.get();
                if wanted == wire::NO_FENCE {
                    self.fences.reply(seq, true, &body);
                }
                (false, wanted)
            }
        };
        if kind == ctrl::CTX_DESTROY && !refused {
            self.fences.context_ended(context);
        }
        // What is refused may have been drawn in part.
        let fence = match (wanted, work) {
            (wire::NO_FENCE, None) => return,
            (wire::NO_FENCE, work) => self.fences.begin(None, (context, wire::GLOBAL), work),
            (wanted, work) => self.fences.begin(Some(seq), (context, wanted), work),
        };
        if let Err(error) = self.library.create_fence(context, fence) {
            log::debug!("the fence of message {seq}: {error}");
            self.fences.give_up(fence);
        }
    }
}
