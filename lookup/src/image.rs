//! What an image holds: the entries of a fat binary, and words for a log where an image is refused.

use std::collections::BTreeSet;

/// First word of a fat binary.
pub const FATBIN_MAGIC: u32 = 0xba55_ed50;
/// First word of machine code by itself, a cubin.
pub const ELF_MAGIC: u32 = u32::from_le_bytes(*b"\x7fELF");
/// Bytes of an entry's header that are read here.
const ENTRY_HEADER: usize = 64;
/// Bytes of an ELF header.
const ELF_HEADER: usize = 64;
/// From this ABI on a cubin keeps its architecture one byte higher.
const ELF_ABI_WIDE: u8 = 8;

/// What an entry of a fat binary is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// PTX text, which every device of its architecture or a newer one can have compiled.
    Ptx,
    /// A cubin, for one architecture.
    Machine,
    /// Anything else.
    Other,
}

/// An entry of a fat binary.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// What it is.
    pub kind: Kind,
    /// Compute capability as one number: 80 for 8.0.
    pub architecture: u32,
    /// Its flags; 0x2000 is LZ4, 0x8000 zstd.
    pub flags: u64,
    /// Its bytes: padded ones where they are not compressed, else exactly the compressed ones.
    pub payload: &'a [u8],
    /// What they become, where they are compressed.
    pub unpacked_bytes: u64,
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// The first entry of `bytes`, and what is behind it.
fn split(bytes: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let word = |at| field(bytes, at).map(u32::from_le_bytes);
    let long = |at| field(bytes, at).map(u64::from_le_bytes);
    let size = |number: u64| usize::try_from(number).ok();
    let (header, padded) = (size(word(4)?.into())?, size(long(8)?)?);
    let (entry, rest) = bytes.split_at_checked(header.checked_add(padded)?.max(ENTRY_HEADER))?;
    let flags = long(40)?;
    let mut payload = entry.get(header..)?;
    if flags & (FLAG_LZ4 | FLAG_ZSTD) != 0 {
        payload = payload.get(..size(word(16)?.into())?)?;
    }
    let kind = match field(bytes, 0).map(u16::from_le_bytes)? {
        1 => Kind::Ptx,
        2 => Kind::Machine,
        _ => Kind::Other,
    };
    Some((Entry { kind, architecture: word(28)?, flags, payload, unpacked_bytes: long(56)? }, rest))
}

/// A flag of entries: compressed by LZ4.
pub const FLAG_LZ4: u64 = 0x2000;
/// A flag of entries: compressed by zstd.
pub const FLAG_ZSTD: u64 = 0x8000;

/// The entries in what lies behind a fat binary's header, up to the first that is broken.
pub fn entries(mut body: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    std::iter::from_fn(move || {
        let (entry, rest) = split(body)?;
        body = rest;
        Some(entry)
    })
}

/// What lies behind the header of a fat binary.
fn body(image: &[u8]) -> Option<&[u8]> {
    let header = usize::from(field(image, 6).map(u16::from_le_bytes)?);
    let size = usize::try_from(field(image, 8).map(u64::from_le_bytes)?).ok()?;
    image.get(header..header.checked_add(size)?)
}

/// The architecture that a cubin is for, as in `sm_80`.
pub fn machine(cubin: &[u8]) -> Option<u32> {
    let header = cubin.get(..ELF_HEADER)?;
    let flags = field(header, 48).map(u32::from_le_bytes)?;
    let is_wide = header.get(8).is_some_and(|abi| *abi >= ELF_ABI_WIDE);
    Some(if is_wide { flags >> 8 & 0xff } else { flags & 0xff })
}

/// What an image holds, in words: "machine code for sm_80, sm_90; PTX for compute_90".
pub fn contents(image: &[u8]) -> String {
    match field(image, 0).map(u32::from_le_bytes) {
        Some(ELF_MAGIC) => told(&machine(image).into_iter().collect(), &BTreeSet::new()),
        Some(FATBIN_MAGIC) => contents_of(body(image).unwrap_or_default()),
        _ => "text".to_owned(),
    }
}

/// As [`contents`], of what lies behind a fat binary's header.
pub fn contents_of(body: &[u8]) -> String {
    let (mut codes, mut texts) = (BTreeSet::new(), BTreeSet::new());
    for entry in entries(body) {
        match entry.kind {
            Kind::Ptx => texts.insert(entry.architecture),
            Kind::Machine => codes.insert(entry.architecture),
            Kind::Other => false,
        };
    }
    told(&codes, &texts)
}

fn told(codes: &BTreeSet<u32>, texts: &BTreeSet<u32>) -> String {
    let list = |prefix: &str, all: &BTreeSet<u32>| {
        let names: Vec<String> = all.iter().map(|number| format!("{prefix}_{number}")).collect();
        names.join(", ")
    };
    match (codes.is_empty(), texts.is_empty()) {
        (true, true) => "nothing that is known".to_owned(),
        (true, false) => format!("PTX for {}", list("compute", texts)),
        (false, true) => format!("machine code for {}, no PTX", list("sm", codes)),
        (false, false) => format!("machine code for {}; PTX for {}", list("sm", codes), list("compute", texts)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: u16, architecture: u32) -> Vec<u8> {
        let mut bytes = vec![0_u8; ENTRY_HEADER];
        bytes[..2].copy_from_slice(&kind.to_le_bytes());
        bytes[4..8].copy_from_slice(&64_u32.to_le_bytes());
        bytes[8..16].copy_from_slice(&8_u64.to_le_bytes());
        bytes[28..32].copy_from_slice(&architecture.to_le_bytes());
        bytes.extend(*b"payload\0");
        bytes
    }

    fn fatbin(entries: &[Vec<u8>]) -> Vec<u8> {
        let body = entries.concat();
        let mut bytes = FATBIN_MAGIC.to_le_bytes().to_vec();
        bytes.extend([1, 0, 16, 0]);
        bytes.extend((body.len() as u64).to_le_bytes());
        bytes.extend(body);
        bytes
    }

    #[test]
    fn an_image_is_told_by_its_architectures() {
        let codes = fatbin(&[entry(2, 90), entry(2, 75), entry(8, 80)]);
        assert_eq!(contents(&codes), "machine code for sm_75, sm_90, no PTX");
        let both = fatbin(&[entry(2, 80), entry(1, 90)]);
        assert_eq!(contents(&both), "machine code for sm_80; PTX for compute_90");
        assert_eq!(contents(&fatbin(&[entry(1, 52)])), "PTX for compute_52");
        assert_eq!(contents(b".version 8.0\0"), "text");
        assert_eq!(entries(&both[16..]).map(|entry| entry.payload).next(), Some(b"payload\0".as_slice()));
    }

    #[test]
    fn a_cubin_is_told_by_its_header() {
        let mut cubin = vec![0_u8; ELF_HEADER];
        cubin[..4].copy_from_slice(b"\x7fELF");
        (cubin[8], cubin[48], cubin[49]) = (8, 4, 120);
        assert_eq!(contents(&cubin), "machine code for sm_120, no PTX");
        (cubin[8], cubin[48]) = (7, 75);
        assert_eq!(contents(&cubin), "machine code for sm_75, no PTX");
    }

    #[test]
    fn what_is_cut_off_tells_less_and_harms_nobody() {
        let whole = fatbin(&[entry(2, 90), entry(1, 75)]);
        for end in 0..whole.len() {
            assert_ne!(contents(&whole[..end]), contents(&whole), "cut at {end}");
        }
    }
}
