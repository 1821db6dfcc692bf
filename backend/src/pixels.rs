//! Pictures: the host's copy of a 2D resource, and the order of bytes in a
//! pixel that a screen wants.
#![deny(clippy::indexing_slicing)]

use std::sync::atomic::{AtomicU64, Ordering};

use vm_memory::GuestMemoryMmap;

use crate::backing::Backing;
use crate::command::Rect;

/// Bytes of a pixel, in every format of a 2D resource.
pub const PIXEL_BYTES: usize = 4;

/// Where blue, green, red and alpha lie in a pixel of a 2D format (virtio 1.3,
/// 5.7.6.8, whose names give the order in memory). `None`: not such a format.
pub fn places(format: u32) -> Option<[usize; 4]> {
    match format {
        // B8G8R8A8, B8G8R8X8.
        1 | 2 => Some([0, 1, 2, 3]),
        // A8R8G8B8, X8R8G8B8.
        3 | 4 => Some([3, 2, 1, 0]),
        // R8G8B8A8, R8G8B8X8.
        67 | 134 => Some([2, 1, 0, 3]),
        // X8B8G8R8, A8B8G8R8.
        68 | 121 => Some([1, 2, 3, 0]),
        _ => None,
    }
}

/// Puts each pixel's bytes in the order blue, green, red, alpha.
pub fn to_bgra(pixels: &mut [u8], format: u32) {
    let Some(places) = places(format) else { return };
    if places == [0, 1, 2, 3] {
        return;
    }
    let (chunks, _) = pixels.as_chunks_mut::<PIXEL_BYTES>();
    for pixel in chunks {
        let old = *pixel;
        for (byte, place) in pixel.iter_mut().zip(places) {
            *byte = old.get(place).copied().unwrap_or(0);
        }
    }
}

/// Names what is in a row of a picture: rows of one version are alike, whichever
/// picture they are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(u64);

impl Version {
    /// One that no row has yet.
    pub fn fresh() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed))
    }
}

/// Rows shorter than this have no version of their own: it would be as large as
/// they are.
const VERSIONED_PIXELS: u32 = 64;

/// The host's copy of a 2D resource.
pub struct Pixels {
    width: u32,
    bytes: Vec<u8>,
    /// Of each row, if rows have any.
    versions: Vec<Version>,
}

impl std::fmt::Debug for Pixels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pixels({} bytes)", self.bytes.len())
    }
}

impl Pixels {
    /// Black, until something is transferred. Pages that nobody writes take no
    /// memory.
    pub fn new(width: u32, height: u32) -> Self {
        let pixels = u64::from(width) * u64::from(height);
        let bytes = usize::try_from(pixels).unwrap_or(0).saturating_mul(PIXEL_BYTES);
        let rows = if width < VERSIONED_PIXELS { 0 } else { usize::try_from(height).unwrap_or(0) };
        Self { width, bytes: vec![0; bytes], versions: vec![Version::fresh(); rows] }
    }

    fn place(&self, x: u64, y: u64) -> Option<usize> {
        usize::try_from(y * u64::from(self.width) + x).ok()?.checked_mul(PIXEL_BYTES)
    }

    /// Copies a rectangle that is known to lie in the picture from guest pages,
    /// where its first pixel is at `offset` and rows are as long as the
    /// picture's. `None`: the pages end before. Guests transfer whole screens where a
    /// cursor blinks: rows that are as they were keep their version.
    pub fn transfer(&mut self, rect: &Rect, offset: u64, pages: &Backing, memory: &GuestMemoryMmap) -> Option<()> {
        let stride = u64::from(self.width) * PIXEL_BYTES as u64;
        let mut new = vec![0; usize::try_from(rect.width).ok()?.checked_mul(PIXEL_BYTES)?];
        for row in 0..rect.height {
            let from = offset.checked_add(row.checked_mul(stride)?)?;
            let to = self.place(rect.x, rect.y + row)?;
            let old = self.bytes.get_mut(to..to.checked_add(new.len())?)?;
            pages.copy_out(memory, from, &mut new)?;
            if *old != *new {
                old.copy_from_slice(&new);
                let version = usize::try_from(rect.y + row).ok().and_then(|row| self.versions.get_mut(row));
                version.into_iter().for_each(|version| *version = Version::fresh());
            }
        }
        Some(())
    }

