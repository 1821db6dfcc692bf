//! Stands between a back end and its renderer and writes down what goes by, as `paravane_tests::recording` has it, with what
//! guest and host write into the guest's pages. `$PARAVANE_RECORDED_RENDERER` is the renderer, `$PARAVANE_RECORDING` the file;
//! each renderer that a back end starts begins it anew, so a recording is one guest's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufWriter, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use paravane_protocol::limits::REGIONS_MAX;
use paravane_protocol::virtio_gpu::ctrl;
use paravane_tests::recording::{Attached, EXPECTED, MAGIC, Place, Record, WRITTEN, written_by_host};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap};
use zerocopy::IntoBytes;

/// The device's own messages have numbers below the commands': guest memory, and what is no business of the guest's.
const SET_MEMORY: u32 = 1;
const COMMANDS: u32 = 0x100;
/// Pages are compared in pieces of this many bytes.
const GRAIN: usize = 64;

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// A resource's pages, and their bytes when they were looked at last.
struct Pages {
    /// Region, offset in it, bytes.
    pieces: Vec<(usize, u64, usize)>,
    seen: Vec<u8>,
}

struct Recorder {
    file: BufWriter<File>,
    regions: Vec<(u64, GuestMemoryMmap)>,
    resources: BTreeMap<u32, Pages>,
    /// Commands that have the host write: their numbers, and whose pages.
    writing: HashMap<u64, Vec<u32>>,
}

impl Recorder {
    fn write(&mut self, kind: u32, (context, fenced): (u32, bool), body: &[u8]) {
        Record { kind, context, fenced, body: body.to_vec() }.write(&mut self.file).unwrap();
    }

    /// Writes down what is not as it was in these resources' pages.
    fn look(&mut self, resources: &[u32], kind: u32) {
        for &resource in resources {
            let Some(pages) = self.resources.get_mut(&resource) else { continue };
            let mut now = Vec::new();
            for &(region, offset, bytes) in &pages.pieces {
                let start = now.len();
                now.resize(start + bytes, 0);
                self.regions[region].1.read_slice(&mut now[start..], GuestAddress(offset)).unwrap();
            }
            let seen = std::mem::replace(&mut pages.seen, now.clone());
            let differs: Vec<bool> = now.chunks(GRAIN).zip(seen.chunks(GRAIN)).map(|(now, seen)| now != seen).collect();
            let mut at = 0;
            for run in differs.chunk_by(|one, next| one == next) {
                let (from, to) = (at * GRAIN, ((at + run.len()) * GRAIN).min(now.len()));
                at += run.len();
                if run[0] {
                    let place = Place { resource: resource.into(), offset: u32::try_from(from).unwrap().into() };
                    self.write(kind, (0, false), &[place.as_bytes(), &now[from..to]].concat());
                }
            }
        }
    }

    /// A message on its way to the renderer.
    fn sent(&mut self, head: &[u8], body: &[u8], fds: &[OwnedFd]) {
        let (kind, seq, of) = (word(head, 4), long(head, 8), (word(head, 16), word(head, 20) != 0));
        match kind {
            SET_MEMORY => self.map(body, fds),
            ..COMMANDS => {}
            ctrl::RESOURCE_ATTACH_BACKING => self.attach(body, of),
            ctrl::SUBMIT_3D | ctrl::TRANSFER_TO_HOST_3D | ctrl::TRANSFER_FROM_HOST_3D => {
                let all: Vec<u32> = self.resources.keys().copied().collect();
                self.look(&all, WRITTEN);
                self.write(kind, of, body);
                let written = match kind {
                    ctrl::SUBMIT_3D => written_by_host(body),
                    // After the box and the offset.
                    ctrl::TRANSFER_FROM_HOST_3D => vec![word(body, 32)],
                    _ => Vec::new(),
                };
                if !written.is_empty() {
                    self.writing.insert(seq, written);
                }
            }
            _ => {
                if kind == ctrl::RESOURCE_UNREF || kind == ctrl::RESOURCE_DETACH_BACKING {
                    self.resources.remove(&word(body, 0));
                }
                self.write(kind, of, body);
            }
        }
    }

    /// The renderer has done a message.
    fn replied(&mut self, head: &[u8]) {
        if let Some(resources) = self.writing.remove(&long(head, 8)) {
            self.look(&resources, EXPECTED);
        }
        self.file.flush().unwrap();
    }

