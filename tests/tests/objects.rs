//! UUIDs of textures: what the front end hears of them and gets for them, with a renderer that draws nothing and gives files
//! of memory out.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use paravane_protocol::limits::SHARED_OBJECTS_MAX;
use paravane_protocol::virtio_gpu::{self as spec, ctrl, feature};
use paravane_tests::backend::{Backend, eventually};
use paravane_tests::frontend::{FrontEnd, command};
use paravane_tests::gl::{Renderer, context, gl, put, small_texture, stream, submit, texture};
use paravane_tests::guest::{create, unref};
use paravane_tests::window::Window;
use vhost::vhost_user::message::VhostUserSharedMsg;
use vhost::vhost_user::{VhostUserFrontend, VhostUserProtocolFeatures};
use vm_memory::ByteValued;
use zerocopy::IntoBytes;

/// A texture that the stand-in does not give out.
const NOT_SHARED: u32 = 1 << 31;

fn start() -> (Renderer, Backend, FrontEnd, Arc<Window>) {
    let renderer = Renderer::new(env!("CARGO_BIN_EXE_stand-in-renderer"));
    let backend = renderer.sharing_backend(&[]);
    let (guest, window, _) = FrontEnd::with_window(&backend.socket());
    (renderer, backend, guest, window)
}

fn of(id: u32) -> spec::ResourceRef {
    spec::ResourceRef { resource_id: id.into(), ..Default::default() }
}

/// Asks for a resource's UUID: the answer's number, or it.
fn assign(guest: &mut FrontEnd, id: u32) -> Result<[u8; 16], u32> {
    let answer = guest.command(ctrl::RESOURCE_ASSIGN_UUID, of(id).as_bytes());
    match answer.kind {
        ctrl::OK_RESOURCE_UUID => Ok(answer.bytes[24..].try_into().unwrap()),
        refused => Err(refused),
    }
}

/// What the front end gets for a UUID: what the file begins with.
fn look_up(guest: &mut FrontEnd, uuid: [u8; 16]) -> Option<u32> {
    let mut named = VhostUserSharedMsg::default();
    named.as_mut_slice().copy_from_slice(&uuid);
    let file = guest.vhost.get_shared_object(&named).ok()?;
    let mut word = [0; 4];
    file.read_exact_at(&mut word, 0).unwrap();
    Some(u32::from_le_bytes(word))
}

#[test]
fn a_texture_is_looked_up_by_its_uuid_until_it_is_gone() {
    let (_renderer, _backend, mut guest, window) = start();
    assert_eq!(texture(&mut guest, 7), ctrl::OK_NODATA);
    assert_eq!(texture(&mut guest, 8), ctrl::OK_NODATA);
    let seven = assign(&mut guest, 7).unwrap();
    assert_eq!((seven[6] >> 4, seven[8] >> 6), (4, 2), "random, by RFC 4122");
    assert_eq!(window.objects(), [seven].into(), "the front end knows when the guest does");
    let eight = assign(&mut guest, 8).unwrap();
    assert_eq!(assign(&mut guest, 7), Ok(seven));
    assert_eq!(window.objects(), [seven, eight].into());
    assert_eq!((look_up(&mut guest, seven), look_up(&mut guest, eight)), (Some(7), Some(8)));
    assert_eq!(look_up(&mut guest, [5; 16]), None);
    assert_eq!(unref(&mut guest, 7), ctrl::OK_NODATA);
    eventually("one object", || window.objects() == [eight].into());
    assert_eq!((look_up(&mut guest, seven), look_up(&mut guest, eight)), (None, Some(8)));
    assert_eq!(texture(&mut guest, 7), ctrl::OK_NODATA);
    assert_ne!(assign(&mut guest, 7).unwrap(), seven, "of another texture");
    guest.stop_queues();
    eventually("no object", || window.objects().is_empty());
    assert_eq!(look_up(&mut guest, eight), None);
}

#[test]
fn when_the_renderer_dies_its_textures_are_gone() {
    let (_renderer, _backend, mut guest, window) = start();
    assert_eq!(context(&mut guest, 5), ctrl::OK_NODATA);
    assert_eq!(texture(&mut guest, 7), ctrl::OK_NODATA);
    let seven = assign(&mut guest, 7).unwrap();
    assert_eq!(submit(&mut guest, 5, 0, b"die!"), ctrl::ERR_UNSPEC);
    eventually("no object", || window.objects().is_empty());
    assert_eq!(look_up(&mut guest, seven), None);
    assert_eq!(assign(&mut guest, 7), Err(ctrl::ERR_UNSPEC));
    assert_eq!(texture(&mut guest, 8), ctrl::OK_NODATA, "another renderer's");
    let eight = assign(&mut guest, 8).unwrap();
    assert_eq!(look_up(&mut guest, eight), Some(8));
}

