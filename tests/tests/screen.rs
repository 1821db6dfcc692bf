//! What a guest draws, as the front end's screen is told of it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::HashMap;

use paravane_protocol::virtio_gpu::{self as spec, Rect, ctrl};
use paravane_tests::backend::Backend;
use paravane_tests::frontend::{FrontEnd, command};
use paravane_tests::guest::{attach, create, unref};
use paravane_tests::screen::{Screen, Told, WIDTH};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use vm_memory::{Bytes, GuestAddress};
use zerocopy::{FromBytes, IntoBytes};

/// B8G8R8X8 and R8G8B8X8.
const BGRX: u32 = 2;
const RGBX: u32 = 134;

fn rect(x: u32, y: u32, width: u32, height: u32) -> Rect {
    Rect { x: x.into(), y: y.into(), width: width.into(), height: height.into() }
}

fn start() -> (Backend, FrontEnd, Screen) {
    let backend = Backend::start(&["--log-level", "off"]);
    let (guest, screen) = FrontEnd::with_screen(&backend.socket());
    (backend, guest, screen)
}

/// A picture with a page of pixels, each its own number.
fn picture(guest: &mut FrontEnd, id: u32, format: u32, width: u32, height: u32) -> u64 {
    let pages = guest.pages(4096);
    for at in 0..1024_u32 {
        guest.memory.write_obj(at | id << 16, GuestAddress(pages + u64::from(at) * 4)).unwrap();
    }
    assert_eq!(create(guest, id, format, width, height), ctrl::OK_NODATA);
    assert_eq!(attach(guest, id, &[(pages, 4096)]), ctrl::OK_NODATA);
    pages
}

fn set_scanout(guest: &mut FrontEnd, scanout: u32, resource: u32, r: Rect) -> u32 {
    let body = spec::SetScanout { r, scanout_id: scanout.into(), resource_id: resource.into() };
    guest.send(ctrl::SET_SCANOUT, &body)
}

fn transfer(guest: &mut FrontEnd, resource: u32, r: Rect, offset: u64) -> u32 {
    let body =
        spec::TransferToHost2d { r, offset: offset.into(), resource_id: resource.into(), ..Default::default() };
    guest.send(ctrl::TRANSFER_TO_HOST_2D, &body)
}

fn flush(guest: &mut FrontEnd, resource: u32, r: Rect) -> u32 {
    guest.send(ctrl::RESOURCE_FLUSH, &spec::ResourceFlush { r, resource_id: resource.into(), ..Default::default() })
}

#[test]
fn what_is_transferred_and_flushed_is_shown() {
    let (_backend, mut guest, screen) = start();
    picture(&mut guest, 1, BGRX, 8, 4);
    assert_eq!(transfer(&mut guest, 1, rect(0, 0, 8, 4), 0), ctrl::OK_NODATA);
    // A part of it, whose pixels go out at once.
    assert_eq!(set_scanout(&mut guest, 0, 1, rect(2, 1, 4, 2)), ctrl::OK_NODATA);
    assert_eq!(screen.told(), Told::Size(0, 4, 2));
    let pixel = |at: u32| 1 << 16 | at;
    let rows = [10, 11, 12, 13, 18, 19, 20, 21].map(pixel).to_vec();
    assert_eq!(screen.told(), Told::Update([0, 0, 0, 4, 2], rows));
    // Other bytes, of which only what is flushed and seen goes out.
    assert_eq!(transfer(&mut guest, 1, rect(0, 0, 8, 4), 32 * 4), ctrl::OK_NODATA);
    assert_eq!(flush(&mut guest, 1, rect(0, 2, 4, 2)), ctrl::OK_NODATA);
    assert_eq!(screen.told(), Told::Update([0, 0, 1, 2, 1], [50, 51].map(pixel).to_vec()));
    assert_eq!(flush(&mut guest, 1, rect(0, 0, 8, 1)), ctrl::OK_NODATA);
    assert_eq!(unref(&mut guest, 1), ctrl::OK_NODATA);
    assert_eq!(screen.told(), Told::Size(0, 0, 0), "nothing of the flush was seen");
}

