//! Textures on scanouts: the front end gets a dma-buf, where it and the host can
//! have one, and is told what has changed in it; else the renderer reads the
//! pixels back.
#![deny(clippy::indexing_slicing)]

use std::sync::Arc;

use zerocopy::{FromBytes, IntoBytes};

use super::After;
use super::device::apart;
use super::link::Heard;
use super::wire::{self, Exported, ReadBack};
use crate::command::Rect;
use crate::device::Device;
use crate::fence::{Ticket, Timeline};
use crate::pixels::PIXEL_BYTES;
use crate::process::Outcome;
use crate::resource::Kind;
use crate::response::{Refusal, Response};
use crate::scanout::{Shown, Way};
use crate::screen::{Layout, Shared};

fn rect_of(of: &ReadBack) -> Rect {
    let [x, y, width, height] = [of.x, of.y, of.width, of.height].map(|word| word.get().into());
    Rect { x, y, width, height }
}

/// A part of what is shown, from the scanout's corner on.
fn on_screen(part: &Rect, shown: &Rect) -> Option<Rect> {
    let part = part.intersection(shown)?;
    Some(Rect { x: part.x - shown.x, y: part.y - shown.y, ..part })
}

impl Device {
    /// Whether the front end is to have this resource as a dma-buf.
    pub(crate) fn shares(&self, resource: u32) -> bool {
        self.host.dmabuf_scanout && self.screen.is_some() && self.is_texture(resource) && self.gl.lives(resource)
    }

    /// Shows a texture once the renderer has given it out. Until then what was shown stays.
    pub(crate) fn share(&mut self, scanout: u32, shown: Shown) -> Result<Outcome, Refusal> {
        let outcome = self.export(shown.resource, After::Light(scanout))?;
        self.scanouts.set(scanout, Some(Shown { way: Way::Asked(self.gl.seq), ..shown }));
        Ok(outcome)
    }

    /// The renderer has given out what a scanout is to show, or could not.
    pub(super) fn light(&mut self, scanout: u32, heard: Heard) -> Response {
        let seq = heard.reply.seq.get();
        let asked = self.scanouts.get(scanout).filter(|shown| shown.way == Way::Asked(seq));
        // Else something else is to be shown by now.
        let Some(shown) = asked else { return Response::Done };
        if let (Some(shared), Some(screen)) = (self.shared(&shown, heard), &self.screen) {
            screen.share(scanout, shared);
            self.scanouts.set(scanout, Some(Shown { way: Way::Dmabuf, ..shown }));
            return Response::Done;
        }
        match self.show(scanout, Shown { way: Way::Pixels, ..shown }) {
            Ok(_) => Response::Done,
            Err(refusal) => {
                self.forget_shown(shown.resource);
                refusal.into()
            }
        }
    }

    /// What was given out, if the front end can show it.
    fn shared(&self, shown: &Shown, heard: Heard) -> Option<Shared> {
        let of = Exported::read_from_bytes(&heard.body).ok().filter(|_| heard.reply.refused.get() == 0)?;
        let Kind::Texture { width, height, .. } = self.resources.get(shown.resource).ok()?.kind else { return None };
        let modifier = of.modifier.get();
        // The front end is not told of an offset.
        let fits = of.is_picture() && of.offset.get() == 0 && self.screen.as_ref()?.takes(modifier);
        let layout = Layout {
            rect: shown.rect,
            width,
            height,
            stride: of.stride.get(),
            fourcc: of.fourcc.get(),
            modifier,
            top: self.gl.textures.get(&shown.resource)?.top,
        };
        fits.then_some(Shared { file: Arc::new(heard.file?), layout })
    }

    /// Brings what a texture shows to the screen.
    pub(crate) fn flush_texture(&mut self, resource: u32, rect: Rect) -> Result<Outcome, Refusal> {
        let ways: Vec<Way> = self.scanouts.of(resource).map(|(_, shown)| shown.way).collect();
        if self.screen.is_none() || ways.is_empty() || !self.gl.lives(resource) {
            return Ok(Outcome::Done(Response::Done));
        }
        let by_pixels = ways.iter().all(|way| *way == Way::Pixels);
        let narrow = |side: u64| u32::try_from(side).map_err(|_| Refusal::InvalidParameter);
        let [x, y, width, height] = [rect.x, rect.y, rect.width, rect.height].map(narrow);
        let [x, y, width, height] = [x?, y?, width?, height?].map(Into::into);
        let flushed = ReadBack { resource: resource.into(), x, y, width, height };
        if by_pixels {
            return self.read_back(&flushed);
        }
        let (gl, env) = apart(self)?;
        gl.send(&env, (wire::SETTLE, 0, Some(Timeline::Global)), &[], After::Settled(flushed))?;
        Ok(Outcome::Renders)
    }

    fn read_back(&mut self, wanted: &ReadBack) -> Result<Outcome, Refusal> {
        let rect = rect_of(wanted);
        if rect.width * rect.height * PIXEL_BYTES as u64 > wire::REPLY_BYTES_MAX as u64 {
            return Err(Refusal::OutOfMemory);
        }
        let (gl, env) = apart(self)?;
        gl.send(&env, (wire::READ_BACK, 0, None), wanted.as_bytes(), After::Show(*wanted))?;
        Ok(Outcome::Renders)
    }

    /// What was flushed is drawn. `None`: its pixels have to come first.
    pub(super) fn settled(&mut self, flushed: &ReadBack, ticket: Ticket) -> Option<Response> {
        let (resource, rect) = (flushed.resource.get(), rect_of(flushed));
        let mut by_pixels = false;
        for (scanout, shown) in self.scanouts.of(resource) {
            by_pixels |= shown.way == Way::Pixels;
            // What has been asked for since is told as a whole, and flushed later.
            if let (Way::Dmabuf, Some(part), Some(screen)) = (shown.way, on_screen(&rect, &shown.rect), &self.screen) {
                screen.touch(scanout, &part);
            }
        }
        if !by_pixels || !self.gl.lives(resource) {
            return Some(Response::Done);
        }
        match self.read_back(flushed) {
            Ok(_) => {
                self.gl.park(ticket);
                None
            }
            Err(refusal) => Some(refusal.into()),
        }
    }

    /// Pixels of a texture have come.
    pub(super) fn show_texture(&self, wanted: &ReadBack, body: &[u8]) {
        let (resource, whole) = (wanted.resource.get(), rect_of(wanted));
        let Ok(Kind::Texture { format, .. }) = self.resources.get(resource).map(|of| of.kind) else { return };
        let Some(screen) = &self.screen else { return };
        for (scanout, shown) in self.scanouts.of(resource).filter(|(_, shown)| shown.way == Way::Pixels) {
            let Some(part) = on_screen(&whole, &shown.rect) else { continue };
            // Where a row of the screen lies in what was read. A guest that has
            // changed its scanout meanwhile sees that one drawn later.
            let _ = screen.draw(scanout, &part, format, |_| None, |column, row, into| {
                let (column, row) = (column + shown.rect.x - whole.x, row + shown.rect.y - whole.y);
                let at = usize::try_from(row * whole.width + column).ok()?.checked_mul(PIXEL_BYTES)?;
                into.copy_from_slice(body.get(at..at.checked_add(into.len())?)?);
                Some(())
            });
        }
    }
}
