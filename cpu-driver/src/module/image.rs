//! What cuModuleLoadData and its like are given: PTX text, or a fat binary that holds PTX. An image
//! comes as a bare pointer, so its own headers bound what is read.
#![allow(unsafe_code, reason = "an image is a pointer without a length")]
#![allow(clippy::multiple_unsafe_ops_per_block, reason = "header fields are read one after the other")]

use super::ImageError;
use std::borrow::Cow;
use std::ffi::{CStr, c_char};

const WRAPPER_MAGIC: u32 = 0x4662_43b1;
/// Version of a wrapper that names fat binaries to be linked.
const WRAPPER_TO_LINK: u32 = 2;
const FATBIN_MAGIC: u32 = 0xba55_ed50;
const ELF_MAGIC: u32 = 0x464c_457f;
const KIND_PTX: u16 = 1;
const FLAG_LZ4: u64 = 0x2000;
const FLAG_ZSTD: u64 = 0x8000;
/// Longest PTX text that a compressed entry may grow to.
const TEXT_MAX: usize = 1 << 30;

/// # Safety
/// `at` is valid for reading a T.
unsafe fn read<T: Copy>(at: *const u8) -> T {
    // SAFETY: the caller's promise.
    unsafe { at.cast::<T>().read_unaligned() }
}

/// The PTX text of an image.
///
/// # Safety
/// `image` points to what cuModuleLoadData accepts: NUL-terminated text, or a well-formed binary.
///
/// # Errors
/// When the image has no PTX, or none that can be read.
pub unsafe fn ptx_text<'a>(image: *const u8) -> Result<Cow<'a, str>, ImageError> {
    if image.is_null() {
        return Err(ImageError::Invalid);
    }
    // SAFETY: text has at least a NUL and binaries have longer headers; bytes up to the NUL at
    // least are readable, and `&&` stops at the first that differs.
    unsafe {
        let starts = |magic: u32| magic.to_le_bytes().iter().enumerate().all(|(i, byte)| *image.add(i) == *byte);
        if starts(ELF_MAGIC) {
            return Err(ImageError::NoPtx);
        }
        if starts(WRAPPER_MAGIC) {
            return wrapped(image);
        }
        if starts(FATBIN_MAGIC) {
            return fatbin(image);
        }
        let text = CStr::from_ptr(image.cast::<c_char>()).to_str().map_err(|_| ImageError::Invalid)?;
        if text.contains(".version") { Ok(Cow::Borrowed(text)) } else { Err(ImageError::Invalid) }
    }
}

/// A wrapper of version 2 may name further fat binaries, to be linked with the first.
///
/// # Safety
/// `image` points to a wrapper.
unsafe fn wrapped<'a>(image: *const u8) -> Result<Cow<'a, str>, ImageError> {
    // SAFETY: a wrapper has 24 bytes; of version 2, its last pointer is NULL or leads to pointers up to a NULL.
    unsafe {
        let first = fatbin(read::<*const u8>(image.add(8)));
        let mut further = read::<*const *const u8>(image.add(16));
        if read::<u32>(image.add(4)) != WRAPPER_TO_LINK || further.is_null() {
            return first;
        }
        // What only links has no entry of its own for this device.
        let mut text = first.map(Cow::into_owned).unwrap_or_default();
        while !(*further).is_null() {
            text.push('\n');
            text.push_str(&fatbin(*further)?);
            further = further.add(1);
        }
        Ok(Cow::Owned(text))
    }
}

/// # Safety
/// `at` points to a fat binary.
unsafe fn fatbin<'a>(at: *const u8) -> Result<Cow<'a, str>, ImageError> {
    if at.is_null() {
        return Err(ImageError::Invalid);
    }
    // SAFETY: the header is 16 bytes and says how long the rest is.
    unsafe {
        if read::<u32>(at) != FATBIN_MAGIC {
            return Err(ImageError::Invalid);
        }
        let size = usize::try_from(read::<u64>(at.add(8))).map_err(|_| ImageError::Invalid)?;
        let bytes = std::slice::from_raw_parts(at.add(usize::from(read::<u16>(at.add(6)))), size);
        entries(bytes)
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// The PTX texts of the fat binaries that follow each other in `bytes`, as an object file's section
/// has them.
///
/// # Errors
/// When one of them has no PTX.
pub fn fatbin_texts(bytes: &[u8]) -> Result<Vec<Cow<'_, str>>, ImageError> {
    let (mut texts, mut rest) = (Vec::new(), bytes);
    while field(rest, 0).map(u32::from_le_bytes) == Some(FATBIN_MAGIC) {
        let header = field(rest, 6).map(u16::from_le_bytes).ok_or(ImageError::Invalid)?;
        let size = field(rest, 8).map(u64::from_le_bytes).ok_or(ImageError::Invalid)?;
        let end = usize::try_from(size).ok().and_then(|size| size.checked_add(usize::from(header)));
        let whole = end.and_then(|end| rest.get(usize::from(header)..end)).ok_or(ImageError::Invalid)?;
        texts.push(entries(whole)?);
        rest = rest.get(usize::from(header) + whole.len()..).unwrap_or(&[]);
        let blank = rest.iter().take_while(|&&byte| byte == 0).count();
        rest = rest.get(blank..).unwrap_or(&[]);
    }
    if texts.is_empty() { Err(ImageError::Invalid) } else { Ok(texts) }
}

/// The PTX entry for the newest architecture among a fat binary's entries.
fn entries<'a>(mut bytes: &'a [u8]) -> Result<Cow<'a, str>, ImageError> {
    let mut best: Option<(u32, Cow<'a, str>)> = None;
    while let Some((entry, rest)) = split_entry(bytes) {
        bytes = rest;
        let kind = field(entry, 0).map_or(0, u16::from_le_bytes);
        let architecture = field(entry, 28).map_or(0, u32::from_le_bytes);
        if kind == KIND_PTX && best.as_ref().is_none_or(|(other, _)| architecture >= *other) {
            best = entry_text(entry).map(|text| (architecture, text)).or(best);
        }
    }
    best.map(|(_, text)| text).ok_or(ImageError::NoPtx)
}

