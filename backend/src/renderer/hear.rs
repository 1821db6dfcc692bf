//! Messages as they come over the socket: a head with its descriptors, a body.

use std::io::{self, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use paravane_protocol::limits::REGIONS_MAX;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use zerocopy::{FromZeros, IntoBytes};

use crate::gl::wire::{BODY_BYTES_MAX, Head};

/// One message.
pub struct Message {
    /// What it is.
    pub head: Head,
    /// What follows.
    pub body: Vec<u8>,
    /// Descriptors that came with it.
    pub files: Vec<OwnedFd>,
}

/// The next message; `None` when the device has gone.
pub(super) fn hear(mut socket: &UnixStream) -> io::Result<Option<Message>> {
    let mut head = Head::new_zeroed();
    let mut files = Vec::new();
    let mut got = 0;
    while got < size_of::<Head>() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(REGIONS_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let rest = head.as_mut_bytes().get_mut(got..).unwrap_or_default();
        let received = recvmsg(socket, &mut [IoSliceMut::new(rest)], &mut ancillary, RecvFlags::CMSG_CLOEXEC);
        let bytes = match received {
            Ok(received) => received.bytes,
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        if bytes == 0 {
            return Ok(None);
        }
        got += bytes;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                files.extend(fds);
            }
        }
    }
    let length = head.bytes.get() as usize;
    if length > BODY_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message longer than any"));
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body)?;
    Ok(Some(Message { head, body, files }))
}
