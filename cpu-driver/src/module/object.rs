//! Object files and archives, as a link is given them: a host's ELF object carries its device code as
//! fat binaries in a section of its own; an archive is a row of such objects.

use super::ImageError;
use super::image::fatbin_texts;

const ARCHIVE_MAGIC: &[u8] = b"!<arch>\n";
/// Bytes of the header before an archive's member.
const MEMBER_HEADER: usize = 60;
/// Sections that hold fat binaries: of whole programs, and of code that is to be linked.
const SECTIONS: [&[u8]; 2] = [b".nv_fatbin", b"__nv_relfatbin"];

fn bytes<const N: usize>(of: &[u8], at: usize) -> Option<[u8; N]> {
    of.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn half(of: &[u8], at: usize) -> Option<usize> {
    bytes(of, at).map(|b| usize::from(u16::from_le_bytes(b)))
}

fn word(of: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u64::from_le_bytes(bytes(of, at)?)).ok()
}

/// The PTX texts of an ELF object.
///
/// # Errors
/// When it is no ELF object, or holds no PTX.
pub fn object_texts(object: &[u8]) -> Result<Vec<String>, ImageError> {
    if !object.starts_with(b"\x7fELF\x02\x01") {
        return Err(ImageError::Invalid);
    }
    let sections = fatbin_sections(object).ok_or(ImageError::Invalid)?;
    let mut texts = Vec::new();
    for section in sections {
        texts.extend(fatbin_texts(section)?.into_iter().map(|text| text.into_owned()));
    }
    if texts.is_empty() { Err(ImageError::NoPtx("an object file without device code".to_owned())) } else { Ok(texts) }
}

/// The sections of fat binaries; None where a header leads outside the file.
fn fatbin_sections(object: &[u8]) -> Option<Vec<&[u8]>> {
    let (table, size, count, names) = (word(object, 40)?, half(object, 58)?, half(object, 60)?, half(object, 62)?);
    let header = |number: usize| object.get(table.checked_add(number.checked_mul(size)?)?..);
    let content = |header: &[u8]| {
        let (at, length) = (word(header, 24)?, word(header, 32)?);
        object.get(at..at.checked_add(length)?)
    };
    let strings = content(header(names)?)?;
    let mut found = Vec::new();
    for number in 0..count {
        let header = header(number)?;
        let name = strings.get(usize::try_from(u32::from_le_bytes(bytes(header, 0)?)).ok()?..)?;
        let name = name.split(|&byte| byte == 0).next()?;
        if SECTIONS.contains(&name) {
            found.push(content(header)?);
        }
    }
    Some(found)
}

/// The PTX texts of each of an archive's objects; members without device code are passed over.
///
/// # Errors
/// When it is no archive, or holds no PTX.
pub fn archive_texts(archive: &[u8]) -> Result<Vec<Vec<String>>, ImageError> {
    let mut rest = archive.strip_prefix(ARCHIVE_MAGIC).ok_or(ImageError::Invalid)?;
    let mut members = Vec::new();
    while let Some((header, after)) = rest.split_at_checked(MEMBER_HEADER) {
        let size = header.get(48..58).and_then(|digits| std::str::from_utf8(digits).ok());
        let size: usize = size.and_then(|digits| digits.trim_end().parse().ok()).ok_or(ImageError::Invalid)?;
        let member = after.get(..size).ok_or(ImageError::Invalid)?;
        match object_texts(member) {
            Ok(found) => members.push(found),
            Err(ImageError::NoPtx(_)) if !has_fatbin(member) => {}
            Err(ImageError::Invalid) => {}
            Err(error) => return Err(error),
        }
        // Members begin at even places.
        rest = after.get(size.next_multiple_of(2)..).unwrap_or(&[]);
    }
    if members.is_empty() { Err(ImageError::NoPtx("an archive without device code".to_owned())) } else { Ok(members) }
}

fn has_fatbin(object: &[u8]) -> bool {
    fatbin_sections(object).is_some_and(|sections| !sections.is_empty())
}
