//! Which resource each scanout shows, and what a guest is told of displays
//! where no front end shows them: one of 1024 by 768.
#![deny(clippy::indexing_slicing)]

use std::collections::BTreeMap;

use paravane_protocol::virtio_gpu::{DisplayInfo, DisplayOne, EDID_BYTES, Edid, Rect as WireRect, SCANOUTS_MAX, ctrl};
use zerocopy::IntoBytes;

use crate::command::{BlobLayout, Rect};
use crate::edid;
use crate::response::{Refusal, Response};
use crate::screen::Question;

/// Displays of a device without a screen.
pub const SCANOUTS: u32 = 1;

/// How what a scanout shows reaches the front end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Its pixels do.
    Pixels,
    /// The renderer was asked for a dma-buf, by the message of this number.
    Asked(u64),
    /// The front end has a dma-buf.
    Dmabuf,
}

/// A resource, or a part of it, on a scanout.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// The resource.
    pub resource: u32,
    /// The part.
    pub rect: Rect,
    /// How a picture lies in it, if it is a blob.
    pub layout: Option<BlobLayout>,
    /// How it is shown.
    pub way: Way,
}

/// What the scanouts show.
#[derive(Debug, Default)]
pub struct Scanouts {
    shown: BTreeMap<u32, Shown>,
}

impl Scanouts {
    /// Shows another resource, or none.
    pub fn set(&mut self, scanout: u32, shown: Option<Shown>) {
        match shown {
            Some(shown) => self.shown.insert(scanout, shown),
            None => self.shown.remove(&scanout),
        };
    }

    /// What a scanout shows.
    pub fn get(&self, scanout: u32) -> Option<Shown> {
        self.shown.get(&scanout).copied()
    }

    /// The resource is gone. Returns the scanouts that showed it.
    pub fn forget(&mut self, resource: u32) -> Vec<u32> {
        let scanouts = self.of(resource).map(|(scanout, _)| scanout).collect();
        self.shown.retain(|_, shown| shown.resource != resource);
        scanouts
    }

    /// The scanouts that show a resource.
    pub fn of(&self, resource: u32) -> impl Iterator<Item = (u32, Shown)> {
        let all = self.shown.iter().map(|(scanout, shown)| (*scanout, *shown));
        all.filter(move |(_, shown)| shown.resource == resource)
    }
}

/// Refuses a scanout that is not there. Where a front end shows them, it has
/// told the guest how many there are.
pub fn check(scanout: u32, screen: bool) -> Result<(), Refusal> {
    let scanouts = if screen { SCANOUTS_MAX } else { SCANOUTS as usize };
    if (scanout as usize) < scanouts { Ok(()) } else { Err(Refusal::InvalidScanout) }
}

/// What a device without a screen answers.
pub fn without_screen(question: Question) -> Response {
    match question {
        Question::DisplayInfo => display_info(),
        Question::Edid(_) => edid(),
    }
}

fn display_info() -> Response {
    let mut info = DisplayInfo::default();
    let r = WireRect { width: edid::WIDTH.into(), height: edid::HEIGHT.into(), ..WireRect::default() };
    info.pmodes[0] = DisplayOne { r, enabled: 1.into(), flags: 0.into() };
    Response::Data(ctrl::OK_DISPLAY_INFO, info.as_bytes().to_vec())
}

fn edid() -> Response {
    let block = edid::block();
    let mut data = [0; EDID_BYTES];
    for (to, from) in data.iter_mut().zip(block) {
        *to = from;
    }
    let size = u32::try_from(block.len()).unwrap_or(0);
    let edid = Edid { size: size.into(), padding: 0.into(), edid: data };
    Response::Data(ctrl::OK_EDID, edid.as_bytes().to_vec())
}
