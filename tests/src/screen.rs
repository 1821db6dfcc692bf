//! A front end's side of the socket of VHOST_USER_GPU_SET_SOCKET: it answers as
//! QEMU does and holds what comes against the protocol (QEMU's
//! docs/interop/vhost-user-gpu).

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use paravane_protocol::virtio_gpu::{DisplayInfo, Edid};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use vhost::vhost_user::Frontend;
use zerocopy::IntoBytes;

use crate::backend::HANG;
use crate::frontend::FrontEnd;
use crate::pause::Pause;

/// VHOST_USER_GPU_SET_SOCKET, as version 1 of the protocol has it.
const SET_SOCKET: [u32; 3] = [33, 1, 0];
const REPLY: u32 = 4;
/// A feature of screens: they have EDID.
pub const EDID: u64 = 1;
/// They know modifiers of dma-bufs.
pub const DMABUF2: u64 = 2;

/// What a backend tells a screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// SCANOUT: number, width, height.
    Size(u32, u32, u32),
    /// UPDATE: number, x, y, width, height; pixels as words, red above green above blue.
    Update([u32; 5], Vec<u32>),
    /// CURSOR_POS, CURSOR_POS_HIDE: request, number, x, y.
    Cursor(u32, [u32; 3]),
    /// CURSOR_UPDATE: number, x, y and the hot spot; pixels.
    Picture([u32; 5], Vec<u32>),
    /// DMABUF_SCANOUT, and with a modifier DMABUF_SCANOUT2: number; x, y, width, height; width, height, stride, flags and
    /// format of the file; and what its first word says, if there is one.
    Shared([u32; 10], Option<u64>, Option<u32>),
    /// DMABUF_UPDATE: number, x, y, width, height. It is answered when the screen draws.
    Touched([u32; 5]),
}

/// A screen that answers questions by itself and hands on everything else.
pub struct Screen {
    told: Receiver<Told>,
    /// It does not draw while this is held.
    pub draws: Arc<Pause>,
}

impl Screen {
    /// The next thing that is told.
    pub fn told(&self) -> Told {
        self.told.recv_timeout(HANG).expect("nothing is told to the screen")
    }

    /// What has been told already.
    pub fn rest(&self) -> impl Iterator<Item = Told> {
        self.told.try_iter()
    }
}

/// The width that the screen asks for.
pub const WIDTH: u32 = 1600;

impl FrontEnd {
    /// Connects with a screen.
    pub fn with_screen(socket: &Path) -> (Self, Screen) {
        Self::with_screen_of(socket, EDID)
    }

    /// Connects with a screen that has these features.
    pub fn with_screen_of(socket: &Path, features: u64) -> (Self, Screen) {
        let stream = UnixStream::connect(socket).unwrap();
        let other = stream.try_clone().unwrap();
        let mut front_end = Self::negotiate(Frontend::from_stream(stream, 2));
        let (here, there) = UnixStream::pair().unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let fds = [there.as_fd()];
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&fds)));
        let bytes = [IoSlice::new(SET_SOCKET.as_bytes())];
        sendmsg(&other, &bytes, &mut ancillary, SendFlags::empty()).unwrap();
        front_end.start_queues();
        let (tell, told) = channel();
        let draws = Arc::<Pause>::default();
        let pause = Arc::clone(&draws);
        std::thread::spawn(move || {
            let mut socket = here;
            while let Some(message) = hear(&mut socket, features) {
                let touched = matches!(message, Told::Touched(_));
                if tell.send(message).is_err() {
                    return;
                }
                if touched {
                    pause.wait();
                    reply(&mut socket, 10, &[]);
                }
            }
        });
        (front_end, Screen { told, draws })
    }
}

/// A message's head, and the file that comes with it.
fn hear_head(socket: &mut UnixStream) -> Option<([u32; 3], Option<File>)> {
    let mut head = [0_u32; 3];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [IoSliceMut::new(head.as_mut_bytes())];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL;
    let received = recvmsg(&*socket, &mut bytes, &mut ancillary, flags).ok()?.bytes;
    let files = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    let file = files.flatten().next().map(File::from);
    (received == size_of_val(&head)).then_some((head, file))
}

/// What a file begins with.
fn first_word(file: &File) -> u32 {
    let mut word = [0; 4];
    file.read_exact_at(&mut word, 0).unwrap();
    u32::from_le_bytes(word)
}

/// The next message that is no question; `None` when the backend has gone.
fn hear(socket: &mut UnixStream, features: u64) -> Option<Told> {
    loop {
        let (head, file) = hear_head(socket)?;
        let [request, flags, bytes] = head;
        assert_eq!(flags & REPLY, 0);
        assert!(bytes % 4 == 0 && bytes <= 2 << 20, "request {request} of {bytes} bytes");
        let mut body = vec![0_u32; usize::try_from(bytes).unwrap() / 4];
        socket.read_exact(body.as_mut_bytes()).ok()?;
        match (request, &body[..]) {
            (1, []) => reply(socket, request, &features.to_le_bytes()),
            (2, &[accepted, 0]) => assert_eq!(u64::from(accepted) & !features, 0),
            (3, []) => {
                let mut info = DisplayInfo::default();
                info.pmodes[0].r.width = WIDTH.into();
                reply(socket, request, &[&[0; 24], info.as_bytes()].concat());
            }
            (11, [_]) => {
                let edid = Edid { size: 256.into(), padding: 0.into(), edid: [5; 1024] };
                reply(socket, request, &[&[0; 24], edid.as_bytes()].concat());
            }
            (7, &[scanout, width, height]) => return Some(Told::Size(scanout, width, height)),
            (8, &[scanout, x, y, width, height, ref pixels @ ..]) => {
                assert_eq!(u64::from(width) * u64::from(height), pixels.len() as u64);
                return Some(Told::Update([scanout, x, y, width, height], pixels.to_vec()));
            }
            (4 | 5, &[scanout, x, y]) => return Some(Told::Cursor(request, [scanout, x, y])),
            (6, &[scanout, x, y, hot_x, hot_y, ref pixels @ ..]) => {
                assert_eq!(pixels.len(), 64 * 64);
                return Some(Told::Picture([scanout, x, y, hot_x, hot_y], pixels.to_vec()));
            }
            (9, scanout) => return Some(Told::Shared(scanout.try_into().unwrap(), None, file.as_ref().map(first_word))),
            (12, &[ref scanout @ .., low, high]) => {
                assert_ne!(features & DMABUF2, 0);
                let modifier = u64::from(high) << 32 | u64::from(low);
                return Some(Told::Shared(scanout.try_into().unwrap(), Some(modifier), file.as_ref().map(first_word)));
            }
            (10, part) => return Some(Told::Touched(part.try_into().unwrap())),
            _ => panic!("request {request} with {} words", body.len()),
        }
    }
}

fn reply(socket: &mut UnixStream, request: u32, body: &[u8]) {
    let head = [request, REPLY, u32::try_from(body.len()).unwrap()];
    socket.write_all(&[head.as_bytes(), body].concat()).unwrap();
}
