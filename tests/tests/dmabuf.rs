//! Textures on scanouts that the front end gets as dma-bufs, with a renderer that draws nothing and gives files of memory
//! out: no machine of the tests has a GPU.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::process::Command;

use paravane_protocol::virtio_gpu::{self as spec, Rect, ctrl};
use paravane_tests::backend::{Backend, executable};
use paravane_tests::frontend::{FrontEnd, command};
use paravane_tests::gl::{Renderer, context, gl, small_texture, submit};
use paravane_tests::guest::{attach, create, unref};
use paravane_tests::screen::{DMABUF2, EDID, Screen, Told};
use zerocopy::IntoBytes;

/// XR24, and the tiles of the stand-in.
const FOURCC: u32 = 0x3432_5258;
const TILES: u64 = 1 << 56 | 1;
/// Binds of textures that the stand-in treats its own way.
const NOT_SHARED: u32 = 1 << 31;
const TILED: u32 = 1 << 30;
const INSIDE: u32 = 1 << 29;
/// The origin is at the top.
const TOP: u32 = 1;
const WHOLE: [u32; 4] = [0, 0, 4, 2];

fn rect([x, y, width, height]: [u32; 4]) -> Rect {
    Rect { x: x.into(), y: y.into(), width: width.into(), height: height.into() }
}

fn renderer() -> Renderer {
    Renderer::new(env!("CARGO_BIN_EXE_stand-in-renderer"))
}

fn start(features: u64) -> (Renderer, Backend, FrontEnd, Screen) {
    let renderer = renderer();
    let backend = renderer.sharing_backend(&["--dmabuf-scanout"]);
    let (mut guest, screen) = FrontEnd::with_screen_of(&backend.socket(), features);
    // It has said what it can when it answers.
    assert_eq!(guest.command(ctrl::GET_DISPLAY_INFO, &[]).kind, ctrl::OK_DISPLAY_INFO);
    (renderer, backend, guest, screen)
}

/// A texture of four by two pixels.
fn texture(guest: &mut FrontEnd, id: u32, bind: u32) {
    let mut wanted = small_texture(id);
    wanted.bind = (wanted.bind.get() | bind).into();
    wanted.flags = TOP.into();
    assert_eq!(gl(guest, ctrl::RESOURCE_CREATE_3D, 0, 0, &wanted), ctrl::OK_NODATA);
}

fn scanout_of(scanout: u32, resource: u32, part: [u32; 4]) -> spec::SetScanout {
    spec::SetScanout { r: rect(part), scanout_id: scanout.into(), resource_id: resource.into() }
}

fn show(guest: &mut FrontEnd, scanout: u32, resource: u32, part: [u32; 4]) -> u32 {
    guest.send(ctrl::SET_SCANOUT, &scanout_of(scanout, resource, part))
}

fn flush(guest: &mut FrontEnd, resource: u32, part: [u32; 4]) -> u32 {
    let body = spec::ResourceFlush { r: rect(part), resource_id: resource.into(), ..Default::default() };
    guest.send(ctrl::RESOURCE_FLUSH, &body)
}

/// All of a texture on a scanout, as the front end with modifiers is told.
fn whole(scanout: u32, resource: u32) -> Told {
    Told::Shared([scanout, 0, 0, 4, 2, 4, 2, 16, TOP, FOURCC], Some(0), Some(resource))
}

/// A scanout has no dma-buf any more.
fn none(scanout: u32) -> Told {
    Told::Shared([scanout, 0, 0, 0, 0, 0, 0, 0, 0, 0], None, None)
}

/// The renderer's messages that read pixels.
fn read_backs(renderer: &Renderer) -> usize {
    renderer.told().iter().filter(|line| line.starts_with("0x2 ")).count()
}

