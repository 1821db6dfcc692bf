//! The transport inside a VM: a render node of the stock virtio-gpu driver.
//! What the front end negotiated decides how a waiter sleeps: on a fence of
//! the context's own timeline, on a fence of the device's, or, with 2D alone,
//! by polling with back-off.
#![allow(unsafe_code, reason = "poll(2)")]

use std::cell::Cell;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use paravane_protocol::channel::{
    BELL_KICK, BELL_WAIT, CAPSET_ID, MAGIC, bell_command, bell_offset, ring_offset,
};
use paravane_protocol::ring::word;

use super::drm_ioctl as ioctl;
use super::transport::{Area, Mark, Transport};
use crate::memory::{self, Over};

/// The kernel waits five seconds for a capset; we do not.
const CAPSET: Duration = Duration::from_millis(500);
/// Longest pause between looks where nothing wakes a waiter.
const POLL_MAX: Duration = Duration::from_millis(5);
/// PIPE_TEXTURE_2D, the only target that the kernel takes in 2D.
const TARGET_2D: u32 = 2;

/// How a waiter sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sleep {
    OwnTimeline,
    SharedTimeline,
    Poll,
}

/// An open render node.
pub(super) struct RenderNode {
    node: Arc<OwnedFd>,
    sleep: Sleep,
    token: AtomicU64,
}

thread_local! {
    /// Sleeps of this thread in a row that ended without a wake-up.
    static UNWOKEN: Cell<u32> = const { Cell::new(0) };
}

impl RenderNode {
    /// The first render node whose device is Paravane's.
    pub(super) fn find() -> io::Result<Self> {
        let mut why = io::Error::new(io::ErrorKind::NotFound, "no render node in /dev/dri");
        for path in render_nodes() {
            match Self::open(&path) {
                Ok(node) => return Ok(node),
                Err(error) => {
                    why = io::Error::new(error.kind(), format!("{}: {error}", path.display()));
                    log::info!("{why}");
                }
            }
        }
        Err(why)
    }

    fn open(path: &PathBuf) -> io::Result<Self> {
        let node = Arc::new(OwnedFd::from(File::options().read(true).write(true).open(path)?));
        check_capset(&node)?;
        let sleep = if ioctl::get_param(&node, ioctl::PARAM_3D_FEATURES) == 0 {
            Sleep::Poll
        } else if ioctl::get_param(&node, ioctl::PARAM_CONTEXT_INIT) != 0
            && ioctl::context_init(&node, CAPSET_ID).is_ok()
        {
            Sleep::OwnTimeline
        } else {
            Sleep::SharedTimeline
        };
        log::info!("{}: {sleep:?}", path.display());
        Ok(Self { node, sleep, token: AtomicU64::new(0) })
    }

    fn bell(&self, area: &Area, bell: u32) -> [u8; 24] {
        bell_command(self.token.load(Ordering::Relaxed), area.index, bell)
    }
}

/// Render nodes in the order of their numbers.
fn render_nodes() -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir("/dev/dri") else { return Vec::new() };
    let mut nodes: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"renderD"))
        })
        .collect();
    nodes.sort();
    nodes
}

/// Whether the device offers Paravane's capset. Asked in a thread, because the
/// kernel waits long for a backend that is away.
fn check_capset(node: &Arc<OwnedFd>) -> io::Result<()> {
    let (tell, told) = mpsc::channel();
    let node = Arc::clone(node);
    std::thread::Builder::new().name("paravane-probe".into()).spawn(move || {
        let mut body = [0; 24];
        let asked = ioctl::get_caps(&node, CAPSET_ID, &mut body).map(|()| body);
        let _ = tell.send(asked); // Nobody listens any more after the time limit.
    })?;
    let body = told
        .recv_timeout(CAPSET)
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the backend does not answer"))?
        .map_err(|error| io::Error::new(error.kind(), format!("not Paravane's device: {error}")))?;
    if body[..8] == MAGIC.to_le_bytes() {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "capset 60 is somebody else's"))
    }
}

/// Sleeps longer the more often nothing woke this thread.
fn back_off(limit: Duration) {
    let unwoken = UNWOKEN.get();
    UNWOKEN.set(unwoken.saturating_add(1));
    let pause = Duration::from_micros(50) * unwoken.min(100);
    std::thread::sleep(pause.min(POLL_MAX).min(limit));
}

/// Waits until a fence has signalled, at most `limit`.
fn poll_fence(fence: &OwnedFd, limit: Duration) -> io::Result<()> {
    let mut fd = libc::pollfd { fd: fence.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let limit_ms = i32::try_from(limit.as_millis().max(1)).unwrap_or(i32::MAX);
    // SAFETY: one pollfd that lives through the call.
    if unsafe { libc::poll(&raw mut fd, 1, limit_ms) } < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    Ok(())
}

impl Transport for RenderNode {
    fn create_area(&self, mark: Mark, bytes: usize, index: u16) -> io::Result<Area> {
        let size = u32::try_from(bytes)
            .map_err(|_| io::Error::other("an area has at most 4 GiB on a render node"))?;
        let mut create = ioctl::ResourceCreate {
            target: TARGET_2D,
            format: mark.format,
            width: mark.width,
            height: mark.height,
            depth: 1,
            array_size: 1,
            size,
            ..ioctl::ResourceCreate::default()
        };
        ioctl::resource_create(&self.node, &mut create)?;
        let resource = create.bo_handle;
        let mapped = ioctl::map_offset(&self.node, resource).and_then(|offset| {
            let pages = memory::map_shared(&self.node, offset, bytes, memory::window(bytes))?;
            Ok(Area { pages, index, resource, offset })
        });
        if mapped.is_err() {
            ioctl::gem_close(&self.node, resource)?;
        }
        mapped
    }

    fn map_at(&self, area: &Area, address: usize, over: Over) -> io::Result<()> {
        memory::map_at(&self.node, area.offset, area.pages.bytes(), address, over)
    }

    fn free_area(&self, area: Area) -> io::Result<()> {
        memory::unmap(area.pages);
        ioctl::gem_close(&self.node, area.resource)
    }

    fn doorbell(&self, area: &Area, bell: u32) -> io::Result<()> {
        ioctl::transfer_to_host(&self.node, area.resource, bell)
    }

    fn kick(&self, area: &Area, ring: u32) -> io::Result<()> {
        let bell = bell_offset(BELL_KICK, ring);
        match self.sleep {
            Sleep::Poll => ioctl::transfer_to_host(&self.node, area.resource, bell),
            _ => ioctl::submit(&self.node, &self.bell(area, bell)),
        }
    }

    fn sleep(&self, area: &Area, ring: u32, limit: Duration) -> io::Result<()> {
        if self.sleep == Sleep::Poll {
            back_off(limit);
        } else {
            let bell = self.bell(area, bell_offset(BELL_WAIT, ring));
            let own = self.sleep == Sleep::OwnTimeline;
            let fence = ioctl::submit_fenced(&self.node, &bell, own)?;
            poll_fence(&fence, limit)?;
        }
        let sleeps = area.pages.window(ring_offset(ring), 4096);
        let woken = sleeps.atomic_u32(word::GUEST_SLEEPS).load(Ordering::Acquire) == 0;
        if woken {
            UNWOKEN.set(0);
        } else if self.sleep != Sleep::Poll {
            // The fence's time limit passed: this wait is a long one.
            back_off(limit);
        }
        Ok(())
    }

    fn same_kernel(&self) -> bool {
        false
    }

    fn set_token(&self, token: u64) {
        self.token.store(token, Ordering::Relaxed);
    }
}
