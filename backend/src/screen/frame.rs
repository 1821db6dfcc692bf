//! What one scanout shows, as its front end gets it: pixels of blue, green, red
//! and a byte that counts for nothing, and which of them it has not got yet.
#![deny(clippy::indexing_slicing)]

use crate::command::Rect;
use crate::pixels::{PIXEL_BYTES, to_bgra};

/// Bytes of one message of pixels.
const UPDATE_BYTES_MAX: usize = 1 << 20;

/// The picture of a scanout. Without a side it is dark.
#[derive(Debug, Default)]
pub(super) struct Frame {
    width: u32,
    height: u32,
    pixels: Vec<u8>,
    /// The front end has not been told of the size.
    news: bool,
    damage: Option<Rect>,
}

/// Pixels for the front end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Update {
    pub(super) rect: Rect,
    pub(super) pixels: Vec<u8>,
}

impl Frame {
    /// A frame of that size, black.
    pub(super) fn new(width: u32, height: u32) -> Self {
        let bytes = u64::from(width) * u64::from(height) * PIXEL_BYTES as u64;
        let pixels = vec![0; usize::try_from(bytes).unwrap_or(0)];
        Self { width, height, pixels, news: true, damage: None }
    }

    pub(super) fn bytes(&self) -> usize {
        self.pixels.len()
    }

    /// The size, once after it has changed.
    pub(super) fn take_news(&mut self) -> Option<(u32, u32)> {
        std::mem::take(&mut self.news).then_some((self.width, self.height))
    }

    /// Draws a rectangle of the frame; `row` fills in the pixels from a column of a row on.
    pub(super) fn draw(
        &mut self,
        rect: &Rect,
        format: u32,
        mut row: impl FnMut(u64, u64, &mut [u8]) -> Option<()>,
    ) -> Option<()> {
        if !rect.within(self.width, self.height) {
            return None;
        }
        for y in rect.y..rect.y + rect.height {
            let span = span(self.width, rect.x, y, rect.width)?;
            let pixels = self.pixels.get_mut(span)?;
            row(rect.x, y, pixels)?;
            to_bgra(pixels, format);
        }
        self.damage = Some(self.damage.map_or(*rect, |damage| damage.union(rect)));
        Some(())
    }

    /// The next pixels that the front end has not got.
    pub(super) fn take_update(&mut self) -> Option<Update> {
        let damage = self.damage.take().filter(|damage| damage.width > 0 && damage.height > 0)?;
        let row_bytes = usize::try_from(damage.width).ok()?.checked_mul(PIXEL_BYTES)?;
        let rows = (UPDATE_BYTES_MAX / row_bytes).max(1) as u64;
        let rect = Rect { height: damage.height.min(rows), ..damage };
        if rect.height < damage.height {
            let (y, height) = (damage.y + rect.height, damage.height - rect.height);
            self.damage = Some(Rect { y, height, ..damage });
        }
        let mut pixels = Vec::new();
        for y in rect.y..rect.y + rect.height {
            pixels.extend_from_slice(self.pixels.get(span(self.width, rect.x, y, rect.width)?)?);
        }
        Some(Update { rect, pixels })
    }
}

/// The bytes of so many pixels of a row.
fn span(frame_width: u32, x: u64, y: u64, width: u64) -> Option<std::ops::Range<usize>> {
    let start = usize::try_from(y * u64::from(frame_width) + x).ok()?.checked_mul(PIXEL_BYTES)?;
    let bytes = usize::try_from(width).ok()?.checked_mul(PIXEL_BYTES)?;
    Some(start..start.checked_add(bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rect(x: u64, y: u64, width: u64, height: u64) -> Rect {
        Rect { x, y, width, height }
    }

    fn filled(frame: &mut Frame, rect: Rect, byte: u8) -> Option<()> {
        frame.draw(&rect, 2, |_, _, pixels| {
            pixels.fill(byte);
            Some(())
        })
    }

    #[test]
    fn damage_grows_until_it_is_taken() {
        let mut frame = Frame::new(8, 8);
        assert_eq!(frame.take_news(), Some((8, 8)));
        assert_eq!(frame.take_news(), None);
        assert_eq!(frame.take_update(), None);
        filled(&mut frame, rect(1, 1, 1, 1), 7).unwrap();
        filled(&mut frame, rect(2, 3, 1, 1), 9).unwrap();
        let update = frame.take_update().unwrap();
        assert_eq!(update.rect, rect(1, 1, 2, 3));
        let first_bytes: Vec<u8> = update.pixels.chunks(4).map(|pixel| pixel[0]).collect();
        assert_eq!(first_bytes, [7, 0, 0, 0, 0, 9]);
        assert_eq!(frame.take_update(), None);
    }

    #[test]
    fn nothing_is_drawn_outside() {
        let mut frame = Frame::new(8, 8);
        for outside in [rect(8, 0, 1, 1), rect(0, 7, 1, 2), rect(u64::from(u32::MAX), 0, 1, 1)] {
            assert_eq!(filled(&mut frame, outside, 1), None);
        }
        assert_eq!(frame.take_update(), None);
    }

    #[test]
    fn a_large_frame_goes_out_in_parts() {
        let mut frame = Frame::new(1024, 1024);
        filled(&mut frame, rect(0, 0, 1024, 1024), 5).unwrap();
        let mut next = 0;
        while let Some(update) = frame.take_update() {
            assert_eq!(update.rect.y, next);
            assert!(update.pixels.len() <= UPDATE_BYTES_MAX);
            next += update.rect.height;
        }
        assert_eq!(next, 1024);
    }
}
