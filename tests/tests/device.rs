//! The device as a well-behaved guest sees it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Command;

use paravane_protocol::PROTOCOL_HASH;
use paravane_protocol::channel::{
    BELL_ATTACH, BELL_KICK, BELL_PING, BELL_WAIT, CAPSET_ID, FORMAT_MARK, Status, bell_command,
    bell_offset, capset, header, ring_offset,
};
use paravane_protocol::ring::word;
use paravane_protocol::virtio_gpu::{self as spec, ctrl, feature};
use paravane_tests::backend::{self, Backend, IDLE_THREADS, eventually};
use paravane_tests::frontend::{FrontEnd, command, memory_file};
use paravane_tests::guest::{self, area, attach, bell, bell_body, channel, create, unref};
use rustix::process::Signal;
use vhost::vhost_user::Frontend;
use zerocopy::{FromBytes, IntoBytes};

fn start() -> (Backend, FrontEnd) {
    let backend = Backend::start(&["--log-level", "off"]);
    let guest = FrontEnd::connect(&backend.socket());
    (backend, guest)
}

#[test]
fn features_and_configuration_are_those_of_a_gpu() {
    let (_backend, mut guest) = start();
    for bit in [feature::VIRGL, feature::EDID, feature::RESOURCE_BLOB, feature::CONTEXT_INIT, 32] {
        assert_ne!(guest.offered & 1 << bit, 0, "feature {bit}");
    }
    let config = spec::Config::read_from_bytes(&guest.config(16)).unwrap();
    assert_eq!((config.num_scanouts.get(), config.num_capsets.get()), (1, 1));
}

#[test]
fn without_3d_contexts_are_refused_and_channels_work() {
    let backend = Backend::start(&["--no-3d", "--log-level", "off"]);
    let mut guest = FrontEnd::connect(&backend.socket());
    assert_eq!(guest.offered & (1 << feature::VIRGL | 1 << feature::CONTEXT_INIT), 0);
    let made = guest.send(ctrl::CTX_CREATE, &spec::CtxCreate::default());
    assert_eq!(made, ctrl::ERR_UNSPEC);
    guest::ready_channel(&mut guest, 1);
}

#[test]
fn the_display_and_its_edid_are_told() {
    let (_backend, mut guest) = start();
    let answer = guest.command(ctrl::GET_DISPLAY_INFO, &[]);
    assert_eq!(answer.kind, ctrl::OK_DISPLAY_INFO);
    let (info, _) = spec::DisplayInfo::read_from_prefix(&answer.bytes[24..]).unwrap();
    assert_eq!(info.pmodes[0].r.width.get(), 1024);
    assert_eq!(info.pmodes[0].enabled.get(), 1);
    assert_eq!(info.pmodes[1].enabled.get(), 0);

    let answer = guest.command(ctrl::GET_EDID, spec::GetEdid::default().as_bytes());
    assert_eq!(answer.kind, ctrl::OK_EDID);
    let (edid, _) = spec::Edid::read_from_prefix(&answer.bytes[24..]).unwrap();
    assert_eq!(edid.size.get(), 128);
    assert_eq!(edid.edid[..128].iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)), 0);
    let other = spec::GetEdid { scanout: 1.into(), ..Default::default() };
    assert_eq!(guest.send(ctrl::GET_EDID, &other), ctrl::ERR_INVALID_SCANOUT_ID);
}

#[test]
fn the_capset_is_paravanes() {
    let (_backend, mut guest) = start();
    let answer = guest.command(ctrl::GET_CAPSET_INFO, spec::GetCapsetInfo::default().as_bytes());
    assert_eq!(answer.kind, ctrl::OK_CAPSET_INFO);
    let (info, _) = spec::CapsetInfo::read_from_prefix(&answer.bytes[24..]).unwrap();
    assert_eq!((info.capset_id.get(), info.capset_max_size.get()), (CAPSET_ID, 24));
    let wanted = spec::GetCapset { capset_id: CAPSET_ID.into(), capset_version: 1.into() };
    let answer = guest.command(ctrl::GET_CAPSET, wanted.as_bytes());
    assert_eq!(answer.kind, ctrl::OK_CAPSET);
    assert_eq!(answer.bytes[24..], capset());
}

