//! Pictures between PNG, which people look at, and PPM, which a C program reads in a few lines.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::path::Path;

use anyhow::{Context, Result, bail};

const CHANNELS: usize = 3;

pub(crate) fn png_to_ppm(from: &Path, to: &Path) -> Result<()> {
    let (width, height, mut pixels) = read_png(from)?;
    let mut ppm = format!("P6\n{width} {height}\n255\n").into_bytes();
    ppm.append(&mut pixels);
    fs::write(to, ppm).with_context(|| format!("cannot write {}", to.display()))
}

/// Width, height and pixels of a PNG of 8-bit RGB.
pub(crate) fn read_png(from: &Path) -> Result<(usize, usize, Vec<u8>)> {
    let file = File::open(from).with_context(|| format!("cannot open {}", from.display()))?;
    let mut reader = png::Decoder::new(BufReader::new(file)).read_info()?;
    let mut pixels = vec![
        0;
        reader
            .output_buffer_size()
            .context("the picture is too large")?
    ];
    let info = reader.next_frame(&mut pixels)?;
    if info.color_type != png::ColorType::Rgb || info.bit_depth != png::BitDepth::Eight {
        bail!("{} is not a PNG of 8-bit RGB", from.display());
    }
    pixels.truncate(info.buffer_size());
    Ok((usize::try_from(info.width)?, usize::try_from(info.height)?, pixels))
}

pub(crate) fn ppm_to_png(from: &Path, to: &Path) -> Result<()> {
    let ppm = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    let (width, height, pixels) = parse_ppm(&ppm)
        .with_context(|| format!("{} is not a picture of 8-bit RGB", from.display()))?;
    write_png(to, usize::try_from(width)?, usize::try_from(height)?, pixels)
}

/// A PNG of 8-bit RGB.
pub(crate) fn write_png(to: &Path, width: usize, height: usize, pixels: &[u8]) -> Result<()> {
    let file = File::create(to).with_context(|| format!("cannot create {}", to.display()))?;
    let mut encoder = png::Encoder::new(BufWriter::new(file), u32::try_from(width)?, u32::try_from(height)?);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header()?.write_image_data(pixels)?;
    Ok(())
}

/// Width, height and pixels of a binary PPM as the sample writes it: three lines, then the pixels.
fn parse_ppm(ppm: &[u8]) -> Option<(u32, u32, &[u8])> {
    let mut parts = ppm.splitn(4, |byte| *byte == b'\n');
    if parts.next()? != b"P6" {
        return None;
    }
    let size = std::str::from_utf8(parts.next()?).ok()?;
    let (width, height) = size.split_once(' ')?;
    let (width, height) = (width.parse::<u32>().ok()?, height.parse::<u32>().ok()?);
    if parts.next()? != b"255" {
        return None;
    }
    let pixels = parts.next()?;
    let bytes = usize::try_from(width)
        .ok()?
        .checked_mul(usize::try_from(height).ok()?)?
        .checked_mul(CHANNELS)?;
    (pixels.len() == bytes).then_some((width, height, pixels))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_truncation_of_a_picture_is_refused() {
        let ppm = b"P6\n2 1\n255\n\n\n\n123";
        assert_eq!(parse_ppm(ppm), Some((2, 1, &b"\n\n\n123"[..])));
        for n in 0..ppm.len() {
            assert_eq!(parse_ppm(&ppm[..n]), None);
        }
    }

    #[test]
    fn a_picture_survives_the_way_there_and_back() {
        let dir = tempfile::tempdir().unwrap();
        let (ppm, png, again) = (
            dir.path().join("a.ppm"),
            dir.path().join("a.png"),
            dir.path().join("b.ppm"),
        );
        fs::write(&ppm, b"P6\n1 2\n255\nabcdef").unwrap();
        ppm_to_png(&ppm, &png).unwrap();
        png_to_ppm(&png, &again).unwrap();
        assert_eq!(fs::read(ppm).unwrap(), fs::read(again).unwrap());
    }
}