#[test]
fn of_pages_that_are_turned_only_what_differs_goes_out() {
    let (_backend, mut guest, screen) = start();
    let whole = rect(0, 0, 4, 2);
    let pages = [1, 2].map(|id| picture(&mut guest, id, BGRX, 4, 2));
    assert_eq!(transfer(&mut guest, 1, whole, 0), ctrl::OK_NODATA);
    assert_eq!(set_scanout(&mut guest, 0, 1, whole), ctrl::OK_NODATA);
    assert_eq!(screen.told(), Told::Size(0, 4, 2));
    let pixels: Vec<u32> = (0..8).map(|at| 1 << 16 | at).collect();
    assert_eq!(screen.told(), Told::Update([0, 0, 0, 4, 2], pixels.clone()));
    for (at, pixel) in (0..).zip(&pixels) {
        guest.memory.write_obj(if at == 6 { 7 } else { *pixel }, GuestAddress(pages[1] + at * 4)).unwrap();
    }
    assert_eq!(transfer(&mut guest, 2, whole, 0), ctrl::OK_NODATA);
    assert_eq!(set_scanout(&mut guest, 0, 2, whole), ctrl::OK_NODATA);
    assert_eq!(screen.told(), Told::Update([0, 2, 1, 1, 1], vec![7]));
    assert_eq!(set_scanout(&mut guest, 0, 1, whole), ctrl::OK_NODATA);
    assert_eq!(screen.told(), Told::Update([0, 2, 1, 1, 1], vec![pixels[6]]));
    // Nothing has been transferred to this one: it is black.
    picture(&mut guest, 3, BGRX, 4, 2);
    assert_eq!(set_scanout(&mut guest, 0, 3, whole), ctrl::OK_NODATA);
    assert_eq!(screen.told(), Told::Update([0, 0, 0, 4, 2], vec![0; 8]));
}

#[test]
fn other_orders_of_bytes_are_turned_round() {
    let (_backend, mut guest, screen) = start();
    let pages = picture(&mut guest, 1, RGBX, 1, 1);
    guest.memory.write_slice(&[1, 2, 3, 4], GuestAddress(pages)).unwrap();
    transfer(&mut guest, 1, rect(0, 0, 1, 1), 0);
    assert_eq!(set_scanout(&mut guest, 3, 1, rect(0, 0, 1, 1)), ctrl::OK_NODATA);
    assert_eq!(screen.told(), Told::Size(3, 1, 1));
    assert_eq!(screen.told(), Told::Update([3, 0, 0, 1, 1], vec![0x0401_0203]));
}

#[test]
fn a_blob_is_shown_from_its_pages() {
    let (_backend, mut guest, screen) = start();
    let pages = guest.pages(8192);
    for at in 0..2048_u32 {
        guest.memory.write_obj(at, GuestAddress(pages + u64::from(at) * 4)).unwrap();
    }
    // Its pages lie in the other order.
    let head = spec::ResourceCreateBlob {
        resource_id: 1.into(),
        blob_mem: spec::BLOB_MEM_GUEST.into(),
        nr_entries: 2.into(),
        size: 8192.into(),
        ..Default::default()
    };
    let entry = |addr: u64| spec::MemEntry { addr: addr.into(), length: 4096.into(), ..Default::default() };
    let body = [head.as_bytes(), entry(pages + 4096).as_bytes(), entry(pages).as_bytes()].concat();
    assert_eq!(guest.command(ctrl::RESOURCE_CREATE_BLOB, &body).kind, ctrl::OK_NODATA);
    let shown = spec::SetScanoutBlob {
        r: rect(1, 0, 2, 2),
        resource_id: 1.into(),
        width: 100.into(),
        height: 2.into(),
        format: BGRX.into(),
        strides: [4000.into(), 0.into(), 0.into(), 0.into()],
        offsets: [96.into(), 0.into(), 0.into(), 0.into()],
        ..Default::default()
    };
    assert_eq!(guest.send(ctrl::SET_SCANOUT_BLOB, &shown), ctrl::OK_NODATA);
    assert_eq!(screen.told(), Told::Size(0, 2, 2));
    // Word 24 begins the picture, word 1024 is the first of the second page.
    assert_eq!(screen.told(), Told::Update([0, 0, 0, 2, 2], vec![1024 + 25, 1024 + 26, 1, 2]));
}

