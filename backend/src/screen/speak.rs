//! The thread that speaks to the front end. One that does not answer any more
//! is told nothing more; the guest's questions get the answers of a device
//! without a screen.
#![deny(clippy::indexing_slicing)]

use std::io;
use std::os::fd::OwnedFd;
use std::sync::PoisonError;

use paravane_protocol::virtio_gpu::{DisplayInfo, DisplayOne, EDID_BYTES, Edid, Rect, ctrl};
use vhost::vhost_user::GpuBackend;
use vhost::vhost_user::gpu_message::{
    VhostUserGpuCursorPos, VhostUserGpuCursorUpdate, VhostUserGpuEdidRequest, VhostUserGpuScanout, VhostUserGpuUpdate,
    VirtioGpuDisplayOne,
};
use vhost::vhost_user::message::VhostUserU64;
use zerocopy::IntoBytes;

use super::Answers;
use super::desk::{Cursor, Desk, Question, Shape, Work};
use super::frame::Update;
use crate::fence::Ticket;
use crate::response::Response;
use crate::scanout;

/// VHOST_USER_GPU_PROTOCOL_F_EDID: the front end answers GET_EDID.
const EDID: u64 = 1;

pub(super) struct Speaker {
    socket: GpuBackend,
    answers: Answers,
    nudge: OwnedFd,
    connection: u64,
    edid: bool,
    /// The front end listens.
    listens: bool,
}

impl Speaker {
    pub(super) fn new(socket: GpuBackend, answers: Answers, nudge: OwnedFd, connection: u64) -> Self {
        Self { socket, answers, nudge, connection, edid: false, listens: true }
    }

    pub(super) fn serve(mut self, desk: &Desk) {
        let greeted = self.greet();
        self.judge(greeted);
        loop {
            let work = desk.take();
            if work == Work::End {
                return;
            }
            self.work(work);
        }
    }

    fn greet(&mut self) -> io::Result<()> {
        let theirs = self.socket.get_protocol_features()?.value;
        self.edid = theirs & EDID != 0;
        self.socket.set_protocol_features(&VhostUserU64::new(theirs & EDID))
    }

    fn judge<T>(&mut self, result: io::Result<T>) -> Option<T> {
        result
            .inspect_err(|error| {
                if self.listens {
                    log::warn!("connection {}: the front end's screen: {error}", self.connection);
                }
                self.listens = false;
            })
            .ok()
    }

    fn work(&mut self, work: Work) {
        match work {
            Work::Ask(question, ticket) => self.ask(question, ticket),
            _ if !self.listens => {}
            Work::Cursor(cursor) => {
                let told = self.point(cursor);
                self.judge(told);
            }
            Work::Size { scanout: scanout_id, width, height } => {
                let told = self.socket.set_scanout(&VhostUserGpuScanout { scanout_id, width, height });
                self.judge(told);
            }
            Work::Update { scanout, update: Update { rect, pixels } } => {
                let [x, y, width, height] = [rect.x, rect.y, rect.width, rect.height].map(narrow);
                let update = VhostUserGpuUpdate { scanout_id: scanout, x, y, width, height };
                let told = self.socket.update_scanout(&update, &pixels);
                self.judge(told);
            }
            Work::End => {}
        }
    }

    fn point(&self, cursor: Cursor) -> io::Result<()> {
        let Cursor { scanout: scanout_id, x, y, shape } = cursor;
        let pos = VhostUserGpuCursorPos { scanout_id, x, y };
        match shape {
            Shape::Same => self.socket.cursor_pos(&pos),
            Shape::Hidden => self.socket.cursor_pos_hide(&pos),
            Shape::Picture { hot_x, hot_y, pixels } => {
                self.socket.cursor_update(&VhostUserGpuCursorUpdate { pos, hot_x, hot_y }, &pixels)
            }
        }
    }

    fn ask(&mut self, question: Question, ticket: Ticket) {
        let told = match question {
            _ if !self.listens => None,
            Question::DisplayInfo => {
                let info = self.display_info();
                self.judge(info)
            }
            Question::Edid(scanout) if self.edid => {
                let edid = self.ask_edid(scanout);
                self.judge(edid)
            }
            Question::Edid(_) => None,
        };
        let answer = told.unwrap_or_else(|| scanout::without_screen(question));
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).push((ticket, answer));
        // Fails only when 2^64 - 2 nudges wait; then it is readable.
        let _ = rustix::io::write(&self.nudge, &1_u64.to_ne_bytes());
    }

    fn display_info(&self) -> io::Result<Response> {
        let theirs = self.socket.get_display_info()?;
        let one = |one: VirtioGpuDisplayOne| {
            let [x, y, width, height] = [one.r.x, one.r.y, one.r.width, one.r.height].map(Into::into);
            DisplayOne { r: Rect { x, y, width, height }, enabled: one.enabled.into(), flags: one.flags.into() }
        };
        let info = DisplayInfo { pmodes: theirs.pmodes.map(one) };
        Ok(Response::Data(ctrl::OK_DISPLAY_INFO, info.as_bytes().to_vec()))
    }

    fn ask_edid(&self, scanout: u32) -> io::Result<Response> {
        let theirs = self.socket.get_edid(&VhostUserGpuEdidRequest { scanout_id: scanout })?;
        let size = theirs.size.min(u32::try_from(EDID_BYTES).unwrap_or(0));
        let edid = Edid { size: size.into(), padding: 0.into(), edid: theirs.edid };
        Ok(Response::Data(ctrl::OK_EDID, edid.as_bytes().to_vec()))
    }
}

/// A frame's sides are of 32 bits.
fn narrow(side: u64) -> u32 {
    u32::try_from(side).unwrap_or(u32::MAX)
}
