//! Guests and front ends that break the rules: each gets an error or loses its
//! own, the backend lives and holds nothing afterwards that it did not before.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use paravane_protocol::PROTOCOL_HASH;
use paravane_protocol::channel::{
    BELL_ATTACH, BELL_KICK, BELL_PING, BELL_WAIT, FORMAT_MARK, MAGIC, Status, bell_command,
    bell_offset, header, ring_offset,
};
use paravane_protocol::limits::CONNECTIONS_MAX;
use paravane_protocol::ring::word;
use paravane_protocol::virtio_gpu::{self as spec, ctrl};
use paravane_tests::backend::{Backend, Held, eventually};
use paravane_tests::frontend::{
    DESC_WRITE, Descriptor, FrontEnd, MEMORY_BYTES, command, memory_file,
};
use paravane_tests::guest::{
    CHANNEL_BYTES, Channel, area, attach, bell, bell_body, channel, create, ready_channel, unref,
};
use vhost::vhost_user::Frontend;
use vm_memory::{Bytes, GuestAddress};
use zerocopy::IntoBytes;

/// A backend, what it holds without front ends, and a front end.
fn start() -> (Backend, Held, FrontEnd) {
    let backend = Backend::start(&["--log-level", "off"]);
    let held = backend.held();
    let guest = FrontEnd::connect(&backend.socket());
    (backend, held, guest)
}

/// The guest still has a device, and after it nothing is left.
fn unharmed(backend: &Backend, held: &Held, mut guest: FrontEnd) {
    assert_eq!(guest.command(ctrl::GET_DISPLAY_INFO, &[]).kind, ctrl::OK_DISPLAY_INFO);
    drop(guest);
    backend.assert_nothing_leaked(held);
}

#[test]
fn unknown_commands_are_errors() {
    let (backend, held, mut guest) = start();
    for kind in [0, 0xff, 0x0200 + 0x50, 0x10e, ctrl::OK_NODATA, u32::MAX] {
        assert_eq!(guest.command(kind, &[0; 64]).kind, ctrl::ERR_UNSPEC, "{kind:#x}");
    }
    let mapped = spec::ResourceMapBlob::default();
    assert_eq!(guest.send(ctrl::RESOURCE_MAP_BLOB, &mapped), ctrl::ERR_UNSPEC);
    let uuid = spec::ResourceRef::default();
    assert_eq!(guest.send(ctrl::RESOURCE_ASSIGN_UUID, &uuid), ctrl::ERR_UNSPEC);
    unharmed(&backend, &held, guest);
}

#[test]
fn short_commands_are_errors() {
    let (backend, held, mut guest) = start();
    let kinds = (0x100..0x10e).chain(0x200..0x20a).chain(0x300..0x302);
    for kind in kinds.filter(|kind| ![ctrl::GET_DISPLAY_INFO, ctrl::CTX_DESTROY].contains(kind)) {
        for bytes in [0, 1, 4, 7] {
            let answer = guest.command(kind, &vec![0xff; bytes]);
            assert_eq!(answer.kind, ctrl::ERR_UNSPEC, "{kind:#x} with {bytes} bytes");
        }
    }
    for bytes in 0..24 {
        guest.put(0, &vec![1; bytes]);
        guest.kick(0);
        assert_eq!(guest.wait(0).kind, ctrl::ERR_UNSPEC, "{bytes} bytes of header");
    }
    unharmed(&backend, &held, guest);
}

