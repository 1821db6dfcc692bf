//! Messages in their order: each that makes the GPU work passes the VM's gate
//! before, and has a fence behind it, by which it is measured: mostly the one
//! that the guest wants there itself.

use std::fmt::Display;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use paravane_protocol::virtio_gpu::{CtxCreate, ctrl};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use zerocopy::FromBytes;

use super::fences::{Fence, Fences};
use super::hear::{Message, hear};
use super::lease::{RendererLease, Whose, shape};
use crate::gl::wire;
use crate::slice;

/// How often fences are looked after by a library that does not say when.
const LOOK: Duration = Duration::from_millis(2);

/// What a message has come to: the body of its reply, and a descriptor that goes
/// with it.
#[derive(Debug, Default)]
pub struct Executed {
    /// Mostly empty.
    pub body: Vec<u8>,
    /// Of a resource that the device is to map.
    pub file: Option<OwnedFd>,
}

/// What draws. Fences that are signalled are told to the [`Fences`] that it was
/// made with, from any thread.
pub trait Library {
    /// Why something is not drawn.
    type Error: Display;

    /// Executes a message.
    fn execute(&mut self, message: Message) -> Result<Executed, Self::Error>;

    /// Makes a fence that is signalled when all is drawn that was executed
    /// before it; `context` has executed something last.
    fn create_fence(&mut self, context: u32, fence: Fence) -> Result<(), Self::Error>;

    /// Looks after fences.
    fn poll(&self);

    /// Readable when [`Self::poll`] has something to look after. `None`: that
    /// is never known.
    fn wants(&self) -> Option<BorrowedFd<'_>>;
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
    slice::shorten();
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
            let wants = self.library.wants();
            let looks = wants.is_none() && self.fences.any();
            let limit = looks.then_some(LOOK).and_then(|limit| Timespec::try_from(limit).ok());
            let fds: Vec<BorrowedFd> = std::iter::once(socket.as_fd()).chain(wants).collect();
            let mut fds: Vec<PollFd> = fds.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
            match poll(&mut fds, limit.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
            let heard = ready.next().unwrap_or(false);
            if looks || ready.next().unwrap_or(false) {
                self.library.poll();
            }
            if heard {
                return Ok(());
            }
        }
    }

    fn run(&mut self, mut message: Message) {
        let head = message.head;
        let (seq, context, kind) = (head.seq.get(), head.context.get(), head.kind.get());
        if kind == wire::CONTEXT {
            let capset = CtxCreate::read_from_prefix(&message.body).map_or(0, |(of, _)| of.context_init.get());
            self.fences.lease().context_begins(context, capset, message.files.pop());
        }
        let admit = |shape| self.fences.lease().admit(shape, Whose::OpenGl(context), || self.library.poll());
        let work = shape(&message).filter(|_| !self.fences.lease().is_vulkans(context)).map(admit);
        let done = self.library.execute(message);
        let work = match work {
            // Pixels are here when all that draws them is over.
            Some(work) if kind == wire::READ_BACK && done.is_ok() => {
                self.fences.lease().over(work);
                None
            }
            work => work,
        };
        let (refused, wanted) = match done {
            Err(error) => {
                log::debug!("message {seq} of context {context}: {error}");
                self.fences.reply(seq, false, Executed::default());
                (true, wire::NO_FENCE)
            }
            Ok(executed) => {
                let wanted = head.fence.get();
                if wanted == wire::NO_FENCE {
                    self.fences.reply(seq, true, executed);
                }
                (false, wanted)
            }
        };
        if kind == ctrl::CTX_DESTROY && !refused {
            self.fences.context_ended(context);
            self.fences.lease().context_ended(context);
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
