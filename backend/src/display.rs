//! Commands about pictures, scanouts and the cursor. Without a screen they are
//! judged as if somebody looked, and nothing is copied.
#![deny(clippy::indexing_slicing)]

use paravane_protocol::virtio_gpu::FORMATS_2D;
use vm_memory::{GuestAddressSpace, GuestMemoryMmap};

use crate::backing::Backing;
use crate::channels::Progress;
use crate::command::{BlobLayout, Pointer, Rect};
use crate::device::Device;
use crate::pixels::{PIXEL_BYTES, to_bgra};
use crate::process::Outcome;
use crate::resource::{Kind, Resource};
use crate::response::{Refusal, Response};
use crate::scanout::{self, Shown, Way};
use crate::screen::{CURSOR_BYTES, CURSOR_SIDE, Cursor, Question, Screen, Shape};

impl Device {
    /// Answers a question about displays, or has the front end asked.
    pub(crate) fn ask(&self, question: Question) -> Outcome {
        if let Question::Edid(scanout) = question
            && let Err(refusal) = self.check_scanout(scanout)
        {
            return Outcome::Done(refusal.into());
        }
        match self.screen {
            Some(_) => Outcome::Asks(question),
            None => Outcome::Done(scanout::without_screen(question)),
        }
    }

    fn check_scanout(&self, scanout: u32) -> Result<(), Refusal> {
        scanout::check(scanout, self.screen.is_some())
    }

    pub(crate) fn set_scanout(&mut self, scanout: u32, resource: u32, rect: Rect) -> Result<Outcome, Refusal> {
        if resource != 0 {
            self.within(resource, rect)?;
        }
        let shown = Shown { resource, rect, layout: None, way: Way::Pixels };
        if rect.width > 0 && rect.height > 0 && self.shares(resource) {
            self.check_scanout(scanout)?;
            return self.share(scanout, shown);
        }
        self.show(scanout, shown).map(Into::into)
    }

    pub(crate) fn set_scanout_blob(
        &mut self,
        scanout: u32,
        resource: u32,
        rect: Rect,
        layout: BlobLayout,
    ) -> Result<Progress, Refusal> {
        if resource != 0 {
            let Kind::Blob { bytes } = self.resources.get(resource)?.kind else {
                return Err(Refusal::InvalidResource);
            };
            let BlobLayout { format, width, height, stride, offset } = layout;
            let [offset, stride, rows] = [offset, stride, height].map(u64::from);
            let shown = stride * rows + offset;
            let fits = FORMATS_2D.contains(&format) && stride >= u64::from(width) * PIXEL_BYTES as u64;
            if !fits || shown > bytes || !rect.within(width, height) {
                return Err(Refusal::InvalidParameter);
            }
        }
        self.show(scanout, Shown { resource, rect, layout: Some(layout), way: Way::Pixels })
    }

    /// Shows a resource, or nothing where its number is 0.
    pub(crate) fn show(&mut self, scanout: u32, shown: Shown) -> Result<Progress, Refusal> {
        self.check_scanout(scanout)?;
        let lit = (shown.resource != 0).then_some(shown);
        if let Some(screen) = &self.screen {
            let side = |side: u64| u32::try_from(side).map_err(|_| Refusal::InvalidParameter);
            let (width, height) = lit.map_or(Ok((0, 0)), |Shown { rect, .. }| {
                Ok((side(rect.width)?, side(rect.height)?))
            })?;
            screen.resize(scanout, width, height)?;
        }
        self.scanouts.set(scanout, lit);
        if let Some(shown) = lit {
            self.draw(scanout, &shown, &shown.rect)?;
        }
        Ok(Progress::Done)
    }

    pub(crate) fn flush(&mut self, resource: u32, rect: Rect) -> Result<Outcome, Refusal> {
        self.within(resource, rect)?;
        if let Kind::Texture { .. } = self.resources.get(resource)?.kind {
            return self.flush_texture(resource, rect);
        }
        if self.screen.is_some() {
            for (scanout, shown) in self.scanouts.of(resource) {
                self.draw(scanout, &shown, &rect)?;
            }
        }
        Ok(Outcome::Done(Response::Done))
    }

