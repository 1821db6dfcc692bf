//! A front end's end of the socket, and what arrives there.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use paravane_protocol::virtio_gpu::{DisplayInfo, ctrl};
use rustix::event::EventfdFlags;
use zerocopy::{FromBytes, IntoBytes};

use super::*;
use crate::fence::Timelines;

const GET_PROTOCOL_FEATURES: u32 = 1;
const SET_PROTOCOL_FEATURES: u32 = 2;
const GET_DISPLAY_INFO: u32 = 3;
const CURSOR_UPDATE: u32 = 6;
const CURSOR_POS: u32 = 4;
const SCANOUT: u32 = 7;
const UPDATE: u32 = 8;
const DMABUF_SCANOUT: u32 = 9;
const DMABUF_UPDATE: u32 = 10;
const DMABUF_SCANOUT2: u32 = 12;
const REPLY: u32 = 4;

struct FrontEnd(UnixStream);

impl FrontEnd {
    /// The next message: its number and its body's words.
    fn hear(&mut self) -> (u32, Vec<u32>) {
        let mut head = [0_u32; 3];
        self.0.read_exact(head.as_mut_bytes()).unwrap();
        let mut body = vec![0_u32; head[2] as usize / 4];
        self.0.read_exact(body.as_mut_bytes()).unwrap();
        (head[0], body)
    }

    fn reply(&mut self, request: u32, body: &[u8]) {
        let head = [request, REPLY, u32::try_from(body.len()).unwrap()];
        self.0.write_all(head.as_bytes()).unwrap();
        self.0.write_all(body).unwrap();
    }

    fn greet(&mut self) {
        self.greet_with(0b11);
        assert_eq!(self.hear(), (SET_PROTOCOL_FEATURES, vec![1, 0]), "EDID, and no dmabuf");
    }

    fn greet_with(&mut self, features: u64) {
        assert_eq!(self.hear(), (GET_PROTOCOL_FEATURES, vec![]));
        self.reply(GET_PROTOCOL_FEATURES, &features.to_le_bytes());
    }
}

fn screen() -> (Screen, FrontEnd, OwnedFd) {
    screen_with(false)
}

fn screen_with(dmabuf: bool) -> (Screen, FrontEnd, OwnedFd) {
    let (here, there) = UnixStream::pair().unwrap();
    let nudge = rustix::event::eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    let ours = nudge.try_clone().unwrap();
    (Screen::start(GpuBackend::from_stream(here), ours, 1, dmabuf).unwrap(), FrontEnd(there), nudge)
}

fn fill(byte: u8) -> impl FnMut(u64, u64, &mut [u8]) -> Option<()> {
    move |_, _, pixels| {
        pixels.fill(byte);
        Some(())
    }
}

#[test]
fn a_picture_comes_after_its_size() {
    let (screen, mut front_end, _) = screen();
    screen.resize(0, 3, 2).unwrap();
    let part = Rect { x: 1, y: 1, width: 2, height: 1 };
    screen.draw(0, &part, 1, |_| None, fill(7)).unwrap();
    front_end.greet();
    assert_eq!(front_end.hear(), (SCANOUT, vec![0, 3, 2]));
    assert_eq!(front_end.hear(), (UPDATE, vec![0, 1, 1, 2, 1, 0x0707_0707, 0x0707_0707]));
    let outside = Rect { x: 2, ..part };
    assert_eq!(screen.draw(0, &outside, 1, |_| None, fill(7)), Err(Refusal::InvalidParameter));
    assert_eq!(screen.draw(1, &part, 1, |_| None, fill(7)), Err(Refusal::InvalidParameter));
    screen.clear();
    assert_eq!(front_end.hear(), (SCANOUT, vec![0, 0, 0]));
}

#[test]
fn of_pages_that_are_turned_only_what_differs_goes_out() {
    let (screen, mut front_end, _) = screen();
    front_end.greet();
    let whole = Rect { x: 0, y: 0, width: 2, height: 2 };
    let part = Rect { x: 1, y: 1, width: 1, height: 1 };
    let version = Version::fresh();
    screen.resize(0, 2, 2).unwrap();
    screen.draw(0, &whole, 1, |_| Some(version), fill(7)).unwrap();
    assert_eq!(front_end.hear(), (SCANOUT, vec![0, 2, 2]));
    assert_eq!(front_end.hear(), (UPDATE, vec![0, 0, 0, 2, 2, 0x0707_0707, 0x0707_0707, 0x0707_0707, 0x0707_0707]));
    screen.resize(0, 2, 2).unwrap();
    screen.draw(0, &whole, 1, |_| None, fill(7)).unwrap();
    screen.draw(0, &part, 1, |_| None, fill(8)).unwrap();
    assert_eq!(front_end.hear(), (UPDATE, vec![0, 1, 1, 1, 1, 0x0808_0808]));
    // Of the same picture another part may be shown.
    screen.resize(0, 2, 2).unwrap();
    screen.draw(0, &whole, 1, |_| Some(version), fill(8)).unwrap();
    assert_eq!(front_end.hear().1[..5], [0, 0, 0, 2, 2]);
    screen.resize(0, 2, 1).unwrap();
    assert_eq!(front_end.hear(), (SCANOUT, vec![0, 2, 1]));
}

