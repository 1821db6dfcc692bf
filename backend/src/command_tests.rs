//! The parser: every command whole, every command cut short, anything at all.
use paravane_protocol::virtio_gpu::MemEntry;
use proptest::prelude::*;
use zerocopy::IntoBytes;

use super::*;

fn bytes(kind: u32, body: &[u8]) -> Vec<u8> {
    let header = CtrlHdr { kind: kind.into(), ..CtrlHdr::default() };
    [header.as_bytes(), body].concat()
}

fn entry(addr: u64, length: u32) -> MemEntry {
    MemEntry { addr: addr.into(), length: length.into(), ..MemEntry::default() }
}

/// One of each, with the counts that a command may have.
fn samples() -> Vec<(u32, Vec<u8>)> {
    let attach = spec::ResourceAttachBacking { resource_id: 3.into(), nr_entries: 2.into() };
    let entries = [entry(0x1000, 0x1000), entry(0x8000, 0x2000)];
    let blob = spec::ResourceCreateBlob {
        resource_id: 4.into(),
        blob_mem: 1.into(),
        nr_entries: 2.into(),
        ..Default::default()
    };
    let submit = spec::Submit3d { size: 7.into(), ..Default::default() };
    vec![
        (ctrl::GET_DISPLAY_INFO, vec![]),
        (ctrl::GET_EDID, spec::GetEdid::default().as_bytes().to_vec()),
        (ctrl::GET_CAPSET_INFO, spec::GetCapsetInfo::default().as_bytes().to_vec()),
        (ctrl::GET_CAPSET, spec::GetCapset::default().as_bytes().to_vec()),
        (ctrl::RESOURCE_CREATE_2D, spec::ResourceCreate2d::default().as_bytes().to_vec()),
        (ctrl::RESOURCE_CREATE_3D, spec::ResourceCreate3d::default().as_bytes().to_vec()),
        (ctrl::RESOURCE_CREATE_BLOB, [blob.as_bytes(), entries.as_bytes()].concat()),
        (ctrl::RESOURCE_UNREF, spec::ResourceRef::default().as_bytes().to_vec()),
        (ctrl::RESOURCE_ATTACH_BACKING, [attach.as_bytes(), entries.as_bytes()].concat()),
        (ctrl::RESOURCE_DETACH_BACKING, spec::ResourceRef::default().as_bytes().to_vec()),
        (ctrl::SET_SCANOUT, spec::SetScanout::default().as_bytes().to_vec()),
        (ctrl::SET_SCANOUT_BLOB, spec::SetScanoutBlob::default().as_bytes().to_vec()),
        (ctrl::RESOURCE_FLUSH, spec::ResourceFlush::default().as_bytes().to_vec()),
        (ctrl::TRANSFER_TO_HOST_2D, spec::TransferToHost2d::default().as_bytes().to_vec()),
        (ctrl::TRANSFER_TO_HOST_3D, spec::TransferHost3d::default().as_bytes().to_vec()),
        (ctrl::TRANSFER_FROM_HOST_3D, spec::TransferHost3d::default().as_bytes().to_vec()),
        (ctrl::CTX_CREATE, spec::CtxCreate::default().as_bytes().to_vec()),
        (ctrl::CTX_DESTROY, vec![]),
        (ctrl::CTX_ATTACH_RESOURCE, spec::ResourceRef::default().as_bytes().to_vec()),
        (ctrl::CTX_DETACH_RESOURCE, spec::ResourceRef::default().as_bytes().to_vec()),
        (ctrl::SUBMIT_3D, [submit.as_bytes(), b"command"].concat()),
        (ctrl::UPDATE_CURSOR, spec::UpdateCursor::default().as_bytes().to_vec()),
        (ctrl::MOVE_CURSOR, spec::UpdateCursor::default().as_bytes().to_vec()),
    ]
}

#[test]
fn every_truncation_is_refused() {
    for (kind, body) in samples() {
        let whole = bytes(kind, &body);
        for length in 0..=whole.len() {
            let parsed = parse(&whole[..length]);
            assert_eq!(parsed.1.is_ok(), length == whole.len(), "{kind:#x} at {length}");
            assert_eq!(parsed.0.is_some(), length >= 24);
        }
    }
}

#[test]
fn fields_come_through() {
    let body = spec::TransferToHost2d {
        r: spec::Rect { x: 1.into(), y: 2.into(), width: 3.into(), height: 4.into() },
        offset: (1 << 40).into(),
        resource_id: 9.into(),
        ..Default::default()
    };
    let command = parse(&bytes(ctrl::TRANSFER_TO_HOST_2D, body.as_bytes())).1;
    let rect = Rect { x: 1, y: 2, width: 3, height: 4 };
    assert_eq!(command, Ok(Command::TransferTo2d { resource: 9, offset: 1 << 40, rect }));
}

#[test]
fn touching_entries_become_one() {
    let head = spec::ResourceAttachBacking { resource_id: 3.into(), nr_entries: 4.into() };
    let raw = [entry(0x1000, 0x1000), entry(0x2000, 0x1000), entry(0x9000, 16), entry(u64::MAX, 9)];
    let body = [head.as_bytes(), raw.as_bytes()].concat();
    let Ok(Command::AttachBacking { entries, .. }) =
        parse(&bytes(ctrl::RESOURCE_ATTACH_BACKING, &body)).1
    else {
        panic!("refused");
    };
    let expected = [(0x1000, 0x2000), (0x9000, 16), (u64::MAX, 9)];
    assert_eq!(entries, expected.map(|(addr, bytes)| Entry { addr, bytes }));
}

#[test]
fn counts_allocate_nothing() {
    for count in [3, PIECES_MAX, PIECES_MAX + 1, u32::MAX] {
        let head = spec::ResourceAttachBacking { resource_id: 3.into(), nr_entries: count.into() };
        let raw = [entry(0x1000, 0x1000), entry(0x8000, 0x1000)];
        let body = [head.as_bytes(), raw.as_bytes()].concat();
        let refused = parse(&bytes(ctrl::RESOURCE_ATTACH_BACKING, &body)).1;
        let kind = ctrl::RESOURCE_ATTACH_BACKING;
        assert_eq!(refused, Err(Malformed::Count { kind, count }));
    }
}

#[test]
fn a_rectangle_cannot_wrap_into_a_picture() {
    let rect = Rect { x: u64::from(u32::MAX), y: 0, width: 2, height: 1 };
    assert!(!rect.within(1, 1));
    assert!(Rect { x: 1, y: 1, width: 1, height: 1 }.within(2, 2));
    assert!(!Rect { x: 1, y: 1, width: 1, height: 2 }.within(2, 2));
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic(raw in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&raw);
    }

    #[test]
    fn arbitrary_bodies_of_known_commands_do_not_panic(
        sample in 0..23_usize,
        raw in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = parse(&bytes(samples()[sample].0, &raw));
    }
}