    fn map(&mut self, body: &[u8], fds: &[OwnedFd]) {
        for (record, fd) in body.chunks(16).zip(fds).skip(self.regions.len()) {
            let (offset, bytes) = (long(record, 0), usize::try_from(long(record, 8)).unwrap());
            let place = FileOffset::new(fd.try_clone().unwrap().into(), offset);
            let memory = GuestMemoryMmap::from_ranges_with_files([(GuestAddress(0), bytes, Some(place))]).unwrap();
            self.regions.push((offset, memory));
        }
    }

    fn attach(&mut self, body: &[u8], of: (u32, bool)) {
        let piece = |piece: &[u8]| {
            let region = usize::try_from(word(piece, 0)).unwrap();
            (region, long(piece, 8) - self.regions[region].0, usize::try_from(long(piece, 16)).unwrap())
        };
        let pieces: Vec<_> = body[8..].chunks(24).map(piece).collect();
        let bytes = pieces.iter().map(|(_, _, bytes)| bytes).sum();
        let attached = Attached { resource: word(body, 0).into(), bytes: u32::try_from(bytes).unwrap().into() };
        self.write(ctrl::RESOURCE_ATTACH_BACKING, of, attached.as_bytes());
        self.resources.insert(word(body, 0), Pages { pieces, seen: vec![0; bytes] });
    }
}

fn main() {
    let what: Vec<String> = std::env::args().skip(1).collect();
    let renderer = std::env::var_os("PARAVANE_RECORDED_RENDERER").expect("$PARAVANE_RECORDED_RENDERER");
    let mut command = Command::new(renderer);
    command.args(&what);
    if what.first().is_none_or(|what| what != "serve") {
        std::process::exit(command.status().unwrap().code().unwrap_or(1));
    }
    let mut file = BufWriter::new(File::create(std::env::var_os("PARAVANE_RECORDING").expect("$PARAVANE_RECORDING")).unwrap());
    file.write_all(MAGIC).unwrap();
    let (regions, resources, writing) = (Vec::new(), BTreeMap::new(), HashMap::new());
    let recorder = Arc::new(Mutex::new(Recorder { file, regions, resources, writing }));
    let device = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    let (here, there) = UnixStream::pair().unwrap();
    let mut child = command.stdin(Stdio::from(OwnedFd::from(there))).spawn().unwrap();
    let (answers, to_device, of_answers) = (here.try_clone().unwrap(), device.try_clone().unwrap(), Arc::clone(&recorder));
    std::thread::spawn(move || {
        while let Some((head, body, fds)) = hear(&answers) {
            of_answers.lock().unwrap().replied(&head);
            tell(&to_device, &[&head[..], &body].concat(), &fds);
        }
        // The renderer has died: so has this, for the device.
        to_device.shutdown(Shutdown::Both).unwrap();
    });
    while let Some((head, body, fds)) = hear(&device) {
        recorder.lock().unwrap().sent(&head, &body, &fds);
        tell(&here, &[&head[..], &body].concat(), &fds);
    }
    here.shutdown(Shutdown::Both).unwrap();
    child.wait().unwrap();
}

/// The next message with its descriptors; `None` when who sends has gone. Heads have one length in either direction.
fn hear(mut socket: &UnixStream) -> Option<([u8; 24], Vec<u8>, Vec<OwnedFd>)> {
    let (mut head, mut fds, mut got) = ([0; 24], Vec::new(), 0);
    while got < head.len() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(REGIONS_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(socket, &mut [IoSliceMut::new(&mut head[got..])], &mut ancillary, RecvFlags::CMSG_CLOEXEC);
        // One that has died resets the connection.
        let received = received.ok().filter(|received| received.bytes > 0)?;
        got += received.bytes;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                fds.extend(received);
            }
        }
    }
    let mut body = vec![0; usize::try_from(word(&head, 0)).unwrap()];
    socket.read_exact(&mut body).unwrap();
    Some((head, body, fds))
}

fn tell(mut socket: &UnixStream, bytes: &[u8], fds: &[OwnedFd]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(REGIONS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    assert!(fds.is_empty() || ancillary.push(SendAncillaryMessage::ScmRights(&fds)));
    let sent = sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL).unwrap();
    socket.write_all(&bytes[sent..]).unwrap();
}