#[test]
fn the_cursor_is_shown_moved_and_hidden() {
    let (_backend, mut guest, screen) = start();
    picture(&mut guest, 1, BGRX, 16, 16);
    transfer(&mut guest, 1, rect(0, 0, 16, 16), 0);
    let mut body = spec::UpdateCursor {
        x: 7.into(),
        y: 8.into(),
        resource_id: 1.into(),
        hot_x: 2.into(),
        hot_y: 3.into(),
        ..Default::default()
    };
    let mut tell = |kind, body: &spec::UpdateCursor| {
        guest.put(1, &command(kind, 0, body.as_bytes()));
        guest.kick(1);
        guest.wait(1).kind
    };
    assert_eq!(tell(ctrl::UPDATE_CURSOR, &body), ctrl::OK_NODATA);
    let Told::Picture(place, pixels) = screen.told() else { panic!("no picture") };
    assert_eq!(place, [0, 7, 8, 2, 3]);
    assert_eq!((pixels[15], pixels[16], pixels[64]), (1 << 16 | 15, 0, 1 << 16 | 16), "64 a row, padded");
    body.x = 9.into();
    assert_eq!(tell(ctrl::MOVE_CURSOR, &body), ctrl::OK_NODATA);
    assert_eq!(screen.told(), Told::Cursor(4, [0, 9, 8]));
    body.resource_id = 0.into();
    assert_eq!(tell(ctrl::UPDATE_CURSOR, &body), ctrl::OK_NODATA);
    assert_eq!(screen.told(), Told::Cursor(5, [0, 9, 8]));
    body.scanout_id = 16.into();
    assert_eq!(tell(ctrl::MOVE_CURSOR, &body), ctrl::ERR_INVALID_SCANOUT_ID);
}

#[test]
fn questions_are_the_screens_to_answer() {
    let (_backend, mut guest, _screen) = start();
    let answer = guest.command(ctrl::GET_DISPLAY_INFO, &[]);
    let (info, _) = spec::DisplayInfo::read_from_prefix(&answer.bytes[24..]).unwrap();
    assert_eq!((answer.kind, info.pmodes[0].r.width.get()), (ctrl::OK_DISPLAY_INFO, WIDTH));
    let wanted = spec::GetEdid { scanout: 9.into(), ..Default::default() };
    let answer = guest.command(ctrl::GET_EDID, wanted.as_bytes());
    let (edid, _) = spec::Edid::read_from_prefix(&answer.bytes[24..]).unwrap();
    assert_eq!((answer.kind, edid.size.get(), edid.edid[255]), (ctrl::OK_EDID, 256, 5));
}

#[test]
fn a_reset_darkens_the_screen_and_the_guest_may_begin_again() {
    let (_backend, mut guest, screen) = start();
    for _ in 0..2 {
        picture(&mut guest, 1, BGRX, 2, 2);
        assert_eq!(set_scanout(&mut guest, 0, 1, rect(0, 0, 2, 2)), ctrl::OK_NODATA);
        assert_eq!(screen.told(), Told::Size(0, 2, 2));
        assert_eq!(screen.told(), Told::Update([0, 0, 0, 2, 2], vec![0; 4]));
        guest.stop_queues();
        assert_eq!(screen.told(), Told::Size(0, 0, 0));
        guest.start_queues();
    }
}

/// Sides of a picture that has rows long enough to be told apart, and of the part of it that is shown.
const WIDE: u32 = 72;
const ROWS: u32 = 8;
const SHOWN_WIDE: u32 = 64;
const SHOWN_ROWS: u32 = 5;

