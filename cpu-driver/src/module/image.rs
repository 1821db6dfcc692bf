//! What cuModuleLoadData and its like are given: PTX text, or a fat binary that holds PTX. An image
//! comes as a bare pointer, so its own headers bound what is read.
#![allow(unsafe_code, reason = "an image is a pointer without a length")]
#![allow(clippy::multiple_unsafe_ops_per_block, reason = "header fields are read one after the other")]

use super::ImageError;
use paravane_lookup::image::{self, ELF_MAGIC, Entry, FATBIN_MAGIC, FLAG_LZ4, FLAG_ZSTD, Kind};
use std::borrow::Cow;
use std::ffi::{CStr, c_char};

const WRAPPER_MAGIC: u32 = 0x4662_43b1;
/// Version of a wrapper that names fat binaries to be linked.
const WRAPPER_TO_LINK: u32 = 2;
/// Bytes of an ELF header.
const ELF_HEADER: usize = 64;
/// Longest PTX text or cubin that a compressed entry may grow to.
const UNPACKED_MAX: u64 = 1 << 30;
/// Kernels of a refused image that its message names.
const NAMES_TOLD: usize = 3;

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
            return Err(ImageError::NoPtx(image::contents(std::slice::from_raw_parts(image, ELF_HEADER))));
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
fn entries(body: &[u8]) -> Result<Cow<'_, str>, ImageError> {
    let mut best: Option<(u32, Cow<'_, str>)> = None;
    for entry in image::entries(body).filter(|entry| entry.kind == Kind::Ptx) {
        if best.as_ref().is_none_or(|(other, _)| entry.architecture >= *other) {
            best = entry_text(&entry).map(|text| (entry.architecture, text)).or(best);
        }
    }
    best.map(|(_, text)| text).ok_or_else(|| ImageError::NoPtx(without_ptx(body)))
}

/// An entry's bytes.
fn unpacked<'a>(entry: &Entry<'a>) -> Option<Cow<'a, [u8]>> {
    let limit = usize::try_from(entry.unpacked_bytes.min(UNPACKED_MAX)).ok()?;
    match entry.flags & (FLAG_LZ4 | FLAG_ZSTD) {
        0 => Some(Cow::Borrowed(entry.payload)),
        FLAG_ZSTD => zstd(entry.payload, limit).map(Cow::Owned),
        _ => lz4_flex::block::decompress(entry.payload, limit).ok().map(Cow::Owned),
    }
}

fn entry_text<'a>(entry: &Entry<'a>) -> Option<Cow<'a, str>> {
    let end = |bytes: &[u8]| bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    match unpacked(entry)? {
        Cow::Borrowed(bytes) => std::str::from_utf8(&bytes[..end(bytes)]).ok().map(Cow::Borrowed),
        Cow::Owned(mut bytes) => {
            bytes.truncate(end(&bytes));
            String::from_utf8(bytes).ok().map(Cow::Owned)
        }
    }
}

fn zstd(data: &[u8], limit: usize) -> Option<Vec<u8>> {
    use std::io::Read;
    let decoder = ruzstd::decoding::StreamingDecoder::new(data).ok()?;
    let mut text = Vec::new();
    decoder.take(u64::try_from(limit).ok()?).read_to_end(&mut text).ok()?;
    Some(text)
}

/// What a fat binary holds that has no PTX, with the names of some kernels.
fn without_ptx(body: &[u8]) -> String {
    let whole = image::entries(body).find(|entry| entry.kind == Kind::Machine);
    let names = whole.and_then(|entry| unpacked(&entry)).map(|cubin| kernels(&cubin)).unwrap_or_default();
    let more = if names.len() > NAMES_TOLD { format!(" and {} more", names.len() - NAMES_TOLD) } else { String::new() };
    let told = names.iter().take(NAMES_TOLD).cloned().collect::<Vec<_>>().join(", ");
    match image::contents_of(body) {
        contents if told.is_empty() => contents,
        contents => format!("{contents}; kernels {told}{more}"),
    }
}

/// The kernels in a cubin: each has a section of that name.
fn kernels(cubin: &[u8]) -> Vec<String> {
    const SECTION: &[u8] = b".text.";
    let mut names: Vec<String> = cubin
        .split(|&byte| byte == 0)
        .filter_map(|name| name.strip_prefix(SECTION))
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect();
    names.sort();
    names.dedup();
    names
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

    /// TEXT as the zstd tool packs it.
    fn zstd_text() -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(TEXT.as_bytes(), ruzstd::encoding::CompressionLevel::Fastest)
    }

    #[test]
    fn text_is_found_in_every_form() {
        assert_eq!(read_text(format!("{TEXT}\0").as_bytes()).unwrap(), TEXT);
        let plain = entry(1, 80, 0, format!("{TEXT}\0").as_bytes(), 0);
        let packed = lz4_flex::block::compress(TEXT.as_bytes());
        let newer = entry(1, 90, FLAG_LZ4, &packed, TEXT.len());
        assert_eq!(read_text(&binary(&[entry(2, 80, 0, b"cubin", 0), plain])).unwrap(), TEXT);
        assert_eq!(read_text(&binary(&[newer])).unwrap(), TEXT);
        let smaller = entry(1, 90, FLAG_ZSTD, &zstd_text(), TEXT.len());
        assert_eq!(read_text(&binary(&[smaller])).unwrap(), TEXT);
    }

    #[test]
    fn the_newest_architecture_that_can_be_read_is_taken() {
        let old = entry(1, 80, 0, b".version 7.0\n\0", 0);
        let new = entry(1, 90, FLAG_ZSTD, &zstd_text(), TEXT.len());
        let broken = entry(1, 100, FLAG_ZSTD, b"not zstd", 99);
        assert_eq!(read_text(&binary(&[new, old.clone(), broken])).unwrap(), TEXT);
        let longer = entry(1, 90, FLAG_LZ4, &lz4_flex::block::compress(TEXT.as_bytes()), TEXT.len() - 1);
        assert_eq!(read_text(&binary(&[old, longer])).unwrap(), ".version 7.0\n");
    }

    #[test]
    fn images_without_ptx_say_what_they_have() {
        let mut elf = b"\x7fELF\x02\x01\x41\0\x08".to_vec();
        elf.resize(ELF_HEADER, 0);
        elf[49] = 90;
        assert_eq!(read_text(&elf), Err(ImageError::NoPtx("machine code for sm_90, no PTX".to_owned())));
        let cubin = b"\x7fELF\0.text.one\0.text.two\0.text.one\0";
        let packed = lz4_flex::block::compress(cubin);
        let codes = binary(&[entry(2, 80, FLAG_LZ4, &packed, cubin.len()), entry(2, 75, 0, b"", 0)]);
        let told = "machine code for sm_75, sm_80, no PTX; kernels one, two";
        assert_eq!(read_text(&codes), Err(ImageError::NoPtx(told.to_owned())));
        assert_eq!(read_text(b"hello\0"), Err(ImageError::Invalid));
        assert_eq!(read_text(b"\0"), Err(ImageError::Invalid));
    }
}
