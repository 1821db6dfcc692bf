//! What the device makes of 3D commands, with a renderer that draws nothing:
//! `cargo xtask gl` draws in a guest.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use paravane_protocol::channel::Status;
use paravane_protocol::virtio_gpu::{self as spec, Rect, ctrl};
use paravane_tests::backend::eventually;
use paravane_tests::frontend::FrontEnd;
use paravane_tests::gl::{Renderer, context, gl, put, small_texture, stream, submit, texture};
use paravane_tests::guest::{attach, ready_channel, unref};
use paravane_tests::report::Report;
use paravane_tests::screen::Told;
use zerocopy::{FromBytes, IntoBytes};

fn renderer() -> Renderer {
    Renderer::new(env!("CARGO_BIN_EXE_stand-in-renderer"))
}

#[test]
fn the_renderers_capset_comes_after_paravanes() {
    let renderer = renderer();
    let backend = renderer.backend(&[]);
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
    let renderer = renderer();
    let backend = renderer.backend(&[]);
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
    let renderer = renderer();
    let backend = renderer.backend(&[]);
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
    let renderer = renderer();
    let backend = renderer.backend(&[]);
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

/// A texture of a million pixels: 4 MiB.
fn large_texture(guest: &mut FrontEnd, id: u32) -> u32 {
    let wanted = spec::ResourceCreate3d { width: 1024.into(), height: 1024.into(), ..small_texture(id) };
    gl(guest, ctrl::RESOURCE_CREATE_3D, 0, 0, &wanted)
}

#[test]
fn textures_are_of_the_memory_quota() {
    let (renderer, report) = (renderer(), Report::default());
    let backend = renderer.backend(&[&["--memory-quota", "10M"], &report.arguments()[..]].concat());
    let mut guest = FrontEnd::connect(&backend.socket());
    assert_eq!([large_texture(&mut guest, 1), large_texture(&mut guest, 2)], [ctrl::OK_NODATA; 2]);
    assert_eq!(large_texture(&mut guest, 3), ctrl::ERR_OUT_OF_MEMORY);
    // Who decides whose memory is on the device knows of it.
    let page = backend.lease_page();
    assert_eq!((page.held().claim, page.held().resident), (8 << 20, 8 << 20));
    // The VM goes on, and what is freed can be had again.
    assert_eq!([texture(&mut guest, 3), unref(&mut guest, 1)], [ctrl::OK_NODATA; 2]);
    assert_eq!(large_texture(&mut guest, 1), ctrl::OK_NODATA);
    let absurd = spec::ResourceCreate3d { depth: u32::MAX.into(), nr_samples: u32::MAX.into(), ..small_texture(9) };
    assert_eq!(gl(&mut guest, ctrl::RESOURCE_CREATE_3D, 0, 0, &absurd), ctrl::ERR_OUT_OF_MEMORY);
    // A renderer that dies gives back all that it had.
    context(&mut guest, 5);
    assert_eq!(submit(&mut guest, 5, 3, b"die!"), ctrl::ERR_UNSPEC);
    assert_eq!(page.held().resident, 0);
    assert_eq!([large_texture(&mut guest, 6), large_texture(&mut guest, 7)], [ctrl::OK_NODATA; 2]);
    drop(guest);
    let mebi = 1_u64 << 20;
    assert_eq!(report.processes(2)[0]["memory_peak_bytes"], 8 * mebi + 4096);
    let report = report.now().unwrap();
    assert_eq!(report["totals"]["memory_bytes"], 0);
    assert_eq!(report["totals"]["memory_peak_bytes"], 8 * mebi + 4096);
}

#[test]
fn a_stream_that_makes_memory_of_its_own_is_refused() {
    let renderer = renderer();
    let backend = renderer.backend(&[]);
    let mut guest = FrontEnd::connect(&backend.socket());
    context(&mut guest, 5);
    let words: [u32; 4] = [0, 1 << 16 | 7, 0, 11 << 16 | 48];
    assert_eq!(submit(&mut guest, 5, 0, words.as_bytes()), ctrl::ERR_UNSPEC);
    assert!(renderer.told().is_empty());
}

#[test]
fn answers_keep_the_order_of_fences() {
    let renderer = renderer();
    let backend = renderer.backend(&[]);
    let mut guest = FrontEnd::connect(&backend.socket());
    context(&mut guest, 5);
    let mut heads = Vec::new();
    for (fence, body) in [(1, b"late"), (2, b"draw")] {
        heads.push(put(&mut guest, ctrl::SUBMIT_3D, 5, fence, &stream(body)[..]));
    }
    guest.kick(0);
    assert_eq!([guest.wait(0).head, guest.wait(0).head], heads[..], "the second was done first");
}

#[test]
fn a_texture_is_shown_as_the_renderer_reads_it_back() {
    let renderer = renderer();
    let backend = renderer.backend(&[]);
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
    let renderer = renderer();
    let backend = renderer.backend(&[]);
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

#[test]
fn a_render_node_needs_a_renderer() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("gpu.sock");
    let (status, _, said) =
        paravane_tests::backend::run(&["--socket-path", socket.to_str().unwrap(), "--render-node", "/dev/dri/renderD128"]);
    assert!(!status.success() && said.contains("--render"), "{said}");
}

#[test]
fn a_renderer_inherits_nothing_of_its_front_ends() {
    let renderer = renderer();
    let backend = renderer.backend(&["--vulkan", "--vulkan-window", "64M"]);
    // Has a socket for requests to the front end.
    let (mut guest, ..) = FrontEnd::with_window(&backend.socket());
    context(&mut guest, 5);
    assert_eq!(submit(&mut guest, 5, 1, b"draw"), ctrl::OK_NODATA);
    let is_it = |pid: &u32| std::fs::read_link(format!("/proc/{pid}/exe")).unwrap().ends_with("stand-in-renderer");
    let pid = backend.children().into_iter().find(is_it).unwrap();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().map(|fd| std::fs::read_link(fd.unwrap().path()).unwrap());
    let sockets: std::collections::BTreeSet<_> = open.filter(|what| what.to_string_lossy().starts_with("socket:")).collect();
    assert_eq!(sockets.len(), 1, "its own alone: {sockets:?}");
}