/// What a guest with two such pictures does next.
#[derive(Clone, Debug)]
enum Turn {
    /// A pixel of a picture has another colour in guest memory.
    Paint(usize, usize, u32),
    Transfer(usize, Rect),
    Flush(usize, Rect),
    /// From there on.
    Show(usize, u32, u32),
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let part = prop_oneof![
        Just(rect(0, 0, WIDE, ROWS)),
        (0..WIDE, 0..ROWS, 1..=WIDE, 1..=ROWS)
            .prop_map(|(x, y, width, height)| rect(x, y, width.min(WIDE - x), height.min(ROWS - y))),
    ];
    let at = 0..(WIDE * ROWS) as usize;
    let turn = prop_oneof![
        3 => (0..2_usize, at, 0..3_u32).prop_map(|(of, at, colour)| Turn::Paint(of, at, colour)),
        3 => (0..2_usize, part.clone()).prop_map(|(of, part)| Turn::Transfer(of, part)),
        3 => (0..2_usize, part).prop_map(|(of, part)| Turn::Flush(of, part)),
        1 => (0..2_usize, 0..=WIDE - SHOWN_WIDE, 0..=ROWS - SHOWN_ROWS).prop_map(|(of, x, y)| Turn::Show(of, x, y)),
    ];
    proptest::collection::vec(turn, 1..80)
}

/// A picture's resource.
fn number(of: usize) -> u32 {
    u32::try_from(of).unwrap() + 1
}

/// The pixels of a rectangle of a picture.
fn pixels_of(r: &Rect) -> impl Iterator<Item = (u32, u32)> + use<> {
    let [x, y, width, height] = [r.x, r.y, r.width, r.height].map(|side| side.get());
    (y..y + height).flat_map(move |y| (x..x + width).map(move |x| (x, y)))
}

#[test]
fn the_screen_shows_what_a_guest_has_drawn_and_nothing_else() {
    let (_backend, mut guest, screen) = start();
    let pages = [1, 2].map(|id| picture(&mut guest, id, BGRX, WIDE, ROWS));
    let place = |x: u32, y: u32| (y * WIDE + x) as usize;
    let mut painted = [1, 2].map(|id| (0..WIDE * ROWS).map(|at| at | id << 16).collect::<Vec<_>>());
    let mut transferred = painted.each_ref().map(|picture| vec![0; picture.len()]);
    // What should be seen, what is, and of which picture, from where on.
    let mut expected = vec![0_u32; (SHOWN_WIDE * SHOWN_ROWS) as usize];
    let mut seen = expected.clone();
    let mut shown = None;
    let (mut runner, mut updates) = (TestRunner::new(Config { failure_persistence: None, ..Config::default() }), 0);
    for round in 0..100 {
        let all = turns().new_tree(&mut runner).unwrap().current();
        for turn in all.clone() {
            let drawn = match turn {
                Turn::Paint(of, at, colour) => {
                    painted[of][at] = colour;
                    guest.memory.write_obj(colour, GuestAddress(pages[of] + at as u64 * 4)).unwrap();
                    continue;
                }
                Turn::Transfer(of, part) => {
                    let offset = place(part.x.get(), part.y.get()) as u64 * 4;
                    assert_eq!(transfer(&mut guest, number(of), part, offset), ctrl::OK_NODATA);
                    pixels_of(&part).for_each(|(x, y)| transferred[of][place(x, y)] = painted[of][place(x, y)]);
                    continue;
                }
                Turn::Flush(of, part) => {
                    assert_eq!(flush(&mut guest, number(of), part), ctrl::OK_NODATA);
                    (of, part)
                }
                Turn::Show(of, x, y) => {
                    let part = rect(x, y, SHOWN_WIDE, SHOWN_ROWS);
                    assert_eq!(set_scanout(&mut guest, 0, number(of), part), ctrl::OK_NODATA);
                    shown = Some((of, x, y));
                    (of, part)
                }
            };
            let Some((of, left, top)) = shown.filter(|(of, ..)| *of == drawn.0) else { continue };
            for (x, y) in pixels_of(&drawn.1) {
                let within = x.checked_sub(left).zip(y.checked_sub(top)).filter(|(x, y)| *x < SHOWN_WIDE && *y < SHOWN_ROWS);
                let at = within.map(|(x, y)| (y * SHOWN_WIDE + x) as usize);
                at.into_iter().for_each(|at| expected[at] = transferred[of][place(x, y)]);
            }
        }
        // Another scanout's news come last.
        assert_eq!(set_scanout(&mut guest, 1, 1, rect(0, 0, 1 + round % 2, 1)), ctrl::OK_NODATA);
        loop {
            let (x, y, width, height, pixels) = match screen.told() {
                Told::Update([0, x, y, width, height], pixels) => (x, y, width, height, pixels),
                Told::Size(1, ..) => break,
                _ => continue,
            };
            updates += 1;
            for ((x, y), pixel) in pixels_of(&rect(x, y, width, height)).zip(pixels) {
                seen[(y * SHOWN_WIDE + x) as usize] = pixel;
            }
        }
        assert!(seen == expected, "after {all:?}");
    }
    assert!(updates > 100, "{updates} updates are no test");
}

