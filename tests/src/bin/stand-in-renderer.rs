//! A renderer that draws nothing: it says what it is told, as the device's
//! protocol has it, one line a message, in the file beside it. A submit of
//! `die!` ends it, one of `late` is answered with the message after it. A blob is
//! a file that begins with its resource's number; so is a texture where it is given out.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;

use paravane_tests::frontend::memory_file;
use paravane_tests::gl::stand_in;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use zerocopy::IntoBytes;

/// virtio-gpu's SUBMIT_3D and RESOURCE_CREATE_BLOB, and the device's own messages for pixels and files.
const SUBMIT: u32 = 0x207;
const CREATE_BLOB: u32 = 0x10c;
const CREATE_3D: u32 = 0x204;
const UNREF: u32 = 0x102;
const READ_BACK: u32 = 2;
const EXPORT: u32 = 4;
/// Names of blobs: one that cannot be made, one whose file is too short, one that cannot be mapped.
const NOT_MADE: u64 = 13;
const SHORT: u64 = 14;
const NOT_MAPPABLE: u64 = 15;
const READ_ONLY: u64 = 16;
/// Bits of a texture's bind: it is not given out, it lies in tiles, it begins somewhere in its file.
const NOT_SHARED: u32 = 1 << 31;
const TILED: u32 = 1 << 30;
const INSIDE: u32 = 1 << 29;
/// XR24, and Intel's X tiles.
const FOURCC: u32 = 0x3432_5258;
const TILES: u64 = 1 << 56 | 1;

fn main() {
    let Some((socket, log)) = stand_in() else { return };
    serve(socket, log);
}

fn serve(mut socket: UnixStream, mut log: File) {
    let (mut late, mut blobs, mut textures) = (None, HashMap::new(), HashMap::new());
    loop {
        // Bytes, kind, sequence number in two words, context, fence.
        let mut head = [0_u32; 6];
        if socket.read_exact(head.as_mut_bytes()).is_err() {
            return;
        }
        let [bytes, kind, low, high, context, fence] = head;
        let mut body = vec![0; usize::try_from(bytes).unwrap()];
        socket.read_exact(&mut body).unwrap();
        writeln!(log, "{kind:#x} context {context} fence {fence} bytes {bytes}").unwrap();
        match (kind, &body[..]) {
            (SUBMIT, b"die!") => std::process::exit(3),
            (SUBMIT, b"late") => {
                late = Some([low, high]);
                continue;
            }
            (SUBMIT, b"no!!") => reply(&mut socket, [low, high], 1, &[]),
            (READ_BACK, wanted) => {
                let pixels = vec![0x11; usize::try_from(word(wanted, 12) * word(wanted, 16) * 4).unwrap()];
                reply(&mut socket, [low, high], 0, &pixels);
            }
            (CREATE_BLOB, wanted) => {
                let (name, bytes) = (long(wanted, 16), long(wanted, 24));
                if name != NOT_MADE {
                    blobs.insert(word(wanted, 0), (name, bytes));
                }
                reply(&mut socket, [low, high], u32::from(name == NOT_MADE), &[]);
            }
            (CREATE_3D, wanted) => {
                textures.insert(word(wanted, 0), (word(wanted, 12), word(wanted, 16) * 4));
                reply(&mut socket, [low, high], 0, &[]);
            }
            (UNREF, wanted) => {
                textures.remove(&word(wanted, 0));
                reply(&mut socket, [low, high], 0, &[]);
            }
            (EXPORT, wanted) => {
                let id = word(wanted, 0);
                let picture = textures.get(&id).filter(|(bind, _)| bind & NOT_SHARED == 0);
                match (blobs.get(&id), picture) {
                    (Some(blob), _) => export(&mut socket, [low, high], id, *blob),
                    (None, Some(picture)) => export_picture(&mut socket, [low, high], id, *picture),
                    (None, None) => reply(&mut socket, [low, high], 1, &[]),
                }
            }
            _ => reply(&mut socket, [low, high], 0, &[]),
        }
        if let Some(seq) = late.take() {
            reply(&mut socket, seq, 0, &[]);
        }
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn reply(socket: &mut UnixStream, [low, high]: [u32; 2], refused: u32, body: &[u8]) {
    let head = [u32::try_from(body.len()).unwrap(), refused, low, high, 0, 0];
    socket.write_all(&[head.as_bytes(), body].concat()).unwrap();
}

/// A reply with a descriptor: kind of file, map_info, where it begins, and nothing of a picture.
fn export(socket: &mut UnixStream, seq: [u32; 2], resource: u32, (name, bytes): (u64, u64)) {
    // Memory of the GPU's lies behind a page of the driver's, as lavapipe's does.
    let (kind, from) = if name == 0 { (1, 0) } else { (3, 0x1000) };
    let file = memory_file(u64::from(from) + if name == SHORT { bytes / 2 } else { bytes });
    file.write_all_at(&resource.to_le_bytes(), from.into()).unwrap();
    let file = if name == READ_ONLY { File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap() } else { file };
    export_file(socket, seq, [kind, u32::from(name != NOT_MAPPABLE), 0, 0, from, 0, 0, 0], &file);
}

/// The same of a texture, as a dma-buf.
fn export_picture(socket: &mut UnixStream, seq: [u32; 2], resource: u32, (bind, stride): (u32, u32)) {
    let file = memory_file(4096);
    file.write_all_at(&resource.to_le_bytes(), 0).unwrap();
    let offset = if bind & INSIDE == 0 { 0 } else { 64 };
    let modifier = if bind & TILED == 0 { 0 } else { TILES };
    let [low, high] = [modifier & u64::from(u32::MAX), modifier >> 32].map(|half| u32::try_from(half).unwrap());
    export_file(socket, seq, [2, 0, FOURCC, stride, offset, 0, low, high], &file);
}

fn export_file(socket: &mut UnixStream, [low, high]: [u32; 2], body: [u32; 8], file: &File) {
    let head = [u32::try_from(size_of_val(&body)).unwrap(), 0, low, high, 1, 0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let files = [file.as_fd()];
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&files)));
    sendmsg(&*socket, &[IoSlice::new(head.as_bytes())], &mut ancillary, SendFlags::NOSIGNAL).unwrap();
    socket.write_all(body.as_bytes()).unwrap();
}