#[test]
fn absurd_scanouts_are_refused() {
    let (screen, ..) = screen();
    screen.resize(0, 8192, 8192).unwrap();
    screen.resize(1, 8192, 8192).unwrap();
    assert_eq!(screen.resize(2, 8192, 8192), Err(Refusal::OutOfMemory));
    screen.resize(1, 1, 1).unwrap();
    screen.resize(2, 8192, 8191).unwrap();
}

#[test]
fn the_cursors_picture_arrives() {
    let (screen, mut front_end, _) = screen();
    front_end.greet();
    let shape = Shape::Picture { hot_x: 3, hot_y: 4, pixels: Box::new([9; CURSOR_BYTES]) };
    screen.point(Cursor { scanout: 0, x: 5, y: 6, shape });
    let (kind, body) = front_end.hear();
    assert_eq!((kind, &body[..5]), (CURSOR_UPDATE, &[0, 5, 6, 3, 4][..]));
    assert_eq!(body[5..], [0x0909_0909; CURSOR_BYTES / 4]);
}

#[test]
fn the_front_end_is_asked_and_a_dead_one_is_answered_for() {
    let (screen, mut front_end, nudge) = screen();
    let mut lines = Timelines::default();
    let (first, second) = (lines.wait(None, ()), lines.wait(None, ()));
    front_end.greet();
    screen.ask(Question::DisplayInfo, first);
    assert_eq!(front_end.hear(), (GET_DISPLAY_INFO, vec![]));
    let mut info = DisplayInfo::default();
    info.pmodes[2].r.width = 77.into();
    front_end.reply(GET_DISPLAY_INFO, &[&[0; 24][..], info.as_bytes()].concat());
    rustix::io::read(&nudge, &mut [0; 8]).unwrap();
    let answers = screen.answers();
    let [(ticket, Response::Data(ctrl::OK_DISPLAY_INFO, body))] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(*ticket, first);
    assert_eq!(DisplayInfo::ref_from_bytes(body).unwrap().pmodes[2].r.width, 77);
    drop(front_end);
    screen.ask(Question::Edid(0), second);
    rustix::io::read(&nudge, &mut [0; 8]).unwrap();
    let expected = crate::scanout::without_screen(Question::Edid(0));
    assert_eq!(screen.answers(), [(second, expected)]);
}

/// A memfd in the place of a dma-buf.
fn shared(modifier: u64) -> Shared {
    let file = rustix::fs::memfd_create("dmabuf", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let rect = Rect { x: 1, y: 2, width: 30, height: 40 };
    let layout = Layout { rect, width: 64, height: 50, stride: 256, fourcc: 0x3432_5258, modifier, top: true };
    Shared { file: Arc::new(file), layout }
}

#[test]
fn what_a_dma_buf_shows_is_told_once_for_all_flushes_while_the_front_end_draws() {
    let (screen, mut front_end, _) = screen_with(true);
    front_end.greet_with(0b11);
    assert_eq!(front_end.hear(), (SET_PROTOCOL_FEATURES, vec![3, 0]));
    screen.share(2, shared(7 << 56 | 1));
    let scanout = [2, 1, 2, 30, 40, 64, 50, 256, 1, 0x3432_5258];
    assert_eq!(front_end.hear(), (DMABUF_SCANOUT2, [&scanout[..], &[1, 7 << 24]].concat()));
    let touch = |x, y| screen.touch(2, &Rect { x, y, width: 2, height: 2 });
    touch(0, 0);
    assert_eq!(front_end.hear(), (DMABUF_UPDATE, vec![2, 0, 0, 2, 2]));
    touch(4, 4);
    touch(8, 6);
    touch(5, 4);
    front_end.reply(DMABUF_UPDATE, &[]);
    assert_eq!(front_end.hear(), (DMABUF_UPDATE, vec![2, 4, 4, 6, 4]));
    front_end.reply(DMABUF_UPDATE, &[]);
    // Pixels come after the dma-buf has gone, and dma-bufs after pixels.
    screen.resize(2, 3, 3).unwrap();
    assert_eq!(front_end.hear(), (DMABUF_SCANOUT, vec![2, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!(front_end.hear(), (SCANOUT, vec![2, 3, 3]));
    screen.share(2, shared(0));
    assert_eq!(front_end.hear().0, DMABUF_SCANOUT2);
    screen.clear();
    assert_eq!(front_end.hear().0, DMABUF_SCANOUT);
    assert_eq!(front_end.hear(), (SCANOUT, vec![2, 0, 0]));
    touch(0, 0);
    screen.point(Cursor { scanout: 0, x: 5, y: 6, shape: Shape::Same });
    assert_eq!(front_end.hear().0, CURSOR_POS, "nothing of a scanout that is dark");
}

#[test]
fn a_front_end_without_modifiers_gets_plain_dma_bufs_alone() {
    let (screen, mut front_end, _) = screen_with(true);
    front_end.greet_with(0b01);
    assert_eq!(front_end.hear(), (SET_PROTOCOL_FEATURES, vec![1, 0]));
    assert!(screen.takes(0) && screen.takes(0x00ff_ffff_ffff_ffff) && !screen.takes(7 << 56 | 1));
    screen.share(0, shared(0));
    let (kind, body) = front_end.hear();
    assert_eq!((kind, body.len()), (DMABUF_SCANOUT, 10));
}