/// What a guest that draws at random does next.
#[derive(Clone, Debug)]
enum Draw {
    Scanout(u32, u32, [u32; 4]),
    Transfer(u32, [u32; 4], u64),
    Flush(u32, [u32; 4]),
    Again(u32, u32, u32),
}

fn draws() -> impl Strategy<Value = Vec<Draw>> {
    let small = (0..6_u32, 0..4_u32, 0..9_u32, 0..9_u32).prop_map(|(x, y, width, height)| [x, y, width, height]);
    let wild = proptest::array::uniform4(prop_oneof![0..40_u32, Just(u32::MAX), Just(1 << 31)]);
    let part = prop_oneof![4 => small, 1 => wild];
    let resource = || 1..4_u32;
    let offset = prop_oneof![4 => 0..64_u64, 1 => Just(4092), 1 => any::<u64>()];
    let draw = prop_oneof![
        (0..3_u32, 0..4_u32, part.clone()).prop_map(|(scanout, of, part)| Draw::Scanout(scanout, of, part)),
        (resource(), part.clone(), offset).prop_map(|(of, part, offset)| Draw::Transfer(of, part, offset)),
        (resource(), part).prop_map(|(of, part)| Draw::Flush(of, part)),
        (resource(), 4..40_u32, 4..25_u32).prop_map(|(of, width, height)| Draw::Again(of, width, height)),
    ];
    proptest::collection::vec(draw, 1..60)
}

#[test]
fn a_guest_that_draws_at_random_never_leaves_the_screen() {
    let (_backend, mut guest, screen) = start();
    let pages = guest.pages(4096);
    let runner = TestRunner::new(Config { cases: 60, failure_persistence: None, ..Config::default() });
    let mut sizes: HashMap<u32, (u32, u32)> = HashMap::new();
    let (mut runner, mut updates) = (runner, 0);
    for _ in 0..60 {
        let tree = draws().new_tree(&mut runner).unwrap();
        for draw in tree.current() {
            let part = |[x, y, width, height]: [u32; 4]| rect(x, y, width, height);
            let answer = match draw {
                Draw::Scanout(scanout, of, at) => set_scanout(&mut guest, scanout, of, part(at)),
                Draw::Transfer(of, at, offset) => transfer(&mut guest, of, part(at), offset),
                Draw::Flush(of, at) => flush(&mut guest, of, part(at)),
                Draw::Again(of, width, height) => {
                    unref(&mut guest, of);
                    create(&mut guest, of, BGRX, width, height);
                    attach(&mut guest, of, &[(pages, 4096)])
                }
            };
            assert!((0x1100..0x1300).contains(&answer), "{answer:#x}");
        }
        for told in screen.rest() {
            match told {
                Told::Size(scanout, width, height) => {
                    sizes.insert(scanout, (width, height));
                }
                Told::Update([scanout, x, y, width, height], _) => {
                    let (whole, rows) = sizes[&scanout];
                    assert!(x + width <= whole && y + height <= rows);
                    updates += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(updates > 20, "{updates} updates are no test");
}
