//! The control socket over a real socket pair: every message arrives as sent,
//! everything else is refused.
use std::os::fd::AsFd;

use super::*;

fn file(bytes: u64) -> OwnedFd {
    let file = File::from(rustix::fs::memfd_create("test", MemfdFlags::CLOEXEC).unwrap());
    file.set_len(bytes).unwrap();
    file.into()
}

fn to_worker(message: ToWorker) -> ToWorker {
    let (here, there) = pair().unwrap();
    message.into_packet().unwrap().send(here.as_fd()).unwrap();
    ToWorker::receive(there.as_fd()).unwrap()
}

#[test]
fn memory_arrives_with_its_descriptors() {
    let regions = vec![
        Region { file: file(8192), file_offset: 4096, bytes: 4096 },
        Region { file: file(12288), file_offset: 0, bytes: 12288 },
    ];
    let ToWorker::SetMemory { generation: 7, regions } =
        to_worker(ToWorker::SetMemory { generation: 7, regions })
    else {
        panic!("not SET_MEMORY");
    };
    let seen: Vec<_> = regions
        .into_iter()
        .map(|region| {
            let file = File::from(region.file);
            (file.metadata().unwrap().len(), region.file_offset, region.bytes)
        })
        .collect();
    assert_eq!(seen, [(8192, 4096, 4096), (12288, 0, 12288)]);
}

#[test]
fn pieces_arrive_in_order() {
    let sent: Vec<_> = (0..5000_u64)
        .map(|n| Piece {
            region: 1.into(),
            pad: 0.into(),
            offset: (n * 8192).into(),
            bytes: 4096.into(),
        })
        .collect();
    let message = ToWorker::AddArea { area: 9, bytes: 5000 * 4096, pieces: sent.clone() };
    let ToWorker::AddArea { area: 9, bytes: 20_480_000, pieces } = to_worker(message) else {
        panic!("not ADD_AREA");
    };
    assert_eq!(pieces, sent);
}

#[test]
fn removal_is_asked_for_and_answered() {
    assert!(matches!(
        to_worker(ToWorker::RemoveArea { area: 65_535 }),
        ToWorker::RemoveArea { area: 65_535 }
    ));
    let (here, there) = pair().unwrap();
    let answers = [
        FromWorker::Ready,
        FromWorker::Failed { result: 719 },
        FromWorker::Removed { area: 65_535 },
    ];
    for answer in answers {
        let said = format!("{answer:?}");
        answer.send(there.as_fd()).unwrap();
        assert_eq!(format!("{:?}", FromWorker::receive(here.as_fd()).unwrap()), said);
    }
}

#[test]
fn an_end_that_is_gone_is_told() {
    let (here, there) = pair().unwrap();
    drop(there);
    assert!(matches!(FromWorker::receive(here.as_fd()), Err(ControlError::Closed)));
    let packet = ToWorker::RemoveArea { area: 1 }.into_packet().unwrap();
    assert!(matches!(packet.send(here.as_fd()), Err(ControlError::Closed)));
}

#[test]
fn an_empty_socket_does_not_block_the_backend() {
    let (here, _there) = pair().unwrap();
    let Err(ControlError::Io(error)) = FromWorker::receive(here.as_fd()) else {
        panic!("nothing was sent");
    };
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn every_other_length_is_refused() {
    let message = ToWorker::RemoveArea { area: 3 }.into_packet().unwrap().bytes;
    let (here, there) = pair().unwrap();
    for length in (1..PACKET_BYTES_MAX + 100).filter(|&length| length != message.len()) {
        let mut bytes = message.clone();
        bytes.resize(length, 0);
        let packet = Packet { bytes, fds: Vec::new() };
        packet.send(here.as_fd()).unwrap();
        let refused = ToWorker::receive(there.as_fd());
        assert!(matches!(refused, Err(ControlError::Malformed(_))), "{length}: {refused:?}");
        packet.send(there.as_fd()).unwrap();
        let refused = FromWorker::receive(here.as_fd());
        assert!(matches!(refused, Err(ControlError::Malformed(_))), "{length}: {refused:?}");
    }
}

#[test]
fn descriptors_must_be_as_many_as_the_kind_says() {
    let (here, there) = pair().unwrap();
    let area = ToWorker::AddArea { area: 1, bytes: 0, pieces: Vec::new() };
    let mut packet = area.into_packet().unwrap();
    packet.fds.push(file(0));
    packet.send(here.as_fd()).unwrap();
    assert!(matches!(ToWorker::receive(there.as_fd()), Err(ControlError::Malformed(_))));
    packet.fds.clear();
    packet.send(here.as_fd()).unwrap();
    assert!(matches!(ToWorker::receive(there.as_fd()), Err(ControlError::Malformed(_))));

    let regions = vec![Region { file: file(4096), file_offset: 0, bytes: 4096 }];
    let mut packet = ToWorker::SetMemory { generation: 0, regions }.into_packet().unwrap();
    packet.fds.clear();
    packet.send(here.as_fd()).unwrap();
    assert!(matches!(ToWorker::receive(there.as_fd()), Err(ControlError::Malformed(_))));
}

#[test]
fn a_memfd_shorter_than_its_count_is_refused() {
    let (here, there) = pair().unwrap();
    let piece = Piece { region: 0.into(), pad: 0.into(), offset: 0.into(), bytes: 4096.into() };
    let area = ToWorker::AddArea { area: 1, bytes: 4096, pieces: vec![piece] };
    let mut packet = area.into_packet().unwrap();
    packet.fds = vec![file(size_of::<Piece>() as u64 - 1)];
    packet.send(here.as_fd()).unwrap();
    assert!(matches!(ToWorker::receive(there.as_fd()), Err(ControlError::Malformed(_))));
}

#[test]
fn a_share_keeps_its_bytes_and_its_descriptor() {
    let (here, there) = pair().unwrap();
    let file = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let share = Share { token: [3; 16], bytes: [4; 64], file: Some(file) };
    FromWorker::Share(share).send(there.as_fd()).unwrap();
    let Ok(FromWorker::Share(heard)) = FromWorker::receive(here.as_fd()) else { panic!("no share") };
    assert_eq!((heard.token, heard.bytes, heard.file.is_some()), ([3; 16], [4; 64], true));
    ToWorker::Answer(Some(heard)).into_packet().unwrap().send(here.as_fd()).unwrap();
    ToWorker::Answer(None).into_packet().unwrap().send(here.as_fd()).unwrap();
    let Ok(ToWorker::Answer(Some(told))) = ToWorker::receive(there.as_fd()) else { panic!("no answer") };
    assert_eq!((told.token, told.file.is_some()), ([3; 16], true));
    assert!(matches!(ToWorker::receive(there.as_fd()), Ok(ToWorker::Answer(None))));
}
