//! The parts of a fat binary, or of several behind each other: PTX texts and
//! cubins, perhaps compressed.

use std::borrow::Cow;

use paravane_protocol::limits::FATBIN_ALIGN;

use super::Bytes;

/// 0xBA55ED50.
pub(in crate::worker) const MAGIC: [u8; 4] = [0x50, 0xed, 0x55, 0xba];

const KIND_PTX: u16 = 1;
const KIND_ELF: u16 = 2;

const FLAG_LZ4: u64 = 0x2000;
const FLAG_ZSTD: u64 = 0x8000;

/// Largest part that is unpacked; larger ones are left out.
const PART_BYTES_MAX: u64 = 256 << 20;

/// LZ4 makes no more of a byte than this.
const LZ4_RATIO_MAX: u64 = 255;

/// Where each of the fat binaries in an image begins; none for other images.
pub(in crate::worker) fn starts(image: &[u8]) -> Vec<usize> {
    let (mut starts, mut at) = (Vec::new(), 0_usize);
    while let Some(head) = image.get(at..).and_then(|rest| rest.first_chunk::<16>())
        && head.starts_with(&MAGIC)
    {
        let &[_, _, _, _, _, _, h0, h1, ref bytes @ ..] = head;
        starts.push(at);
        let header = usize::from(u16::from_le_bytes([h0, h1]));
        let behind = usize::try_from(u64::from_le_bytes(*bytes)).unwrap_or(usize::MAX);
        let end = at.checked_add(header).and_then(|at| at.checked_add(behind));
        match end.and_then(|end| end.checked_next_multiple_of(FATBIN_ALIGN)) {
            // The next one lies behind this one, so this comes to an end.
            Some(next) if next > at => at = next,
            _ => break,
        }
    }
    starts
}

/// The parts that can be read.
pub(super) fn parts(image: &[u8]) -> Vec<Cow<'_, [u8]>> {
    let mut parts = Vec::new();
    for fatbin in starts(image).into_iter().filter_map(|start| image.get(start..)) {
        let before = parts.len();
        if body(fatbin).and_then(|body| entries(body, &mut parts)).is_none() {
            parts.truncate(before);
        }
    }
    parts
}

/// What lies behind a fat binary's header.
fn body(fatbin: &[u8]) -> Option<&[u8]> {
    fatbin.piece(u64::from(fatbin.u16_at(6)?), fatbin.u64_at(8)?)
}

fn entries<'a>(mut rest: &'a [u8], parts: &mut Vec<Cow<'a, [u8]>>) -> Option<()> {
    while !rest.is_empty() {
        let kind = rest.u16_at(0)?;
        let header = u64::from(rest.u32_at(4)?);
        let padded = rest.u64_at(8)?;
        let payload = rest.piece(header, padded)?;
        if matches!(kind, KIND_PTX | KIND_ELF)
            && let Some(part) = unpacked(rest, payload)
        {
            parts.push(part);
        }
        // A header of its own length 0 would never end.
        let whole = header.checked_add(padded).filter(|whole| *whole > 0)?;
        rest = rest.get(usize::try_from(whole).ok()?..)?;
    }
    Some(())
}

fn unpacked<'a>(entry: &[u8], payload: &'a [u8]) -> Option<Cow<'a, [u8]>> {
    let flags = entry.u64_at(40)?;
    if flags & FLAG_LZ4 != 0 {
        let packed = payload.piece(0, u64::from(entry.u32_at(16)?))?;
        let most = PART_BYTES_MAX.min(LZ4_RATIO_MAX * packed.len() as u64);
        let bytes = entry.u64_at(56).filter(|bytes| *bytes <= most)?;
        return lz4_flex::block::decompress(packed, usize::try_from(bytes).ok()?).ok().map(Cow::Owned);
    }
    // A library that reads zstd tells its kernels' parameters itself.
    (flags & FLAG_ZSTD == 0).then_some(Cow::Borrowed(payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b".entry k(.param .u32 x, .param .u64 y) {}\0\0\0";

    fn entry(kind: u16, flags: u64, payload: &[u8], unpacked: usize) -> Vec<u8> {
        let mut entry = vec![0; 64];
        entry[..2].copy_from_slice(&kind.to_le_bytes());
        entry[4..8].copy_from_slice(&64_u32.to_le_bytes());
        let padded = payload.len().next_multiple_of(8);
        entry[8..16].copy_from_slice(&(padded as u64).to_le_bytes());
        entry[16..20].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        entry[40..48].copy_from_slice(&flags.to_le_bytes());
        entry[56..64].copy_from_slice(&(unpacked as u64).to_le_bytes());
        entry.extend(payload);
        entry.resize(64 + padded, 0);
        entry
    }

    fn fatbin(entries: &[Vec<u8>]) -> Vec<u8> {
        let body = entries.concat();
        let mut fatbin = MAGIC.to_vec();
        fatbin.extend([1, 0, 16, 0]);
        fatbin.extend((body.len() as u64).to_le_bytes());
        fatbin.extend(body);
        fatbin
    }

    #[test]
    fn plain_and_packed_parts_are_read_and_others_passed_over() {
        let packed = lz4_flex::block::compress(TEXT);
        let whole = fatbin(&[
            entry(8, 0, b"options", 0),
            entry(KIND_PTX, 0, TEXT, 0),
            entry(KIND_PTX, FLAG_LZ4, &packed, TEXT.len()),
            entry(KIND_PTX, FLAG_ZSTD, b"unreadable", 99),
        ]);
        let parts = parts(&whole);
        assert_eq!(parts.len(), 2);
        assert!(parts.iter().all(|part| part.starts_with(TEXT)));
        assert_eq!(super::super::of_image(&whole)["k"], [(0, 4), (8, 8)]);
        let twice = [whole.clone(), whole, vec![0; 16]].concat();
        assert_eq!(super::parts(&twice).len(), 4);
    }

    #[test]
    fn a_broken_one_tells_nothing_and_harms_nobody() {
        let packed = lz4_flex::block::compress(TEXT);
        let whole = fatbin(&[entry(KIND_PTX, 0, TEXT, 0), entry(KIND_ELF, FLAG_LZ4, &packed, 1 << 40)]);
        for n in 0..whole.len() {
            assert!(parts(&whole[..n]).is_empty(), "cut at {n}");
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0xff;
            let _ = super::super::of_image(&changed);
        }
    }
}
