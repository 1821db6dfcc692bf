//! The order of commands across a process's rings (docs/protocol.md,
//! "Tickets"): before a host thread issues ticket t, every smaller ticket that
//! is visible in another ring has been issued.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use paravane_protocol::channel::{RING_COMMANDS, RING_REPLY, RING_STRIDE};
use paravane_protocol::limits::{REPLY_BYTES_MAX, RING_BYTES};
use paravane_protocol::ring::nothing_before;
use paravane_protocol::shared::SharedPages;

use super::wake;

/// One ring, as the process's threads see it.
pub(super) struct RingState {
    pub(super) control: SharedPages,
    pub(super) reply: SharedPages,
    pub(super) commands: SharedPages,
    /// Bytes of commands issued, free running: the private twin of HEAD, which
    /// the guest could change.
    issued: AtomicU32,
}

impl RingState {
    pub(super) fn new(area: SharedPages, offset: usize) -> Self {
        let ring = area.window(offset, RING_STRIDE);
        Self {
            control: ring.window(0, RING_REPLY),
            reply: ring.window(RING_REPLY, REPLY_BYTES_MAX as usize),
            commands: ring.window(RING_COMMANDS, RING_BYTES as usize),
            issued: AtomicU32::new(0),
        }
    }

    /// The commands before `head` are issued.
    #[inline]
    pub(super) fn set_issued(&self, head: u32) {
        self.issued.store(head, Ordering::Release);
    }

    /// Whether a command with a smaller ticket may be visible and not issued.
    #[inline]
    fn holds_back(&self, ticket: u64) -> bool {
        let issued = || self.issued.load(Ordering::Acquire);
        !nothing_before(ticket, &self.control, &self.commands, RING_BYTES, issued)
    }

    /// Waits until no smaller ticket is visible and unissued in this ring.
    pub(super) fn wait_behind(&self, ticket: u64) {
        let mut looks = 0_u32;
        while self.holds_back(ticket) {
            looks += 1;
            match looks {
                0..=50 => std::hint::spin_loop(),
                51..=200 => std::thread::yield_now(),
                // A launch may wait long for room in the device's queue.
                _ => std::thread::sleep(Duration::from_micros(50)),
            }
            if looks == 51 {
                // Its guest thread has published but not rung yet.
                wake::host_thread(&self.control);
            }
        }
    }
}
