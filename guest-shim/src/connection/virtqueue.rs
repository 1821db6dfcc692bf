//! A minimal virtio driver for one split virtqueue (virtio 1.3, 2.7) that has
//! one request on its way at a time: all that the vhost-user transport needs
//! to create resources and to ring the first doorbell.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use paravane_protocol::shared::{Shared, SharedPages};
use vmm_sys_util::eventfd::EventFd;

/// Entries of the queue.
pub(super) const QUEUE_SIZE: u16 = 16;
/// Offsets of the queue's parts in its pages.
pub(super) const DESCRIPTORS: usize = 0;
pub(super) const AVAILABLE: usize = 0x400;
pub(super) const USED: usize = 0x800;
const REQUEST: usize = 0x1000;
const RESPONSE: usize = 0x3000;
/// Bytes of a queue's pages.
pub(super) const QUEUE_BYTES: usize = 0x4000;

const DESC_F_NEXT: u16 = 1;
const DESC_F_WRITE: u16 = 2;

/// The driver's end of a queue.
pub(super) struct VirtQueue {
    pages: SharedPages,
    /// Guest physical address of the pages.
    address: u64,
    kick: EventFd,
    call: EventFd,
    sent: u16,
}

impl VirtQueue {
    pub(super) fn new(pages: SharedPages, address: u64) -> io::Result<Self> {
        Ok(Self {
            pages,
            address,
            kick: EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)?,
            call: EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)?,
            sent: 0,
        })
    }

    pub(super) fn kick_fd(&self) -> &EventFd {
        &self.kick
    }

    pub(super) fn call_fd(&self) -> &EventFd {
        &self.call
    }

    /// Sends a request and copies the response, at most `limit` later. An error
    /// when `peer`, the socket, hangs up meanwhile.
    pub(super) fn submit(
        &mut self,
        request: &[u8],
        response: &mut [u8],
        peer: RawFd,
        limit: Duration,
    ) -> io::Result<()> {
        if request.len() > RESPONSE - REQUEST || response.len() > QUEUE_BYTES - RESPONSE {
            return Err(io::Error::other("request too long for the queue's pages"));
        }
        self.pages.write(REQUEST, request);
        self.describe(0, REQUEST, request.len(), DESC_F_NEXT, 1);
        self.describe(1, RESPONSE, response.len(), DESC_F_WRITE, 0);
        let entry = AVAILABLE + 4 + 2 * usize::from(self.sent % QUEUE_SIZE);
        self.pages.write(entry, &0u16.to_le_bytes());
        self.sent = self.sent.wrapping_add(1);
        fence(Ordering::SeqCst);
        self.pages.write(AVAILABLE + 2, &self.sent.to_le_bytes());
        fence(Ordering::SeqCst);
        self.kick.write(1)?;
        self.wait_used(peer, limit)?;
        self.pages.read(RESPONSE, response);
        Ok(())
    }

    fn describe(&self, index: usize, offset: usize, len: usize, flags: u16, next: u16) {
        let mut raw = [0; 16];
        raw[..8].copy_from_slice(&(self.address + offset as u64).to_le_bytes());
        // Lengths are below the pages' 16 KiB, checked by submit().
        raw[8..12].copy_from_slice(&u32::try_from(len).unwrap_or(0).to_le_bytes());
        raw[12..14].copy_from_slice(&flags.to_le_bytes());
        raw[14..].copy_from_slice(&next.to_le_bytes());
        self.pages.write(DESCRIPTORS + 16 * index, &raw);
    }

    fn wait_used(&self, peer: RawFd, limit: Duration) -> io::Result<()> {
        let asked = Instant::now();
        loop {
            let mut used = [0; 2];
            self.pages.read(USED + 2, &mut used);
            fence(Ordering::SeqCst);
            if u16::from_le_bytes(used) == self.sent {
                let _ = self.call.read(); // Empty when the backend did not signal.
                return Ok(());
            }
            let left = limit
                .checked_sub(asked.elapsed())
                .ok_or_else(|| io::Error::from(io::ErrorKind::TimedOut))?;
            poll_either(self.call.as_raw_fd(), peer, left)?;
            let _ = self.call.read();
        }
    }
}

/// Waits for `call` to be readable; an error when `peer` hangs up.
#[allow(unsafe_code, reason = "poll(2)")]
fn poll_either(call: RawFd, peer: RawFd, limit: Duration) -> io::Result<()> {
    let mut fds = [
        libc::pollfd { fd: call, events: libc::POLLIN, revents: 0 },
        libc::pollfd { fd: peer, events: libc::POLLRDHUP, revents: 0 },
    ];
    let limit_ms = i32::try_from(limit.as_millis().max(1)).unwrap_or(i32::MAX);
    // SAFETY: two pollfds that live through the call.
    let ready = unsafe { libc::poll(fds.as_mut_ptr(), 2, limit_ms) };
    if ready < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
    }
    if fds[1].revents != 0 {
        return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the backend has hung up"));
    }
    Ok(())
}
