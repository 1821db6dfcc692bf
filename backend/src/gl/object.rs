//! RESOURCE_ASSIGN_UUID: the renderer gives a texture out, and the front end hears
//! of it, before the guest has its UUID.
#![deny(clippy::indexing_slicing)]

use zerocopy::FromBytes;

use super::After;
use super::link::Heard;
use super::wire::{Exported, FILE_DMABUF};
use crate::device::Device;
use crate::fence::Ticket;
use crate::process::Outcome;
use crate::response::{Refusal, Response};

impl Device {
    /// Gives a texture a UUID, or tells it again.
    pub(crate) fn assign_uuid(&mut self, resource: u32) -> Result<Outcome, Refusal> {
        if !self.host.exports() {
            return Err(Refusal::Unspecified);
        }
        self.resources.get(resource)?;
        if !self.is_texture(resource) {
            return Err(Refusal::InvalidResource);
        }
        self.objects.check(resource)?;
        let texture = self.gl.textures.get(&resource).filter(|_| self.gl.lives(resource));
        let seq = texture.ok_or(Refusal::Unspecified)?.seq;
        self.export(resource, After::Assign { resource, seq })
    }

    /// The renderer has given a texture out, or could not. What the guest is told,
    /// where it is told now: else when the front end knows of it.
    pub(super) fn assigned(&mut self, (resource, seq): (u32, u64), ticket: Ticket, heard: Heard) -> Option<Response> {
        // Another may have the number by now.
        if self.gl.textures.get(&resource).is_none_or(|texture| texture.seq != seq) {
            return Some(Refusal::InvalidResource.into());
        }
        let exported = Exported::read_from_bytes(&heard.body).ok().filter(|of| of.file.get() == FILE_DMABUF);
        let file = exported.filter(|_| heard.reply.refused.get() == 0).and(heard.file);
        let added = file.ok_or(Refusal::Unspecified).and_then(|file| self.objects.add(resource, file, ticket));
        added.err().map(Into::into)
    }
}
