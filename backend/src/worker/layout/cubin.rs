//! Parameters of the kernels in a cubin: an ELF file whose sections
//! `.nv.info.<kernel>` hold attributes, one of them for each parameter. The
//! attributes' form is known from measurement, not from a document.

use paravane_protocol::limits::KERNEL_PARAMS_MAX;

use super::{Bytes, Layouts, Param};

pub(super) const MAGIC: [u8; 4] = *b"\x7fELF";

const SECTION_PREFIX: &str = ".nv.info.";

/// Attribute: a parameter. u32, u16 ordinal, u16 offset, u32 with the size in
/// bits 18 and up.
const KPARAM_INFO: u8 = 0x17;
const KPARAM_INFO_BYTES: usize = 12;
/// An attribute's form: with this one the payload's length follows, with the
/// others two bytes of value.
const FORM_SIZED: u8 = 4;

struct Section<'a> {
    name: u32,
    bytes: &'a [u8],
}

fn sections(elf: &[u8]) -> Option<Vec<Section<'_>>> {
    let table = elf.u64_at(40)?;
    let each = u64::from(elf.u16_at(58)?);
    let count = u64::from(elf.u16_at(60)?);
    (0..count)
        .map(|section| {
            let at = table.checked_add(section * each)?;
            let header = elf.piece(at, 64)?;
            // SHT_NOBITS has no bytes in the file.
            let nobits = header.u32_at(4)? == 8;
            let bytes = if nobits { &[][..] } else { elf.piece(header.u64_at(24)?, header.u64_at(32)?)? };
            Some(Section { name: header.u32_at(0)?, bytes })
        })
        .collect()
}

/// `None`: no ELF file of 64 bits, or broken.
pub(super) fn layouts(elf: &[u8]) -> Option<Layouts> {
    const CLASS_64: u8 = 2;
    if *elf.get(4)? != CLASS_64 {
        return None;
    }
    let sections = sections(elf)?;
    let names = sections.get(usize::from(elf.u16_at(62)?))?.bytes;
    let name_of = |section: &Section| {
        let name = names.get(usize::try_from(section.name).ok()?..)?;
        std::str::from_utf8(name.split(|byte| *byte == 0).next()?).ok()
    };
    let mut layouts = Layouts::new();
    for section in &sections {
        let kernel = name_of(section).and_then(|name| name.strip_prefix(SECTION_PREFIX));
        // A kernel that is not understood is left out, the others are not.
        if let Some((kernel, params)) = kernel.and_then(|kernel| Some((kernel, params(section.bytes)?))) {
            layouts.insert(kernel.to_owned(), params);
        }
    }
    Some(layouts)
}

fn params(mut info: &[u8]) -> Option<Vec<Param>> {
    let mut params = Vec::new();
    while info.len() >= 4 {
        let (form, attribute) = (*info.first()?, *info.get(1)?);
        let value = usize::from(info.u16_at(2)?);
        let payload = if form == FORM_SIZED { value } else { 0 };
        let body = info.get(4..4 + payload)?;
        info = info.get(4 + payload..)?;
        if attribute != KPARAM_INFO || body.len() < KPARAM_INFO_BYTES {
            continue;
        }
        let (ordinal, offset) = (body.u16_at(4)?, body.u16_at(6)?);
        params.push((ordinal, (u64::from(offset), u64::from(body.u32_at(8)? >> 18))));
        if params.len() > KERNEL_PARAMS_MAX as usize {
            return None;
        }
    }
    params.sort_unstable();
    let in_order = params.iter().enumerate().all(|(at, (ordinal, _))| at == usize::from(*ordinal));
    in_order.then(|| params.into_iter().map(|(_, param)| param).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn param(ordinal: u16, offset: u16, size: u32) -> Vec<u8> {
        let mut attribute = vec![FORM_SIZED, KPARAM_INFO, 12, 0];
        attribute.extend([0; 4]);
        attribute.extend(ordinal.to_le_bytes());
        attribute.extend(offset.to_le_bytes());
        attribute.extend((size << 18 | 0x1f << 12).to_le_bytes());
        attribute
    }

    /// An ELF file with a section of names and one of attributes.
    fn elf(kernel: &str, info: &[u8]) -> Vec<u8> {
        let names = format!("\0{SECTION_PREFIX}{kernel}\0").into_bytes();
        let mut file = vec![0; 64];
        file[..4].copy_from_slice(&MAGIC);
        file[4] = 2;
        let names_at = file.len() as u64;
        file.extend(&names);
        let info_at = file.len() as u64;
        file.extend(info);
        let table = file.len() as u64;
        file[40..48].copy_from_slice(&table.to_le_bytes());
        file[58..60].copy_from_slice(&64_u16.to_le_bytes());
        file[60..62].copy_from_slice(&2_u16.to_le_bytes());
        for (name, at, bytes) in [(0_u32, names_at, names.len()), (1, info_at, info.len())] {
            let mut header = [0; 64];
            header[..4].copy_from_slice(&name.to_le_bytes());
            header[4..8].copy_from_slice(&1_u32.to_le_bytes());
            header[24..32].copy_from_slice(&at.to_le_bytes());
            header[32..40].copy_from_slice(&(bytes as u64).to_le_bytes());
            file.extend(header);
        }
        file
    }

    fn attributes() -> Vec<u8> {
        // As compilers write them: the last parameter first, others between.
        let mut info = vec![3, 0x1b, 0xff, 0];
        info.extend(param(1, 8, 4));
        info.extend([4, 0x19, 4, 0, 0x0c, 0, 0, 0]);
        info.extend(param(0, 0, 8));
        info
    }

    #[test]
    fn parameters_are_read_in_their_order() {
        let layouts = layouts(&elf("kernel", &attributes())).unwrap();
        assert_eq!(layouts["kernel"], [(0, 8), (8, 4)]);
    }

    #[test]
    fn a_broken_file_tells_nothing_and_harms_nobody() {
        let whole = elf("kernel", &attributes());
        for n in 0..whole.len() {
            assert!(layouts(&whole[..n]).is_none_or(|layouts| layouts.is_empty()), "cut at {n}");
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0xff;
            let _ = layouts(&changed);
        }
        // A parameter is missing.
        assert!(layouts(&elf("kernel", &param(1, 8, 4))).unwrap().is_empty());
    }
}
