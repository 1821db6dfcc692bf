//! OpenGL: commands of 3D contexts go to the VM's renderer, a process of its
//! own, and are answered when it has executed them. A renderer that dies takes
//! its contexts and resources with it; the next context starts another.
#![deny(clippy::indexing_slicing)]

mod blob;
mod capset;
mod device;
mod dues;
mod link;
mod object;
mod program;
mod scanout;
mod size;
mod starts;
mod stream;
pub mod wire;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use paravane_protocol::virtio_gpu::CAPSET_VENUS;

use crate::control::{Region, ToWorker};
use crate::fence::{Ticket, Timeline};
use crate::host::Host;
use crate::memory::MemoryTable;
use crate::response::Refusal;
use link::Link;
use wire::{Head, RegionRecord};
use zerocopy::IntoBytes;

pub use capset::{Abilities, Capset, probe};
pub use program::Program;
pub use starts::Starts;

/// A renderer that was found, and what it can do.
#[derive(Debug)]
pub struct Renderer {
    /// How it is run.
    pub program: Program,
    /// virgl and virgl2, as the host's OpenGL allows.
    pub capsets: Vec<Capset>,
    /// Whether textures can be dma-bufs.
    pub dmabuf: bool,
    /// What it logs.
    pub log_level: log::LevelFilter,
    /// How often it may be started.
    pub starts: Starts,
}

impl Renderer {
    /// Whether Vulkan is one of its capsets.
    pub(crate) fn has_vulkan(&self) -> bool {
        self.capsets.iter().any(|capset| capset.id == CAPSET_VENUS)
    }
}

/// What happens when a reply comes, beside the answer to the guest.
#[derive(Clone, Copy, Debug)]
enum After {
    Nothing,
    /// The pixels go to the screen.
    Show(wire::ReadBack),
    /// The file that comes is shown on this scanout.
    Light(u32),
    /// What was drawn before is there: so much of it goes to the screen.
    Settled(wire::ReadBack),
    /// The file that comes is mapped where this resource has its place.
    Map(u32),
    /// The file that comes is an object of this texture, if it is the one that this message made.
    Assign { resource: u32, seq: u64 },
    /// If it is refused, the texture's memory is given back.
    Made(u32),
    /// So much memory is given back.
    Freed(Texture),
}

/// A command's number, context and timeline.
type About = (u32, u32, Option<Timeline>);

/// A number of a renderer process: what it has made ends with it.
type Life = u64;

/// A texture, a buffer or the like.
#[derive(Clone, Copy, Debug)]
struct Texture {
    life: Life,
    /// Of the VM's budget.
    bytes: u64,
    /// Of the host's memory.
    ring_bytes: u64,
    /// The message that makes it.
    seq: u64,
    /// Its first row is the upper one.
    top: bool,
}

/// A context.
#[derive(Clone, Debug)]
struct Context {
    capset: u32,
    /// The program that has it, as the guest's kernel says.
    program: String,
    /// The renderer that knows it, if one does.
    life: Option<Life>,
}

/// What the guest has made in 3D, and the renderer that has it.
#[derive(Default)]
pub struct Gl {
    link: Option<Link>,
    life: Life,
    seq: u64,
    parked: BTreeMap<u64, (Ticket, After)>,
    sent: Option<(u64, After)>,
    contexts: HashMap<u32, Context>,
    textures: HashMap<u32, Texture>,
    /// What all textures have of the host's memory.
    ring_bytes: u64,
}

/// What it takes to start a renderer.
pub struct Env<'a> {
    /// The renderer.
    pub renderer: &'a Renderer,
    /// Whose lease and account it uses.
    pub host: &'a Host,
    /// Guest memory.
    pub table: &'a MemoryTable,
    /// The connection's event set.
    pub epoll: &'a OwnedFd,
    /// For the log.
    pub connection: u64,
}

impl Gl {
    /// The renderer, started if there is none.
    fn link(&mut self, env: &Env) -> Result<&mut Link, Refusal> {
        if self.link.is_none() {
            env.renderer.starts.take(Instant::now()).map_err(|first| {
                if first {
                    log::error!("connection {}: renderers end too soon: no OpenGL for some seconds", env.connection);
                }
                Refusal::Unspecified
            })?;
            let started = Link::start(env.renderer, env.host, env.epoll);
            let (link, (numbers, dues)) = started.map_err(|error| {
                log::error!("connection {}: {}: {error}", env.connection, env.renderer.program.path.display());
                Refusal::Unspecified
            })?;
            log::info!("connection {}: OpenGL is served by renderer {}", env.connection, link.pid());
            self.life += 1;
            self.link = Some(link);
            self.tell(wire::DUES, &numbers, dues).map_err(|_| Refusal::Unspecified)?;
            self.tell_memory(env.table).map_err(|_| Refusal::Unspecified)?;
        }
        self.link.as_mut().ok_or(Refusal::Unspecified)
    }

