//! The universal channel: how guest pages become rings. The shim lays these
//! bytes out in the pages of a virtio-gpu resource, the backend recognises the
//! resource by its create parameters and shakes hands, the worker maps the
//! pages. The same bytes serve a VM's render node and a process on the host.
//! Layout in docs/protocol.md.

use crate::limits::{RING_BYTES, RINGS_PER_AREA};

/// The id of Paravane's capset; virtio gives ids up to 63 and uses the low ones.
pub const CAPSET_ID: u32 = 60;

/// Upper half of the format field of a resource that is Paravane's ("PV"). The
/// lower half is the area's index; 0 is the channel itself.
pub const FORMAT_MARK: u32 = 0x5056_0000;

/// First word of a channel's header: "PARAVANE".
pub const MAGIC: u64 = u64::from_le_bytes(*b"PARAVANE");

/// First word of a doorbell sent by SUBMIT_3D: "PVBELL" and a version.
pub const BELL_MAGIC: u64 = u64::from_le_bytes(*b"PVBELL\x01\0");

/// Bytes of the header page that starts a channel and every ring area.
pub const HEADER_BYTES: usize = 4096;
/// Bytes of a ring's control page, its reply page and its commands.
pub const RING_STRIDE: usize = 4096 + 4096 + RING_BYTES as usize;
/// Where a ring's reply data starts, from the ring's start.
pub const RING_REPLY: usize = 4096;
/// Where a ring's commands start, from the ring's start.
pub const RING_COMMANDS: usize = 8192;
/// Bytes of a channel or ring area.
pub const RING_AREA_BYTES: usize = HEADER_BYTES + RINGS_PER_AREA as usize * RING_STRIDE;

/// Where ring `ring` of a channel or ring area starts.
pub const fn ring_offset(ring: u32) -> usize {
    HEADER_BYTES + ring as usize * RING_STRIDE
}

/// Offsets in a channel's header page. The guest writes below 128, the host
/// from 128 on.
pub mod header {
    /// `u64`: [`super::MAGIC`].
    pub const MAGIC: usize = 0;
    /// `u64`: the shim's [`crate::PROTOCOL_HASH`].
    pub const GUEST_HASH: usize = 8;
    /// `u32`: [`super::GUEST_SAME_KERNEL`].
    pub const GUEST_FLAGS: usize = 16;
    /// `u32`: the process's id in the guest, for the host's log and accounts.
    pub const GUEST_PID: usize = 20;
    /// 32 bytes: the process's name, padded with zeros, for the same.
    pub const GUEST_NAME: usize = 32;
    /// Bytes of the name.
    pub const GUEST_NAME_BYTES: usize = 32;
    /// `u32`: [`super::Status`].
    pub const STATUS: usize = 128;
    /// `u32`: CUresult that calls answer once the status is `Dead`.
    pub const REASON: usize = 132;
    /// `u64`: the host's [`crate::PROTOCOL_HASH`].
    pub const HOST_HASH: usize = 136;
    /// `u64`: what proves that an area belongs to this channel.
    pub const TOKEN: usize = 144;
    /// `u32`: counts the answers to [`super::BELL_PING`].
    pub const PONG: usize = 152;
    /// `u32`: 1 when a posted call failed and no awaited call has told yet.
    pub const DEFERRED: usize = 192;
    /// `u32`: 1 when kernels have printed what the guest has not taken yet.
    pub const OUTPUT: usize = 196;
}

/// Guest flag: guest and host share a kernel (a process on the host), so a
/// futex on a shared word reaches the other side and no doorbell is needed.
pub const GUEST_SAME_KERNEL: u32 = 1;

/// A channel's state, written by the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    /// Not answered yet: fresh pages are zero.
    Pending = 0,
    /// A worker serves the rings.
    Ready = 1,
    /// The guest's protocol hash is not the host's.
    HashMismatch = 2,
    /// The header is no header, or a limit of the VM is reached.
    Refused = 3,
    /// The worker has ended; the header's REASON says what calls answer.
    Dead = 4,
}

impl Status {
    /// The status that a word holds; anything unknown counts as refused.
    pub fn from_word(word: u32) -> Self {
        match word {
            0 => Self::Pending,
            1 => Self::Ready,
            2 => Self::HashMismatch,
            4 => Self::Dead,
            _ => Self::Refused,
        }
    }
}

