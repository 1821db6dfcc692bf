//! `paravane-renderer`: its command line, and OpenGL as rutabaga_gfx opens it.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Once};

use clap::{Parser, Subcommand};
use log::LevelFilter;
use rutabaga_gfx::{
    RUTABAGA_CAPSET_VENUS, RUTABAGA_CAPSET_VIRGL, RUTABAGA_CAPSET_VIRGL2, RUTABAGA_PATH_TYPE_GPU, Rutabaga, RutabagaBuilder,
    RutabagaComponentType, RutabagaDescriptor, RutabagaFence, RutabagaHandler, RutabagaPath,
};
use serde_json::json;

use super::draw::{Drawing, fence_of};
use super::venus::{self, Venus};
use crate::{logging, slice};

/// OpenGL for one VM of a paravane-backend, which starts it.
#[derive(Debug, Parser)]
#[command(name = "paravane-renderer", version, after_help = "Example:\n  paravane-renderer probe   what this host can draw")]
struct Options {
    #[command(subcommand)]
    what: What,
    /// The GPU to draw on [default: the host's EGL chooses]
    #[arg(long, value_name = "PATH", global = true, env = "PARAVANE_RENDER_NODE")]
    render_node: Option<PathBuf>,
    /// Serve Vulkan too
    #[arg(long, global = true)]
    vulkan: bool,
    /// virglrenderer's program for Vulkan [default: /usr/libexec/virgl_render_server]
    #[arg(long, value_name = "PATH", global = true, env = "PARAVANE_RENDER_SERVER")]
    render_server: Option<PathBuf>,
    /// What holds Vulkan's leases and memory quota [default: libparavane_vulkan_layer.so beside this program]
    #[arg(long, value_name = "PATH", global = true, env = "PARAVANE_VULKAN_LAYER")]
    vulkan_layer: Option<PathBuf>,
    /// What to log: off, error, warn, info, debug, trace
    #[arg(long, value_name = "LEVEL", default_value = "warn", global = true)]
    log_level: LevelFilter,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum What {
    /// Print the capsets as JSON, and whether textures can be dma-bufs, and end
    Probe,
    /// Serve the device whose socket is the standard input
    Serve,
}

/// Why there is nothing to draw with.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("no OpenGL here: {0}")]
    Rutabaga(#[from] rutabaga_gfx::RutabagaError),
    #[error("no Vulkan here: {0}")]
    Vulkan(io::Error),
    #[error("the socket: {0}")]
    Socket(#[from] io::Error),
    #[error("{0} is no render node: /dev/dri/renderD128 and the like are")]
    Node(PathBuf),
}

/// Entry of the executable.
pub fn main() -> ExitCode {
    let options = Options::parse();
    logging::start(options.log_level);
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("paravane-renderer: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    let node = options.render_node.as_deref();
    // Else rutabaga_gfx would choose another without a word.
    let is_node = |node: &Path| node.canonicalize().is_ok_and(|node| node.to_string_lossy().starts_with("/dev/dri/renderD"));
    if let Some(wrong) = node.filter(|node| !is_node(node)) {
        return Err(Failure::Node(wrong.to_owned()));
    }
    let find = || Venus::find(options.render_server.as_deref(), options.vulkan_layer.as_deref());
    let vulkan = options.vulkan.then(find).transpose().map_err(Failure::Vulkan)?;
    match options.what {
        What::Probe => probe(node, vulkan.as_ref()),
        What::Serve => serve(node, vulkan.as_ref()),
    }
}

/// OpenGL on a surfaceless EGL display, with virgl's capsets; with a render server's socket, Vulkan.
fn rutabaga(
    node: Option<&Path>,
    server: Option<OwnedFd>,
    on_fence: impl Fn(RutabagaFence) + Send + Sync + 'static,
) -> Result<Rutabaga, Failure> {
    let mut capsets = 1 << RUTABAGA_CAPSET_VIRGL | 1 << RUTABAGA_CAPSET_VIRGL2;
    if server.is_some() {
        capsets |= 1 << RUTABAGA_CAPSET_VENUS;
    }
    let paths = node.map(|path| vec![RutabagaPath { path: path.to_owned(), path_type: RUTABAGA_PATH_TYPE_GPU }]);
    let builder = RutabagaBuilder::new(capsets, RutabagaHandler::new(on_fence))
        .set_default_component(RutabagaComponentType::VirglRenderer)
        .set_use_egl(true)
        .set_use_gles(false)
        .set_use_surfaceless(true)
        .set_use_external_blob(false)
        .set_use_render_server(server.is_some())
        .set_server_descriptor(server.map(RutabagaDescriptor::from))
        .set_rutabaga_paths(paths);
    Ok(builder.build()?)
}

fn probe(node: Option<&Path>, vulkan: Option<&Venus>) -> Result<(), Failure> {
    let started = vulkan.map(Venus::start).transpose().map_err(Failure::Vulkan)?;
    if started.is_some() {
        log::info!("Vulkan is drawn by {}", venus::devices().map_err(Failure::Vulkan)?.join(", "));
    }
    let rutabaga = rutabaga(node, started.map(|(socket, _)| socket), |_| ())?;
    let mut capsets = Vec::new();
    for index in 0..rutabaga.get_num_capsets() {
        let (id, version, _) = rutabaga.get_capset_info(index)?;
        let mut data = rutabaga.get_capset(id, version)?;
        if vulkan.is_some() && id == RUTABAGA_CAPSET_VIRGL2 {
            without_mapped_buffers(&mut data);
        }
        capsets.push(json!({ "id": id, "version": version, "data": data }));
    }
    let exports = Drawing::new(rutabaga).exports_pictures();
    let said = json!({ "capsets": capsets, "dmabuf": exports.is_ok(), "no_dmabuf": exports.err() });
    writeln!(io::stdout(), "{said}")?;
    Ok(())
}

/// Where a guest has a window for blobs, Mesa's virgl would have buffers in it that stay
/// mapped. Those are in virglrenderer's own address space, and have no file that a
/// front end could map; so the bit that promises them is taken out (virgl_hw.h:
/// capability_bits in version 2, VIRGL_CAP_ARB_BUFFER_STORAGE).
fn without_mapped_buffers(capset: &mut [u8]) {
    const CAPABILITY_BITS: usize = 392;
    const ARB_BUFFER_STORAGE: u32 = 1 << 31;
    if let Some(bits) = capset.get_mut(CAPABILITY_BITS..).and_then(|rest| rest.first_chunk_mut()) {
        *bits = (u32::from_le_bytes(*bits) & !ARB_BUFFER_STORAGE).to_le_bytes();
    }
}

fn serve(node: Option<&Path>, vulkan: Option<&Venus>) -> Result<(), Failure> {
    // The device is gone or it never was: so is this process's reason.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).map_err(io::Error::from)?;
    let socket: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
    let socket = UnixStream::from(socket);
    super::serve(&socket, |fences| {
        let of_library = Arc::clone(fences);
        // The library's thread that waits for fences.
        let shortened = Once::new();
        let on_fence = move |fence| {
            shortened.call_once(slice::shorten);
            of_library.signalled(fence_of(&fence));
        };
        let (server, counter) = vulkan.map(Venus::start).transpose()?.unzip();
        // Its threads run what guests draw, and are there before the first of them is heard.
        paravane_sandbox::leave_files()?;
        let rutabaga = rutabaga(node, server, on_fence).map_err(io::Error::other)?;
        paravane_sandbox::leave_calls()?;
        counter.map_or(Ok(()), |counter| counter.start(fences))?;
        Ok(Drawing::new(rutabaga))
    })?;
    Ok(())
}
