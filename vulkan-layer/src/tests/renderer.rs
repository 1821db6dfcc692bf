//! A renderer's side that says what a test wants, and writes down what it hears.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use paravane_backend::packet::{self, Packet};
use paravane_protocol::vulkan::{ADMIT, Answer, Ask, GIVE_BACK, HELLO, OVER, TAKE};
use zerocopy::{FromBytes, IntoBytes};

use super::Event;

/// What has happened, in its order, at the renderer and in the driver.
#[derive(Debug, Default)]
pub(super) struct Story(Mutex<Vec<Event>>);

impl Story {
    pub(super) fn tell(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }

    /// All since the last time.
    pub(super) fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    pub(super) fn has(&self, event: Event) -> bool {
        self.0.lock().unwrap().contains(&event)
    }
}

/// The stand-in.
#[derive(Debug)]
pub(super) struct Renderer {
    story: Arc<Story>,
    /// What the layer inherits.
    inherited: OwnedFd,
    /// While it is set, nobody is admitted.
    pub(super) holds: AtomicBool,
    /// Memory that is left.
    pub(super) left: AtomicU64,
    /// The device's sockets, while it is served.
    sockets: Mutex<Vec<OwnedFd>>,
}

impl Renderer {
    pub(super) fn start(story: &Arc<Story>) -> Arc<Self> {
        let (here, inherited) = packet::pair().unwrap();
        rustix::io::ioctl_fionbio(&here, false).unwrap();
        let (holds, left, sockets) = (AtomicBool::new(false), AtomicU64::new(1000), Mutex::default());
        let renderer = Arc::new(Self { story: Arc::clone(story), inherited, holds, left, sockets });
        let serving = Arc::downgrade(&renderer);
        thread::spawn(move || {
            while let Ok(Packet { bytes, fds }) = Packet::receive(here.as_fd(), 64) {
                let Some(renderer) = serving.upgrade() else { return };
                assert_eq!(Ask::read_from_bytes(&bytes).unwrap(), Ask::new(HELLO, 0, 0));
                let [gate, notes] = <[OwnedFd; 2]>::try_from(fds).unwrap();
                answer(&gate, true, 0);
                *renderer.sockets.lock().unwrap() = [&gate, &notes].map(|of| of.try_clone().unwrap()).into();
                let at_gate = Arc::clone(&renderer);
                thread::spawn(move || at_gate.serve(&gate));
                thread::spawn(move || renderer.serve(&notes));
            }
        });
        renderer
    }

    pub(super) fn number(&self) -> i32 {
        self.inherited.as_raw_fd()
    }

    /// Ends the connection.
    pub(super) fn hang_up(&self) {
        for socket in self.sockets.lock().unwrap().drain(..) {
            rustix::net::shutdown(&socket, rustix::net::Shutdown::Both).unwrap();
        }
    }

    fn serve(&self, socket: &OwnedFd) {
        let mut tickets = 70;
        while let Ok(packet) = Packet::receive(socket.as_fd(), 64) {
            let ask = Ask::read_from_bytes(&packet.bytes).unwrap();
            let (first, second) = (ask.first.get(), ask.second.get());
            match ask.kind.get() {
                ADMIT => {
                    self.story.tell(Event::Asks { command_buffers: second });
                    while self.holds.load(Ordering::SeqCst) {
                        thread::yield_now();
                    }
                    tickets += 1;
                    answer(socket, true, tickets);
                }
                OVER => self.story.tell(Event::Over { ticket: first }),
                TAKE => {
                    let taken = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(first));
                    answer(socket, taken.is_ok(), 0);
                }
                GIVE_BACK => drop(self.left.fetch_add(first, Ordering::SeqCst)),
                other => panic!("{other}"),
            }
        }
        self.story.tell(Event::HungUp);
    }
}

fn answer(socket: &OwnedFd, granted: bool, ticket: u64) {
    let bytes = Answer::new(granted, ticket).as_bytes().to_vec();
    Packet { bytes, fds: Vec::new() }.send(socket.as_fd()).unwrap();
}