#[test]
fn a_2d_resource_lives_from_create_to_unref() {
    let (_backend, mut guest) = start();
    let guest = &mut guest;
    assert_eq!(create(guest, 1, 2, 64, 64), ctrl::OK_NODATA);
    let rect = spec::Rect { width: 64.into(), height: 64.into(), ..Default::default() };
    let transfer = spec::TransferToHost2d { r: rect, resource_id: 1.into(), ..Default::default() };
    assert_eq!(guest.send(ctrl::TRANSFER_TO_HOST_2D, &transfer), ctrl::ERR_UNSPEC);
    let pages = guest.pages(64 * 64 * 4);
    assert_eq!(attach(guest, 1, &[(pages, 64 * 64 * 4)]), ctrl::OK_NODATA);
    assert_eq!(guest.send(ctrl::TRANSFER_TO_HOST_2D, &transfer), ctrl::OK_NODATA);
    let scanout = spec::SetScanout { r: rect, resource_id: 1.into(), ..Default::default() };
    assert_eq!(guest.send(ctrl::SET_SCANOUT, &scanout), ctrl::OK_NODATA);
    let flush = spec::ResourceFlush { r: rect, resource_id: 1.into(), ..Default::default() };
    assert_eq!(guest.send(ctrl::RESOURCE_FLUSH, &flush), ctrl::OK_NODATA);
    let resource = spec::ResourceRef { resource_id: 1.into(), ..Default::default() };
    assert_eq!(guest.send(ctrl::RESOURCE_DETACH_BACKING, &resource), ctrl::OK_NODATA);
    assert_eq!(unref(guest, 1), ctrl::OK_NODATA);
    assert_eq!(guest.send(ctrl::RESOURCE_FLUSH, &flush), ctrl::ERR_INVALID_RESOURCE_ID);
}

#[test]
fn a_blob_of_guest_pages_can_be_shown() {
    let (_backend, mut guest) = start();
    let pages = guest.pages(4096 * 16);
    let mut blob = spec::ResourceCreateBlob {
        resource_id: 5.into(),
        blob_mem: spec::BLOB_MEM_GUEST.into(),
        nr_entries: 1.into(),
        size: (4096 * 16).into(),
        ..Default::default()
    };
    let entry =
        spec::MemEntry { addr: pages.into(), length: (4096 * 16).into(), ..Default::default() };
    let body = [blob.as_bytes(), entry.as_bytes()].concat();
    assert_eq!(guest.command(ctrl::RESOURCE_CREATE_BLOB, &body).kind, ctrl::OK_NODATA);
    let mut show = spec::SetScanoutBlob {
        r: spec::Rect { width: 128.into(), height: 128.into(), ..Default::default() },
        resource_id: 5.into(),
        width: 128.into(),
        height: 128.into(),
        format: 2.into(),
        ..Default::default()
    };
    show.strides[0] = 512.into();
    assert_eq!(guest.send(ctrl::SET_SCANOUT_BLOB, &show), ctrl::OK_NODATA);
    show.offsets[0] = 4.into();
    assert_eq!(guest.send(ctrl::SET_SCANOUT_BLOB, &show), ctrl::ERR_INVALID_PARAMETER);
    blob.blob_mem = 2.into();
    blob.resource_id = 6.into();
    let body = [blob.as_bytes(), entry.as_bytes()].concat();
    assert_eq!(guest.command(ctrl::RESOURCE_CREATE_BLOB, &body).kind, ctrl::ERR_UNSPEC);
}

#[test]
fn the_cursor_queue_answers() {
    let (_backend, mut guest) = start();
    let cursor = spec::UpdateCursor::default();
    guest.put(1, &command(ctrl::MOVE_CURSOR, 0, cursor.as_bytes()));
    guest.kick(1);
    assert_eq!(guest.wait(1).kind, ctrl::OK_NODATA);
}

