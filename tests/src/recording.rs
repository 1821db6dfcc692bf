//! A recorded stream of OpenGL: what one guest had its renderer do, what it wrote into its pages before, and what it must find
//! in them afterwards. `recording-renderer` makes one while a guest draws, `replay` has another back end draw it.
//!
//! The file is [`MAGIC`], then records: a [`Record`]'s head and its body. Commands have virtio-gpu's numbers and bodies, but
//! ATTACH_BACKING, whose body says only how many bytes the resource has, for whoever replays it has pages of his own.

use std::io::{self, Read, Write};

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Starts a recording; the last byte is the form's version.
pub const MAGIC: &[u8; 16] = b"paravane virgl 1";

/// The guest has written into a resource's pages: a [`Place`], then the bytes.
pub const WRITTEN: u32 = 1;
/// The host has: the same. A replay must find such bytes there.
pub const EXPECTED: u32 = 2;

/// A recording longer than this is none.
const BODY_BYTES_MAX: u32 = 64 << 20;

/// What happened next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// virtio-gpu's number of a command, [`WRITTEN`] or [`EXPECTED`].
    pub kind: u32,
    /// A command's context.
    pub context: u32,
    /// Whether the guest waited for the command's fence.
    pub fenced: bool,
    /// What it carries.
    pub body: Vec<u8>,
}

/// Where bytes lie in a resource's pages.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Place {
    /// The resource.
    pub resource: U32,
    /// From the first byte of its first page.
    pub offset: U32,
}

/// How many bytes of pages a resource has.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Attached {
    /// The resource.
    pub resource: U32,
    /// Its bytes.
    pub bytes: U32,
}

impl Record {
    /// Writes it behind those before.
    ///
    /// # Errors
    /// The file's.
    pub fn write(&self, file: &mut impl Write) -> io::Result<()> {
        let bytes = u32::try_from(self.body.len()).map_err(io::Error::other)?;
        let head = [self.kind, self.context, u32::from(self.fenced), bytes];
        file.write_all(&[head.map(u32::to_le_bytes).as_flattened(), &self.body].concat())
    }

    /// Reads the next one; `None` at the end.
    ///
    /// # Errors
    /// The file's, or it breaks off.
    pub fn read(file: &mut impl Read) -> io::Result<Option<Self>> {
        let mut head = [0; 16];
        match file.read(&mut head)? {
            0 => return Ok(None),
            got => file.read_exact(head.get_mut(got..).unwrap_or_default())?,
        }
        let [kind, context, fenced, bytes] = <[U32; 4]>::read_from_bytes(&head).unwrap_or_default().map(U32::get);
        if bytes > BODY_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a record longer than any"));
        }
        let mut body = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
        file.read_exact(&mut body)?;
        Ok(Some(Self { kind, context, fenced: fenced != 0, body }))
    }
}

/// All of a recording.
///
/// # Errors
/// The file's, or it is none.
pub fn read_all(mut file: impl Read) -> io::Result<Vec<Record>> {
    let mut magic = [0; MAGIC.len()];
    file.read_exact(&mut magic)?;
    if magic != *MAGIC {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a recorded stream"));
    }
    let mut records = Vec::new();
    while let Some(record) = Record::read(&mut file)? {
        records.push(record);
    }
    Ok(records)
}

/// The resources into whose pages commands of a submit have the host write: virgl's COPY_TRANSFER3D from the host, which
/// names its pages in the 12th word after its head and its direction in the 14th.
pub fn written_by_host(submit: &[u8]) -> Vec<u32> {
    const COPY_TRANSFER: u32 = 45;
    const FROM_HOST: u32 = 2;
    let (words, _) = submit.as_chunks::<4>();
    let words: Vec<u32> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
    let (mut at, mut resources) = (0, Vec::new());
    while let Some(head) = words.get(at) {
        let word = |n: usize| words.get(at + n).copied().unwrap_or(0);
        if head & 0xff == COPY_TRANSFER && head >> 16 == 14 && word(14) & FROM_HOST != 0 {
            resources.push(word(12));
        }
        at += 1 + usize::try_from(head >> 16).unwrap_or(0);
    }
    resources
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_recording_is_read_as_it_was_written_and_refused_where_it_breaks_off() {
        let records = [
            Record { kind: 0x207, context: 3, fenced: true, body: vec![1, 2, 3] },
            Record { kind: EXPECTED, context: 0, fenced: false, body: Vec::new() },
        ];
        let mut file = MAGIC.to_vec();
        for record in &records {
            record.write(&mut file).unwrap();
        }
        assert_eq!(read_all(&file[..]).unwrap(), records);
        for short in 0..file.len() {
            let whole = short == 16 || short == 35;
            assert_eq!(read_all(&file[..short]).is_ok(), whole, "{short}");
        }
        assert!(read_all(&b"another file of bytes"[..]).is_err());
    }

    #[test]
    fn a_copy_from_the_host_is_found_among_other_commands() {
        let mut words = vec![2 << 16 | 1, 45, 45];
        words.extend([14 << 16 | 45, 9, 0, 0, 0, 0, 0, 0, 0, 4, 4, 1, 77, 0, 3]);
        words.extend([14 << 16 | 45, 9, 0, 0, 0, 0, 0, 0, 0, 4, 4, 1, 78, 0, 1]);
        let bytes: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
        assert_eq!(written_by_host(&bytes), [77]);
        // A length beyond the end, and nothing.
        assert_eq!(written_by_host(&[45, 0, 255, 255]), [0; 0]);
        assert_eq!(written_by_host(&[]), [0; 0]);
    }
}