#[test]
fn odd_descriptor_chains_are_given_back() {
    let (backend, held, mut guest) = start();
    let at = guest.pages(4096);
    let display = command(ctrl::GET_DISPLAY_INFO, 0, &[]);
    guest.memory.write_slice(&display, GuestAddress(at)).unwrap();
    let out = at + 2048;
    let outside = MEMORY_BYTES + 4096;
    let chains: [(&str, Vec<Descriptor>, u32); 15] = [
        ("no room for an answer", vec![(at, 24, 0)], 0),
        ("one byte of room", vec![(at, 24, 0), (out, 1, DESC_WRITE)], 1),
        ("room outside memory", vec![(at, 24, 0), (outside, 512, DESC_WRITE)], 0),
        ("command outside memory", vec![(outside, 24, 0), (out, 512, DESC_WRITE)], 24),
        ("address at the end", vec![(u64::MAX - 8, 24, 0), (out, 512, DESC_WRITE)], 24),
        ("4 GiB in all", vec![(at, u32::MAX, 0), (out, 512, DESC_WRITE)], 0),
        ("2 GiB of command", vec![(at, 1 << 31, 0), (out, 512, DESC_WRITE)], 24),
        ("16 MiB of command", vec![(0, 16 << 20, 0), (out, 512, DESC_WRITE)], 24),
        ("nothing to read", vec![(out, 512, DESC_WRITE)], 24),
        ("empty descriptors", vec![(at, 0, 0), (out, 0, DESC_WRITE)], 0),
        ("an indirect table of nothing", vec![(0, 0, 4)], 0),
        ("an indirect table outside", vec![(outside, 64, 4)], 0),
        ("an indirect table in itself", vec![(at, 17, 4)], 0),
        ("in pieces", vec![(at, 10, 0), (at + 10, 14, 0), (out, 512, DESC_WRITE)], 408),
        ("answer first", vec![(out, 512, DESC_WRITE), (at, 24, 0)], 408),
    ];
    for (what, chain, bytes) in chains {
        let head = guest.put_chain(0, &chain);
        guest.kick(0);
        let used = guest.wait_used(0);
        assert_eq!(used, (head, bytes), "{what}");
    }
    unharmed(&backend, &held, guest);
}

#[test]
fn a_broken_available_ring_hurts_its_guest_only() {
    let (backend, held, mut guest) = start();
    guest.break_available_ring(0);
    let mut other = FrontEnd::connect(&backend.socket());
    assert_eq!(other.command(ctrl::GET_DISPLAY_INFO, &[]).kind, ctrl::OK_DISPLAY_INFO);
    // The queue that is left works too.
    guest.put(1, &command(ctrl::MOVE_CURSOR, 0, spec::UpdateCursor::default().as_bytes()));
    guest.kick(1);
    assert_eq!(guest.wait(1).kind, ctrl::OK_NODATA);
    drop(guest);
    unharmed(&backend, &held, other);
}

#[test]
fn absurd_sizes_are_errors_and_cost_nothing() {
    let (backend, held, mut guest) = start();
    let guest_ = &mut guest;
    for (width, height) in [(u32::MAX, u32::MAX), (0, 0), (1 << 16, 1), (1, 1 << 31)] {
        let made = create(guest_, 1, 2, width, height);
        assert_eq!(made, ctrl::ERR_INVALID_PARAMETER, "{width}x{height}");
    }
    let mut made = 0;
    while create(guest_, made + 1, 2, 8192, 8192) == ctrl::OK_NODATA {
        made += 1;
        assert!(made < 100, "no budget");
    }
    assert_eq!(create(guest_, 1000, 2, 8192, 8192), ctrl::ERR_OUT_OF_MEMORY);
    assert_eq!(unref(guest_, 1), ctrl::OK_NODATA);
    assert_eq!(create(guest_, 1000, 2, 8192, 8192), ctrl::OK_NODATA);
    let huge = spec::ResourceAttachBacking { resource_id: 2.into(), nr_entries: u32::MAX.into() };
    assert_eq!(guest_.send(ctrl::RESOURCE_ATTACH_BACKING, &huge), ctrl::ERR_UNSPEC);
    let blob = spec::ResourceCreateBlob {
        resource_id: 900.into(),
        blob_mem: spec::BLOB_MEM_GUEST.into(),
        nr_entries: 1.into(),
        size: u64::MAX.into(),
        ..Default::default()
    };
    let entry = spec::MemEntry { length: 4096.into(), ..Default::default() };
    let body = [blob.as_bytes(), entry.as_bytes()].concat();
    let answer = guest_.command(ctrl::RESOURCE_CREATE_BLOB, &body);
    assert_eq!(answer.kind, ctrl::ERR_INVALID_PARAMETER);
    unharmed(&backend, &held, guest);
}

