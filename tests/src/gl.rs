//! What a guest wants to be drawn, and renderers that stand in for the real one.

use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use paravane_protocol::virtio_gpu::{self as spec, CAPSET_VENUS, ctrl};
use tempfile::TempDir;
use zerocopy::{Immutable, IntoBytes};

use crate::backend::Backend;
use crate::frontend::{FrontEnd, command};

/// A stand-in whose environment has this says that it gives textures out as dma-bufs.
const ENV_DMABUF: &str = "PARAVANE_STAND_IN_DMABUF";

/// For an executable that stands in for the renderer: its socket, and its log. `None`: it was asked what it can draw with
/// and has said it.
pub fn stand_in() -> Option<(UnixStream, File)> {
    let what: Vec<String> = std::env::args().collect();
    if what[1] == "probe" {
        let mut capsets = vec![serde_json::json!({ "id": 2, "version": 3, "data": [1, 2, 3] })];
        if what.iter().any(|word| word == "--vulkan") {
            capsets.push(serde_json::json!({ "id": CAPSET_VENUS, "version": 0, "data": [4] }));
        }
        let dmabuf = std::env::var_os(ENV_DMABUF).is_some();
        println!("{}", serde_json::json!({ "capsets": capsets, "dmabuf": dmabuf, "no_dmabuf": "it stands in" }));
        return None;
    }
    let socket: OwnedFd = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let log = Path::new(&what[0]).with_extension("log");
    Some((UnixStream::from(socket), OpenOptions::new().append(true).create(true).open(log).unwrap()))
}

/// A renderer with a log of its own.
pub struct Renderer {
    _folder: TempDir,
    path: PathBuf,
}

impl Renderer {
    /// One of the executables that stand in.
    pub fn new(executable: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("renderer");
        // It keeps its log beside the name that it was started by.
        std::os::unix::fs::symlink(executable, &path).unwrap();
        Self { _folder: folder, path }
    }

    /// What a backend is to start.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A backend that uses it.
    pub fn backend(&self, arguments: &[&str]) -> Backend {
        Backend::start(&[&["--log-level", "off", "--renderer", self.path.to_str().unwrap()], arguments].concat())
    }

    /// A backend that uses it, on a host that gives textures out.
    pub fn sharing_backend(&self, arguments: &[&str]) -> Backend {
        let all = [&["--log-level", "off", "--renderer", self.path.to_str().unwrap()], arguments].concat();
        Backend::start_with(&all, |command| {
            command.env(ENV_DMABUF, "1");
        })
    }

    /// What it has been told, but for guest memory and the VM's lease.
    pub fn told(&self) -> Vec<String> {
        let log = fs::read_to_string(self.path.with_extension("log")).unwrap_or_default();
        let of_the_device = |line: &&str| line.starts_with("0x1 ") || line.starts_with("0x3 ");
        log.lines().filter(|line| !of_the_device(line)).map(str::to_owned).collect()
    }
}

/// Puts a 3D command of a context on the queue; its descriptor's number.
pub fn put<T: IntoBytes + Immutable + ?Sized>(guest: &mut FrontEnd, kind: u32, context: u32, fence: u64, body: &T) -> u16 {
    let mut bytes = command(kind, fence, body.as_bytes());
    bytes[16..20].copy_from_slice(&context.to_le_bytes());
    guest.put(0, &bytes)
}

/// A 3D command of a context, and its answer's number.
pub fn gl<T: IntoBytes + Immutable + ?Sized>(guest: &mut FrontEnd, kind: u32, context: u32, fence: u64, body: &T) -> u32 {
    put(guest, kind, context, fence, body);
    guest.kick(0);
    guest.wait(0).kind
}

/// VIRGL_BIND_RENDER_TARGET and VIRGL_BIND_SAMPLER_VIEW.
const BIND: u32 = 10;

/// The description of a texture of four by two pixels.
pub fn small_texture(id: u32) -> spec::ResourceCreate3d {
    spec::ResourceCreate3d {
        resource_id: id.into(),
        target: 2.into(),
        format: 2.into(),
        bind: BIND.into(),
        width: 4.into(),
        height: 2.into(),
        depth: 1.into(),
        array_size: 1.into(),
        ..Default::default()
    }
}

/// Makes such a texture.
pub fn texture(guest: &mut FrontEnd, id: u32) -> u32 {
    gl(guest, ctrl::RESOURCE_CREATE_3D, 0, 0, &small_texture(id))
}

/// Makes a context for virgl2.
pub fn context(guest: &mut FrontEnd, id: u32) -> u32 {
    context_of(guest, id, "")
}

/// As [`context`], for a program of a name, as Linux makes it.
pub fn context_of(guest: &mut FrontEnd, id: u32, program: &str) -> u32 {
    context_for(guest, id, 2, program)
}

/// As [`context_of`], of any capset.
pub fn context_for(guest: &mut FrontEnd, id: u32, capset: u32, program: &str) -> u32 {
    let mut create = spec::CtxCreate { context_init: capset.into(), ..Default::default() };
    create.nlen = u32::try_from(program.len()).unwrap().into();
    create.debug_name[..program.len()].copy_from_slice(program.as_bytes());
    gl(guest, ctrl::CTX_CREATE, id, 0, &create)
}

/// The body of a submit.
pub fn stream(body: &[u8]) -> Vec<u8> {
    let head = spec::Submit3d { size: u32::try_from(body.len()).unwrap().into(), ..Default::default() };
    [head.as_bytes(), body].concat()
}

/// Submits commands.
pub fn submit(guest: &mut FrontEnd, context: u32, fence: u64, body: &[u8]) -> u32 {
    gl(guest, ctrl::SUBMIT_3D, context, fence, &stream(body)[..])
}
