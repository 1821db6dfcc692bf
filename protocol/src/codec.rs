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

    /// The bytes written so far.
    pub fn written(&self) -> &[u8] {
        self.into.get(..self.at).unwrap_or_default()
    }

    /// The bytes written, or `None` if something did not fit.
    pub fn finish(self) -> Option<usize> {
        (!self.overflow).then_some(self.at)
    }
}

/// Reads words and bytes from a private copy. A clone reads the same again.
#[derive(Clone, Debug)]
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

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.rest)
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

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One step of a message.
    #[derive(Clone, Debug, PartialEq)]
    enum Item {
        Word(u64),
        Bytes(Vec<u8>),
    }

    fn items() -> impl Strategy<Value = Vec<Item>> {
        let item = prop_oneof![
            any::<u64>().prop_map(Item::Word),
            prop::collection::vec(any::<u8>(), 0..40).prop_map(Item::Bytes),
        ];
        prop::collection::vec(item, 0..12)
    }

    fn encode(items: &[Item], into: &mut [u8]) -> Option<usize> {
        let mut encoder = Encoder::new(into);
        for item in items {
            match item {
                Item::Word(value) => encoder.word(*value),
                Item::Bytes(value) => encoder.bytes(value),
            }
        }
        encoder.finish()
    }

    /// Reads the same steps back; `None` when the decoder refuses.
    fn decode(items: &[Item], from: &[u8]) -> Option<Vec<Item>> {
        let mut decoder = Decoder::new(from);
        let read = items
            .iter()
            .map(|item| match item {
                Item::Word(_) => Item::Word(decoder.word()),
                Item::Bytes(_) => Item::Bytes(decoder.bytes().to_vec()),
            })
            .collect();
        decoder.finish().then_some(read)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_every_truncation_refused(items in items()) {
            let mut message = [0; 1024];
            let bytes = encode(&items, &mut message).unwrap();
            prop_assert_eq!(bytes % 8, 0);
            for present in 0..bytes {
                prop_assert_eq!(decode(&items, &message[..present]), None);
            }
            prop_assert_eq!(decode(&items, &message[..bytes + 8]), None);
            prop_assert_eq!(decode(&items, &message[..bytes]), Some(items));
        }

        #[test]
        fn an_encoder_that_ran_over_stays_failed(items in items(), room in 0..600_usize) {
            let mut message = [0; 1024];
            let needed = encode(&items, &mut message).unwrap();
            let written = encode(&items, &mut message[..room]);
            prop_assert_eq!(written, (needed <= room).then_some(needed));
        }

        #[test]
        fn any_bytes_decode_without_a_panic(
            from in prop::collection::vec(any::<u8>(), 0..200),
            steps in prop::collection::vec(prop_oneof![Just(None), any::<u64>().prop_map(Some)], 0..20),
        ) {
            let mut decoder = Decoder::new(&from);
            let mut taken = 0;
            for claimed in steps {
                taken += match claimed {
                    None => decoder.bytes().len(),
                    Some(claimed) => decoder.raw(claimed).len(),
                };
            }
            prop_assert!(taken <= from.len());
            decoder.finish();
        }
    }

    #[test]
    fn a_decoder_that_failed_gives_nothing_more() {
        let mut message = [0; 24];
        let mut encoder = Encoder::new(&mut message);
        encoder.word(17);
        encoder.word(1);
        encoder.word(2);
        let mut decoder = Decoder::new(&message);
        assert_eq!(decoder.bytes(), b"");
        assert_eq!((decoder.word(), decoder.bytes()), (0, &b""[..]));
        assert!(!decoder.finish());
    }

    #[test]
    fn a_length_near_the_end_of_the_numbers_is_refused() {
        for claimed in [u64::MAX, u64::MAX - 6, 9] {
            let mut decoder = Decoder::new(&[0; 8]);
            assert_eq!(decoder.raw(claimed), b"", "claimed {claimed}");
            assert!(!decoder.finish(), "claimed {claimed}");
        }
    }
}