    /// Tells a renderer that runs of guest memory.
    pub fn tell_memory(&mut self, table: &MemoryTable) -> io::Result<()> {
        if self.link.is_none() {
            return Ok(());
        }
        let ToWorker::SetMemory { regions, .. } = table.message()? else { return Ok(()) };
        let (mut body, mut fds) = (Vec::new(), Vec::new());
        for Region { file, file_offset, bytes } in regions {
            let record = RegionRecord { file_offset: file_offset.into(), bytes: bytes.into() };
            body.extend_from_slice(record.as_bytes());
            fds.push(file);
        }
        self.tell(wire::SET_MEMORY, &body, fds)
    }

    /// Sends what nobody waits for.
    fn tell(&mut self, kind: u32, body: &[u8], fds: Vec<OwnedFd>) -> io::Result<()> {
        let head = self.head(kind, 0, None, body.len())?;
        let Some(link) = &mut self.link else { return Ok(()) };
        link.send(&head, body, fds)
    }

    fn head(&mut self, kind: u32, context: u32, timeline: Option<Timeline>, body: usize) -> io::Result<Head> {
        let fence = match timeline {
            None => wire::NO_FENCE,
            Some(Timeline::Global) => wire::GLOBAL,
            Some(Timeline::Context { ring, .. }) => wire::OF_CONTEXT + u32::from(ring),
        };
        self.seq += 1;
        let bytes = u32::try_from(body).map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok(Head {
            bytes: bytes.into(),
            kind: kind.into(),
            seq: self.seq.into(),
            context: context.into(),
            fence: fence.into(),
        })
    }

    /// Sends a command whose reply is awaited by [`Gl::park`].
    fn send(
        &mut self,
        env: &Env,
        about: About,
        body: &[u8],
        after: After,
    ) -> Result<(), Refusal> {
        self.send_with(env, about, body, Vec::new())?;
        self.sent = Some((self.seq, after));
        Ok(())
    }

    /// Sends a command, with descriptors, whose reply nobody waits for.
    fn send_with(
        &mut self,
        env: &Env,
        (kind, context, timeline): About,
        body: &[u8],
        fds: Vec<OwnedFd>,
    ) -> Result<(), Refusal> {
        self.link(env)?;
        let head = self.head(kind, context, timeline, body.len()).map_err(|_| Refusal::InvalidParameter)?;
        self.link(env)?.send(&head, body, fds).map_err(|_| Refusal::Unspecified)
    }

    /// The command that was sent last is answered under this ticket.
    pub fn park(&mut self, ticket: Ticket) {
        if let Some((seq, after)) = self.sent.take() {
            self.parked.insert(seq, (ticket, after));
        }
    }

    /// Has the renderer make a texture of so many bytes.
    fn make(&mut self, env: &Env, about: About, body: &[u8], (id, bytes, top): (u32, u64, bool)) -> Result<(), Refusal> {
        if !self.link(env)?.dues().take(bytes) {
            return Err(Refusal::OutOfMemory);
        }
        if let Err(refusal) = self.send(env, about, body, After::Made(id)) {
            self.give_back(bytes);
            return Err(refusal);
        }
        self.textures.insert(id, Texture { life: self.life, bytes, ring_bytes: 0, seq: self.seq, top });
        Ok(())
    }

    /// Memory is free again.
    fn give_back(&mut self, bytes: u64) {
        if let Some(link) = &mut self.link {
            link.dues().give_back(bytes);
        }
    }

    /// So is that of a texture.
    fn freed(&mut self, texture: Texture) {
        self.ring_bytes = self.ring_bytes.saturating_sub(texture.ring_bytes);
        self.give_back(texture.bytes);
    }

    /// The renderer could not make what a message asked for.
    fn is_not_made(&mut self, id: u32, seq: u64) {
        if let Some(texture) = self.textures.get(&id).copied().filter(|texture| texture.seq == seq) {
            self.textures.remove(&id);
            self.freed(texture);
        }
    }

    /// The resource lives in the renderer that runs.
    fn lives(&self, resource: u32) -> bool {
        self.link.is_some() && self.textures.get(&resource).is_some_and(|texture| texture.life == self.life)
    }

    /// Everything that the guest has made is gone, and the renderer with it.
    pub fn clear(&mut self) {
        *self = Self { life: self.life, seq: self.seq, ..Self::default() };
    }
}