#[test]
fn resources_that_are_not_there_are_errors() {
    let (backend, held, mut guest) = start();
    let wrong = ctrl::ERR_INVALID_RESOURCE_ID;
    assert_eq!(unref(&mut guest, 1), wrong);
    assert_eq!(attach(&mut guest, 1, &[(0, 4096)]), wrong);
    assert_eq!(bell(&mut guest, 1, BELL_ATTACH, 0), wrong);
    let scanout = spec::SetScanout { resource_id: 7.into(), ..Default::default() };
    assert_eq!(guest.send(ctrl::SET_SCANOUT, &scanout), wrong);
    assert_eq!(create(&mut guest, 0, 2, 8, 8), wrong);
    assert_eq!(create(&mut guest, 1, 2, 8, 8), ctrl::OK_NODATA);
    assert_eq!(create(&mut guest, 1, 2, 8, 8), wrong);
    let rect = spec::Rect { x: u32::MAX.into(), width: 2.into(), ..Default::default() };
    let scanout = spec::SetScanout { r: rect, resource_id: 1.into(), ..Default::default() };
    assert_eq!(guest.send(ctrl::SET_SCANOUT, &scanout), ctrl::ERR_INVALID_PARAMETER);
    unharmed(&backend, &held, guest);
}

#[test]
fn entries_outside_memory_are_refused() {
    let (backend, held, mut guest) = start();
    assert_eq!(create(&mut guest, 1, FORMAT_MARK, 1, 1), ctrl::OK_NODATA);
    let wild = [
        (MEMORY_BYTES, 4096),
        (MEMORY_BYTES - 4096, 8192),
        (u64::MAX - 4095, 4096),
        (1 << 63, u32::MAX - 4095),
        (4096, 0),
        (4096 + 8, 4096),
        (4096, 4095),
    ];
    for run in wild {
        assert_eq!(attach(&mut guest, 1, &[run]), ctrl::ERR_INVALID_PARAMETER, "{run:x?}");
        let second = attach(&mut guest, 1, &[(0x10_0000, 4096), run]);
        assert_eq!(second, ctrl::ERR_INVALID_PARAMETER, "{run:x?}");
    }
    assert_eq!(bell(&mut guest, 1, BELL_ATTACH, 0), ctrl::ERR_UNSPEC);
    unharmed(&backend, &held, guest);
}

#[test]
fn another_protocol_hash_is_told_with_the_hosts() {
    let (backend, held, mut guest) = start();
    let channel = channel(&mut guest, 1);
    channel.write(&guest, header::GUEST_HASH, &(PROTOCOL_HASH ^ 1).to_le_bytes());
    assert_eq!(bell(&mut guest, 1, BELL_ATTACH, 0), ctrl::OK_NODATA);
    assert_eq!(channel.status(&guest), Status::HashMismatch);
    assert_eq!(channel.long(&guest, header::HOST_HASH), PROTOCOL_HASH);
    assert_eq!(backend.children().len(), 1);
    // A second try with the right one succeeds.
    channel.write(&guest, header::GUEST_HASH, &PROTOCOL_HASH.to_le_bytes());
    assert_eq!(bell(&mut guest, 1, BELL_ATTACH, 0), ctrl::OK_NODATA);
    channel.wait_status(&guest, Status::Ready);
    unharmed(&backend, &held, guest);
}

