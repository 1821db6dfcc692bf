//! The connection to the renderer that a device has: the gate, at which one
//! submit at a time waits until it may go on, and the notes, which are answered at
//! once.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use paravane_protocol::vulkan::{ADMIT, Answer, Ask, GIVE_BACK, HELLO, OVER, TAKE};
use rustix::io::retry_on_intr;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg,
    socketpair,
};
use zerocopy::{FromZeros, IntoBytes};

use crate::start;

/// How a render server names the processes of contexts: this, the id, and more.
const PROCESS: &str = "virgl-";

/// A device's connection.
pub(crate) struct Lease {
    gate: Mutex<OwnedFd>,
    notes: Mutex<OwnedFd>,
}

impl Lease {
    /// Says hello to the renderer.
    pub(crate) fn open() -> io::Result<Self> {
        let inherited = start::inherited()?;
        let pair = || socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let ((gate, gate_there), (notes, notes_there)) = (pair()?, pair()?);
        let hello = Ask::new(HELLO, context().into(), 0);
        send(inherited, &hello, &[gate_there.as_fd(), notes_there.as_fd()])?;
        // The renderer alone has them: so their end is seen.
        drop((gate_there, notes_there));
        receive(&gate)?;
        Ok(Self { gate: Mutex::new(gate), notes: Mutex::new(notes) })
    }

    /// Waits until work of so many command buffers may be submitted; its ticket.
    pub(crate) fn admit(&self, alike: u64, command_buffers: u64) -> io::Result<u64> {
        ask(&self.gate, &Ask::new(ADMIT, alike, command_buffers)).map(|answer| answer.ticket.get())
    }

    /// What has this ticket is over. Without a renderer nobody wants to know.
    pub(crate) fn over(&self, ticket: u64) {
        let _ = tell(&self.notes, &Ask::new(OVER, ticket, 0));
    }

    /// Whether so much memory may be allocated; then it is taken.
    pub(crate) fn take(&self, bytes: u64) -> bool {
        ask(&self.notes, &Ask::new(TAKE, bytes, 0)).is_ok_and(|answer| answer.granted.get() == 1)
    }

    /// So much is free again. As [`Self::over`].
    pub(crate) fn give_back(&self, bytes: u64) {
        let _ = tell(&self.notes, &Ask::new(GIVE_BACK, bytes, 0));
    }
}

fn tell(socket: &Mutex<OwnedFd>, ask: &Ask) -> io::Result<()> {
    send(socket.lock().unwrap_or_else(PoisonError::into_inner).as_fd(), ask, &[])
}

fn ask(socket: &Mutex<OwnedFd>, ask: &Ask) -> io::Result<Answer> {
    let socket = socket.lock().unwrap_or_else(PoisonError::into_inner);
    send(socket.as_fd(), ask, &[])?;
    receive(&socket)
}

fn send(socket: BorrowedFd<'_>, ask: &Ask, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = [IoSlice::new(ask.as_bytes())];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("no room for descriptors"));
    }
    retry_on_intr(|| sendmsg(socket, &bytes, &mut ancillary, SendFlags::NOSIGNAL))?;
    Ok(())
}

fn receive(socket: &OwnedFd) -> io::Result<Answer> {
    let mut answer = Answer::new_zeroed();
    let mut none = rustix::net::RecvAncillaryBuffer::default();
    let bytes = retry_on_intr(|| {
        let mut bytes = [IoSliceMut::new(answer.as_mut_bytes())];
        recvmsg(socket, &mut bytes, &mut none, RecvFlags::empty()).map(|received| received.bytes)
    })?;
    match bytes == size_of::<Answer>() {
        true => Ok(answer),
        false => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the renderer has closed the connection")),
    }
}

/// The virtio-gpu context that this process is for; 0 where its name does not tell.
fn context() -> u32 {
    fs::read_to_string("/proc/self/comm").ok().and_then(|name| context_of(&name)).unwrap_or(0)
}

fn context_of(name: &str) -> Option<u32> {
    let (number, _) = name.strip_prefix(PROCESS)?.split_once('-')?;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processes_name_tells_its_context() {
        for (name, context) in [("virgl-12-gpu_re\n", Some(12)), ("virgl-7-vkcube", Some(7)), ("virgl_render_se\n", None)] {
            assert_eq!(context_of(name), context);
        }
        assert_eq!(context_of("virgl-99999999999-"), None);
    }
}
