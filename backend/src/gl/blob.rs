//! Blobs of the host's memory: what a guest's Vulkan writes its commands to, and
//! what it maps of the GPU's memory. The renderer makes them; the guest sees them
//! in the device's window, where the front end maps the files that they are.
#![deny(clippy::indexing_slicing)]

use paravane_protocol::limits::RING_BLOBS_BYTES_MAX;
use paravane_protocol::virtio_gpu::{self as spec, CAPSET_VENUS, CtrlHdr};
use zerocopy::{FromBytes, IntoBytes};

use super::device::apart;
use super::link::Heard;
use super::wire::{self, Exported};
use super::{After, Capset, Texture};
use crate::command::Entry;
use crate::device::Device;
use crate::fence::Ticket;
use crate::memory::PAGE_BYTES;
use crate::process::Outcome;
use crate::resource::Kind;
use crate::response::{Refusal, Response};
use crate::window::Place;

impl Device {
    /// The capsets of the renderer that this front end lets a guest use: Vulkan
    /// needs the window.
    pub(crate) fn capsets(&self) -> &[Capset] {
        let all = self.host.capsets();
        match all.split_last() {
            Some((venus, others)) if venus.id == CAPSET_VENUS && !self.window.is_there() => others,
            _ => all,
        }
    }

    fn has_window(&self) -> Result<(), Refusal> {
        if self.window.is_there() { Ok(()) } else { Err(Refusal::Unspecified) }
    }

    /// A blob of the host's memory: of a Vulkan context, and 0 where the context has
    /// no name for it: then the renderer makes the memory too.
    pub(crate) fn create_host_blob(
        &mut self,
        header: &CtrlHdr,
        wanted: &spec::ResourceCreateBlob,
        entries: &[Entry],
    ) -> Result<Outcome, Refusal> {
        let (id, bytes, context) = (wanted.resource_id.get(), wanted.size.get(), header.ctx_id.get());
        let of_vulkan = self.gl.contexts.get(&context).is_some_and(|of| of.capset == CAPSET_VENUS);
        self.has_window()?;
        if wanted.blob_mem.get() != spec::BLOB_MEM_HOST3D || !of_vulkan {
            return Err(Refusal::Unspecified);
        }
        if bytes == 0 || bytes % PAGE_BYTES != 0 || !entries.is_empty() {
            return Err(Refusal::InvalidParameter);
        }
        // Memory of the context's own is in the budget by then: its allocation was.
        let ring_bytes = if wanted.blob_id.get() == 0 { bytes } else { 0 };
        let all = self.gl.ring_bytes.checked_add(ring_bytes).filter(|all| *all <= RING_BLOBS_BYTES_MAX);
        let all = all.ok_or(Refusal::OutOfMemory)?;
        self.begin_context(context)?;
        self.resources.create(id, Kind::HostBlob { bytes })?;
        match self.render_and(header, wanted.as_bytes(), After::Made(id)) {
            Ok(outcome) => {
                self.gl.ring_bytes = all;
                let texture = Texture { life: self.gl.life, bytes: 0, ring_bytes, seq: self.gl.seq, top: false };
                self.gl.textures.insert(id, texture);
                Ok(outcome)
            }
            Err(refusal) => {
                self.resources.remove(id)?;
                Err(refusal)
            }
        }
    }

    /// Shows a blob to the guest, once the renderer has said which file it is.
    pub(crate) fn map_blob(&mut self, resource: u32, offset: u64) -> Result<Outcome, Refusal> {
        self.has_window()?;
        let Kind::HostBlob { bytes } = self.resources.get(resource)?.kind else { return Err(Refusal::InvalidResource) };
        if !self.gl.lives(resource) {
            return Err(Refusal::Unspecified);
        }
        self.window.take(resource, Place { offset, bytes })?;
        let sent = self.export(resource, After::Map(resource));
        if sent.is_err() {
            self.window.give_back(resource);
        }
        sent
    }

    /// Has the renderer say which file a resource is. Its fence would be answered
    /// without the file.
    pub(super) fn export(&mut self, resource: u32, after: After) -> Result<Outcome, Refusal> {
        let of = spec::ResourceRef { resource_id: resource.into(), ..Default::default() };
        let (gl, env) = apart(self)?;
        gl.send(&env, (wire::EXPORT, 0, None), of.as_bytes(), after)?;
        Ok(Outcome::Renders)
    }

    pub(crate) fn unmap_blob(&mut self, resource: u32) -> Result<Outcome, Refusal> {
        self.has_window()?;
        self.window.place_of(resource).ok_or(Refusal::InvalidParameter)?;
        Ok(Outcome::Unmaps(resource))
    }

    /// The renderer has said which file a blob is. What the guest is told, where it
    /// is told now: else when the front end has mapped it.
    pub(super) fn exported(&mut self, resource: u32, ticket: Ticket, heard: Heard) -> Option<Response> {
        let exported = Exported::read_from_bytes(&heard.body).ok();
        let mappable = exported.filter(|exported| heard.reply.refused.get() == 0 && exported.map_info.get() != 0);
        let ordered = mappable.zip(heard.file).is_some_and(|(exported, file)| {
            self.window.map(resource, (file, exported.offset.get().into()), exported.map_info.get(), ticket)
        });
        if ordered {
            return None;
        }
        self.window.give_back(resource);
        Some(Refusal::Unspecified.into())
    }
}
