//! Blobs of the host's memory and the window in which a guest sees them, with a renderer that draws nothing: `cargo xtask gl`
//! has a guest's Vulkan use them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::Ordering;

use paravane_protocol::channel::Status;
use paravane_protocol::limits::WINDOW_PLACES_MAX;
use paravane_protocol::virtio_gpu::{self as spec, BLOB_MEM_HOST3D, CAPSET_VENUS, ctrl};
use paravane_tests::backend::{Backend, eventually};
use paravane_tests::frontend::{Answer, FrontEnd, MEMORY_BYTES, command};
use paravane_tests::gl::{Renderer, context, gl, put, stream};
use paravane_tests::guest::{ready_channel, unref};
use paravane_tests::window::Window;
use vhost::vhost_user::{VhostUserFrontend, VhostUserProtocolFeatures};
use zerocopy::{FromBytes, IntoBytes};

const WINDOW: u64 = 64 << 20;
const PAGE: u64 = 4096;
/// Names of blobs that the stand-in treats its own way: it does not make the first, the second's file is short, it says of the third
/// that nobody can map it, and nobody can write to the last's file.
const NOT_MADE: u64 = 13;
const SHORT: u64 = 14;
const NOT_MAPPABLE: u64 = 15;
const READ_ONLY: u64 = 16;
/// The context that the tests use.
const VULKAN: u32 = 5;

fn backend() -> (Renderer, Backend) {
    let renderer = Renderer::new(env!("CARGO_BIN_EXE_stand-in-renderer"));
    let backend = renderer.backend(&["--vulkan", "--vulkan-window", "64M"]);
    (renderer, backend)
}

/// A guest with a Vulkan context.
fn guest(backend: &Backend) -> (FrontEnd, Arc<Window>) {
    let (mut guest, window, bytes) = FrontEnd::with_window(&backend.socket());
    assert_eq!(bytes, WINDOW);
    assert_eq!(vulkan(&mut guest, VULKAN), ctrl::OK_NODATA);
    (guest, window)
}

fn vulkan(guest: &mut FrontEnd, id: u32) -> u32 {
    let create = spec::CtxCreate { context_init: CAPSET_VENUS.into(), ..Default::default() };
    gl(guest, ctrl::CTX_CREATE, id, 0, &create)
}

fn blob(id: u32, blob_id: u64, bytes: u64) -> spec::ResourceCreateBlob {
    spec::ResourceCreateBlob {
        resource_id: id.into(),
        blob_mem: BLOB_MEM_HOST3D.into(),
        blob_flags: 1.into(),
        nr_entries: 0.into(),
        blob_id: blob_id.into(),
        size: bytes.into(),
    }
}

fn create(guest: &mut FrontEnd, id: u32, blob_id: u64, bytes: u64) -> u32 {
    gl(guest, ctrl::RESOURCE_CREATE_BLOB, VULKAN, 0, &blob(id, blob_id, bytes))
}

fn map(guest: &mut FrontEnd, id: u32, offset: u64) -> Answer {
    let body = spec::ResourceMapBlob { resource_id: id.into(), padding: 0.into(), offset: offset.into() };
    guest.command(ctrl::RESOURCE_MAP_BLOB, body.as_bytes())
}

/// The same, but does not wait. The head of the command's chain.
fn put_map(guest: &mut FrontEnd, id: u32, offset: u64) -> u16 {
    let body = spec::ResourceMapBlob { resource_id: id.into(), padding: 0.into(), offset: offset.into() };
    guest.put(0, &command(ctrl::RESOURCE_MAP_BLOB, 0, body.as_bytes()))
}

fn unmap(guest: &mut FrontEnd, id: u32) -> u32 {
    guest.send(ctrl::RESOURCE_UNMAP_BLOB, &spec::ResourceRef { resource_id: id.into(), ..Default::default() })
}

#[test]
fn a_blob_is_seen_in_the_window_from_map_to_unmap() {
    let (_renderer, backend) = backend();
    let (mut guest, window) = guest(&backend);
    assert_eq!(create(&mut guest, 7, 0, 2 * PAGE), ctrl::OK_NODATA);
    let answer = map(&mut guest, 7, 0x10000);
    assert_eq!(answer.kind, ctrl::OK_MAP_INFO);
    let (info, _) = spec::MapInfo::read_from_prefix(&answer.bytes[24..]).unwrap();
    assert_eq!(info.map_info.get(), 1, "what the renderer says");
    assert_eq!(window.places(), [(0x10000, 2 * PAGE)]);
    assert_eq!(window.read(0x10000, 4), 7_u32.to_le_bytes(), "the blob's own file");
    assert_eq!(unmap(&mut guest, 7), ctrl::OK_NODATA);
    assert_eq!(window.places(), []);
    assert_eq!(unmap(&mut guest, 7), ctrl::ERR_INVALID_PARAMETER);
    // The same place again, and out of it by the resource's end.
    assert_eq!(map(&mut guest, 7, 0x10000).kind, ctrl::OK_MAP_INFO);
    assert_eq!(unref(&mut guest, 7), ctrl::OK_NODATA);
    eventually("an empty window", || window.places().is_empty());
}

