//! The way to somebody's eyes: what scanouts show goes to the front end over
//! the socket of VHOST_USER_GPU_SET_SOCKET (QEMU's docs/interop/vhost-user-gpu).
//! A thread of its own speaks there, because the front end answers only when it
//! does not wait for the device: so the device never waits for it either.
#![deny(clippy::indexing_slicing)]

mod desk;
mod frame;
mod shared;
mod speak;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use paravane_protocol::limits::PICTURE_BYTES_MAX;
use vhost::vhost_user::GpuBackend;

use crate::command::Rect;
use crate::fence::Ticket;
use crate::pixels::Version;
use crate::response::{Refusal, Response};
use desk::Desk;
use frame::Frame;

pub use desk::{CURSOR_BYTES, CURSOR_SIDE, Cursor, Question, Shape};
pub use shared::{Layout, Shared};

type Answers = Arc<Mutex<Vec<(Ticket, Response)>>>;

/// The device's side of it.
#[derive(Debug)]
pub struct Screen {
    desk: Arc<Desk>,
    answers: Answers,
    modifiers: Arc<AtomicBool>,
}

impl Screen {
    /// Starts the thread. `nudge` is an eventfd, written when there are answers. With
    /// `dmabuf` the front end is asked whether it knows modifiers of dma-bufs.
    pub fn start(socket: GpuBackend, nudge: OwnedFd, connection: u64, dmabuf: bool) -> io::Result<Self> {
        let screen = Self { desk: Arc::default(), answers: Arc::default(), modifiers: Arc::default() };
        let speaker = speak::Speaker::new(socket, Arc::clone(&screen.answers), nudge, connection);
        let speaker = if dmabuf { speaker.with_modifiers(Arc::clone(&screen.modifiers)) } else { speaker };
        let desk = Arc::clone(&screen.desk);
        std::thread::Builder::new().name(format!("screen {connection}")).spawn(move || speaker.serve(&desk))?;
        Ok(screen)
    }

    /// Asks the front end; the answer comes by [`Screen::answers`].
    pub fn ask(&self, question: Question, ticket: Ticket) {
        self.desk.with(|state| state.ask(question, ticket));
    }

    /// What has been answered since.
    pub fn answers(&self) -> Vec<(Ticket, Response)> {
        std::mem::take(&mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A scanout shows something else from now on, of that size; without one it is dark. Guests that turn pages show
    /// one picture and another in turn: of what was there, only what differs has changed.
    pub fn resize(&self, scanout: u32, width: u32, height: u32) -> Result<(), Refusal> {
        self.desk.with(|state| {
            if let Some(frame) = state.frames.get_mut(&scanout).filter(|frame| frame.is_of(width, height)) {
                frame.forget_rows();
                return Ok(());
            }
            let others = state.frames.iter().filter(|(other, _)| **other != scanout);
            let bytes: usize = others.map(|(_, frame)| frame.bytes()).sum();
            let new = u64::from(width) * u64::from(height) * 4;
            if bytes as u64 + new > PICTURE_BYTES_MAX {
                return Err(Refusal::OutOfMemory);
            }
            state.set_frame(scanout, Frame::new(width, height));
            Ok(())
        })
    }

    /// Draws a rectangle of a scanout; `row` fills in the pixels, in a 2D
    /// format, from a column of a row on. `version` names what is in a row of the
    /// scanout, in all of it, where that is known.
    pub fn draw(
        &self,
        scanout: u32,
        rect: &Rect,
        format: u32,
        version: impl Fn(u64) -> Option<Version>,
        row: impl FnMut(u64, u64, &mut [u8]) -> Option<()>,
    ) -> Result<(), Refusal> {
        let drawn = self.desk.with(|state| state.frames.get_mut(&scanout)?.draw(rect, format, version, row));
        drawn.ok_or(Refusal::InvalidParameter)
    }

    /// Whether the front end shows a dma-buf of such a modifier, as far as it has said.
    pub fn takes(&self, modifier: u64) -> bool {
        shared::is_plain(modifier) || self.modifiers.load(Ordering::Acquire)
    }

    /// A scanout shows a dma-buf from now on.
    pub fn share(&self, scanout: u32, shared: Shared) {
        self.desk.with(|state| state.set_shared(scanout, shared));
    }

    /// A part of what a scanout shows as a dma-buf has changed.
    pub fn touch(&self, scanout: u32, rect: &Rect) {
        self.desk.with(|state| state.shared.get_mut(&scanout).map(|frame| frame.touch(rect)));
    }

    /// The cursor has moved or changed.
    pub fn point(&self, cursor: Cursor) {
        self.desk.with(|state| state.point(cursor));
    }

    /// All scanouts that were lit are dark.
    pub fn clear(&self) {
        self.desk.with(|state| {
            let lit: Vec<u32> = state.frames.keys().chain(state.shared.keys()).copied().collect();
            lit.into_iter().for_each(|scanout| state.set_frame(scanout, Frame::new(0, 0)));
        });
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.desk.with(desk::State::end);
    }
}

#[cfg(test)]
mod tests;
