//! One packet on a SOCK_SEQPACKET socket, with descriptors by SCM_RIGHTS: what
//! backend and worker (`control.rs`), and backend and paravaned (`register/`),
//! say to each other in.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use paravane_protocol::limits::REGIONS_MAX;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

/// The most descriptors that a packet carries.
pub const FDS_MAX: usize = REGIONS_MAX;

/// A packet that is none of those expected, or a socket that fails.
#[derive(Debug, thiserror::Error)]
pub enum PacketError {
    /// The other end is closed.
    #[error("the other end of the socket is closed")]
    Closed,
    /// The packet is not what its kind says.
    #[error("packet: {0}")]
    Malformed(&'static str),
    /// The socket fails. `WouldBlock` where the descriptor does not block.
    #[error("socket: {0}")]
    Io(#[from] io::Error),
}

impl From<rustix::io::Errno> for PacketError {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::Io(errno.into())
    }
}

impl PacketError {
    /// Whether the socket has room or packets again later.
    pub fn would_block(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// A connected pair: the backend's end, which does not block, and the other
/// one's, which does. Both are close-on-exec.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (here, there) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::io::ioctl_fionbio(&here, true)?;
    Ok((here, there))
}

/// A message ready to be sent, and sent again after `WouldBlock`.
#[derive(Debug)]
pub struct Packet {
    /// Its bytes; not none.
    pub bytes: Vec<u8>,
    /// What goes with them.
    pub fds: Vec<OwnedFd>,
}

impl Packet {
    /// Sends the packet.
    pub fn send(&self, socket: BorrowedFd<'_>) -> Result<(), PacketError> {
        let fds: Vec<_> = self.fds.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(PacketError::Malformed("more descriptors than a packet carries"));
        }
        let bytes = [IoSlice::new(&self.bytes)];
        match rustix::net::sendmsg(socket, &bytes, &mut ancillary, SendFlags::NOSIGNAL) {
            Ok(_) => Ok(()),
            Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => Err(PacketError::Closed),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Receives a packet of at most so many bytes.
    pub fn receive(socket: BorrowedFd<'_>, bytes_max: usize) -> Result<Self, PacketError> {
        let mut bytes = vec![0; bytes_max];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let packet = rustix::io::retry_on_intr(|| {
            rustix::net::recvmsg(
                socket,
                &mut [IoSliceMut::new(&mut bytes)],
                &mut ancillary,
                RecvFlags::CMSG_CLOEXEC,
            )
        });
        let packet = match packet {
            Ok(packet) => packet,
            Err(rustix::io::Errno::CONNRESET) => return Err(PacketError::Closed),
            Err(errno) => return Err(errno.into()),
        };
        let mut fds = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        if packet.bytes == 0 && fds.is_empty() {
            return Err(PacketError::Closed);
        }
        if packet.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(PacketError::Malformed("longer than any message, or too many descriptors"));
        }
        bytes.truncate(packet.bytes);
        Ok(Self { bytes, fds })
    }
}
