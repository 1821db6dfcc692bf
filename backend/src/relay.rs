//! `--fd`: vhost-user-backend serves only what it has accepted itself, so a
//! front end that comes as a connected descriptor is joined to an accepted
//! connection. Bytes and descriptors pass in both directions unread.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

/// Longer than any vhost-user message; longer ones pass in parts.
const CHUNK_BYTES: usize = 16 * 1024;
/// Descriptors that one packet can carry (SCM_MAX_FD).
const FDS_MAX: usize = 253;

/// A listener at which the front end of `stream` waits. The listener's socket
/// lies in a folder that only this user can enter, and is gone on return.
pub fn listener_for(stream: UnixStream) -> io::Result<UnixListener> {
    let folder = tempfile::Builder::new().prefix("paravane-").tempdir()?;
    let path = folder.path().join("fd.sock");
    let listener = UnixListener::bind(&path)?;
    let inner = UnixStream::connect(&path)?;
    let directions = [
        (stream.try_clone()?, inner.try_clone()?, "relay to device"),
        (inner, stream, "relay to front end"),
    ];
    for (from, to, name) in directions {
        std::thread::Builder::new().name(name.into()).spawn(move || relay(&from, &to))?;
    }
    Ok(listener)
}

/// Passes on until one end hangs up; then both do.
fn relay(from: &UnixStream, to: &UnixStream) {
    while let Ok(true) = pass(from, to) {}
    // An end that is closed already needs no shutdown.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// Passes one chunk with its descriptors. False: `from` has hung up.
fn pass(from: &UnixStream, to: &UnixStream) -> io::Result<bool> {
    let mut bytes = vec![0; CHUNK_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        let mut bytes = [IoSliceMut::new(&mut bytes)];
        rustix::net::recvmsg(from, &mut bytes, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    })?;
    let mut fds: Vec<OwnedFd> = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if received.bytes == 0 {
        return Ok(false);
    }
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    let mut sent = 0;
    while let Some(rest) = bytes.get(sent..received.bytes).filter(|rest| !rest.is_empty()) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        // The descriptors belong to the first byte.
        if sent == 0 && !fds.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(&fds));
        }
        let rest = [IoSlice::new(rest)];
        sent += rustix::io::retry_on_intr(|| {
            rustix::net::sendmsg(to, &rest, &mut ancillary, SendFlags::NOSIGNAL)
        })?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn bytes_descriptors_and_the_end_pass_through() {
        let (front_end, given) = UnixStream::pair().unwrap();
        let listener = listener_for(given).unwrap();
        let (mut device, _) = listener.accept().unwrap();
        let (fd_there, mut fd_here) = UnixStream::pair().unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let fds = [fd_there.as_fd()];
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
        let bytes = [IoSlice::new(b"hello")];
        rustix::net::sendmsg(&front_end, &bytes, &mut ancillary, SendFlags::empty()).unwrap();

        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0; 5];
        let mut slices = [IoSliceMut::new(&mut bytes)];
        rustix::net::recvmsg(&device, &mut slices, &mut ancillary, RecvFlags::empty()).unwrap();
        assert_eq!(&bytes, b"hello");
        let Some(RecvAncillaryMessage::ScmRights(mut rights)) = ancillary.drain().next() else {
            panic!("no descriptor came");
        };
        let mut passed = UnixStream::from(rights.next().unwrap());
        passed.write_all(b"!").unwrap();
        let mut byte = [0; 1];
        fd_here.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"!");

        drop(front_end);
        assert_eq!(device.read(&mut byte).unwrap(), 0);
    }
}