#[test]
fn without_a_window_there_is_no_vulkan() {
    let (_renderer, backend) = backend();
    // As QEMU's vhost-user-gpu-pci: it never asks for the region.
    let mut guest = FrontEnd::connect(&backend.socket());
    let capsets = |guest: &mut FrontEnd| spec::Config::read_from_bytes(&guest.config(16)).unwrap().num_capsets.get();
    assert_eq!(capsets(&mut guest), 2);
    assert_eq!(vulkan(&mut guest, VULKAN), ctrl::ERR_INVALID_PARAMETER);
    assert_eq!(context(&mut guest, 6), ctrl::OK_NODATA, "OpenGL is there");
    let (mut other, _window, _) = FrontEnd::with_window(&backend.socket());
    assert_eq!(capsets(&mut other), 3);
    let last = spec::GetCapsetInfo { capset_index: 2.into(), ..Default::default() };
    let answer = other.command(ctrl::GET_CAPSET_INFO, last.as_bytes());
    let (info, _) = spec::CapsetInfo::read_from_prefix(&answer.bytes[24..]).unwrap();
    assert_eq!(info.capset_id.get(), CAPSET_VENUS);
}

#[test]
fn a_device_that_was_not_asked_for_vulkan_has_no_window() {
    let renderer = Renderer::new(env!("CARGO_BIN_EXE_stand-in-renderer"));
    let backend = renderer.backend(&[]);
    let mut guest = FrontEnd::connect(&backend.socket());
    let features = guest.vhost.get_protocol_features().unwrap();
    assert!(!features.contains(VhostUserProtocolFeatures::SHMEM));
    assert_eq!(vulkan(&mut guest, VULKAN), ctrl::ERR_INVALID_PARAMETER);
}

#[test]
fn hostile_blobs_are_refused_and_cuda_lives() {
    let (_renderer, backend) = backend();
    let (mut guest, window) = guest(&backend);
    ready_channel(&mut guest, 1);
    assert_eq!(context(&mut guest, 6), ctrl::OK_NODATA);
    let of_gl = gl(&mut guest, ctrl::RESOURCE_CREATE_BLOB, 6, 0, &blob(20, 0, PAGE));
    assert_eq!(of_gl, ctrl::ERR_UNSPEC, "blobs are Vulkan's");
    assert_eq!(gl(&mut guest, ctrl::RESOURCE_CREATE_BLOB, 99, 0, &blob(20, 0, PAGE)), ctrl::ERR_UNSPEC);
    for (blob_id, bytes) in [(0, 0), (0, 100), (3, u64::MAX), (0, PAGE + 1)] {
        assert_eq!(create(&mut guest, 20, blob_id, bytes), ctrl::ERR_INVALID_PARAMETER, "{bytes}");
    }
    let mut of_both = blob(20, 0, PAGE);
    of_both.blob_mem = 3.into();
    assert_eq!(gl(&mut guest, ctrl::RESOURCE_CREATE_BLOB, VULKAN, 0, &of_both), ctrl::ERR_UNSPEC);
    assert_eq!(create(&mut guest, 20, 0, 1 << 40), ctrl::ERR_OUT_OF_MEMORY, "rings are bounded");
    assert_eq!(create(&mut guest, 21, 0, PAGE), ctrl::OK_NODATA);
    assert_eq!(create(&mut guest, 21, 0, PAGE), ctrl::ERR_INVALID_RESOURCE_ID);
    for offset in [1, WINDOW, WINDOW - 1, u64::MAX - PAGE + 1] {
        assert_eq!(map(&mut guest, 21, offset).kind, ctrl::ERR_INVALID_PARAMETER, "{offset:#x}");
    }
    assert_eq!(map(&mut guest, 21, 0).kind, ctrl::OK_MAP_INFO);
    assert_eq!(map(&mut guest, 21, PAGE).kind, ctrl::ERR_INVALID_PARAMETER, "twice");
    assert_eq!(create(&mut guest, 22, 0, PAGE), ctrl::OK_NODATA);
    assert_eq!(map(&mut guest, 22, 0).kind, ctrl::ERR_INVALID_PARAMETER, "on top of another");
    assert_eq!(map(&mut guest, 404, 0).kind, ctrl::ERR_INVALID_RESOURCE_ID);
    assert_eq!(map(&mut guest, 1, PAGE).kind, ctrl::ERR_INVALID_RESOURCE_ID, "a channel is no blob");
    // Places of what cannot be mapped are free again.
    for (id, blob_id) in [(30, SHORT), (31, NOT_MAPPABLE), (33, READ_ONLY)] {
        assert_eq!(create(&mut guest, id, blob_id, 2 * PAGE), ctrl::OK_NODATA);
        assert_eq!(map(&mut guest, id, 4 * PAGE).kind, ctrl::ERR_UNSPEC);
    }
    assert_eq!(create(&mut guest, 32, NOT_MADE, PAGE), ctrl::ERR_UNSPEC);
    assert_eq!(map(&mut guest, 32, 4 * PAGE).kind, ctrl::ERR_UNSPEC);
    assert_eq!(map(&mut guest, 22, 4 * PAGE).kind, ctrl::OK_MAP_INFO);
    assert_eq!(window.places(), [(0, PAGE), (4 * PAGE, PAGE)]);
    let cuda = ready_channel(&mut guest, 2);
    assert_eq!(cuda.status(&guest), Status::Ready, "CUDA lives");
}