#[test]
fn a_header_with_wild_values_is_refused() {
    let (backend, held, mut guest) = start();
    let channel = channel(&mut guest, 1);
    channel.write(&guest, header::MAGIC, &(MAGIC + 1).to_le_bytes());
    assert_eq!(bell(&mut guest, 1, BELL_ATTACH, 0), ctrl::OK_NODATA);
    assert_eq!(channel.status(&guest), Status::Refused);
    assert_eq!(bell(&mut guest, 1, BELL_KICK, 0), ctrl::ERR_INVALID_PARAMETER);

    // One page is a header, but has no rings.
    assert_eq!(create(&mut guest, 2, FORMAT_MARK, 1, 1), ctrl::OK_NODATA);
    let small = Channel { resource: 2, pages: guest.pages(4096) };
    small.write(&guest, header::MAGIC, &MAGIC.to_le_bytes());
    small.write(&guest, header::GUEST_HASH, &PROTOCOL_HASH.to_le_bytes());
    small.write(&guest, header::GUEST_NAME, &[0xff; 32]);
    assert_eq!(attach(&mut guest, 2, &[(small.pages, 4096)]), ctrl::OK_NODATA);
    assert_eq!(bell(&mut guest, 2, BELL_ATTACH, 0), ctrl::OK_NODATA);
    assert_eq!(small.status(&guest), Status::Refused);
    assert_eq!(backend.children().len(), 1);

    // Channels have one size.
    assert_eq!(create(&mut guest, 3, FORMAT_MARK, 2, 1), ctrl::ERR_INVALID_PARAMETER);
    unharmed(&backend, &held, guest);
}

#[test]
fn wild_doorbells_are_errors() {
    let (backend, held, mut guest) = start();
    ready_channel(&mut guest, 1);
    for (operation, ring) in
        [(BELL_KICK, 8), (BELL_WAIT, 8), (BELL_KICK, 0xffff), (4, 0), (0xffff, 0)]
    {
        let answer = bell(&mut guest, 1, operation, ring);
        assert_eq!(answer, ctrl::ERR_INVALID_PARAMETER, "{operation} {ring}");
    }
    let mut far = bell_body(1, BELL_PING, 0);
    far.offset = (1 << 32).into();
    assert_eq!(guest.send(ctrl::TRANSFER_TO_HOST_2D, &far), ctrl::ERR_INVALID_PARAMETER);
    // Shaking hands again changes nothing.
    assert_eq!(bell(&mut guest, 1, BELL_ATTACH, 0), ctrl::OK_NODATA);
    eventually("worker and spare", || backend.children().len() == 2);
    unharmed(&backend, &held, guest);
}

#[test]
fn a_forged_token_opens_nothing() {
    let (backend, held, mut guest) = start();
    let channel = ready_channel(&mut guest, 1);
    let token = channel.token(&guest);
    for forged in [0, 1, token ^ 1, token.rotate_left(32) ^ 5, u64::MAX] {
        assert_eq!(area(&mut guest, 2, forged, 1), Err(ctrl::ERR_INVALID_PARAMETER));
    }
    assert_eq!(guest.send(ctrl::CTX_CREATE, &spec::CtxCreate::default()), ctrl::OK_NODATA);
    let head = spec::Submit3d { size: 24.into(), ..Default::default() };
    let body = bell_command(token ^ 1, 0, bell_offset(BELL_PING, 0));
    let answer = guest.command(ctrl::SUBMIT_3D, &[head.as_bytes(), &body].concat());
    assert_eq!(answer.kind, ctrl::ERR_INVALID_PARAMETER);
    assert_eq!(channel.word(&guest, header::PONG), 0);
    // The token dies with its channel.
    assert_eq!(unref(&mut guest, 1), ctrl::OK_NODATA);
    assert_eq!(area(&mut guest, 2, token, 1), Err(ctrl::ERR_INVALID_PARAMETER));
    unharmed(&backend, &held, guest);
}

#[test]
fn a_guest_that_vanishes_with_everything_open_leaves_nothing() {
    let (backend, held, guest) = start();
    drop(guest);
    for _ in 0..10 {
        let mut guest = FrontEnd::connect(&backend.socket());
        let first = ready_channel(&mut guest, 1);
        let token = first.token(&guest);
        area(&mut guest, 2, token, 1).unwrap();
        first.write(&guest, ring_offset(0) + word::GUEST_SLEEPS, &1_u32.to_le_bytes());
        // A wait, a removal and a handshake are on their way.
        channel(&mut guest, 3);
        let wait = bell_body(1, BELL_WAIT, 0);
        guest.put(0, &command(ctrl::TRANSFER_TO_HOST_2D, 1, wait.as_bytes()));
        let removal = spec::ResourceRef { resource_id: 2.into(), ..Default::default() };
        guest.put(0, &command(ctrl::RESOURCE_UNREF, 2, removal.as_bytes()));
        let attach = bell_body(3, BELL_ATTACH, 0);
        guest.put(0, &command(ctrl::TRANSFER_TO_HOST_2D, 0, attach.as_bytes()));
        guest.kick(0);
    }
    backend.assert_nothing_leaked(&held);
}