    /// Brings a part of a resource to the screen, if the scanout shows it.
    fn draw(&self, scanout: u32, shown: &Shown, part: &Rect) -> Result<(), Refusal> {
        let Some(screen) = &self.screen else { return Ok(()) };
        let Some(part) = part.intersection(&shown.rect) else { return Ok(()) };
        let resource = self.resources.get(shown.resource)?;
        let (left, top) = (shown.rect.x, shown.rect.y);
        let on_screen = Rect { x: part.x - left, y: part.y - top, ..part };
        match (resource, shown.layout) {
            (Resource { kind: Kind::Picture { format, .. }, pixels: Some(picture), .. }, _) => {
                let row = |x, y, into: &mut [u8]| picture.row(left + x, top + y, into);
                screen.draw(scanout, &on_screen, *format, |y| picture.version(top + y), row)
            }
            (Resource { kind: Kind::Picture { .. }, .. }, _) => {
                let black = |_, _, into: &mut [u8]| {
                    into.fill(0);
                    Some(())
                };
                screen.draw(scanout, &on_screen, FORMATS_2D[0], |_| None, black)
            }
            (Resource { backing: Some(pages), .. }, Some(layout)) => {
                let memory = self.memory.memory();
                draw_blob(screen, scanout, &on_screen, (left, top), &layout, (pages, &memory))
            }
            // The pages are gone, or it is a texture, whose pixels the renderer sends.
            _ => Ok(()),
        }
    }

    /// Refuses a rectangle that is not all in a picture. Blobs and Paravane's
    /// resources have no sides; flushing them means nothing.
    fn within(&self, resource: u32, rect: Rect) -> Result<(), Refusal> {
        match self.resources.get(resource)?.kind {
            Kind::Picture { width, height, .. } | Kind::Texture { width, height, .. }
                if !rect.within(width, height) =>
            {
                Err(Refusal::InvalidParameter)
            }
            _ => Ok(()),
        }
    }

    /// Guest pages to a picture.
    pub(crate) fn transfer_picture(&mut self, resource: u32, offset: u64, rect: Rect) -> Result<Progress, Refusal> {
        let of = self.resources.get(resource)?;
        let Kind::Picture { width, height, .. } = of.kind else { return Ok(Progress::Done) };
        let pages = of.backing.as_ref().ok_or(Refusal::Unspecified)?;
        let rows = rect.height.saturating_sub(1).saturating_mul(u64::from(width)).saturating_add(rect.width);
        let end = offset.checked_add(rows.saturating_mul(PIXEL_BYTES as u64));
        let there = end.is_some_and(|end| end <= pages.bytes());
        if !there || !rect.within(width, height) {
            return Err(Refusal::InvalidParameter);
        }
        if self.screen.is_some() {
            let (pages, memory) = (pages.clone(), self.memory.memory());
            let picture = self.resources.pixels(resource).ok_or(Refusal::InvalidResource)?;
            picture.transfer(&rect, offset, &pages, &memory).ok_or(Refusal::InvalidParameter)?;
        }
        Ok(Progress::Done)
    }

    /// The resource is gone: so is what shows it.
    pub(crate) fn forget_shown(&mut self, resource: u32) {
        for scanout in self.scanouts.forget(resource) {
            // Nothing is never too large.
            let _ = self.screen.as_ref().map(|screen| screen.resize(scanout, 0, 0));
        }
    }

    pub(crate) fn cursor(&mut self, pointer: Pointer) -> Result<Progress, Refusal> {
        let Pointer { scanout, x, y, update } = pointer;
        self.check_scanout(scanout)?;
        let shape = match update {
            None => Shape::Same,
            Some((0, ..)) => Shape::Hidden,
            Some((resource, hot_x, hot_y)) => {
                let pixels = self.cursor_pixels(resource)?;
                Shape::Picture { hot_x, hot_y, pixels }
            }
        };
        if let Some(screen) = &self.screen {
            screen.point(Cursor { scanout, x, y, shape });
        }
        Ok(Progress::Done)
    }

    /// A resource as a cursor; what it lacks of the size is transparent.
    fn cursor_pixels(&self, resource: u32) -> Result<Box<[u8; CURSOR_BYTES]>, Refusal> {
        let mut pixels = Box::new([0; CURSOR_BYTES]);
        let of = self.resources.get(resource)?;
        if let (Kind::Picture { width, height, format }, Some(picture)) = (of.kind, &of.pixels) {
            let row_bytes = CURSOR_SIDE.min(width) as usize * PIXEL_BYTES;
            let rows = pixels.chunks_mut(CURSOR_SIDE as usize * PIXEL_BYTES);
            for (y, row) in (0..u64::from(height)).zip(rows) {
                let Some(row) = row.get_mut(..row_bytes) else { break };
                picture.row(0, y, row).ok_or(Refusal::InvalidParameter)?;
                to_bgra(row, format);
            }
        }
        Ok(pixels)
    }
}

/// Draws straight from the pages of a blob.
fn draw_blob(
    screen: &Screen,
    scanout: u32,
    on_screen: &Rect,
    (left, top): (u64, u64),
    layout: &BlobLayout,
    (pages, memory): (&Backing, &GuestMemoryMmap),
) -> Result<(), Refusal> {
    let [stride, offset] = [layout.stride, layout.offset].map(u64::from);
    screen.draw(scanout, on_screen, layout.format, |_| None, |x, y, into| {
        let at = offset + (top + y) * stride + (left + x) * PIXEL_BYTES as u64;
        pages.copy_out(memory, at, into)
    })
}
