//! What the Vulkan layer in a render server's processes says to the renderer, in
//! packets on sockets (SOCK_SEQPACKET), and hears from it. A process of the server
//! begins with [`HELLO`] on the socket that it has inherited, which all have; the
//! rest goes over the two sockets that come with it. On the first, the gate, one
//! question at a time may wait for long; on the second, the notes, none does. Both
//! ends are of one build.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Names the inherited socket by its number.
pub const ENV_SOCKET: &str = "PARAVANE_LEASE_FD";
/// The layer's name, as its manifest has it.
pub const LAYER: &str = "VK_LAYER_PARAVANE_lease";

/// A device comes: `first` is the id of the virtio-gpu context that it is for, 0 where
/// that is not known. With it come the descriptors of gate and notes. It is answered at
/// the gate; who is not let in hears nothing, and both are closed.
pub const HELLO: u32 = 1;
/// At the gate: may this be submitted? `first` says what is submitted, equal where it
/// probably costs the same, `second` is the number of its command buffers. Answered with
/// a ticket when it may.
pub const ADMIT: u32 = 2;
/// In the notes, without an answer: what has the ticket `first` is over.
pub const OVER: u32 = 3;
/// In the notes: may `first` bytes of memory be allocated? Answered at once.
pub const TAKE: u32 = 4;
/// In the notes, without an answer: `first` bytes are free again.
pub const GIVE_BACK: u32 = 5;

/// What a process says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Ask {
    /// One of the above.
    pub kind: U32,
    /// 0.
    pub padding: U32,
    /// As its kind says.
    pub first: U64,
    /// As its kind says.
    pub second: U64,
}
const _: () = assert!(size_of::<Ask>() == 24);

impl Ask {
    /// One of this kind.
    pub fn new(kind: u32, first: u64, second: u64) -> Self {
        Self { kind: kind.into(), padding: 0.into(), first: first.into(), second: second.into() }
    }
}

/// What it hears.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Answer {
    /// 1, or 0 for what may not be.
    pub granted: U32,
    /// 0.
    pub padding: U32,
    /// [`ADMIT`]'s ticket, else 0.
    pub ticket: U64,
}
const _: () = assert!(size_of::<Answer>() == 16);

impl Answer {
    /// A yes, or a no.
    pub fn new(granted: bool, ticket: u64) -> Self {
        Self { granted: u32::from(granted).into(), padding: 0.into(), ticket: ticket.into() }
    }
}
