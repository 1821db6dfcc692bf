//! A renderer that draws nothing: it says what it is told, as the device's
//! protocol has it, one line a message, in the file beside it. A submit of
//! `die!` ends it, one of `late` is answered with the message after it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use paravane_tests::gl::stand_in;
use zerocopy::IntoBytes;

/// virtio-gpu's SUBMIT_3D, and the device's own message for pixels.
const SUBMIT: u32 = 0x207;
const READ_BACK: u32 = 2;

fn main() {
    let Some((socket, log)) = stand_in() else { return };
    serve(socket, log);
}

fn serve(mut socket: UnixStream, mut log: File) {
    let mut late = None;
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
                let side = |at: usize| u32::from_le_bytes(wanted[at..at + 4].try_into().unwrap());
                let pixels = vec![0x11; usize::try_from(side(12) * side(16) * 4).unwrap()];
                reply(&mut socket, [low, high], 0, &pixels);
            }
            _ => reply(&mut socket, [low, high], 0, &[]),
        }
        if let Some(seq) = late.take() {
            reply(&mut socket, seq, 0, &[]);
        }
    }
}

fn reply(socket: &mut UnixStream, [low, high]: [u32; 2], refused: u32, body: &[u8]) {
    let head = [u32::try_from(body.len()).unwrap(), refused, low, high, 0, 0];
    socket.write_all(&[head.as_bytes(), body].concat()).unwrap();
}