/// Doorbell: shake hands; the channel's header is written.
pub const BELL_ATTACH: u32 = 0;
/// Doorbell: the host thread of a ring sleeps and has work.
pub const BELL_KICK: u32 = 1;
/// Doorbell: answer when the ring's GUEST_SLEEPS word is 0, or after
/// [`crate::limits::FENCED_WAIT_US_MAX`]. Only where the command is fenced.
pub const BELL_WAIT: u32 = 2;
/// Doorbell: say whether backend and worker live (header STATUS and PONG).
pub const BELL_PING: u32 = 3;

/// A doorbell as the `offset` field of TRANSFER_TO_HOST on a channel or ring
/// area: operation in bits 16 and up, ring in bits 0 to 15.
pub const fn bell_offset(operation: u32, ring: u32) -> u32 {
    operation << 16 | ring & 0xffff
}

/// Splits a doorbell into operation and ring.
pub const fn bell_parts(offset: u32) -> (u32, u32) {
    (offset >> 16, offset & 0xffff)
}

/// A doorbell as the body of SUBMIT_3D: magic, token, area, bell offset.
pub fn bell_command(token: u64, area: u16, offset: u32) -> [u8; 24] {
    let mut body = [0; 24];
    body[..8].copy_from_slice(&BELL_MAGIC.to_le_bytes());
    body[8..16].copy_from_slice(&token.to_le_bytes());
    body[16..20].copy_from_slice(&u32::from(area).to_le_bytes());
    body[20..].copy_from_slice(&offset.to_le_bytes());
    body
}

/// Reads a doorbell from the body of SUBMIT_3D: (token, area, bell offset).
/// `None`: the body is not a doorbell, so it belongs to GL.
pub fn parse_bell_command(body: &[u8]) -> Option<(u64, u16, u32)> {
    let (magic, rest) = body.split_first_chunk()?;
    let (token, rest) = rest.split_first_chunk()?;
    let (area, rest) = rest.split_first_chunk()?;
    let (offset, rest) = rest.split_first_chunk()?;
    let area = u16::try_from(u32::from_le_bytes(*area)).ok()?;
    (u64::from_le_bytes(*magic) == BELL_MAGIC && rest.is_empty())
        .then_some((u64::from_le_bytes(*token), area, u32::from_le_bytes(*offset)))
}

/// Capset 60, as GET_CAPSET returns it: what the shim can know without a
/// channel.
pub fn capset() -> [u8; 24] {
    let mut body = [0; 24];
    body[..8].copy_from_slice(&MAGIC.to_le_bytes());
    body[8..16].copy_from_slice(&crate::PROTOCOL_HASH.to_le_bytes());
    body[16..20].copy_from_slice(&crate::PROTOCOL_VERSION.to_le_bytes());
    body
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_doorbell_is_read_as_it_was_sent(token: u64, area: u16, operation: u16, ring: u16) {
            let offset = bell_offset(operation.into(), ring.into());
            prop_assert_eq!(bell_parts(offset), (operation.into(), ring.into()));
            let body = bell_command(token, area, offset);
            prop_assert_eq!(parse_bell_command(&body), Some((token, area, offset)));
        }

        #[test]
        fn only_a_whole_doorbell_is_one(
            token: u64, area: u16, offset: u32, present in 0..24_usize, more in 1..40_usize, flipped in 0..64_u32,
        ) {
            let body = bell_command(token, area, offset);
            prop_assert_eq!(parse_bell_command(&body[..present]), None);
            let longer = [&body[..], &vec![0; more]].concat();
            prop_assert_eq!(parse_bell_command(&longer), None);
            let mut other = body;
            other[flipped as usize / 8] ^= 1 << (flipped % 8);
            prop_assert_eq!(parse_bell_command(&other), None, "not the magic");
            let mut wild = body;
            wild[18] = 1;
            prop_assert_eq!(parse_bell_command(&wild), None, "area beyond 16 bits");
        }

        #[test]
        fn any_body_is_read_without_a_panic(body in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse_bell_command(&body);
        }

        #[test]
        fn any_word_is_a_status(word: u32) {
            let status = Status::from_word(word);
            prop_assert!(status as u32 == word || status == Status::Refused);
        }
    }

    #[test]
    fn rings_lie_side_by_side_in_their_area() {
        assert_eq!(ring_offset(0), HEADER_BYTES);
        assert_eq!(ring_offset(RINGS_PER_AREA), RING_AREA_BYTES);
        assert_eq!(RING_COMMANDS + RING_BYTES as usize, RING_STRIDE);
    }
}