#[test]
fn the_front_end_gets_the_dma_buf_once_and_then_what_has_changed() {
    let (renderer, _backend, mut guest, screen) = start(EDID | DMABUF2);
    texture(&mut guest, 7, 0);
    assert_eq!(show(&mut guest, 0, 7, [1, 0, 3, 2]), ctrl::OK_NODATA);
    assert_eq!(screen.told(), Told::Shared([0, 1, 0, 3, 2, 4, 2, 16, TOP, FOURCC], Some(0), Some(7)));
    assert_eq!(flush(&mut guest, 7, [0, 0, 2, 2]), ctrl::OK_NODATA);
    assert_eq!(screen.told(), Told::Touched([0, 0, 0, 1, 2]), "from the scanout's corner");
    assert_eq!(flush(&mut guest, 7, [0, 0, 1, 1]), ctrl::OK_NODATA);
    assert_eq!(flush(&mut guest, 7, [3, 1, 1, 1]), ctrl::OK_NODATA);
    assert_eq!(screen.told(), Told::Touched([0, 2, 1, 1, 1]), "nothing of the flush before was seen");
    assert_eq!(read_backs(&renderer), 0);
    let settles = renderer.told().iter().filter(|line| *line == "0x5 context 0 fence 1 bytes 0").count();
    assert_eq!(settles, 3, "each flush waits for what was drawn");
    // Flushes of what nobody looks at ask nobody.
    texture(&mut guest, 8, 0);
    assert_eq!(flush(&mut guest, 8, WHOLE), ctrl::OK_NODATA);
    assert_eq!(renderer.told().iter().filter(|line| line.starts_with("0x5 ")).count(), 3);
}

#[test]
fn what_cannot_be_shared_is_shown_by_its_pixels() {
    let (renderer, _backend, mut guest, screen) = start(EDID);
    for (id, bind) in [(1, NOT_SHARED), (2, TILED), (3, INSIDE)] {
        texture(&mut guest, id, bind);
        assert_eq!(show(&mut guest, 0, id, WHOLE), ctrl::OK_NODATA);
        assert_eq!(screen.told(), Told::Size(0, 4, 2));
        assert_eq!(flush(&mut guest, id, WHOLE), ctrl::OK_NODATA);
        assert_eq!(screen.told(), Told::Update([0, 0, 0, 4, 2], vec![0x1111_1111; 8]));
        // Dark in between: they all look alike, and what is as it was does not go out.
        assert_eq!(show(&mut guest, 0, 0, [0; 4]), ctrl::OK_NODATA);
        assert_eq!(screen.told(), Told::Size(0, 0, 0));
    }
    assert_eq!(read_backs(&renderer), 3);
    texture(&mut guest, 4, 0);
    assert_eq!(show(&mut guest, 0, 4, WHOLE), ctrl::OK_NODATA);
    let plain = Told::Shared([0, 0, 0, 4, 2, 4, 2, 16, TOP, FOURCC], None, Some(4));
    assert_eq!(screen.told(), plain, "rows need no modifier");
}

#[test]
fn tiles_are_for_front_ends_that_know_them() {
    let (_renderer, _backend, mut guest, screen) = start(EDID | DMABUF2);
    texture(&mut guest, 1, TILED);
    assert_eq!(show(&mut guest, 3, 1, WHOLE), ctrl::OK_NODATA);
    assert_eq!(screen.told(), Told::Shared([3, 0, 0, 4, 2, 4, 2, 16, TOP, FOURCC], Some(TILES), Some(1)));
}

