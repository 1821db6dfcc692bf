//! What commands do: a parsed [`Command`] meets the device's state.
#![deny(clippy::indexing_slicing)]

use std::sync::Arc;

use paravane_protocol::channel::{BELL_ATTACH, bell_parts, parse_bell_command};
use paravane_protocol::virtio_gpu::{BLOB_MEM_GUEST, CtrlHdr, ctrl};
use vm_memory::{GuestAddressSpace, GuestMemoryMmap};

use crate::backing::Backing;
use crate::capset;
use crate::channels::{Bell, Cause, Channels, Env, Progress};
use crate::command::{Command, Entry, Picture, Rect};
use crate::device::Device;
use crate::fence::Timeline;
use crate::resource::Kind;
use crate::response::{Refusal, Response};
use crate::screen::Question;

/// What has become of a command.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is answered so.
    Done(Response),
    /// It is answered [`Response::Done`] once this has happened.
    Waits(Cause),
    /// The front end is asked.
    Asks(Question),
    /// The renderer answers what it was sent last.
    Renders,
    /// A resource leaves the window.
    Unmaps(u32),
}

impl From<Progress> for Outcome {
    fn from(progress: Progress) -> Self {
        match progress {
            Progress::Done => Self::Done(Response::Done),
            Progress::Waits(cause) => Self::Waits(cause),
        }
    }
}

impl Device {
    /// Executes a command.
    pub fn process(&mut self, header: &CtrlHdr, command: Command) -> Outcome {
        let context = header.ctx_id.get();
        let of_3d = (ctrl::CTX_CREATE..=ctrl::SUBMIT_3D).contains(&header.kind.get());
        if of_3d && !self.host.with_3d {
            return Outcome::Done(Refusal::Unspecified.into());
        }
        let outcome = match command {
            Command::GetDisplayInfo => return self.ask(Question::DisplayInfo),
            Command::GetEdid { scanout } => return self.ask(Question::Edid(scanout)),
            Command::GetCapsetInfo { index } => return Outcome::Done(capset::info(index, self.capsets())),
            Command::GetCapset { id, version } => return Outcome::Done(capset::get(id, version, self.capsets())),
            Command::Create2d(picture) => {
                let kind = Kind::marked(&picture).unwrap_or_else(|| Kind::picture(&picture));
                self.create(picture.resource, kind)
            }
            // What carries Paravane's mark is never drawn.
            Command::Create3d(wanted) => match Kind::marked(&Picture::from(&wanted)) {
                Some(kind) => self.create(wanted.resource_id.get(), kind),
                None => return drawn(self.create_texture(header, &wanted)),
            },
            Command::CreateBlob { blob, entries } if blob.blob_mem.get() == BLOB_MEM_GUEST => {
                self.create_blob(blob.resource_id.get(), blob.size.get(), entries)
            }
            Command::CreateBlob { blob, entries } => return drawn(self.create_host_blob(header, &blob, &entries)),
            Command::MapBlob { resource, offset } => return drawn(self.map_blob(resource, offset)),
            Command::UnmapBlob { resource } => return drawn(self.unmap_blob(resource)),
            Command::Unref { resource } => return drawn(self.unref(header, resource)),
            Command::AttachBacking { resource, entries } => return drawn(self.attach(header, resource, entries)),
            Command::DetachBacking { resource } => return drawn(self.detach(header, resource)),
            Command::SetScanout { scanout, resource, rect } => {
                return drawn(self.set_scanout(scanout, resource, rect));
            }
            Command::SetScanoutBlob { scanout, resource, rect, layout } => {
                self.set_scanout_blob(scanout, resource, rect, layout)
            }
            Command::Flush { resource, rect } => return drawn(self.flush(resource, rect)),
            Command::TransferTo2d { resource, offset, rect } => {
                self.transfer(header, resource, offset, Some(rect))
            }
            Command::TransferTo3d(of) if !self.is_texture(of.resource_id.get()) => {
                self.transfer(header, of.resource_id.get(), of.offset.get(), None)
            }
            Command::TransferTo3d(of) | Command::TransferFrom3d(of) => {
                return drawn(self.transfer_texture(header, &of));
            }
            Command::AssignUuid { resource } => return drawn(self.assign_uuid(resource)),
            Command::CtxCreate { capset, program } => self.create_context(context, capset, program),
            Command::CtxDestroy => {
                let destroyed = self.contexts.destroy(context);
                return drawn(destroyed.and_then(|()| self.forget_context(header, context)));
            }
            Command::CtxAttach { resource } | Command::CtxDetach { resource } => {
                let there = self.contexts.check(context).and(self.resources.get(resource).map(drop));
                return drawn(there.and_then(|()| self.attach_to_context(header, resource)));
            }
            Command::Submit3d { body } => return drawn(self.submit(header, &body)),
            Command::Cursor(pointer) => self.cursor(pointer),
        };
        drawn(outcome.map(Into::into))
    }

