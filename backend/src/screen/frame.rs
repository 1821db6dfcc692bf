//! What one scanout shows, as its front end gets it: pixels of blue, green, red
//! and a byte that counts for nothing, and which of them it has not got yet.
#![deny(clippy::indexing_slicing)]

use crate::command::Rect;
use crate::pixels::{PIXEL_BYTES, Version, to_bgra};

/// Bytes of one message of pixels.
const UPDATE_BYTES_MAX: usize = 1 << 20;

/// The picture of a scanout. Without a side it is dark.
#[derive(Debug, Default)]
pub(super) struct Frame {
    width: u32,
    height: u32,
    pixels: Vec<u8>,
    /// What is known to be in each row.
    rows: Vec<Option<Version>>,
    /// The front end has not been told of the size.
    news: bool,
    /// All of it has been drawn once: what has not changed since need not go out.
    drawn: bool,
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
        let rows = vec![None; usize::try_from(height).unwrap_or(0)];
        Self { width, height, pixels, rows, news: true, drawn: false, damage: None }
    }

    pub(super) fn is_of(&self, width: u32, height: u32) -> bool {
        (self.width, self.height) == (width, height)
    }

    /// What was known to be in rows was of something that is not shown any more.
    pub(super) fn forget_rows(&mut self) {
        self.rows.fill(None);
    }

    pub(super) fn bytes(&self) -> usize {
        self.pixels.len()
    }

    /// The size, once after it has changed.
    pub(super) fn take_news(&mut self) -> Option<(u32, u32)> {
        std::mem::take(&mut self.news).then_some((self.width, self.height))
    }

    /// Draws a rectangle of the frame; `row` fills in the pixels from a column of a row on, `version` names what is in a row
    /// where that is known. Guests flush whole screens where a cursor blinks, so what is as it was is no damage, and rows
    /// that are known are not looked at.
    pub(super) fn draw(
        &mut self,
        rect: &Rect,
        format: u32,
        version: impl Fn(u64) -> Option<Version>,
        row: impl FnMut(u64, u64, &mut [u8]) -> Option<()>,
    ) -> Option<()> {
        if !rect.within(self.width, self.height) {
            return None;
        }
        let mut changed = (!self.drawn).then_some(*rect);
        let done = self.draw_rows(rect, format, version, row, &mut changed);
        self.drawn |= done.is_some() && (rect.width, rect.height) == (self.width.into(), self.height.into());
        if let Some(changed) = changed {
            self.damage = Some(self.damage.map_or(changed, |damage| damage.union(&changed)));
        }
        done
    }

    /// Adds to `changed` what was drawn, also where it ends too soon.
    fn draw_rows(
        &mut self,
        rect: &Rect,
        format: u32,
        version: impl Fn(u64) -> Option<Version>,
        mut row: impl FnMut(u64, u64, &mut [u8]) -> Option<()>,
        changed: &mut Option<Rect>,
    ) -> Option<()> {
        let whole = rect.width == u64::from(self.width);
        let mut new = vec![0; usize::try_from(rect.width).ok()?.checked_mul(PIXEL_BYTES)?];
        for y in rect.y..rect.y + rect.height {
            let version = version(y);
            let held = self.rows.get_mut(usize::try_from(y).ok()?)?;
            if version.is_some() && version == *held {
                continue;
            }
            *held = None;
            let span = span(self.width, rect.x, y, rect.width)?;
            let old = self.pixels.get_mut(span)?;
            row(rect.x, y, &mut new)?;
            to_bgra(&mut new, format);
            if let Some((first, width)) = difference(old, &new) {
                let part = Rect { x: rect.x + first, y, width, height: 1 };
                *changed = Some(changed.map_or(part, |changed| changed.union(&part)));
                old.copy_from_slice(&new);
            }
            *held = version.filter(|_| whole);
        }
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

/// From which pixel on rows of one length differ, and over how many.
fn difference(old: &[u8], new: &[u8]) -> Option<(u64, u64)> {
    if old == new {
        return None;
    }
    let pixels = || old.chunks(PIXEL_BYTES).zip(new.chunks(PIXEL_BYTES)).map(|(old, new)| old != new);
    let (first, last) = (pixels().position(|differs| differs)?, pixels().rposition(|differs| differs)?);
    Some((first as u64, (last - first) as u64 + 1))
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
        frame.draw(&rect, 2, |_| None, |_, _, pixels| {
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
    fn what_is_as_it_was_does_not_go_out_again() {
        let mut frame = Frame::new(4, 4);
        let whole = rect(0, 0, 4, 4);
        filled(&mut frame, whole, 0).unwrap();
        assert_eq!(frame.take_update().unwrap().rect, whole, "it is black as it began, but nobody knows");
        filled(&mut frame, whole, 0).unwrap();
        assert_eq!(frame.take_update(), None);
        let cursor = |frame: &mut Frame, byte| {
            frame.draw(&whole, 2, |_| None, |_, y, pixels| {
                pixels.fill(0);
                let at = if (1..3).contains(&y) { 4..12 } else { 0..0 };
                pixels[at].fill(byte);
                Some(())
            })
        };
        cursor(&mut frame, 7).unwrap();
        let update = frame.take_update().unwrap();
        assert_eq!((update.rect, update.pixels), (rect(1, 1, 2, 2), vec![7; 16]));
        cursor(&mut frame, 8).unwrap();
        cursor(&mut frame, 7).unwrap();
        assert_eq!(frame.take_update().unwrap().pixels, vec![7; 16], "damage stays where it was");
    }

    #[test]
    fn rows_that_are_known_are_not_looked_at_again() {
        let mut frame = Frame::new(4, 4);
        let whole = rect(0, 0, 4, 4);
        let [first, second] = [Version::fresh(), Version::fresh()];
        // The rows that were looked at.
        let draw = |frame: &mut Frame, part: Rect, version: Option<Version>, byte| {
            let mut looked_at = Vec::new();
            let row = |_, y, pixels: &mut [u8]| {
                looked_at.push(y);
                pixels.fill(byte);
                Some(())
            };
            frame.draw(&part, 2, |y| if y == 2 { version } else { Some(first) }, row).unwrap();
            looked_at
        };
        assert_eq!(draw(&mut frame, whole, Some(first), 7), [0, 1, 2, 3]);
        assert_eq!(frame.take_update().unwrap().rect, whole);
        assert!(draw(&mut frame, whole, Some(first), 9).is_empty());
        assert_eq!(frame.take_update(), None);
        assert_eq!(draw(&mut frame, whole, Some(second), 8), [2]);
        let update = frame.take_update().unwrap();
        assert_eq!((update.rect, update.pixels), (rect(0, 2, 4, 1), vec![8; 16]));
        // A part of a row: nobody knows what is in all of it.
        assert_eq!(draw(&mut frame, rect(1, 2, 2, 1), Some(first), 5), [2]);
        assert_eq!(draw(&mut frame, rect(1, 2, 2, 1), Some(first), 5), [2]);
        assert_eq!(draw(&mut frame, whole, Some(second), 8), [2]);
        assert_eq!(frame.take_update().unwrap().pixels, vec![8; 8]);
        // Where it has no name, it is looked at.
        assert_eq!([1, 2].map(|_| draw(&mut frame, whole, None, 8)), [[2], [2]]);
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
