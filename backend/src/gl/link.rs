//! A device's hold on its renderer process: messages that do not fit the socket
//! wait here, so that the control queue never waits for a renderer. Dropping it
//! ends the process.
#![deny(clippy::indexing_slicing)]

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};

use paravane_protocol::limits::REGIONS_MAX;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use zerocopy::IntoBytes;

use super::Renderer;
use super::dues::{Dues, Told};
use super::wire::{Head, REPLY_FILES_MAX, Reply, split_reply};
use crate::events::Source;
use crate::host::Host;
use crate::inherited;

/// Bytes that are read at one go.
const READ_BYTES: usize = 1 << 14;
/// Descriptors at most that have come before the replies that they belong to have
/// been looked at.
const FILES_MAX: usize = 256;

fn event() -> EventData {
    EventData::new_u64(Source::Renderer.encode())
}

struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    fds: Vec<OwnedFd>,
}

/// A renderer and what is under way.
pub(super) struct Link {
    child: Child,
    dues: Dues,
    socket: UnixStream,
    /// Where its events are reported, and whether room is one of them.
    epoll: OwnedFd,
    awaits_room: bool,
    outbox: VecDeque<Outgoing>,
    inbox: Vec<u8>,
    /// Descriptors of replies that are not whole yet.
    files: VecDeque<OwnedFd>,
}

/// A reply with what came with it.
pub(super) struct Heard {
    pub(super) reply: Reply,
    pub(super) body: Vec<u8>,
    pub(super) file: Option<OwnedFd>,
}

impl Link {
    /// Starts a renderer and has its events reported; and what it is to be told
    /// first.
    pub(super) fn start(renderer: &Renderer, host: &Host, epoll: &OwnedFd) -> io::Result<(Self, Told)> {
        let (here, there) = UnixStream::pair()?;
        here.set_nonblocking(true)?;
        let mut command = renderer.program.command("serve");
        command.arg("--log-level").arg(renderer.log_level.as_str());
        inherited::nothing_but_standard(&mut command);
        let mut child = command.stdin(OwnedFd::from(there)).stdout(Stdio::null()).spawn()?;
        let dues = Dues::open(host, child.id(), renderer.has_vulkan()).inspect_err(|_| {
            // It has not been told anything; it may have ended.
            let _ = child.kill().and_then(|()| child.wait());
        });
        let (dues, told) = dues?;
        let epoll = epoll.try_clone()?;
        let (outbox, inbox) = (VecDeque::new(), Vec::new());
        let files = VecDeque::new();
        let link = Self { child, dues, socket: here, epoll, awaits_room: false, outbox, inbox, files };
        epoll::add(&link.epoll, &link.socket, event(), EventFlags::IN)?;
        Ok((link, told))
    }

    /// Its id on the host.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has of its VM.
    pub(super) fn dues(&mut self) -> &mut Dues {
        &mut self.dues
    }

    /// Sends a message, now or when there is room.
    ///
    /// # Errors
    /// The renderer has ended.
    pub(super) fn send(&mut self, head: &Head, body: &[u8], fds: Vec<OwnedFd>) -> io::Result<()> {
        self.outbox.push_back(Outgoing { bytes: [head.as_bytes(), body].concat(), sent: 0, fds });
        self.flush()
    }

    /// Sends what waits, as far as there is room.
    ///
    /// # Errors
    /// The renderer has ended.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.put()?;
        let awaits_room = !self.outbox.is_empty();
        if awaits_room != self.awaits_room {
            let room = if awaits_room { EventFlags::OUT } else { EventFlags::empty() };
            epoll::modify(&self.epoll, &self.socket, event(), EventFlags::IN | room)?;
            self.awaits_room = awaits_room;
        }
        Ok(())
    }

    fn put(&mut self) -> io::Result<()> {
        while let Some(outgoing) = self.outbox.front_mut() {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(REGIONS_MAX))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            let fds: Vec<_> = outgoing.fds.iter().map(AsFd::as_fd).collect();
            if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
                return Err(io::Error::other("more regions than a message carries"));
            }
            let rest = outgoing.bytes.get(outgoing.sent..).unwrap_or_default();
            match sendmsg(&self.socket, &[IoSlice::new(rest)], &mut ancillary, SendFlags::NOSIGNAL) {
                Ok(sent) => {
                    drop(fds);
                    // Descriptors go with the first byte.
                    outgoing.fds.clear();
                    outgoing.sent += sent;
                    if outgoing.sent == outgoing.bytes.len() {
                        self.outbox.pop_front();
                    }
                }
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// What the renderer has answered since.
    ///
    /// # Errors
    /// It has ended, or says what it must not.
    pub(super) fn receive(&mut self) -> io::Result<Vec<Heard>> {
        let mut ended = false;
        while let Some(bytes) = self.read()? {
            ended = bytes == 0;
            // There was no more, or it is reported again.
            if bytes < READ_BYTES {
                break;
            }
        }
        let (mut heard, mut taken) = (Vec::new(), 0);
        while let Some((reply, body, bytes)) = split_reply(self.inbox.get(taken..).unwrap_or_default())? {
            let file = (reply.files.get() > 0).then(|| self.files.pop_front());
            heard.push(Heard { reply, body: body.to_vec(), file: file.flatten() });
            taken += bytes;
        }
        self.inbox.drain(..taken);
        if ended && heard.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if ended {
            // The end is met again when the replies have been looked at.
            let _ = self.socket.shutdown(std::net::Shutdown::Both);
        }
        Ok(heard)
    }

    /// Takes in what is there; `None`: nothing is. One call brings the descriptors of
    /// one reply at most, in the order of replies.
    fn read(&mut self) -> io::Result<Option<usize>> {
        let mut bytes = [0; READ_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(REPLY_FILES_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            match recvmsg(&self.socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Ok(received) => break received.bytes,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            }
        };
        self.inbox.extend_from_slice(bytes.get(..received).unwrap_or_default());
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                self.files.extend(files);
            }
        }
        // Of whole replies and the one that is not.
        if self.files.len() > FILES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "descriptors that belong to no reply"));
        }
        Ok(Some(received))
    }

    /// Ends the process and says how it ended: nothing touches guest memory after this.
    pub(super) fn end(&mut self) -> String {
        // It has not been waited for, so the id is its own; it may have ended.
        let _ = self.child.kill();
        self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.end();
    }
}