#[test]
fn another_picture_takes_the_dma_bufs_place() {
    let (_renderer, _backend, mut guest, screen) = start(EDID | DMABUF2);
    texture(&mut guest, 7, 0);
    texture(&mut guest, 8, 0);
    let pages = guest.pages(4096);
    assert_eq!(create(&mut guest, 1, 2, 2, 1), ctrl::OK_NODATA);
    assert_eq!(attach(&mut guest, 1, &[(pages, 4096)]), ctrl::OK_NODATA);
    for _ in 0..2 {
        assert_eq!(show(&mut guest, 0, 7, WHOLE), ctrl::OK_NODATA);
        assert_eq!(screen.told(), whole(0, 7));
        assert_eq!(show(&mut guest, 0, 8, WHOLE), ctrl::OK_NODATA);
        assert_eq!(screen.told(), whole(0, 8));
        assert_eq!(flush(&mut guest, 7, WHOLE), ctrl::OK_NODATA);
        assert_eq!(show(&mut guest, 0, 1, [0, 0, 2, 1]), ctrl::OK_NODATA);
        assert_eq!(screen.told(), none(0), "and nothing of the one that is not shown");
        assert_eq!(screen.told(), Told::Size(0, 2, 1));
        assert_eq!(screen.told(), Told::Update([0, 0, 0, 2, 1], vec![0; 2]), "nothing has been transferred to it");
    }
    assert_eq!(show(&mut guest, 0, 7, WHOLE), ctrl::OK_NODATA);
    assert_eq!(screen.told(), whole(0, 7));
    assert_eq!(show(&mut guest, 0, 0, [0; 4]), ctrl::OK_NODATA);
    assert_eq!((screen.told(), screen.told()), (none(0), Told::Size(0, 0, 0)));
    assert_eq!(show(&mut guest, 2, 8, WHOLE), ctrl::OK_NODATA);
    assert_eq!(screen.told(), whole(2, 8));
    assert_eq!(unref(&mut guest, 8), ctrl::OK_NODATA);
    assert_eq!((screen.told(), screen.told()), (none(2), Told::Size(2, 0, 0)), "it goes with its resource");
    assert_eq!(show(&mut guest, 2, 7, WHOLE), ctrl::OK_NODATA);
    assert_eq!(screen.told(), whole(2, 7));
    guest.stop_queues();
    let after: Vec<Told> = (0..3).map(|_| screen.told()).collect();
    assert_eq!(after, [Told::Size(0, 0, 0), none(2), Told::Size(2, 0, 0)], "and with a reset");
}

#[test]
fn a_front_end_that_does_not_draw_holds_nobody_up() {
    let (_renderer, _backend, mut guest, screen) = start(EDID | DMABUF2);
    texture(&mut guest, 7, 0);
    texture(&mut guest, 8, 0);
    assert_eq!(show(&mut guest, 0, 7, WHOLE), ctrl::OK_NODATA);
    assert_eq!(screen.told(), whole(0, 7));
    screen.draws.hold(true);
    assert_eq!(flush(&mut guest, 7, [0, 0, 1, 1]), ctrl::OK_NODATA);
    assert_eq!(screen.told(), Told::Touched([0, 0, 0, 1, 1]));
    for _ in 0..200 {
        assert_eq!(flush(&mut guest, 7, [1, 0, 1, 1]), ctrl::OK_NODATA);
        assert_eq!(flush(&mut guest, 7, [2, 1, 1, 1]), ctrl::OK_NODATA);
    }
    screen.draws.hold(false);
    assert_eq!(screen.told(), Told::Touched([0, 1, 0, 2, 2]), "as one");
    assert_eq!(guest.command(ctrl::GET_DISPLAY_INFO, &[]).kind, ctrl::OK_DISPLAY_INFO);
    screen.draws.hold(true);
    assert_eq!(flush(&mut guest, 7, WHOLE), ctrl::OK_NODATA);
    assert_eq!(screen.told(), Told::Touched([0, 0, 0, 4, 2]));
    // Of pictures that nobody has looked at the last one counts.
    for id in [8, 7, 8, 7, 8] {
        assert_eq!(show(&mut guest, 0, id, WHOLE), ctrl::OK_NODATA);
        assert_eq!(flush(&mut guest, id, WHOLE), ctrl::OK_NODATA);
    }
    screen.draws.hold(false);
    assert_eq!((screen.told(), screen.told()), (whole(0, 8), Told::Touched([0, 0, 0, 4, 2])));
}