    /// What names the content of a row, if anything does.
    pub fn version(&self, y: u64) -> Option<Version> {
        self.versions.get(usize::try_from(y).ok()?).copied()
    }

    /// Copies as many pixels as fit into `into` from column `x` of row `y` on.
    pub fn row(&self, x: u64, y: u64, into: &mut [u8]) -> Option<()> {
        let from = self.place(x, y)?;
        into.copy_from_slice(self.bytes.get(from..from.checked_add(into.len())?)?);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use paravane_protocol::virtio_gpu::FORMATS_2D;
    use vm_memory::{Bytes, GuestAddress};

    use super::*;
    use crate::command::Entry;

    #[test]
    fn every_format_is_put_in_one_order() {
        // Each format's bytes of the pixel blue 1, green 2, red 3, alpha 4.
        let pixels = [
            (1, [1, 2, 3, 4]),
            (2, [1, 2, 3, 4]),
            (3, [4, 3, 2, 1]),
            (4, [4, 3, 2, 1]),
            (67, [3, 2, 1, 4]),
            (68, [4, 1, 2, 3]),
            (121, [4, 1, 2, 3]),
            (134, [3, 2, 1, 4]),
        ];
        assert_eq!(pixels.map(|(format, _)| format), FORMATS_2D);
        for (format, pixel) in pixels {
            let mut two = [pixel, pixel].concat();
            to_bgra(&mut two, format);
            assert_eq!(two, [1, 2, 3, 4, 1, 2, 3, 4], "{format}");
        }
        assert_eq!(places(5), None);
    }

    #[test]
    fn only_rows_that_change_have_another_version() {
        let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0x4000)]).unwrap();
        let pages = Backing::new(vec![Entry { addr: 0, bytes: 0x4000 }], &memory).unwrap();
        let (mut pixels, other) = (Pixels::new(64, 8), Pixels::new(64, 8));
        let whole = Rect { x: 0, y: 0, width: 64, height: 8 };
        let versions = |pixels: &Pixels| (0..8).map(|y| pixels.version(y).unwrap()).collect::<Vec<_>>();
        let black = versions(&pixels);
        assert!(black.iter().all(|version| !versions(&other).contains(version)), "pictures share none");
        pixels.transfer(&whole, 0, &pages, &memory).unwrap();
        assert_eq!(versions(&pixels), black);
        memory.write_obj(7_u8, GuestAddress(5 * 256 + 255)).unwrap();
        pixels.transfer(&whole, 0, &pages, &memory).unwrap();
        let cursor = versions(&pixels);
        let changed: Vec<usize> = (0..8).filter(|y| cursor[*y] != black[*y]).collect();
        assert_eq!(changed, [5]);
        memory.write_obj(0_u8, GuestAddress(5 * 256 + 255)).unwrap();
        pixels.transfer(&whole, 0, &pages, &memory).unwrap();
        assert!(![cursor[5], black[5]].contains(&pixels.version(5).unwrap()), "no version comes back");
        assert_eq!((pixels.version(8), Pixels::new(63, 8).version(0)), (None, None));
    }

    #[test]
    fn a_rectangle_comes_from_scattered_pages() {
        let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0x4000)]).unwrap();
        let entries = [(0x3000, 0x1000), (0x1000, 0x1000)].map(|(addr, bytes)| Entry { addr, bytes });
        let pages = Backing::new(entries.to_vec(), &memory).unwrap();
        // A picture of 1000 pixels a row: its second row lies across the pages.
        for at in 0..0x800_u32 {
            let address = if at < 0x400 { 0x3000 + at * 4 } else { 0x1000 + (at - 0x400) * 4 };
            memory.write_obj(at, GuestAddress(address.into())).unwrap();
        }
        let mut pixels = Pixels::new(1000, 2);
        let rect = Rect { x: 10, y: 1, width: 100, height: 1 };
        pixels.transfer(&rect, 1010 * 4, &pages, &memory).unwrap();
        let mut row = [0; 120 * 4];
        pixels.row(0, 1, &mut row).unwrap();
        let words: Vec<u32> = row.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
        let expected: Vec<u32> = (1000..1120).map(|at| if (1010..1110).contains(&at) { at } else { 0 }).collect();
        assert_eq!(words, expected);
        let whole = Rect { x: 0, y: 0, width: 1000, height: 2 };
        assert_eq!(pixels.transfer(&whole, 0x2000 - 4, &pages, &memory), None);
    }
}