fn split_entry(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let header = u32::from_le_bytes(field(bytes, 4)?) as usize;
    let payload = usize::try_from(u64::from_le_bytes(field(bytes, 8)?)).ok()?;
    bytes.split_at_checked(header.checked_add(payload)?.max(64))
}

fn entry_text(entry: &[u8]) -> Option<Cow<'_, str>> {
    let header = u32::from_le_bytes(field(entry, 4)?) as usize;
    let compressed = u32::from_le_bytes(field(entry, 16)?) as usize;
    let flags = u64::from_le_bytes(field(entry, 40)?);
    let uncompressed = usize::try_from(u64::from_le_bytes(field(entry, 56)?)).ok()?;
    let payload = entry.get(header..)?;
    if flags & (FLAG_LZ4 | FLAG_ZSTD) == 0 {
        let text = payload.split(|&byte| byte == 0).next()?;
        return std::str::from_utf8(text).ok().map(Cow::Borrowed);
    }
    let (data, limit) = (payload.get(..compressed)?, uncompressed.min(TEXT_MAX));
    let mut text = if flags & FLAG_LZ4 != 0 { lz4_flex::block::decompress(data, limit).ok()? } else { zstd(data, limit)? };
    text.truncate(text.iter().position(|&byte| byte == 0).unwrap_or(text.len()));
    String::from_utf8(text).ok().map(Cow::Owned)
}

fn zstd(data: &[u8], limit: usize) -> Option<Vec<u8>> {
    use std::io::Read;
    let decoder = ruzstd::decoding::StreamingDecoder::new(data).ok()?;
    let mut text = Vec::new();
    decoder.take(u64::try_from(limit).ok()?).read_to_end(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = ".version 8.0\n.target sm_80\n";

    fn entry(kind: u16, architecture: u32, flags: u64, payload: &[u8], uncompressed: usize) -> Vec<u8> {
        let mut bytes = vec![0u8; 64];
        bytes[0..2].copy_from_slice(&kind.to_le_bytes());
        bytes[4..8].copy_from_slice(&64u32.to_le_bytes());
        bytes[8..16].copy_from_slice(&(payload.len() as u64).to_le_bytes());
        bytes[16..20].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        bytes[28..32].copy_from_slice(&architecture.to_le_bytes());
        bytes[40..48].copy_from_slice(&flags.to_le_bytes());
        bytes[56..64].copy_from_slice(&(uncompressed as u64).to_le_bytes());
        bytes.extend_from_slice(payload);
        bytes
    }

    fn binary(entries: &[Vec<u8>]) -> Vec<u8> {
        let body = entries.concat();
        let mut bytes = FATBIN_MAGIC.to_le_bytes().to_vec();
        bytes.extend_from_slice(&[1, 0, 16, 0]);
        bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&body);
        bytes
    }

    fn read_text(bytes: &[u8]) -> Result<String, ImageError> {
        // SAFETY: the bytes outlive the call and are what the test made.
        unsafe { ptx_text(bytes.as_ptr()) }.map(Cow::into_owned)
    }

    #[test]
    fn text_is_found_in_every_form() {
        assert_eq!(read_text(format!("{TEXT}\0").as_bytes()).unwrap(), TEXT);
        let plain = entry(1, 80, 0, format!("{TEXT}\0").as_bytes(), 0);
        let packed = lz4_flex::block::compress(TEXT.as_bytes());
        let newer = entry(1, 90, FLAG_LZ4, &packed, TEXT.len());
        assert_eq!(read_text(&binary(&[entry(2, 80, 0, b"cubin", 0), plain])).unwrap(), TEXT);
        assert_eq!(read_text(&binary(&[newer])).unwrap(), TEXT);
    }

    #[test]
    fn images_without_ptx_say_so() {
        assert_eq!(read_text(b"\x7fELF\x02\0\0\0"), Err(ImageError::NoPtx));
        assert_eq!(read_text(&binary(&[entry(2, 80, 0, b"cubin", 0)])), Err(ImageError::NoPtx));
        assert_eq!(read_text(b"hello\0"), Err(ImageError::Invalid));
        assert_eq!(read_text(b"\0"), Err(ImageError::Invalid));
    }
}