#[test]
fn a_scanout_of_what_is_gone_shows_what_came_after_it() {
    let (_renderer, _backend, mut guest, screen) = start(EDID | DMABUF2);
    texture(&mut guest, 7, 0);
    texture(&mut guest, 8, 0);
    // All in one go, so that the first is gone before the renderer has answered.
    let flushed = |id: u32| spec::ResourceFlush { r: rect(WHOLE), resource_id: id.into(), ..Default::default() };
    let gone = spec::ResourceRef { resource_id: 7.into(), ..Default::default() };
    let commands = [
        command(ctrl::SET_SCANOUT, 0, scanout_of(0, 7, WHOLE).as_bytes()),
        command(ctrl::RESOURCE_FLUSH, 0, flushed(7).as_bytes()),
        command(ctrl::RESOURCE_UNREF, 0, gone.as_bytes()),
        command(ctrl::SET_SCANOUT, 0, scanout_of(0, 8, WHOLE).as_bytes()),
        command(ctrl::RESOURCE_FLUSH, 9, flushed(8).as_bytes()),
    ];
    let heads = commands.map(|command| guest.put(0, &command));
    guest.kick(0);
    for _ in heads {
        assert_eq!(guest.wait(0).kind, ctrl::OK_NODATA);
    }
    let shown = std::iter::from_fn(|| Some(screen.told())).find(|told| *told == whole(0, 8));
    assert!(shown.is_some());
    assert_eq!(screen.told(), Told::Touched([0, 0, 0, 4, 2]));
    assert_eq!(show(&mut guest, 0, 7, WHOLE), ctrl::ERR_INVALID_RESOURCE_ID);
    assert_eq!(show(&mut guest, 16, 8, WHOLE), ctrl::ERR_INVALID_SCANOUT_ID);
    for wild in [[1, 0, 4, 2], [u32::MAX, 0, 1, 1], [0, 0, u32::MAX, u32::MAX]] {
        assert_eq!(show(&mut guest, 0, 8, wild), ctrl::ERR_INVALID_PARAMETER);
        assert_eq!(flush(&mut guest, 8, wild), ctrl::ERR_INVALID_PARAMETER);
    }
    assert_eq!(show(&mut guest, 1, 8, [1, 1, 0, 0]), ctrl::OK_NODATA);
    assert_eq!(screen.told(), Told::Size(1, 0, 0), "nothing of it");
    assert_eq!(flush(&mut guest, 8, WHOLE), ctrl::OK_NODATA);
    assert_eq!(screen.told(), Told::Touched([0, 0, 0, 4, 2]), "a scanout each way, of one flush");
}

#[test]
fn when_the_renderer_dies_the_last_picture_stays() {
    let (_renderer, _backend, mut guest, screen) = start(EDID | DMABUF2);
    assert_eq!(context(&mut guest, 5), ctrl::OK_NODATA);
    texture(&mut guest, 7, 0);
    assert_eq!(show(&mut guest, 0, 7, WHOLE), ctrl::OK_NODATA);
    assert_eq!(screen.told(), whole(0, 7));
    assert_eq!(submit(&mut guest, 5, 0, b"die!"), ctrl::ERR_UNSPEC);
    assert_eq!(flush(&mut guest, 7, WHOLE), ctrl::OK_NODATA, "of what is drawn no more");
    texture(&mut guest, 8, 0);
    assert_eq!(show(&mut guest, 0, 8, WHOLE), ctrl::OK_NODATA);
    assert_eq!(screen.told(), whole(0, 8), "another renderer's");
    assert_eq!(unref(&mut guest, 7), ctrl::OK_NODATA);
    assert_eq!(flush(&mut guest, 8, WHOLE), ctrl::OK_NODATA);
    assert_eq!(screen.told(), Told::Touched([0, 0, 0, 4, 2]));
}

#[test]
fn nobody_gets_a_dma_buf_who_was_not_to() {
    let renderer = renderer();
    let backend = renderer.sharing_backend(&[]);
    let (mut guest, screen) = FrontEnd::with_screen_of(&backend.socket(), EDID | DMABUF2);
    texture(&mut guest, 7, 0);
    assert_eq!(show(&mut guest, 0, 7, WHOLE), ctrl::OK_NODATA);
    assert_eq!(screen.told(), Told::Size(0, 4, 2));
    assert_eq!(flush(&mut guest, 7, WHOLE), ctrl::OK_NODATA);
    assert!(matches!(screen.told(), Told::Update(..)));
}

#[test]
fn a_host_that_cannot_says_why() {
    let (renderer, folder) = (renderer(), tempfile::tempdir().unwrap());
    let mut command = Command::new(executable());
    command.arg("--socket-path").arg(folder.path().join("gpu.sock")).arg("--dmabuf-scanout");
    let output = command.arg("--renderer").arg(renderer.path()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(said.contains("--dmabuf-scanout") && said.contains("it stands in"), "{said}");
}
