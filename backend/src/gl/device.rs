//! Which of a guest's commands the renderer gets, and what its replies come to.
#![deny(clippy::indexing_slicing)]

use paravane_protocol::virtio_gpu::{self as spec, CtrlHdr, ctrl};
use zerocopy::IntoBytes;

use super::link::Heard;
use super::{About, After, Context, Env, Gl, size, stream, wire};
use crate::command::Entry;
use crate::control::Piece;
use crate::device::Device;
use crate::fence::{Ticket, Timeline};
use crate::process::Outcome;
use crate::resource::Kind;
use crate::response::{Refusal, Response};

/// The device without its `gl`, and that.
pub(super) fn apart(device: &mut Device) -> Result<(&mut Gl, Env<'_>), Refusal> {
    let renderer = device.host.renderer.as_ref().ok_or(Refusal::Unspecified)?;
    let env = Env {
        renderer,
        host: &device.host,
        table: &device.table,
        epoll: device.events.epoll(),
        connection: device.connection,
    };
    Ok((&mut device.gl, env))
}

/// virgl's flag of a texture whose first row is the upper one.
const Y_0_TOP: u32 = 1;

fn about(header: &CtrlHdr) -> About {
    (header.kind.get(), header.ctx_id.get(), Timeline::of(header))
}

impl Device {
    /// Whether 3D commands are drawn.
    pub(crate) fn draws(&self) -> bool {
        self.host.renderer.is_some()
    }

    /// Sends a command to the renderer.
    fn render(&mut self, header: &CtrlHdr, body: &[u8]) -> Result<Outcome, Refusal> {
        self.render_and(header, body, After::Nothing)
    }

    pub(super) fn render_and(&mut self, header: &CtrlHdr, body: &[u8], after: After) -> Result<Outcome, Refusal> {
        let (gl, env) = apart(self)?;
        gl.send(&env, about(header), body, after)?;
        Ok(Outcome::Renders)
    }

    /// A texture, a buffer, a renderbuffer.
    pub(crate) fn create_texture(&mut self, header: &CtrlHdr, wanted: &spec::ResourceCreate3d) -> Result<Outcome, Refusal> {
        let [id, width, height, format] =
            [wanted.resource_id, wanted.width, wanted.height, wanted.format].map(|word| word.get());
        if !self.draws() {
            return Err(Refusal::Unspecified);
        }
        self.resources.create(id, Kind::Texture { width, height, format })?;
        let (gl, env) = apart(self)?;
        let made = gl.make(&env, about(header), wanted.as_bytes(), (id, size::bytes(wanted), wanted.flags.get() & Y_0_TOP != 0));
        if made.is_err() {
            self.resources.remove(id)?;
        }
        made.map(|()| Outcome::Renders)
    }

    /// Gives a texture its pages.
    pub(crate) fn attach_texture(&mut self, header: &CtrlHdr, id: u32, entries: &[Entry]) -> Result<Outcome, Refusal> {
        let pieces: Vec<Piece> = self.table.pieces(entries).ok_or(Refusal::InvalidParameter)?;
        if !self.gl.lives(id) {
            return Ok(Outcome::Done(Response::Done));
        }
        let count = u32::try_from(pieces.len()).map_err(|_| Refusal::OutOfMemory)?;
        let head = wire::Backing { resource: id.into(), pieces: count.into() };
        self.render(header, &[head.as_bytes(), pieces.as_bytes()].concat())
    }

    /// A command that names one texture and nothing else: it is answered when the renderer does not use the pages any more.
    pub(crate) fn let_go_of_texture(&mut self, header: &CtrlHdr, id: u32) -> Result<Outcome, Refusal> {
        if !self.gl.lives(id) {
            return Ok(Outcome::Done(Response::Done));
        }
        let body = spec::ResourceRef { resource_id: id.into(), ..Default::default() };
        let freed = (header.kind.get() == ctrl::RESOURCE_UNREF).then(|| self.gl.textures.remove(&id)).flatten();
        self.render_and(header, body.as_bytes(), freed.map_or(After::Nothing, After::Freed))
    }

    pub(crate) fn transfer_texture(&mut self, header: &CtrlHdr, of: &spec::TransferHost3d) -> Result<Outcome, Refusal> {
        let context = header.ctx_id.get();
        if context != 0 {
            self.begin_context(context)?;
        }
        if !self.gl.lives(of.resource_id.get()) {
            return Err(Refusal::Unspecified);
        }
        self.render(header, of.as_bytes())
    }