#[test]
fn a_channel_opens_and_closes_with_its_worker() {
    let (backend, mut guest) = start();
    let before = backend.held();
    let channel = guest::ready_channel(&mut guest, 1);
    assert_ne!(channel.token(&guest), 0);
    assert_eq!(channel.long(&guest, header::HOST_HASH), PROTOCOL_HASH);
    eventually("worker and spare", || backend.children().len() == 2);
    assert_eq!(bell(&mut guest, 1, BELL_PING, 0), ctrl::OK_NODATA);
    assert_eq!(channel.word(&guest, header::PONG), 1);
    assert_eq!(unref(&mut guest, 1), ctrl::OK_NODATA);
    backend.assert_nothing_leaked(&before);
}

#[test]
fn areas_come_and_go() {
    let (backend, mut guest) = start();
    let channel = guest::ready_channel(&mut guest, 1);
    let token = channel.token(&guest);
    let before = backend.held();
    for round in 0..20 {
        let id = 10 + round;
        let pages = area(&mut guest, id, token, 7).unwrap();
        assert_eq!(bell(&mut guest, id, BELL_KICK, 7), ctrl::OK_NODATA);
        assert_eq!(area(&mut guest, 99, token, 7), Err(ctrl::ERR_INVALID_PARAMETER));
        assert_eq!(unref(&mut guest, 99), ctrl::OK_NODATA);
        assert_eq!(unref(&mut guest, id), ctrl::OK_NODATA);
        assert_ne!(pages, 0);
        // The guest memory of a test is small.
        if round == 10 {
            break;
        }
    }
    backend.assert_nothing_leaked(&before);
}

#[test]
fn doorbells_come_by_submit_too() {
    let (_backend, mut guest) = start();
    let channel = guest::ready_channel(&mut guest, 1);
    let token = channel.token(&guest);
    assert_eq!(guest.send(ctrl::CTX_CREATE, &spec::CtxCreate::default()), ctrl::OK_NODATA);
    let mut submit = |token: u64, area: u16, operation: u32, ring: u32| {
        let bell = bell_command(token, area, bell_offset(operation, ring));
        let head = spec::Submit3d { size: 24.into(), ..Default::default() };
        guest.command(ctrl::SUBMIT_3D, &[head.as_bytes(), &bell].concat()).kind
    };
    assert_eq!(submit(token, 0, BELL_PING, 0), ctrl::OK_NODATA);
    assert_eq!(submit(token, 0, BELL_KICK, 7), ctrl::OK_NODATA);
    assert_eq!(submit(token, 0, BELL_KICK, 8), ctrl::ERR_INVALID_PARAMETER);
    assert_eq!(submit(token, 1, BELL_KICK, 0), ctrl::ERR_INVALID_PARAMETER);
    assert_eq!(submit(token ^ 1, 0, BELL_PING, 0), ctrl::ERR_INVALID_PARAMETER);
    assert_eq!(channel.word(&guest, header::PONG), 1);
}

#[test]
fn a_fenced_wait_holds_its_younger_fences_only() {
    let (_backend, mut guest) = start();
    let channel = guest::ready_channel(&mut guest, 1);
    channel.write(&guest, ring_offset(3) + word::GUEST_SLEEPS, &1_u32.to_le_bytes());
    let wait = bell_body(1, BELL_WAIT, 3);
    let waiting = guest.put(0, &command(ctrl::TRANSFER_TO_HOST_2D, 1, wait.as_bytes()));
    let younger = guest.put(0, &command(ctrl::GET_DISPLAY_INFO, 2, &[]));
    let unfenced = guest.put(0, &command(ctrl::GET_DISPLAY_INFO, 0, &[]));
    guest.kick(0);
    let order = [guest.wait(0), guest.wait(0), guest.wait(0)].map(|answer| answer.head);
    assert_eq!(order, [unfenced, waiting, younger]);
}

#[test]
fn a_fenced_wait_for_a_thread_that_is_awake_is_answered_in_turn() {
    let (_backend, mut guest) = start();
    guest::ready_channel(&mut guest, 1);
    let wait = bell_body(1, BELL_WAIT, 0);
    let awake = guest.put(0, &command(ctrl::TRANSFER_TO_HOST_2D, 9, wait.as_bytes()));
    let next = guest.put(0, &command(ctrl::GET_DISPLAY_INFO, 0, &[]));
    guest.kick(0);
    let first = guest.wait(0);
    assert_eq!((first.head, first.kind), (awake, ctrl::OK_NODATA));
    let (header, _) = spec::CtrlHdr::read_from_prefix(&first.bytes).unwrap();
    assert_eq!((header.fence_id.get(), header.flags.get()), (9, spec::FLAG_FENCE));
    assert_eq!(guest.wait(0).head, next);
}

