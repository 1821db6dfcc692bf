//! The thread that speaks to the front end. One that does not answer any more
//! is told nothing more; the guest's questions get the answers of a device
//! without a screen.
#![deny(clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use paravane_protocol::virtio_gpu::{DisplayInfo, DisplayOne, EDID_BYTES, Edid, Rect, ctrl};
use vhost::vhost_user::GpuBackend;
use vhost::vhost_user::gpu_message::{
    VhostUserGpuCursorPos, VhostUserGpuCursorUpdate, VhostUserGpuDMABUFScanout, VhostUserGpuDMABUFScanout2,
    VhostUserGpuEdidRequest, VhostUserGpuScanout, VhostUserGpuUpdate, VirtioGpuDisplayOne,
};
use vhost::vhost_user::message::VhostUserU64;
use zerocopy::IntoBytes;

use super::Answers;
use super::desk::{Cursor, Desk, Question, Shape, Work};
use super::frame::Update;
use super::shared::{Layout, Shared};
use crate::fence::Ticket;
use crate::response::Response;
use crate::scanout;

/// VHOST_USER_GPU_PROTOCOL_F_EDID: the front end answers GET_EDID.
const EDID: u64 = 1;
/// VHOST_USER_GPU_PROTOCOL_F_DMABUF2: the front end knows DMABUF_SCANOUT2.
const DMABUF2: u64 = 2;
/// VIRTIO_GPU_RESOURCE_FLAG_Y_0_TOP, of a dma-buf's flags.
const Y_0_TOP: u32 = 1;

pub(super) struct Speaker {
    socket: GpuBackend,
    answers: Answers,
    nudge: OwnedFd,
    connection: u64,
    edid: bool,
    /// The front end listens.
    listens: bool,
    /// Whether the front end knows modifiers; `None`: it is not asked.
    modifiers: Option<Arc<AtomicBool>>,
    /// Scanouts on which the front end has a dma-buf.
    shared: BTreeSet<u32>,
}

impl Speaker {
    pub(super) fn new(socket: GpuBackend, answers: Answers, nudge: OwnedFd, connection: u64) -> Self {
        Self { socket, answers, nudge, connection, edid: false, listens: true, modifiers: None, shared: BTreeSet::new() }
    }

    /// Has the front end asked for modifiers of dma-bufs; the answer goes here.
    pub(super) fn with_modifiers(self, modifiers: Arc<AtomicBool>) -> Self {
        Self { modifiers: Some(modifiers), ..self }
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
        let ours = if self.modifiers.is_some() { EDID | DMABUF2 } else { EDID };
        self.socket.set_protocol_features(&VhostUserU64::new(theirs & ours))?;
        if let Some(modifiers) = &self.modifiers {
            modifiers.store(theirs & DMABUF2 != 0, Ordering::Release);
        }
        Ok(())
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
                let told = self.unshare(scanout_id).and_then(|()| {
                    self.socket.set_scanout(&VhostUserGpuScanout { scanout_id, width, height })
                });
                self.judge(told);
            }
            Work::Share { scanout, shared } => {
                let told = self.share(scanout, &shared);
                self.judge(told);
            }
            Work::Touch { scanout, rect } => {
                let told = self.socket.update_dmabuf_scanout(&update(scanout, &rect));
                self.judge(told);
            }
            Work::Update { scanout, update: Update { rect, pixels } } => {
                let told = self.socket.update_scanout(&update(scanout, &rect), &pixels);
                self.judge(told);
            }
            Work::End => {}
        }
    }

    fn share(&mut self, scanout: u32, shared: &Shared) -> io::Result<()> {
        let Layout { rect, width: fd_width, height: fd_height, stride, fourcc, modifier, top } = shared.layout;
        let [x, y, width, height] = [rect.x, rect.y, rect.width, rect.height].map(narrow);
        let dmabuf_scanout = VhostUserGpuDMABUFScanout {
            scanout_id: scanout,
            x,
            y,
            width,
            height,
            fd_width,
            fd_height,
            fd_stride: stride,
            fd_flags: if top { Y_0_TOP } else { 0 },
            fd_drm_fourcc: fourcc,
        };
        self.shared.insert(scanout);
        if self.modifiers.as_ref().is_some_and(|known| known.load(Ordering::Acquire)) {
            let with_modifier = VhostUserGpuDMABUFScanout2 { dmabuf_scanout, modifier };
            return self.socket.set_dmabuf_scanout2(&with_modifier, Some(&*shared.file));
        }
        self.socket.set_dmabuf_scanout(&dmabuf_scanout, Some(&*shared.file))
    }

    /// The front end gives up the dma-buf of a scanout, if it has one.
    fn unshare(&mut self, scanout_id: u32) -> io::Result<()> {
        if !self.shared.remove(&scanout_id) {
            return Ok(());
        }
        let none = VhostUserGpuDMABUFScanout { scanout_id, ..Default::default() };
        self.socket.set_dmabuf_scanout(&none, None::<&OwnedFd>)
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

fn update(scanout_id: u32, rect: &crate::command::Rect) -> VhostUserGpuUpdate {
    let [x, y, width, height] = [rect.x, rect.y, rect.width, rect.height].map(narrow);
    VhostUserGpuUpdate { scanout_id, x, y, width, height }
}

/// A frame's sides are of 32 bits.
fn narrow(side: u64) -> u32 {
    u32::try_from(side).unwrap_or(u32::MAX)
}
