//! A frame: the header that goes before every command in a ring. The shim
//! writes it, the worker reads a private copy of it.

/// Bytes of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 16;

/// The rest of the ring up to its end holds no command.
pub const OPCODE_PAD: u16 = 0xffff;

/// The guest waits for a reply to this frame.
pub const FLAG_AWAITED: u16 = 1;

/// The header of one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of header and body together; a multiple of 8.
    pub bytes: u32,
    /// Which command; see [`crate::cuda_api`] and [`crate::internal`].
    pub opcode: u16,
    /// [`FLAG_AWAITED`] or 0.
    pub flags: u16,
    /// The command's place in the process's order.
    pub ticket: u64,
}

impl FrameHeader {
    /// Little-endian, as in the ring.
    #[inline]
    pub fn to_bytes(self) -> [u8; FRAME_HEADER_BYTES] {
        let first = u64::from(self.bytes)
            | u64::from(self.opcode) << 32
            | u64::from(self.flags) << 48;
        let mut raw = [0; FRAME_HEADER_BYTES];
        raw[..8].copy_from_slice(&first.to_le_bytes());
        raw[8..].copy_from_slice(&self.ticket.to_le_bytes());
        raw
    }

    /// Any bytes make a header; the consumer judges it.
    #[inline]
    pub fn from_bytes(raw: [u8; FRAME_HEADER_BYTES]) -> Self {
        let [b0, b1, b2, b3, o0, o1, f0, f1, ticket @ ..] = raw;
        Self {
            bytes: u32::from_le_bytes([b0, b1, b2, b3]),
            opcode: u16::from_le_bytes([o0, o1]),
            flags: u16::from_le_bytes([f0, f1]),
            ticket: u64::from_le_bytes(ticket),
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_header_and_its_bytes_are_the_same(raw in any::<[u8; FRAME_HEADER_BYTES]>()) {
            prop_assert_eq!(FrameHeader::from_bytes(raw).to_bytes(), raw);
        }
    }

    #[test]
    fn the_fields_lie_where_the_protocol_says() {
        let header = FrameHeader { bytes: 0x0403_0201, opcode: 0x0605, flags: 0x0807, ticket: 9 };
        assert_eq!(header.to_bytes(), [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 0, 0, 0, 0, 0]);
    }
}