#[test]
fn only_what_others_can_have_gets_a_uuid() {
    let (_renderer, backend, mut guest, window) = start();
    assert_ne!(guest.offered & 1 << feature::RESOURCE_UUID, 0);
    assert_eq!(create(&mut guest, 1, 2, 8, 8), ctrl::OK_NODATA);
    assert_eq!(assign(&mut guest, 1), Err(ctrl::ERR_INVALID_RESOURCE_ID), "a picture in 2D");
    for id in [0, 404, u32::MAX] {
        assert_eq!(assign(&mut guest, id), Err(ctrl::ERR_INVALID_RESOURCE_ID));
    }
    let mut wanted = small_texture(2);
    wanted.bind = NOT_SHARED.into();
    assert_eq!(gl(&mut guest, ctrl::RESOURCE_CREATE_3D, 0, 0, &wanted), ctrl::OK_NODATA);
    assert_eq!(assign(&mut guest, 2), Err(ctrl::ERR_UNSPEC));
    assert!(window.objects().is_empty());
    // A front end that has no channel for requests.
    let mut other = FrontEnd::connect(&backend.socket());
    assert_eq!(texture(&mut other, 3), ctrl::OK_NODATA);
    assert_eq!(assign(&mut other, 3), Err(ctrl::ERR_UNSPEC));
}

#[test]
fn a_host_that_gives_nothing_out_offers_no_uuids() {
    let renderer = Renderer::new(env!("CARGO_BIN_EXE_stand-in-renderer"));
    let backend = renderer.backend(&[]);
    let mut guest = FrontEnd::connect(&backend.socket());
    assert_eq!(guest.offered & 1 << feature::RESOURCE_UUID, 0);
    let features = guest.vhost.get_protocol_features().unwrap();
    assert!(!features.contains(VhostUserProtocolFeatures::SHARED_OBJECT));
    assert_eq!(texture(&mut guest, 3), ctrl::OK_NODATA);
    assert_eq!(assign(&mut guest, 3), Err(ctrl::ERR_UNSPEC));
}

#[test]
fn a_flood_of_uuids_is_bounded_and_room_comes_back() {
    let (_renderer, _backend, mut guest, window) = start();
    let last = u32::try_from(SHARED_OBJECTS_MAX).unwrap();
    for id in 1..=last + 1 {
        assert_eq!(texture(&mut guest, id), ctrl::OK_NODATA);
    }
    let first = assign(&mut guest, 1).unwrap();
    for id in 2..=last {
        assert!(assign(&mut guest, id).is_ok());
    }
    assert_eq!(assign(&mut guest, last + 1), Err(ctrl::ERR_OUT_OF_MEMORY));
    for _ in 0..100 {
        assert_eq!(assign(&mut guest, 1), Ok(first), "what there is has one already");
    }
    assert_eq!(window.objects().len(), SHARED_OBJECTS_MAX);
    assert_eq!(unref(&mut guest, 2), ctrl::OK_NODATA);
    assert!(assign(&mut guest, last + 1).is_ok());
}

#[test]
fn a_front_end_that_is_busy_holds_nobody_up() {
    let (_renderer, _backend, mut guest, window) = start();
    assert_eq!(context(&mut guest, 5), ctrl::OK_NODATA);
    assert_eq!(texture(&mut guest, 7), ctrl::OK_NODATA);
    window.pause.hold(true);
    let waits = guest.put(0, &command(ctrl::RESOURCE_ASSIGN_UUID, 0, of(7).as_bytes()));
    let submits = put(&mut guest, ctrl::SUBMIT_3D, 5, 0, &stream(b"draw")[..]);
    guest.kick(0);
    assert_eq!(guest.wait(0).head, submits, "while the front end does not answer");
    window.pause.hold(false);
    let assigned = guest.wait(0);
    assert_eq!((assigned.head, assigned.kind), (waits, ctrl::OK_RESOURCE_UUID));
}

#[test]
fn a_texture_that_is_gone_before_its_uuid_leaves_none() {
    let (_renderer, _backend, mut guest, window) = start();
    assert_eq!(texture(&mut guest, 7), ctrl::OK_NODATA);
    let made = command(ctrl::RESOURCE_CREATE_3D, 0, small_texture(7).as_bytes());
    let named = command(ctrl::RESOURCE_ASSIGN_UUID, 0, of(7).as_bytes());
    let gone = command(ctrl::RESOURCE_UNREF, 0, of(7).as_bytes());
    for _ in 0..20 {
        for bytes in [&named, &gone, &made, &named, &gone, &made] {
            guest.put(0, bytes);
        }
        guest.kick(0);
        for _ in 0..6 {
            let kind = guest.wait(0).kind;
            assert!([ctrl::OK_NODATA, ctrl::OK_RESOURCE_UUID, ctrl::ERR_INVALID_RESOURCE_ID].contains(&kind), "{kind:#x}");
        }
    }
    let seven = assign(&mut guest, 7).unwrap();
    eventually("one object", || window.objects() == [seven].into());
    assert_eq!(look_up(&mut guest, seven), Some(7));
}