#[test]
fn vulkans_words_are_not_taken_for_virgls() {
    let (_renderer, backend) = backend();
    let (mut guest, _window) = guest(&backend);
    assert_eq!(context(&mut guest, 6), ctrl::OK_NODATA);
    // In virgl's stream: a resource of the host's memory is made.
    let words = [11 << 16 | 48_u32];
    assert_eq!(gl(&mut guest, ctrl::SUBMIT_3D, 6, 0, &stream(words.as_bytes())[..]), ctrl::ERR_UNSPEC);
    assert_eq!(gl(&mut guest, ctrl::SUBMIT_3D, VULKAN, 0, &stream(words.as_bytes())[..]), ctrl::OK_NODATA);
}

#[test]
fn ten_thousand_rings_do_not_outgrow_the_bound_and_come_back() {
    let (_renderer, backend) = backend();
    let (mut guest, _window) = guest(&backend);
    let large = 256 << 20;
    for id in 1..=4 {
        assert_eq!(create(&mut guest, id, 0, large), ctrl::OK_NODATA);
    }
    assert_eq!(create(&mut guest, 5, 0, PAGE), ctrl::ERR_OUT_OF_MEMORY);
    assert_eq!(unref(&mut guest, 2), ctrl::OK_NODATA);
    assert_eq!(create(&mut guest, 5, 0, large), ctrl::OK_NODATA);
    assert_eq!(create(&mut guest, 6, 8, PAGE), ctrl::OK_NODATA, "the GPU's memory has its own budget");
}

#[test]
fn more_places_than_a_front_end_has_regions_for_are_refused() {
    let (_renderer, backend) = backend();
    let (mut guest, window) = guest(&backend);
    let most = u32::try_from(WINDOW_PLACES_MAX).unwrap();
    for id in 1..=most + 1 {
        assert_eq!(create(&mut guest, id, 0, PAGE), ctrl::OK_NODATA);
        let wanted = if id <= most { ctrl::OK_MAP_INFO } else { ctrl::ERR_OUT_OF_MEMORY };
        assert_eq!(map(&mut guest, id, u64::from(id) * PAGE).kind, wanted, "{id}");
    }
    assert_eq!(unmap(&mut guest, 7), ctrl::OK_NODATA);
    assert_eq!(map(&mut guest, most + 1, 0).kind, ctrl::OK_MAP_INFO, "there is room again");
    assert_eq!(window.places().len(), WINDOW_PLACES_MAX);
}

#[test]
fn a_front_end_that_is_busy_holds_nobody_up() {
    let (_renderer, backend) = backend();
    let (mut guest, window) = guest(&backend);
    assert_eq!(create(&mut guest, 7, 0, PAGE), ctrl::OK_NODATA);
    window.pause.hold(true);
    let waits = put_map(&mut guest, 7, 0);
    let submits = put(&mut guest, ctrl::SUBMIT_3D, VULKAN, 0, &stream(b"draw")[..]);
    guest.kick(0);
    assert_eq!(guest.wait(0).head, submits, "while the front end does not answer");
    window.pause.hold(false);
    let mapped = guest.wait(0);
    assert_eq!((mapped.head, mapped.kind), (waits, ctrl::OK_MAP_INFO));
}