    fn is_the_renderers(&self, resource: u32) -> bool {
        self.resources.get(resource).is_ok_and(|of| matches!(of.kind, Kind::Texture { .. } | Kind::HostBlob { .. }))
    }

    pub(crate) fn is_texture(&self, resource: u32) -> bool {
        self.resources.get(resource).is_ok_and(|of| matches!(of.kind, Kind::Texture { .. }))
    }

    fn create_context(&mut self, id: u32, capset: u32, program: String) -> Result<Progress, Refusal> {
        let of_gl = self.capsets().iter().any(|of| of.id == capset);
        self.contexts.create(id, capset, of_gl)?;
        self.note_context(id, capset, program);
        Ok(Progress::Done)
    }

    fn create(&mut self, resource: u32, kind: Result<Kind, Refusal>) -> Result<Progress, Refusal> {
        let kind = kind?;
        if let Kind::Area { token, .. } = kind {
            self.channels.of_token(token)?;
        }
        done(self.resources.create(resource, kind))
    }

    fn create_blob(
        &mut self,
        resource: u32,
        bytes: u64,
        entries: Vec<Entry>,
    ) -> Result<Progress, Refusal> {
        let backing = if entries.is_empty() { None } else { Some(self.backing(entries)?) };
        if bytes == 0 || backing.as_ref().is_some_and(|backing| backing.bytes() < bytes) {
            return Err(Refusal::InvalidParameter);
        }
        self.resources.create(resource, Kind::Blob { bytes })?;
        if let Some(backing) = backing
            && let Err(refusal) = self.resources.attach(resource, backing)
        {
            self.resources.remove(resource)?;
            return Err(refusal);
        }
        Ok(Progress::Done)
    }

    fn backing(&self, entries: Vec<Entry>) -> Result<Arc<Backing>, Refusal> {
        let backing = Backing::new(entries, &self.memory.memory());
        backing.map(Arc::new).ok_or(Refusal::InvalidParameter)
    }

    fn attach(&mut self, header: &CtrlHdr, resource: u32, entries: Vec<Entry>) -> Result<Outcome, Refusal> {
        let kind = self.resources.get(resource)?.kind;
        let backing = self.backing(entries)?;
        // Channels and areas are mapped by a worker: whole pages of memory that
        // has a file.
        let marked = matches!(kind, Kind::Channel { .. } | Kind::Area { .. });
        if marked && self.table.pieces(backing.entries()).is_none() {
            return Err(Refusal::InvalidParameter);
        }
        self.resources.attach(resource, Arc::clone(&backing))?;
        if let Kind::Texture { .. } = kind {
            let attached = self.attach_texture(header, resource, backing.entries());
            if attached.is_err() {
                self.resources.detach(resource)?;
            }
            return attached;
        }
        if let Kind::Area { token, index } = kind {
            let memory = self.memory.memory();
            let (channels, env) = self.channels_and_env(&memory);
            if let Err(refusal) = channels.add_area(token, index, &backing, &env) {
                self.resources.detach(resource)?;
                return Err(refusal);
            }
        }
        Ok(Outcome::Done(Response::Done))
    }

    /// Whoever else uses a resource's pages stops doing so.
    fn release(&mut self, resource: u32) -> Result<Progress, Refusal> {
        let of = self.resources.get(resource)?;
        match of.kind {
            Kind::Channel { id: Some(id) } => {
                self.resources.set_channel(resource, None);
                Ok(self.channels.close(id))
            }
            Kind::Area { token, index } if of.backing.is_some() => {
                Ok(self.channels.remove_area(token, index))
            }
            _ => Ok(Progress::Done),
        }
    }