#[test]
fn a_worker_that_dies_is_told_to_its_guest_and_to_nobody_else() {
    let (backend, mut guest) = start();
    let first = guest::ready_channel(&mut guest, 1);
    let mut workers = backend.children();
    let second = guest::ready_channel(&mut guest, 2);
    // The spare of the first handshake serves the second channel.
    eventually("two workers and a spare", || backend.children().len() == 3);
    let token = first.token(&guest);
    area(&mut guest, 3, token, 1).unwrap();
    first.write(&guest, ring_offset(2) + word::GUEST_SLEEPS, &1_u32.to_le_bytes());
    workers.truncate(1);
    backend::kill(workers[0], Signal::KILL);
    first.wait_status(&guest, Status::Dead);
    assert_eq!(first.word(&guest, header::REASON), 719);
    eventually("its sleepers are woken", || {
        first.word(&guest, ring_offset(2) + word::GUEST_SLEEPS) == 0
    });
    assert_eq!(second.status(&guest), Status::Ready);
    // Doorbells of a dead channel are answered; areas and channel can go.
    assert_eq!(bell(&mut guest, 1, BELL_KICK, 0), ctrl::OK_NODATA);
    assert_eq!(bell(&mut guest, 1, BELL_PING, 0), ctrl::OK_NODATA);
    assert_eq!(first.word(&guest, header::PONG), 1);
    assert_eq!(unref(&mut guest, 3), ctrl::OK_NODATA);
    assert_eq!(unref(&mut guest, 1), ctrl::OK_NODATA);
    assert_eq!(bell(&mut guest, 2, BELL_PING, 0), ctrl::OK_NODATA);
    assert_eq!(second.word(&guest, header::PONG), 1);
}

#[test]
fn front_ends_side_by_side_know_nothing_of_each_other() {
    let (backend, mut first) = start();
    let mut second = FrontEnd::connect(&backend.socket());
    let channel = guest::ready_channel(&mut first, 1);
    let other = guest::ready_channel(&mut second, 1);
    let token = channel.token(&first);
    assert_eq!(area(&mut second, 2, token, 1), Err(ctrl::ERR_INVALID_PARAMETER));
    drop(first);
    eventually("one worker and the spare", || backend.children().len() == 2);
    assert_eq!(bell(&mut second, 1, BELL_PING, 0), ctrl::OK_NODATA);
    assert_eq!(other.word(&second, header::PONG), 1);
}

#[test]
fn a_front_end_that_comes_back_finds_a_fresh_device() {
    let (backend, guest) = start();
    drop(guest);
    eventually("the first is gone", || backend.held().threads == IDLE_THREADS);
    let before = backend.held();
    for _ in 0..5 {
        let mut guest = FrontEnd::connect(&backend.socket());
        guest::ready_channel(&mut guest, 1);
        create(&mut guest, 2, 1, 64, 64);
        drop(guest);
    }
    backend.assert_nothing_leaked(&before);
}

#[test]
fn memory_that_is_added_can_hold_areas() {
    let (backend, mut guest) = start();
    let channel = guest::ready_channel(&mut guest, 1);
    let token = channel.token(&guest);
    eventually("worker and spare", || backend.children().len() == 2);
    let before = backend.children();
    let (added, at) = (memory_file(1 << 20), 1 << 40);
    guest.share_with(&added, at, 1 << 20).unwrap();
    let [low, high] = [token & 0xffff_ffff, token >> 32].map(|half| u32::try_from(half).unwrap());
    assert_eq!(create(&mut guest, 2, FORMAT_MARK | 1, low, high), ctrl::OK_NODATA);
    let bytes = u32::try_from(guest::CHANNEL_BYTES).unwrap();
    assert_eq!(attach(&mut guest, 2, &[(at, bytes)]), ctrl::OK_NODATA);
    assert_eq!(bell(&mut guest, 2, BELL_KICK, 0), ctrl::OK_NODATA);
    assert_eq!(unref(&mut guest, 2), ctrl::OK_NODATA);
    assert_eq!(channel.status(&guest), Status::Ready);
    assert_eq!(backend.children(), before);
}