    /// The renderer hears of a context when something is drawn in it: most of Paravane's own never are.
    pub(super) fn begin_context(&mut self, id: u32) -> Result<(), Refusal> {
        let Context { capset, program, life } = self.gl.contexts.get(&id).cloned().ok_or(Refusal::InvalidContext)?;
        match life {
            Some(life) if self.gl.link.is_some() && life == self.gl.life => Ok(()),
            // Its renderer has died, and with it what was drawn.
            Some(_) => Err(Refusal::Unspecified),
            None => {
                let (gl, env) = apart(self)?;
                let account = gl.link(&env)?.dues().program(capset, &program).unwrap_or_else(|error| {
                    log::warn!("connection {}: what {program} draws is not told apart: {error}", env.connection);
                    None
                });
                let body = spec::CtxCreate { context_init: capset.into(), ..Default::default() };
                gl.send_with(&env, (wire::CONTEXT, id, None), body.as_bytes(), account.into_iter().collect())?;
                let life = Some(gl.life);
                gl.contexts.insert(id, Context { capset, program, life });
                Ok(())
            }
        }
    }

    pub(crate) fn note_context(&mut self, id: u32, capset: u32, program: String) {
        if self.draws() {
            self.gl.contexts.insert(id, Context { capset, program, life: None });
        }
    }

    pub(crate) fn forget_context(&mut self, header: &CtrlHdr, id: u32) -> Result<Outcome, Refusal> {
        let known = self.gl.contexts.remove(&id).and_then(|context| context.life);
        if known.is_none_or(|life| self.gl.link.is_none() || life != self.gl.life) {
            return Ok(Outcome::Done(Response::Done));
        }
        self.render(header, &[])
    }

    /// A context may use a texture, or no more.
    pub(crate) fn attach_to_context(&mut self, header: &CtrlHdr, resource: u32) -> Result<Outcome, Refusal> {
        if !self.gl.lives(resource) {
            return Ok(Outcome::Done(Response::Done));
        }
        self.begin_context(header.ctx_id.get())?;
        let body = spec::ResourceRef { resource_id: resource.into(), ..Default::default() };
        self.render(header, body.as_bytes())
    }

    /// Commands of the guest's Mesa.
    pub(crate) fn submit_gl(&mut self, header: &CtrlHdr, body: &[u8]) -> Result<Outcome, Refusal> {
        if !self.draws() {
            return Err(Refusal::Unspecified);
        }
        // Vulkan's has other commands, whose words may look so.
        let of_vulkan = self.gl.contexts.get(&header.ctx_id.get()).is_some_and(|of| of.capset == spec::CAPSET_VENUS);
        if !of_vulkan && stream::makes_resources(body) {
            self.host.faults.guest(self.connection, "a stream makes resources of the host's memory");
            return Err(Refusal::Unspecified);
        }
        self.begin_context(header.ctx_id.get())?;
        self.render(header, body)
    }

    /// What the renderer has said since: answers that are ready, by their tickets.
    pub(crate) fn rendered(&mut self) -> Vec<(Ticket, Response)> {
        let Some(link) = &mut self.gl.link else { return Vec::new() };
        let heard = link.flush().and_then(|()| link.receive());
        match heard {
            Ok(heard) => heard.into_iter().filter_map(|heard| self.replied(heard)).collect(),
            Err(error) => self.renderer_ended(&error),
        }
    }

    fn replied(&mut self, heard: Heard) -> Option<(Ticket, Response)> {
        let reply = heard.reply;
        let (ticket, after) = self.gl.parked.remove(&reply.seq.get())?;
        let refused = reply.refused.get() != 0;
        match after {
            After::Map(resource) => return self.exported(resource, ticket, heard).map(|response| (ticket, response)),
            After::Assign { resource, seq } => {
                return self.assigned((resource, seq), ticket, heard).map(|response| (ticket, response));
            }
            After::Light(scanout) => return Some((ticket, self.light(scanout, heard))),
            After::Settled(flushed) if !refused => return self.settled(&flushed, ticket).map(|response| (ticket, response)),
            After::Show(wanted) if !refused => self.show_texture(&wanted, &heard.body),
            After::Made(id) if refused => self.gl.is_not_made(id, reply.seq.get()),
            After::Freed(texture) => self.gl.freed(texture),
            _ => {}
        }
        Some((ticket, if refused { Refusal::Unspecified.into() } else { Response::Done }))
    }

    fn renderer_ended(&mut self, error: &std::io::Error) -> Vec<(Ticket, Response)> {
        if let Some(mut link) = self.gl.link.take() {
            let (pid, end) = (link.pid(), link.end());
            let fault = format!("its renderer {pid} has ended ({end}; {error}): its OpenGL contexts are lost");
            self.host.faults.guest(self.connection, fault);
        }
        self.gl.textures.clear();
        self.objects.clear();
        self.gl.ring_bytes = 0;
        let parked = std::mem::take(&mut self.gl.parked);
        parked.into_values().map(|(ticket, _)| (ticket, Refusal::Unspecified.into())).collect()
    }

    /// Guest memory has more regions.
    pub(crate) fn tell_renderer_of_memory(&mut self) {
        if let Err(error) = self.gl.tell_memory(&self.table) {
            log::warn!("connection {}: the renderer cannot be told of guest memory: {error}", self.connection);
        }
    }
}

