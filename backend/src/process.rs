//! What commands do: a parsed [`Command`] meets the device's state.
#![deny(clippy::indexing_slicing)]

use std::sync::Arc;

use paravane_protocol::channel::{BELL_ATTACH, bell_parts, parse_bell_command};
use paravane_protocol::virtio_gpu::{CtrlHdr, ctrl};
use vm_memory::{GuestAddressSpace, GuestMemoryMmap};

use crate::backing::Backing;
use crate::capset;
use crate::channels::{Bell, Cause, Channels, Env, Progress};
use crate::command::{Command, Entry, Rect};
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
            Command::GetCapsetInfo { index } => return Outcome::Done(capset::info(index)),
            Command::GetCapset { id, version } => {
                return Outcome::Done(capset::get(id, version));
            }
            Command::Create2d(picture) => {
                let kind = Kind::marked(&picture).unwrap_or_else(|| Kind::picture(&picture));
                self.create(picture.resource, kind)
            }
            // Nothing draws in 3D yet; what carries Paravane's mark never will.
            Command::Create3d(picture) => {
                let kind = Kind::marked(&picture).unwrap_or(Err(Refusal::Unspecified));
                self.create(picture.resource, kind)
            }
            Command::CreateBlob { resource, guest, bytes, entries } => {
                self.create_blob(resource, guest, bytes, entries)
            }
            Command::Unref { resource } => self.unref(resource),
            Command::AttachBacking { resource, entries } => self.attach(resource, entries),
            Command::DetachBacking { resource } => self.detach(resource),
            Command::SetScanout { scanout, resource, rect } => {
                self.set_scanout(scanout, resource, rect)
            }
            Command::SetScanoutBlob { scanout, resource, rect, layout } => {
                self.set_scanout_blob(scanout, resource, rect, layout)
            }
            Command::Flush { resource, rect } => self.flush(resource, rect),
            Command::TransferTo2d { resource, offset, rect } => {
                self.transfer(header, resource, offset, Some(rect))
            }
            Command::TransferTo3d { resource, offset } => {
                self.transfer(header, resource, offset, None)
            }
            Command::TransferFrom3d { .. } | Command::NotOffered { .. } => {
                Err(Refusal::Unspecified)
            }
            Command::CtxCreate { capset } => done(self.contexts.create(context, capset)),
            Command::CtxDestroy => done(self.contexts.destroy(context)),
            Command::CtxAttach { resource } | Command::CtxDetach { resource } => {
                done(self.contexts.check(context).and(self.resources.get(resource).map(drop)))
            }
            Command::Submit3d { body } => self.submit(header, &body),
            Command::Cursor(pointer) => self.cursor(pointer),
        };
        match outcome {
            Ok(progress) => progress.into(),
            Err(refusal) => Outcome::Done(refusal.into()),
        }
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
        guest: bool,
        bytes: u64,
        entries: Vec<Entry>,
    ) -> Result<Progress, Refusal> {
        if !guest {
            return Err(Refusal::Unspecified);
        }
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

    fn attach(&mut self, resource: u32, entries: Vec<Entry>) -> Result<Progress, Refusal> {
        let kind = self.resources.get(resource)?.kind;
        let backing = self.backing(entries)?;
        // Channels and areas are mapped by a worker: whole pages of memory that
        // has a file.
        let marked = matches!(kind, Kind::Channel { .. } | Kind::Area { .. });
        if marked && self.table.pieces(backing.entries()).is_none() {
            return Err(Refusal::InvalidParameter);
        }
        self.resources.attach(resource, Arc::clone(&backing))?;
        if let Kind::Area { token, index } = kind {
            let memory = self.memory.memory();
            let (channels, env) = self.channels_and_env(&memory);
            if let Err(refusal) = channels.add_area(token, index, &backing, &env) {
                self.resources.detach(resource)?;
                return Err(refusal);
            }
        }
        Ok(Progress::Done)
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

    fn unref(&mut self, resource: u32) -> Result<Progress, Refusal> {
        let progress = self.release(resource)?;
        self.forget_shown(resource);
        self.resources.remove(resource)?;
        Ok(progress)
    }

    fn detach(&mut self, resource: u32) -> Result<Progress, Refusal> {
        let progress = self.release(resource)?;
        self.resources.detach(resource)?;
        Ok(progress)
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
            (Kind::Picture { .. } | Kind::Blob { .. }, None) => Err(Refusal::Unspecified),
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

    /// A doorbell, or 3D commands, which nobody draws yet.
    fn submit(&mut self, header: &CtrlHdr, body: &[u8]) -> Result<Progress, Refusal> {
        self.contexts.check(header.ctx_id.get())?;
        let (token, area, offset) = parse_bell_command(body).ok_or(Refusal::Unspecified)?;
        let (operation, ring) = bell_parts(offset);
        let fenced = Timeline::of(header).is_some();
        let memory = self.memory.memory();
        let (channels, env) = self.channels_and_env(&memory);
        let channel = channels.of_token(token)?;
        let bell = Bell { channel, area, operation, ring, fenced };
        channels.ring(bell, &env)
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

fn done(result: Result<(), Refusal>) -> Result<Progress, Refusal> {
    result.map(|()| Progress::Done)
}