#[test]
fn a_guest_hears_of_a_mapping_when_it_is_in_its_memory() {
    let (_renderer, backend) = backend();
    let (mut guest, window) = guest(&backend);
    for id in [7, 8] {
        assert_eq!(create(&mut guest, id, 0, PAGE), ctrl::OK_NODATA);
    }
    for (id, offset) in [(7, 0), (8, 4 * PAGE)] {
        window.telling.hold(true);
        let waits = put_map(&mut guest, id, offset);
        guest.kick(0);
        eventually("an answer of the front end", || window.places().iter().any(|(place, _)| *place == offset));
        let submits = put(&mut guest, ctrl::SUBMIT_3D, VULKAN, 0, &stream(b"draw")[..]);
        guest.kick(0);
        assert_eq!(guest.wait(0).head, submits, "before anybody could write there");
        window.telling.hold(false);
        let mapped = guest.wait(0);
        assert_eq!((mapped.head, mapped.kind), (waits, ctrl::OK_MAP_INFO));
    }
}

#[test]
fn a_front_end_that_tells_of_no_memory_maps_all_the_same() {
    let (_renderer, backend) = backend();
    let (mut guest, window) = guest(&backend);
    window.is_silent.store(true, Ordering::Relaxed);
    for id in 1..20 {
        assert_eq!(create(&mut guest, id, 0, PAGE), ctrl::OK_NODATA);
        assert_eq!(map(&mut guest, id, u64::from(id) * PAGE).kind, ctrl::OK_MAP_INFO);
    }
    assert_eq!(window.places().len(), 19);
}

#[test]
fn a_mapping_that_the_front_end_tells_of_as_memory_comes_and_goes_without_harm() {
    let (_renderer, backend) = backend();
    let (mut guest, window) = guest(&backend);
    let cuda = ready_channel(&mut guest, 1);
    assert_eq!(create(&mut guest, 7, 0, PAGE), ctrl::OK_NODATA);
    for _ in 0..3 {
        assert_eq!(map(&mut guest, 7, 0).kind, ctrl::OK_MAP_INFO);
        assert_eq!(cuda.status(&guest), Status::Ready);
        assert_eq!(unmap(&mut guest, 7), ctrl::OK_NODATA);
    }
    // By a table of all memory, as front ends without slots do.
    window.is_silent.store(true, Ordering::Relaxed);
    assert_eq!(map(&mut guest, 7, 0).kind, ctrl::OK_MAP_INFO);
    guest.share_with(&window.file(0), 1 << 40, PAGE).unwrap();
    assert_eq!(cuda.status(&guest), Status::Ready);
    assert_eq!(unmap(&mut guest, 7), ctrl::OK_NODATA);
    guest.share(&guest.memory_file().into(), MEMORY_BYTES, 0).unwrap();
    assert_eq!(cuda.status(&guest), Status::Ready, "nothing of the guest's has gone");
    assert_eq!(gl(&mut guest, ctrl::SUBMIT_3D, VULKAN, 0, &stream(b"draw")[..]), ctrl::OK_NODATA, "the context lives");
}

#[test]
fn a_reset_empties_the_window() {
    let (_renderer, backend) = backend();
    let (mut guest, window) = guest(&backend);
    for id in 1..4 {
        assert_eq!(create(&mut guest, id, 0, PAGE), ctrl::OK_NODATA);
        assert_eq!(map(&mut guest, id, u64::from(id) * PAGE).kind, ctrl::OK_MAP_INFO);
    }
    guest.stop_queues();
    eventually("an empty window", || window.places().is_empty());
    guest.start_queues();
    assert_eq!(vulkan(&mut guest, VULKAN), ctrl::OK_NODATA);
    assert_eq!(create(&mut guest, 1, 0, PAGE), ctrl::OK_NODATA);
    assert_eq!(map(&mut guest, 1, PAGE).kind, ctrl::OK_MAP_INFO);
}

#[test]
fn when_the_renderer_dies_its_blobs_stay_where_they_are_until_they_are_unmapped() {
    let (_renderer, backend) = backend();
    let (mut guest, window) = guest(&backend);
    assert_eq!(create(&mut guest, 1, 0, PAGE), ctrl::OK_NODATA);
    assert_eq!(map(&mut guest, 1, 0).kind, ctrl::OK_MAP_INFO);
    assert_eq!(gl(&mut guest, ctrl::SUBMIT_3D, VULKAN, 0, &stream(b"die!")[..]), ctrl::ERR_UNSPEC);
    // A program may still write to its ring: nobody reads it.
    assert_eq!(window.read(0, 4), 1_u32.to_le_bytes());
    assert_eq!(create(&mut guest, 2, 0, PAGE), ctrl::ERR_UNSPEC, "of a context that has died");
    assert_eq!(unmap(&mut guest, 1), ctrl::OK_NODATA);
    assert_eq!(vulkan(&mut guest, 9), ctrl::OK_NODATA, "another renderer");
    assert_eq!(gl(&mut guest, ctrl::RESOURCE_CREATE_BLOB, 9, 0, &blob(2, 0, PAGE)), ctrl::OK_NODATA);
    assert_eq!(map(&mut guest, 2, 0).kind, ctrl::OK_MAP_INFO);
}
