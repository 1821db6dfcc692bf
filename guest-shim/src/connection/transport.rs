//! How pages get to the host and how the two sides wake each other: a render
//! node in a VM (`drm`), or a vhost-user socket on the host (`vhost_user`).
//! Everything above this trait is the same for both.

use std::io;
use std::time::Duration;

use paravane_protocol::shared::SharedPages;

use crate::memory::Over;

/// Create parameters that mark a resource as Paravane's (docs/protocol.md).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(crate) format: u32,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// Pages that the host has been given, mapped here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Area {
    pub(crate) pages: SharedPages,
    /// 0 for the channel; the low half of the resource's format.
    pub(crate) index: u16,
    /// What the transport knows the resource by.
    pub(crate) resource: u32,
    /// Where its pages begin, in the transport's terms (a file offset).
    pub(crate) offset: u64,
}

/// A way to the host.
pub(crate) trait Transport: Send + Sync {
    /// Creates a resource of whole pages and gives its pages to the host.
    fn create_area(&self, mark: Mark, bytes: usize, index: u16) -> io::Result<Area>;

    /// Maps the area's pages a second time, at `address`.
    fn map_at(&self, area: &Area, address: usize, over: Over) -> io::Result<()>;

    /// Takes the pages back. The host does not touch them afterwards. The
    /// caller uses no copy of the area's pages any more.
    fn free_area(&self, area: Area) -> io::Result<()>;

    /// Rings a doorbell on a channel or ring area.
    fn doorbell(&self, area: &Area, bell: u32) -> io::Result<()>;

    /// Wakes the host thread that sleeps on a ring.
    fn kick(&self, area: &Area, ring: u32) -> io::Result<()>;

    /// Sleeps until the host wakes this ring's guest side, or for a while: at
    /// most `limit`. May return early.
    fn sleep(&self, area: &Area, ring: u32, limit: Duration) -> io::Result<()>;

    /// Whether futexes on shared words reach the host.
    fn same_kernel(&self) -> bool;

    /// Tells the transport the channel's token once it is known.
    fn set_token(&self, token: u64);
}
