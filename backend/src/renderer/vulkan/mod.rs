//! Vulkan's side of the renderer. Guests' Vulkan does not pass through the
//! renderer: it runs in the processes of a render server, which share rings with the
//! guest. A layer in these (`vulkan-layer/`) asks here before each submit and each
//! allocation. Needs no OpenGL.
#![deny(clippy::indexing_slicing)]

mod environment;
mod process;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use paravane_protocol::vulkan::{Ask, HELLO};
use zerocopy::FromBytes;

use super::Fences;
use super::lease::RendererLease;
use crate::packet::{self, Packet, PacketError};
use process::Process;

pub use environment::environment;

/// Devices that processes of the server may have at a time; each has two threads here.
const DEVICES_MAX: usize = 128;

/// Counts what Vulkan does.
#[derive(Debug)]
pub struct Counter {
    socket: OwnedFd,
}

impl Counter {
    /// One that hears nobody yet, and the socket that a render server inherits, by the
    /// number that [`environment`] is told.
    ///
    /// # Errors
    /// The system has no descriptors.
    pub fn open() -> io::Result<(Self, OwnedFd)> {
        let (socket, theirs) = packet::pair()?;
        rustix::io::ioctl_fionbio(&socket, false)?;
        Ok((Self { socket }, theirs))
    }

    /// Serves the server's processes from now on, in threads of its own: so inside a
    /// sandbox that the caller has entered. Until then they wait.
    ///
    /// # Errors
    /// The device has told of no Vulkan, or there is no thread.
    pub fn start(self, fences: &Fences) -> io::Result<()> {
        self.serve(Arc::clone(fences.lease()))
    }

    fn serve(self, lease: Arc<RendererLease>) -> io::Result<()> {
        if !lease.has_vulkan() {
            return Err(io::Error::other("the device has not told what Vulkan has of the VM"));
        }
        let listen = move || {
            let devices = Arc::new(AtomicUsize::new(0));
            loop {
                match Packet::receive(self.socket.as_fd(), size_of::<Ask>()) {
                    Ok(packet) => begin(packet, &lease, &devices),
                    Err(PacketError::Malformed(why)) => log::debug!("a process of the render server: {why}"),
                    Err(PacketError::Closed) => return,
                    Err(PacketError::Io(error)) => return log::error!("the render server's socket: {error}"),
                }
            }
        };
        thread::Builder::new().name("vulkan".to_owned()).spawn(listen).map(drop)
    }
}

/// A device of a process comes. A guest can bring about all that is refused.
fn begin(packet: Packet, lease: &Arc<RendererLease>, devices: &Arc<AtomicUsize>) {
    let asked = Ask::read_from_bytes(&packet.bytes).ok().filter(|asked| asked.kind.get() == HELLO);
    let context = asked.and_then(|asked| u32::try_from(asked.first.get()).ok());
    let (Some(context), Ok([gate, notes])) = (context, <[OwnedFd; 2]>::try_from(packet.fds)) else {
        return log::debug!("a process of the render server does not say what it must");
    };
    // Whoever counts them up is this thread alone.
    if devices.load(Ordering::Acquire) >= DEVICES_MAX {
        return log::debug!("context {context}: no further Vulkan device: there are {DEVICES_MAX}");
    }
    devices.fetch_add(1, Ordering::AcqRel);
    let guard = Counted(Arc::clone(devices));
    if let Err(error) = Process::start(Arc::clone(lease), context, [gate, notes], guard) {
        log::warn!("context {context}: no thread for its Vulkan: {error}");
    }
}

/// One device less when it is dropped.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests;
