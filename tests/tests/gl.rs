//! What the device makes of 3D commands, with a renderer that draws nothing:
//! `cargo xtask gl` draws in a guest.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;

use paravane_protocol::channel::Status;
use paravane_protocol::virtio_gpu::{self as spec, Rect, ctrl};
use paravane_tests::backend::{Backend, eventually};
use paravane_tests::frontend::{FrontEnd, command};
use paravane_tests::guest::{attach, ready_channel, unref};
use paravane_tests::screen::Told;
use tempfile::TempDir;
use zerocopy::{FromBytes, IntoBytes};

/// A stand-in renderer with a log of its own.
struct Renderer {
    _folder: TempDir,
    path: PathBuf,
}

impl Renderer {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("renderer");
        // It keeps its log beside the name that it was started by.
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_stand-in-renderer"), &path).unwrap();
        Self { _folder: folder, path }
    }

    fn backend(&self) -> Backend {
        Backend::start(&["--log-level", "off", "--renderer", self.path.to_str().unwrap()])
    }

    /// What it has been told, but for guest memory.
    fn told(&self) -> Vec<String> {
        let log = fs::read_to_string(self.path.with_extension("log")).unwrap_or_default();
        log.lines().filter(|line| !line.starts_with("0x1 ")).map(str::to_owned).collect()
    }
}

/// A 3D command of context `context`, and its answer's number.
fn gl<T: IntoBytes + zerocopy::Immutable + ?Sized>(guest: &mut FrontEnd, kind: u32, context: u32, fence: u64, body: &T) -> u32 {
    let mut bytes = command(kind, fence, body.as_bytes());
    bytes[16..20].copy_from_slice(&context.to_le_bytes());
    guest.put(0, &bytes);
    guest.kick(0);
    guest.wait(0).kind
}

fn texture(guest: &mut FrontEnd, id: u32) -> u32 {
    let body = spec::ResourceCreate3d {
        resource_id: id.into(),
        target: 2.into(),
        format: 2.into(),
        width: 4.into(),
        height: 2.into(),
        depth: 1.into(),
        array_size: 1.into(),
        ..Default::default()
    };
    gl(guest, ctrl::RESOURCE_CREATE_3D, 0, 0, &body)
}

fn context(guest: &mut FrontEnd, id: u32) -> u32 {
    gl(guest, ctrl::CTX_CREATE, id, 0, &spec::CtxCreate { context_init: 2.into(), ..Default::default() })
}

fn submit(guest: &mut FrontEnd, context: u32, fence: u64, body: &[u8]) -> u32 {
    let head = spec::Submit3d { size: u32::try_from(body.len()).unwrap().into(), ..Default::default() };
    gl(guest, ctrl::SUBMIT_3D, context, fence, &[head.as_bytes(), body].concat()[..])
}

#[test]
fn the_renderers_capset_comes_after_paravanes() {
    let renderer = Renderer::new();
    let backend = renderer.backend();
    let mut guest = FrontEnd::connect(&backend.socket());
    let config = spec::Config::read_from_bytes(&guest.config(16)).unwrap();
    assert_eq!(config.num_capsets.get(), 2);
    let wanted = spec::GetCapsetInfo { capset_index: 1.into(), ..Default::default() };
    let answer = guest.command(ctrl::GET_CAPSET_INFO, wanted.as_bytes());
    let (info, _) = spec::CapsetInfo::read_from_prefix(&answer.bytes[24..]).unwrap();
    assert_eq!([info.capset_id, info.capset_max_version, info.capset_max_size].map(|word| word.get()), [2, 3, 3]);
    let wanted = spec::GetCapset { capset_id: 2.into(), capset_version: 3.into() };
    assert_eq!(guest.command(ctrl::GET_CAPSET, wanted.as_bytes()).bytes[24..], [1, 2, 3]);
    assert!(renderer.told().is_empty(), "nothing is drawn yet");
}

#[test]
fn the_renderer_hears_of_what_is_drawn_and_of_nothing_else() {
    let renderer = Renderer::new();
    let backend = renderer.backend();
    let mut guest = FrontEnd::connect(&backend.socket());
    ready_channel(&mut guest, 1);
    assert_eq!(context(&mut guest, 5), ctrl::OK_NODATA);
    assert_eq!(context(&mut guest, 6), ctrl::OK_NODATA);
    assert!(renderer.told().is_empty());
    assert_eq!(texture(&mut guest, 2), ctrl::OK_NODATA);
    let pages = guest.pages(4096);
    assert_eq!(attach(&mut guest, 2, &[(pages, 4096)]), ctrl::OK_NODATA);
    let of = spec::ResourceRef { resource_id: 2.into(), ..Default::default() };
    assert_eq!(gl(&mut guest, ctrl::CTX_ATTACH_RESOURCE, 5, 0, &of), ctrl::OK_NODATA);
    assert_eq!(submit(&mut guest, 5, 9, b"draw"), ctrl::OK_NODATA);
    assert_eq!(submit(&mut guest, 5, 0, b"no!!"), ctrl::ERR_UNSPEC);
    assert_eq!(gl(&mut guest, ctrl::CTX_DESTROY, 5, 0, &[0_u8; 0]), ctrl::OK_NODATA);
    assert_eq!(gl(&mut guest, ctrl::CTX_DESTROY, 6, 0, &[0_u8; 0]), ctrl::OK_NODATA);
    assert_eq!(unref(&mut guest, 2), ctrl::OK_NODATA);
    let expected = [
        "0x204 context 0 fence 0 bytes 48",
        "0x106 context 1 fence 0 bytes 32",
        "0x200 context 5 fence 0 bytes 72",
        "0x202 context 5 fence 0 bytes 8",
        "0x207 context 5 fence 1 bytes 4",
        "0x207 context 5 fence 0 bytes 4",
        "0x201 context 5 fence 0 bytes 0",
        "0x102 context 1 fence 0 bytes 8",
    ];
    assert_eq!(renderer.told(), expected);
}

