//! A device's hold on its renderer process: messages that do not fit the socket
//! wait here, so that the control queue never waits for a renderer. Dropping it
//! ends the process.
#![deny(clippy::indexing_slicing)]

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};

use paravane_protocol::limits::REGIONS_MAX;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use zerocopy::IntoBytes;

use super::Renderer;
use super::dues::{Dues, Told};
use super::wire::{Head, Reply, split_reply};
use crate::events::Source;
use crate::host::Host;

/// Bytes that are read at one go.
const READ_BYTES: usize = 1 << 14;

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
}

impl Link {
    /// Starts a renderer and has its events reported; and what it is to be told
    /// first.
    pub(super) fn start(renderer: &Renderer, host: &Host, epoll: &OwnedFd) -> io::Result<(Self, Told)> {
        let (here, there) = UnixStream::pair()?;
        here.set_nonblocking(true)?;
        let mut command = renderer.program.command("serve");
        command.arg("--log-level").arg(renderer.log_level.as_str());
        let mut child = command.stdin(OwnedFd::from(there)).stdout(Stdio::null()).spawn()?;
        let dues = Dues::open(host, child.id()).inspect_err(|_| {
            // It has not been told anything; it may have ended.
            let _ = child.kill().and_then(|()| child.wait());
        });
        let (dues, told) = dues?;
        let epoll = epoll.try_clone()?;
        let (outbox, inbox) = (VecDeque::new(), Vec::new());
        let link = Self { child, dues, socket: here, epoll, awaits_room: false, outbox, inbox };
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

    /// What the renderer has answered since, with bodies.
    ///
    /// # Errors
    /// It has ended, or says what it must not.
    pub(super) fn receive(&mut self) -> io::Result<Vec<(Reply, Vec<u8>)>> {
        let mut space = [0; READ_BYTES];
        let ended = loop {
            match self.socket.read(&mut space) {
                Ok(0) => break true,
                Ok(bytes) => {
                    self.inbox.extend_from_slice(space.get(..bytes).unwrap_or_default());
                    // There was no more, or it is reported again.
                    if bytes < READ_BYTES {
                        break false;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        };
        let (mut replies, mut taken) = (Vec::new(), 0);
        while let Some((reply, body, bytes)) = split_reply(self.inbox.get(taken..).unwrap_or_default())? {
            replies.push((reply, body.to_vec()));
            taken += bytes;
        }
        self.inbox.drain(..taken);
        if ended && replies.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if ended {
            // The end is met again when the replies have been looked at.
            let _ = self.socket.shutdown(std::net::Shutdown::Both);
        }
        Ok(replies)
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
