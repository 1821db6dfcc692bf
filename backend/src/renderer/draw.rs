//! What a renderer draws with: messages are calls of rutabaga_gfx.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use paravane_protocol::virtio_gpu::{self as spec, ctrl};
use rutabaga_gfx::{
    RUTABAGA_FLAG_FENCE, RUTABAGA_FLAG_INFO_RING_IDX, ResourceCreate3D, Rutabaga, RutabagaDescriptor, RutabagaError,
    RutabagaFence, RutabagaResult, Transfer3D,
};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::memory::Memory;
use super::{Executed, Fence, Library, Message};
use crate::control::Piece;
use crate::gl::wire::{self, Backing, ReadBack, RegionRecord};
use crate::pixels::PIXEL_BYTES;

/// rutabaga_gfx and the guest memory that it reads and writes.
pub(super) struct Drawing {
    rutabaga: Rutabaga,
    memory: Memory,
    /// Where the library says that a query holds up its fences.
    wants: Option<RutabagaDescriptor>,
}

/// A fence that the library has signalled.
pub(super) fn fence_of(fence: &RutabagaFence) -> Fence {
    let of_ring = fence.flags & RUTABAGA_FLAG_INFO_RING_IDX != 0;
    Fence {
        id: u32::try_from(fence.fence_id).unwrap_or(u32::MAX),
        timeline: of_ring.then_some((fence.ctx_id, fence.ring_idx)),
    }
}

/// The structure that a body begins with, and what follows.
fn read<T>(body: &[u8]) -> RutabagaResult<(T, &[u8])>
where
    T: FromBytes + Immutable + KnownLayout + Unaligned,
{
    T::read_from_prefix(body).map_err(|_| RutabagaError::InvalidCommandSize(body.len()))
}

impl Library for Drawing {
    type Error = RutabagaError;

    fn create_fence(&mut self, context: u32, fence: Fence) -> RutabagaResult<()> {
        let flags = RUTABAGA_FLAG_FENCE | fence.timeline.map_or(0, |_| RUTABAGA_FLAG_INFO_RING_IDX);
        let ring_idx = fence.timeline.map_or(0, |(_, ring)| ring);
        self.rutabaga.create_fence(RutabagaFence { flags, fence_id: fence.id.into(), ctx_id: context, ring_idx })
    }

    fn poll(&self) {
        self.rutabaga.event_poll();
    }

    fn wants(&self) -> Option<BorrowedFd<'_>> {
        self.wants.as_ref().map(AsFd::as_fd)
    }

    fn execute(&mut self, message: Message) -> RutabagaResult<Executed> {
        let Message { head, mut body, files } = message;
        let context = head.context.get();
        match head.kind.get() {
            wire::SET_MEMORY => {
                let records = <[RegionRecord]>::ref_from_bytes(&body).map_err(|_| RutabagaError::InvalidIovec)?;
                let set = self.memory.set(records, &files);
                set.map_err(|error| {
                    log::error!("guest memory: {error}");
                    RutabagaError::InvalidIovec
                })?;
            }
            wire::READ_BACK => return self.read_back(&read::<ReadBack>(&body)?.0),
            ctrl::CTX_CREATE => {
                let (create, _) = read::<spec::CtxCreate>(&body)?;
                self.rutabaga.create_context(context, create.context_init.get(), None)?;
            }
            ctrl::CTX_DESTROY => self.rutabaga.destroy_context(context)?,
            ctrl::CTX_ATTACH_RESOURCE => self.rutabaga.context_attach_resource(context, resource(&body)?)?,
            ctrl::CTX_DETACH_RESOURCE => self.rutabaga.context_detach_resource(context, resource(&body)?)?,
            ctrl::SUBMIT_3D => self.rutabaga.submit_command(context, &mut body, &[])?,
            ctrl::RESOURCE_CREATE_3D => self.create(&read::<spec::ResourceCreate3d>(&body)?.0)?,
            ctrl::RESOURCE_UNREF => self.rutabaga.unref_resource(resource(&body)?)?,
            wire::ATTACH => self.attach(&body)?,
            ctrl::RESOURCE_DETACH_BACKING => self.rutabaga.detach_backing(resource(&body)?)?,
            ctrl::TRANSFER_TO_HOST_3D => {
                let (of, _) = read::<spec::TransferHost3d>(&body)?;
                self.rutabaga.transfer_write(context, of.resource_id.get(), transfer(&of), None)?;
            }
            ctrl::TRANSFER_FROM_HOST_3D => {
                let (of, _) = read::<spec::TransferHost3d>(&body)?;
                self.rutabaga.transfer_read(context, of.resource_id.get(), transfer(&of), None)?;
            }
            _ => return Err(RutabagaError::InvalidComponent),
        }
        Ok(Executed::default())
    }
}

impl Drawing {
    pub(super) fn new(rutabaga: Rutabaga) -> Self {
        let wants = rutabaga.poll_descriptor();
        Self { rutabaga, memory: Memory::default(), wants }
    }

    fn create(&mut self, wanted: &spec::ResourceCreate3d) -> RutabagaResult<()> {
        let create = ResourceCreate3D {
            target: wanted.target.get(),
            format: wanted.format.get(),
            bind: wanted.bind.get(),
            width: wanted.width.get(),
            height: wanted.height.get(),
            depth: wanted.depth.get(),
            array_size: wanted.array_size.get(),
            last_level: wanted.last_level.get(),
            nr_samples: wanted.nr_samples.get(),
            flags: wanted.flags.get(),
        };
        self.rutabaga.resource_create_3d(wanted.resource_id.get(), create)
    }

    fn attach(&mut self, body: &[u8]) -> RutabagaResult<()> {
        let (head, rest) = read::<Backing>(body)?;
        let count = head.pieces.get() as usize;
        let pieces = <[Piece]>::ref_from_prefix_with_elems(rest, count);
        let (pieces, _) = pieces.map_err(|_| RutabagaError::InvalidIovec)?;
        let iovecs = self.memory.find(pieces).ok_or(RutabagaError::InvalidIovec)?;
        self.rutabaga.attach_backing(head.resource.get(), iovecs)
    }

    fn read_back(&mut self, wanted: &ReadBack) -> RutabagaResult<Executed> {
        let (width, height) = (wanted.width.get(), wanted.height.get());
        let bytes = u64::from(width) * u64::from(height) * PIXEL_BYTES as u64;
        let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes <= wire::REPLY_BYTES_MAX);
        let mut pixels = vec![0; bytes.ok_or(RutabagaError::InvalidIovec)?];
        let mut transfer = Transfer3D::new_2d(wanted.x.get(), wanted.y.get(), width, height, 0);
        transfer.stride = width.saturating_mul(4);
        let into = io::IoSliceMut::new(&mut pixels);
        self.rutabaga.transfer_read(0, wanted.resource.get(), transfer, Some(into))?;
        Ok(Executed { body: pixels, file: None })
    }
}

fn resource(body: &[u8]) -> RutabagaResult<u32> {
    Ok(read::<spec::ResourceRef>(body)?.0.resource_id.get())
}

fn transfer(of: &spec::TransferHost3d) -> Transfer3D {
    Transfer3D {
        x: of.x.get(),
        y: of.y.get(),
        z: of.z.get(),
        w: of.w.get(),
        h: of.h.get(),
        d: of.d.get(),
        level: of.level.get(),
        stride: of.stride.get(),
        layer_stride: of.layer_stride.get(),
        offset: of.offset.get(),
    }
}
