//! Arguments as bytes. A scalar is one little-endian `u64` word; a run of
//! bytes is its length as a word and then the bytes, padded to 8. The encoder
//! and the decoder are sticky: a step that does not fit fails them for good,
//! and one `finish` at the end tells.

/// Writes words and bytes into a buffer of fixed size.
#[derive(Debug)]
pub struct Encoder<'a> {
    into: &'a mut [u8],
    at: usize,
    overflow: bool,
}

impl<'a> Encoder<'a> {
    /// An encoder that fills `into` from its start.
    pub fn new(into: &'a mut [u8]) -> Self {
        Self { into, at: 0, overflow: false }
    }

    /// Appends one word.
    #[inline]
    pub fn word(&mut self, value: u64) {
        self.raw(&value.to_le_bytes());
    }

    /// Appends a length and that many bytes, padded with zeros to 8.
    #[inline]
    pub fn bytes(&mut self, value: &[u8]) {
        self.word(value.len() as u64);
        self.raw(value);
        let padding = value.len().next_multiple_of(8) - value.len();
        self.raw(&[0; 8][..padding]);
    }

    /// Appends bytes without a length. The caller keeps the sum a multiple of 8.
    #[inline]
    pub fn raw(&mut self, value: &[u8]) {
        match self.into.get_mut(self.at..self.at + value.len()) {
            Some(room) => {
                room.copy_from_slice(value);
                self.at += value.len();
            }
            None => self.overflow = true,
        }
    }

    /// The bytes written, or `None` if something did not fit.
    pub fn finish(self) -> Option<usize> {
        (!self.overflow).then_some(self.at)
    }
}

/// Reads words and bytes from a private copy.
#[derive(Debug)]
pub struct Decoder<'a> {
    rest: &'a [u8],
    failed: bool,
}

impl<'a> Decoder<'a> {
    /// A decoder over `from`.
    pub fn new(from: &'a [u8]) -> Self {
        Self { rest: from, failed: false }
    }

    /// The next word; 0 once the decoder has failed.
    #[inline]
    pub fn word(&mut self) -> u64 {
        match self.rest.split_first_chunk() {
            Some((head, tail)) => {
                self.rest = tail;
                u64::from_le_bytes(*head)
            }
            None => {
                self.fail();
                0
            }
        }
    }

    /// The next run of bytes; empty once the decoder has failed.
    #[inline]
    pub fn bytes(&mut self) -> &'a [u8] {
        let claimed = self.word();
        self.raw(claimed)
    }

    /// The next `claimed` bytes and their padding. The bytes present decide:
    /// a claim beyond them fails.
    #[inline]
    pub fn raw(&mut self, claimed: u64) -> &'a [u8] {
        let taken = usize::try_from(claimed)
            .ok()
            .and_then(|bytes| Some((bytes, bytes.checked_next_multiple_of(8)?)))
            .and_then(|(bytes, padded)| Some((self.rest.split_at_checked(padded)?, bytes)));
        match taken {
            Some(((run, tail), bytes)) => {
                self.rest = tail;
                &run[..bytes]
            }
            None => {
                self.fail();
                &[]
            }
        }
    }

    /// Marks the message as bad, for values that no sender of ours writes.
    pub fn fail(&mut self) {
        self.failed = true;
        self.rest = &[];
    }

    /// True when every step fitted and nothing is left over.
    pub fn finish(self) -> bool {
        !self.failed && self.rest.is_empty()
    }
}
