//! What a renderer draws with: messages are calls of rutabaga_gfx.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use paravane_protocol::virtio_gpu::{self as spec, ctrl};
use rutabaga_gfx::{
    RUTABAGA_FLAG_FENCE, RUTABAGA_FLAG_INFO_RING_IDX, RUTABAGA_HANDLE_TYPE_MEM_DMABUF, RUTABAGA_HANDLE_TYPE_MEM_OPAQUE_FD,
    ResourceCreate3D, ResourceCreateBlob, Rutabaga, RutabagaDescriptor, RutabagaError, RutabagaFence, RutabagaResult, Transfer3D,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::memory::Memory;
use super::{Executed, Fence, Library, Message, opaque};
use crate::control::Piece;
use crate::gl::wire::{self, Backing, Exported, ReadBack, RegionRecord};
use crate::pixels::PIXEL_BYTES;

/// Of a map_info, what virtio-gpu tells a guest.
const MAP_CACHE_MASK: u32 = 0x0f;

/// rutabaga_gfx and the guest memory that it reads and writes.
pub(super) struct Drawing {
    rutabaga: Rutabaga,
    memory: Memory,
    /// Where the library says that a query holds up its fences.
    wants: Option<RutabagaDescriptor>,
    /// What has been exported: the library gives away some resources once only.
    exported: HashMap<u32, (u32, OwnedFd)>,
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
            wire::SETTLE => {}
            wire::READ_BACK => return self.read_back(&read::<ReadBack>(&body)?.0),
            wire::EXPORT => return self.export(resource(&body)?),
            ctrl::RESOURCE_CREATE_BLOB => self.create_blob(context, &read::<spec::ResourceCreateBlob>(&body)?.0)?,
            ctrl::CTX_CREATE => {
                let (create, _) = read::<spec::CtxCreate>(&body)?;
                self.rutabaga.create_context(context, create.context_init.get(), None)?;
            }
            ctrl::CTX_DESTROY => self.rutabaga.destroy_context(context)?,
            ctrl::CTX_ATTACH_RESOURCE => self.rutabaga.context_attach_resource(context, resource(&body)?)?,
            ctrl::CTX_DETACH_RESOURCE => self.rutabaga.context_detach_resource(context, resource(&body)?)?,
            ctrl::SUBMIT_3D => self.rutabaga.submit_command(context, &mut body, &[])?,
            ctrl::RESOURCE_CREATE_3D => self.create(&read::<spec::ResourceCreate3d>(&body)?.0)?,
            ctrl::RESOURCE_UNREF => {
                self.exported.remove(&resource(&body)?);
                self.rutabaga.unref_resource(resource(&body)?)?;
            }
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
        Self { rutabaga, memory: Memory::default(), wants, exported: HashMap::new() }
    }

    /// Whether what a guest shows on a screen can be given out as a dma-buf; else why not.
    pub(super) fn exports_pictures(&mut self) -> Result<(), String> {
        // As Mesa makes what it shows: two dimensions, B8G8R8A8; drawn to, read from, shown.
        const BIND: u32 = 1 << 1 | 1 << 3 | 1 << 18;
        let [id, target, format, side, one] = [1, 2, 1, 64, 1].map(Into::into);
        let wanted = spec::ResourceCreate3d {
            resource_id: id,
            target,
            format,
            bind: BIND.into(),
            width: side,
            height: side,
            depth: one,
            array_size: one,
            ..Default::default()
        };
        self.create(&wanted).map_err(|error| format!("it makes no texture for a screen: {error}"))?;
        let exported = self.export(id.get());
        self.exported.remove(&id.get());
        // The process ends soon.
        let _ = self.rutabaga.unref_resource(id.get());
        match exported {
            Ok(Executed { body, .. }) if Exported::read_from_bytes(&body).is_ok_and(|of| of.is_picture()) => Ok(()),
            Ok(_) => Err("it gives textures out, but not as dma-bufs of a known format".into()),
            Err(error) => Err(format!("it does not give textures out: {error}")),
        }
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

    fn create_blob(&mut self, context: u32, wanted: &spec::ResourceCreateBlob) -> RutabagaResult<()> {
        let create = ResourceCreateBlob {
            blob_mem: wanted.blob_mem.get(),
            blob_flags: wanted.blob_flags.get(),
            blob_id: wanted.blob_id.get(),
            size: wanted.size.get(),
        };
        self.rutabaga.resource_create_blob(context, wanted.resource_id.get(), create, None, None)
    }

    fn export(&mut self, id: u32) -> RutabagaResult<Executed> {
        let (kind, file) = match self.exported.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let handle = self.rutabaga.export_blob(id)?;
                let kind = match handle.handle_type {
                    RUTABAGA_HANDLE_TYPE_MEM_OPAQUE_FD => wire::FILE_OPAQUE,
                    RUTABAGA_HANDLE_TYPE_MEM_DMABUF => wire::FILE_DMABUF,
                    _ => wire::FILE_SHM,
                };
                place.insert((kind, handle.os_handle.as_fd().try_clone_to_owned().map_err(no_descriptor)?))
            }
        };
        let file = file.try_clone().map_err(no_descriptor)?;
        // A picture has no map_info, memory has no rows.
        let picture = self.rutabaga.resource3d_info(id).ok();
        let ([stride, ..], [offset, ..]) = picture.map_or(([0; 4], [0; 4]), |of| (of.strides, of.offsets));
        // virglrenderer describes memory as a picture of nothing.
        let offset = if *kind == wire::FILE_OPAQUE { opaque::start(&file) } else { offset };
        let exported = Exported {
            file: (*kind).into(),
            map_info: (self.rutabaga.map_info(id).unwrap_or(0) & MAP_CACHE_MASK).into(),
            fourcc: picture.map_or(0, |of| of.drm_fourcc).into(),
            stride: stride.into(),
            offset: offset.into(),
            padding: 0.into(),
            modifier: picture.map_or(0, |of| of.modifier).into(),
        };
        Ok(Executed { body: exported.as_bytes().to_vec(), file: Some(file) })
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

/// Why nothing is exported.
fn no_descriptor(error: io::Error) -> RutabagaError {
    log::warn!("a resource's descriptor: {error}");
    RutabagaError::InvalidResourceId
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
