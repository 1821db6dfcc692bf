//! What a device says to its renderer and hears from it, over a stream socket:
//! a head, then a body. Commands have virtio-gpu's own numbers and structures,
//! made anew from what was parsed, with places in files for guest addresses.
//! Both ends run one build; sizes are checked all the same, because a renderer
//! runs what a hostile guest asked for.

use std::io;

use paravane_protocol::limits::COMMAND_BYTES_MAX;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Guest memory: [`RegionRecord`]s, and a descriptor for each with the head.
pub const SET_MEMORY: u32 = 1;
/// Pixels of a resource, for a screen: a [`ReadBack`]. They are the reply's body.
pub const READ_BACK: u32 = 2;
/// Comes first and is not answered: the number of the device that draws (`u32`),
/// and descriptors of the renderer's account page, of its VM's lease page of that
/// device, and of the eventfd that calls the arbiter. One with Vulkan has two more: of
/// Vulkan's account page and of the VM's budget, and behind the device the number of
/// its slot there (`u32`).
pub const DUES: u32 = 3;
/// A resource as a file that others may map: a
/// [`paravane_protocol::virtio_gpu::ResourceRef`]. The reply has an [`Exported`] and a descriptor.
pub const EXPORT: u32 = 4;
/// Nothing: its fence is there when all is drawn that was sent before.
pub const SETTLE: u32 = 5;

/// A context that comes, of a capset. With it may come the descriptor of an account
/// page, where that is not the renderer's own.
pub const CONTEXT: u32 = paravane_protocol::virtio_gpu::ctrl::CTX_CREATE;

/// Pages of a resource, in the place of guest addresses: so many
/// [`crate::control::Piece`]s follow a [`Backing`].
pub const ATTACH: u32 = paravane_protocol::virtio_gpu::ctrl::RESOURCE_ATTACH_BACKING;

/// Fences of a command: none.
pub const NO_FENCE: u32 = 0;
/// On the timeline that all share.
pub const GLOBAL: u32 = 1;
/// On a timeline of the command's context: this and the timeline's number.
pub const OF_CONTEXT: u32 = 2;

/// Bytes of a message's body at most.
pub const BODY_BYTES_MAX: usize = COMMAND_BYTES_MAX * 2;
/// Bytes of a reply's body at most: 16 million pixels.
pub const REPLY_BYTES_MAX: usize = 64 << 20;
/// Descriptors of a reply at most.
pub const REPLY_FILES_MAX: usize = 1;

/// Starts a message to a renderer.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Head {
    /// Bytes of the body.
    pub bytes: U32,
    /// What it is.
    pub kind: U32,
    /// Counts messages; the reply names it.
    pub seq: U64,
    /// The context of a command.
    pub context: U32,
    /// [`NO_FENCE`], [`GLOBAL`], or [`OF_CONTEXT`] and more: when to reply.
    pub fence: U32,
}
const _: () = assert!(size_of::<Head>() == 24);

/// Starts a reply: the message is done, and its fence if it had one. Its
/// descriptors come with its first byte.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Reply {
    /// Bytes of the body.
    pub bytes: U32,
    /// 0, or what went wrong: it was refused.
    pub refused: U32,
    /// Which message.
    pub seq: U64,
    /// How many descriptors come with it.
    pub files: U32,
    /// 0.
    pub padding: U32,
}
const _: () = assert!(size_of::<Reply>() == 24);

/// A region of guest memory.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RegionRecord {
    /// Where it starts in its file.
    pub file_offset: U64,
    /// Its length.
    pub bytes: U64,
}
const _: () = assert!(size_of::<RegionRecord>() == 16);

/// Heads the pieces of [`ATTACH`].
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Backing {
    /// The resource.
    pub resource: U32,
    /// How many pieces follow.
    pub pieces: U32,
}
const _: () = assert!(size_of::<Backing>() == 8);

/// Which pixels [`READ_BACK`] wants, of four bytes each.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ReadBack {
    /// The resource.
    pub resource: U32,
    /// Left edge.
    pub x: U32,
    /// Upper edge.
    pub y: U32,
    /// Width.
    pub width: U32,
    /// Height.
    pub height: U32,
}
const _: () = assert!(size_of::<ReadBack>() == 20);

/// What kind of file a resource is: memory of the host's kernel.
pub const FILE_SHM: u32 = 1;
/// A dma-buf.
pub const FILE_DMABUF: u32 = 2;
/// One that means something to the driver that made it alone; it may be mapped.
pub const FILE_OPAQUE: u32 = 3;

/// What [`EXPORT`] found.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Exported {
    /// [`FILE_SHM`], [`FILE_DMABUF`] or [`FILE_OPAQUE`].
    pub file: U32,
    /// How the guest is to cache what it maps: virtio-gpu's map_info.
    pub map_info: U32,
    /// A picture's format, as DRM numbers them; 0 where it is no picture.
    pub fourcc: U32,
    /// Bytes from row to row.
    pub stride: U32,
    /// Where the first row begins, or the memory.
    pub offset: U32,
    /// 0.
    pub padding: U32,
    /// How tiles lie, as DRM numbers that.
    pub modifier: U64,
}
const _: () = assert!(size_of::<Exported>() == 32);

impl Exported {
    /// Whether it is a dma-buf in which others find a picture.
    pub fn is_picture(&self) -> bool {
        self.file.get() == FILE_DMABUF && self.fourcc.get() != 0 && self.stride.get() != 0
    }
}

/// The reply that `bytes` begin with and its body, when all of it is there.
pub fn split_reply(bytes: &[u8]) -> io::Result<Option<(Reply, &[u8], usize)>> {
    let Ok((reply, rest)) = Reply::read_from_prefix(bytes) else { return Ok(None) };
    let length = reply.bytes.get() as usize;
    if length > REPLY_BYTES_MAX || reply.files.get() as usize > REPLY_FILES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a reply longer than any"));
    }
    Ok(rest.get(..length).map(|body| (reply, body, size_of::<Reply>() + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_taken_when_it_is_whole() {
        let reply = Reply { bytes: 3.into(), seq: 7.into(), ..Reply::default() };
        let whole = [reply.as_bytes(), &[1, 2, 3, 9]].concat();
        for short in 0..27 {
            assert!(split_reply(&whole[..short]).unwrap().is_none());
        }
        let (head, body, taken) = split_reply(&whole).unwrap().unwrap();
        assert_eq!((head.seq.get(), body, taken), (7, &[1, 2, 3][..], 27));
        let wild = [Reply { bytes: u32::MAX.into(), ..reply }, Reply { files: 2.into(), ..reply }];
        assert!(wild.iter().all(|reply| split_reply(reply.as_bytes()).is_err()));
    }
}