    fn unref(&mut self, header: &CtrlHdr, resource: u32) -> Result<Outcome, Refusal> {
        let (progress, texture) = (self.release(resource)?, self.is_the_renderers(resource));
        self.forget_shown(resource);
        self.window.unmap(resource, None);
        self.objects.remove(resource);
        self.resources.remove(resource)?;
        if texture { self.let_go_of_texture(header, resource) } else { Ok(progress.into()) }
    }

    fn detach(&mut self, header: &CtrlHdr, resource: u32) -> Result<Outcome, Refusal> {
        let progress = self.release(resource)?;
        self.resources.detach(resource)?;
        if self.is_texture(resource) { self.let_go_of_texture(header, resource) } else { Ok(progress.into()) }
    }

    fn transfer(
        &mut self,
        header: &CtrlHdr,
        resource: u32,
        offset: u64,
        rect: Option<Rect>,
    ) -> Result<Progress, Refusal> {
        let of = self.resources.get(resource)?;
        match (of.kind, rect) {
            (Kind::Channel { .. } | Kind::Area { .. }, _) => self.bell(header, resource, offset),
            (Kind::Picture { .. } | Kind::Blob { .. }, Some(rect)) => self.transfer_picture(resource, offset, rect),
            _ => Err(Refusal::Unspecified),
        }
    }

    /// A doorbell at a marked resource.
    fn bell(&mut self, header: &CtrlHdr, resource: u32, offset: u64) -> Result<Progress, Refusal> {
        let offset = u32::try_from(offset).map_err(|_| Refusal::InvalidParameter)?;
        let (operation, ring) = bell_parts(offset);
        let fenced = Timeline::of(header).is_some();
        let of = self.resources.get(resource)?;
        let (kind, backing) = (of.kind, of.backing.clone());
        let backing = backing.ok_or(Refusal::Unspecified)?;
        let memory = self.memory.memory();
        let (channels, env) = self.channels_and_env(&memory);
        match kind {
            Kind::Channel { id: None } if operation == BELL_ATTACH => {
                let id = channels.shake_hands(&backing, &env);
                self.resources.set_channel(resource, id);
                Ok(Progress::Done)
            }
            Kind::Channel { id: Some(channel) } => {
                let bell = Bell { channel, area: 0, operation, ring, fenced };
                channels.ring(bell, &env)
            }
            Kind::Area { token, index } => {
                let channel = channels.of_token(token)?;
                let bell = Bell { channel, area: index, operation, ring, fenced };
                channels.ring(bell, &env)
            }
            _ => Err(Refusal::InvalidParameter),
        }
    }

    /// A doorbell, or 3D commands.
    fn submit(&mut self, header: &CtrlHdr, body: &[u8]) -> Result<Outcome, Refusal> {
        self.contexts.check(header.ctx_id.get())?;
        let Some((token, area, offset)) = parse_bell_command(body) else {
            return self.submit_gl(header, body);
        };
        let (operation, ring) = bell_parts(offset);
        let fenced = Timeline::of(header).is_some();
        let memory = self.memory.memory();
        let (channels, env) = self.channels_and_env(&memory);
        let channel = channels.of_token(token)?;
        let bell = Bell { channel, area, operation, ring, fenced };
        Ok(channels.ring(bell, &env)?.into())
    }

    /// The channels, and what they need of the rest of the device.
    pub fn channels_and_env<'a>(
        &'a mut self,
        memory: &'a GuestMemoryMmap,
    ) -> (&'a mut Channels, Env<'a>) {
        let env = Env {
            host: &self.host,
            connection: self.connection,
            memory,
            table: &self.table,
            epoll: self.events.epoll(),
        };
        (&mut self.channels, env)
    }
}

/// The outcome of what may be refused.
fn drawn(result: Result<Outcome, Refusal>) -> Outcome {
    result.unwrap_or_else(|refusal| Outcome::Done(refusal.into()))
}

fn done(result: Result<(), Refusal>) -> Result<Progress, Refusal> {
    result.map(|()| Progress::Done)
}
