//! What one scanout shows as a dma-buf, and what the front end has not been told of it.
#![deny(clippy::indexing_slicing)]

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::command::Rect;

/// How tiles lie where a modifier says nothing of them, as DRM numbers it: in rows, or nobody knows.
const LINEAR: u64 = 0;
const INVALID: u64 = 0x00ff_ffff_ffff_ffff;

/// How a picture lies in a dma-buf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// What of it the scanout shows.
    pub rect: Rect,
    /// Width of all of it.
    pub width: u32,
    /// Height of all of it.
    pub height: u32,
    /// Bytes from row to row.
    pub stride: u32,
    /// Its format, as DRM numbers them.
    pub fourcc: u32,
    /// How tiles lie, as DRM numbers that.
    pub modifier: u64,
    /// The first row is the upper one.
    pub top: bool,
}

/// A dma-buf for a scanout.
#[derive(Clone, Debug)]
pub struct Shared {
    /// It.
    pub file: Arc<OwnedFd>,
    /// Where the picture is.
    pub layout: Layout,
}

impl PartialEq for Shared {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.file, &other.file) && self.layout == other.layout
    }
}

impl Eq for Shared {}

/// Whether a front end that is told no modifier shows such a picture all the same.
pub(super) fn is_plain(modifier: u64) -> bool {
    [LINEAR, INVALID].contains(&modifier)
}

/// A scanout that shows a dma-buf.
#[derive(Debug)]
pub(super) struct SharedFrame {
    news: Option<Shared>,
    damage: Option<Rect>,
}

impl SharedFrame {
    /// One that the front end has not got yet.
    pub(super) fn new(shared: Shared) -> Self {
        Self { news: Some(shared), damage: None }
    }

    /// A part has changed.
    pub(super) fn touch(&mut self, rect: &Rect) {
        self.damage = Some(self.damage.map_or(*rect, |damage| damage.union(rect)));
    }

    /// The dma-buf, once.
    pub(super) fn take_news(&mut self) -> Option<Shared> {
        self.news.take()
    }

    /// All that has changed since.
    pub(super) fn take_damage(&mut self) -> Option<Rect> {
        self.damage.take()
    }
}