#[test]
fn a_new_memory_table_keeps_channels_only_if_it_keeps_their_memory() {
    let (backend, held, mut guest) = start();
    let channel = ready_channel(&mut guest, 1);
    let same = guest.memory_file().into();
    guest.share(&same, MEMORY_BYTES, 0).unwrap();
    assert_eq!(bell(&mut guest, 1, BELL_PING, 0), ctrl::OK_NODATA);
    assert_eq!(channel.word(&guest, header::PONG), 1);
    eventually("worker and spare", || backend.children().len() == 2);

    let other = memory_file(MEMORY_BYTES);
    guest.share(&other, MEMORY_BYTES, 0).unwrap();
    eventually("only the spare", || backend.children().len() == 1);
    drop((guest, same, other));
    backend.assert_nothing_leaked(&held);
}

#[test]
fn memory_that_is_cut_short_hurts_its_guest_only() {
    let (backend, held, mut guest) = start();
    let mut victim = FrontEnd::negotiate(Frontend::connect(backend.socket(), 2).unwrap());
    let file = memory_file_unsealed(MEMORY_BYTES);
    victim.share(&file, MEMORY_BYTES, 0).unwrap();
    // The rings now lie where the test cannot reach them; the backend's view of
    // them ends when the file does.
    file.set_len(0).unwrap();
    victim.start_queues();
    victim.kick(0);
    assert_eq!(guest.command(ctrl::GET_DISPLAY_INFO, &[]).kind, ctrl::OK_DISPLAY_INFO);
    drop((victim, file));
    unharmed(&backend, &held, guest);
}

fn memory_file_unsealed(bytes: u64) -> std::fs::File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(bytes).unwrap();
    file
}

#[test]
fn garbage_on_the_socket_ends_that_connection() {
    let (backend, held, guest) = start();
    let messages: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\n\r\n........................",
        &[0xff; 64],
        &[0; 12],
        // SET_MEM_TABLE that claims a gigabyte of payload.
        &[5, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x40, 1, 2, 3],
    ];
    for message in messages {
        let mut stream = UnixStream::connect(backend.socket()).unwrap();
        stream.write_all(message).unwrap();
        // The end of the connection, or of what is written to it.
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
    // One that says nothing more holds up nobody.
    let mut silent = UnixStream::connect(backend.socket()).unwrap();
    silent.write_all(&[1, 0]).unwrap();
    let other = FrontEnd::connect(&backend.socket());
    drop((other, silent));
    unharmed(&backend, &held, guest);
}

#[test]
fn front_ends_beyond_the_limit_are_turned_away() {
    let backend = Backend::start(&["--log-level", "off"]);
    let held = backend.held();
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        streams.push(UnixStream::connect(backend.socket()).unwrap());
    }
    eventually("all are served", || backend.held().threads >= CONNECTIONS_MAX * 2);
    let mut one_too_many = UnixStream::connect(backend.socket()).unwrap();
    assert_eq!(one_too_many.read(&mut [0; 1]).unwrap(), 0);
    streams.clear();
    backend.assert_nothing_leaked(&held);
    let guest = FrontEnd::connect(&backend.socket());
    unharmed(&backend, &held, guest);
}

/// A queue thread that holds the device's lock for ever would also hold up
/// SIGTERM; none of the ways above may do that.
#[test]
fn sigterm_ends_a_backend_with_hostile_guests() {
    let (mut backend, _, mut guest) = start();
    guest.break_available_ring(0);
    let mut silent = UnixStream::connect(backend.socket()).unwrap();
    silent.write_all(&[1, 0]).unwrap();
    assert_eq!(CHANNEL_BYTES % 4096, 0);
    backend.terminate();
}