#[test]
fn what_is_not_there_is_refused_and_the_renderer_is_not_bothered() {
    let renderer = Renderer::new();
    let backend = renderer.backend();
    let mut guest = FrontEnd::connect(&backend.socket());
    assert_eq!(submit(&mut guest, 5, 0, b"draw"), ctrl::ERR_INVALID_CONTEXT_ID);
    let of = spec::TransferHost3d { resource_id: 7.into(), ..Default::default() };
    assert_eq!(gl(&mut guest, ctrl::TRANSFER_FROM_HOST_3D, 0, 0, &of), ctrl::ERR_UNSPEC);
    let of = spec::ResourceRef { resource_id: 7.into(), ..Default::default() };
    context(&mut guest, 5);
    assert_eq!(gl(&mut guest, ctrl::CTX_ATTACH_RESOURCE, 5, 0, &of), ctrl::ERR_INVALID_RESOURCE_ID);
    assert!(renderer.told().is_empty());
}

#[test]
fn a_renderer_that_dies_takes_its_contexts_and_nothing_else() {
    let renderer = Renderer::new();
    let backend = renderer.backend();
    let mut guest = FrontEnd::connect(&backend.socket());
    let channel = ready_channel(&mut guest, 1);
    context(&mut guest, 5);
    assert_eq!(texture(&mut guest, 2), ctrl::OK_NODATA);
    assert_eq!(submit(&mut guest, 5, 0, b"draw"), ctrl::OK_NODATA);
    assert_eq!(submit(&mut guest, 5, 3, b"die!"), ctrl::ERR_UNSPEC);
    assert_eq!(submit(&mut guest, 5, 4, b"draw"), ctrl::ERR_UNSPEC, "the context is lost");
    assert_eq!(unref(&mut guest, 2), ctrl::OK_NODATA);
    // A new one works at once, and CUDA has gone on all the time.
    context(&mut guest, 6);
    assert_eq!(submit(&mut guest, 6, 5, b"draw"), ctrl::OK_NODATA);
    assert_eq!(channel.status(&guest), Status::Ready);
    assert_eq!(gl(&mut guest, ctrl::CTX_DESTROY, 5, 0, &[0_u8; 0]), ctrl::OK_NODATA);
}

#[test]
fn answers_keep_the_order_of_fences() {
    let renderer = Renderer::new();
    let backend = renderer.backend();
    let mut guest = FrontEnd::connect(&backend.socket());
    context(&mut guest, 5);
    let head = spec::Submit3d { size: 4.into(), ..Default::default() };
    let mut heads = Vec::new();
    for (fence, body) in [(1, b"late"), (2, b"draw")] {
        let mut bytes = command(ctrl::SUBMIT_3D, fence, &[head.as_bytes(), body].concat());
        bytes[16..20].copy_from_slice(&5_u32.to_le_bytes());
        heads.push(guest.put(0, &bytes));
    }
    guest.kick(0);
    assert_eq!([guest.wait(0).head, guest.wait(0).head], heads[..], "the second was done first");
}

#[test]
fn a_texture_is_shown_as_the_renderer_reads_it_back() {
    let renderer = Renderer::new();
    let backend = renderer.backend();
    let (mut guest, screen) = FrontEnd::with_screen(&backend.socket());
    assert_eq!(texture(&mut guest, 2), ctrl::OK_NODATA);
    let r = Rect { x: 1.into(), width: 2.into(), height: 2.into(), ..Default::default() };
    let shown = spec::SetScanout { r, scanout_id: 0.into(), resource_id: 2.into() };
    assert_eq!(guest.send(ctrl::SET_SCANOUT, &shown), ctrl::OK_NODATA);
    assert_eq!(screen.told(), Told::Size(0, 2, 2));
    let whole = Rect { width: 4.into(), height: 2.into(), ..Default::default() };
    let flush = spec::ResourceFlush { r: whole, resource_id: 2.into(), ..Default::default() };
    assert_eq!(guest.send(ctrl::RESOURCE_FLUSH, &flush), ctrl::OK_NODATA);
    assert_eq!(screen.told(), Told::Update([0, 0, 0, 2, 2], vec![0x1111_1111; 4]));
}

#[test]
fn renderers_end_with_their_guests() {
    let renderer = Renderer::new();
    let backend = renderer.backend();
    let before = backend.children().len();
    let mut guest = FrontEnd::connect(&backend.socket());
    context(&mut guest, 5);
    assert_eq!(submit(&mut guest, 5, 0, b"draw"), ctrl::OK_NODATA);
    assert_eq!(backend.children().len(), before + 1);
    drop(guest);
    eventually("the renderer has ended", || backend.children().len() == before);
}

#[test]
fn a_renderer_that_is_named_must_work() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("gpu.sock");
    let (status, _, said) =
        paravane_tests::backend::run(&["--socket-path", socket.to_str().unwrap(), "--renderer", "/nowhere/renderer"]);
    assert!(!status.success() && said.contains("--renderer /nowhere/renderer: "), "{said}");
}