#[test]
fn a_reset_forgets_everything() {
    let (backend, mut guest) = start();
    let before = backend.held();
    guest::ready_channel(&mut guest, 1);
    guest.stop_queues();
    eventually("only the spare", || backend.children().len() == 1);
    guest.start_queues();
    let channel = channel(&mut guest, 1);
    assert_eq!(bell(&mut guest, 1, BELL_ATTACH, 0), ctrl::OK_NODATA);
    channel.wait_status(&guest, Status::Ready);
    assert_eq!(unref(&mut guest, 1), ctrl::OK_NODATA);
    backend.assert_nothing_leaked(&before);
}

#[test]
fn sigterm_ends_everything_and_reports_usage() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("usage.json");
    let path = report.to_str().unwrap();
    let arguments = ["--usage-json", path, "--name", "web-1", "--log-level", "off"];
    let mut backend = Backend::start(&arguments);
    let mut guest = FrontEnd::connect(&backend.socket());
    guest::ready_channel(&mut guest, 1);
    let children = backend.children();
    let socket = backend.socket();
    backend.terminate();
    assert!(!socket.exists());
    for child in children {
        assert!(!std::path::Path::new(&format!("/proc/{child}")).exists(), "{child} lives");
    }
    let report = std::fs::read_to_string(report).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["vm"], "web-1");
    assert_eq!(report["processes"][0]["pid"], 4711);
    assert_eq!(report["processes"][0]["name"], "tester");
    assert!(report["totals"]["kernels"].is_u64());
}

#[test]
fn workers_die_with_a_backend_that_is_killed() {
    let (mut backend, mut guest) = start();
    guest::ready_channel(&mut guest, 1);
    eventually("worker and spare", || backend.children().len() == 2);
    let children = backend.children();
    backend.signal(Signal::KILL);
    backend.wait();
    for child in children {
        eventually("a worker ends", || {
            let status = std::fs::read_to_string(format!("/proc/{child}/stat"));
            status.is_err() || status.is_ok_and(|text| text.contains(") Z "))
        });
    }
}

#[test]
fn a_connected_descriptor_is_served_once() {
    let (here, there) = UnixStream::pair().unwrap();
    // The child inherits a copy without the close-on-exec mark.
    let inherited = rustix::io::dup(&there).unwrap();
    let mut child = Command::new(backend::executable())
        .args(["--log-level", "warn", "--fd", &inherited.as_raw_fd().to_string()])
        .spawn()
        .unwrap();
    drop((there, inherited));
    let mut guest = FrontEnd::over(Frontend::from_stream(here, 2));
    guest::ready_channel(&mut guest, 1);
    drop(guest);
    let mut status = None;
    eventually("the backend ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(0));
}

#[test]
fn wrong_arguments_are_told() {
    let (status, out, _) = backend::run(&["--print-capabilities"]);
    assert!(status.success());
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["type"], "gpu");

    let (status, _, error) = backend::run(&["--socket-path", "/nowhere/a.sock"]);
    assert!(!status.success());
    assert!(error.contains("/nowhere/a.sock"), "{error}");

    let null = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let inherited = rustix::io::dup(&null).unwrap().as_raw_fd().to_string();
    let (status, _, error) = backend::run(&["--fd", &inherited]);
    assert!(!status.success());
    assert!(error.contains("--fd"), "{error}");

    let (status, _, error) = backend::run(&[
        "--socket-path",
        "/tmp/paravane-test-none.sock",
        "--libcuda",
        "/nowhere.so",
    ]);
    assert!(!status.success());
    assert!(error.contains("--libcuda /nowhere.so"), "{error}");
    let (status, help, _) = backend::run(&["--help"]);
    assert!(status.success());
    assert!(help.contains("vhost-user-gpu-pci"));
}
