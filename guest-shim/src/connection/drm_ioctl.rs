//! The render node's ioctls (linux/drm/virtgpu_drm.h) as functions that return
//! io::Result.
#![allow(unsafe_code, reason = "ioctl(2)")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const COMMAND_BASE: u8 = 0x40;

#[repr(C)]
#[derive(Default)]
struct Map {
    offset: u64,
    handle: u32,
    pad: u32,
}

#[repr(C)]
#[derive(Default)]
struct ExecBuffer {
    flags: u32,
    size: u32,
    command: u64,
    bo_handles: u64,
    num_bo_handles: u32,
    fence_fd: i32,
    ring_idx: u32,
    syncobj_stride: u32,
    num_in_syncobjs: u32,
    num_out_syncobjs: u32,
    in_syncobjs: u64,
    out_syncobjs: u64,
}

#[repr(C)]
#[derive(Default)]
struct GetParam {
    param: u64,
    value: u64,
}

/// DRM_VIRTGPU_RESOURCE_CREATE.
#[repr(C)]
#[derive(Default)]
pub(super) struct ResourceCreate {
    pub(super) target: u32,
    pub(super) format: u32,
    pub(super) bind: u32,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) depth: u32,
    pub(super) array_size: u32,
    pub(super) last_level: u32,
    pub(super) nr_samples: u32,
    pub(super) flags: u32,
    pub(super) bo_handle: u32,
    pub(super) res_handle: u32,
    pub(super) size: u32,
    pub(super) stride: u32,
}

#[repr(C)]
#[derive(Default)]
struct TransferToHost {
    bo_handle: u32,
    x_y_z_w_h_d: [u32; 6],
    level: u32,
    offset: u32,
    stride: u32,
    layer_stride: u32,
}

#[repr(C)]
#[derive(Default)]
struct GetCaps {
    cap_set_id: u32,
    cap_set_ver: u32,
    addr: u64,
    size: u32,
    pad: u32,
}

#[repr(C)]
#[derive(Default)]
struct ContextInit {
    num_params: u32,
    pad: u32,
    ctx_set_params: u64,
}

#[repr(C)]
#[derive(Default)]
struct GemClose {
    handle: u32,
    pad: u32,
}

/// VIRTGPU_PARAM_3D_FEATURES.
pub(super) const PARAM_3D_FEATURES: u64 = 1;
/// VIRTGPU_PARAM_CONTEXT_INIT.
pub(super) const PARAM_CONTEXT_INIT: u64 = 6;
const CONTEXT_PARAM_CAPSET_ID: u64 = 1;
const CONTEXT_PARAM_NUM_RINGS: u64 = 2;
const EXECBUF_FENCE_FD_OUT: u32 = 2;
const EXECBUF_RING_IDX: u32 = 4;

/// Calls ioctl number `nr` of group 'd', read and written, and repeats it when
/// a signal interrupts it, as libdrm does.
fn ioctl<T>(node: &OwnedFd, nr: u8, argument: &mut T) -> io::Result<()> {
    let request = 3 << 30 | (size_of::<T>() as u64) << 16 | u64::from(b'd') << 8 | u64::from(nr);
    loop {
        // SAFETY: `argument` is the structure whose size the request names, and
        // lives through the call; pointers in it are the callers' matter below.
        let rc = unsafe { libc::ioctl(node.as_raw_fd(), request, std::ptr::from_mut(argument)) };
        if rc >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if !matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) {
            return Err(error);
        }
    }
}

/// A parameter of the device; 0 where the kernel does not know it.
pub(super) fn get_param(node: &OwnedFd, param: u64) -> u32 {
    let mut value = 0_u64;
    let mut argument = GetParam { param, value: std::ptr::from_mut(&mut value) as u64 };
    match ioctl(node, COMMAND_BASE + 0x03, &mut argument) {
        Ok(()) => (value & 0xffff_ffff) as u32,
        Err(_) => 0,
    }
}

/// Reads a capset into `into`. An error at once where the device has none of
/// this id; up to five seconds where the backend does not answer.
pub(super) fn get_caps(node: &OwnedFd, id: u32, into: &mut [u8; 24]) -> io::Result<()> {
    let mut argument = GetCaps {
        cap_set_id: id,
        addr: into.as_mut_ptr() as u64,
        size: 24,
        ..GetCaps::default()
    };
    ioctl(node, COMMAND_BASE + 0x09, &mut argument)
}

/// Gives the file a context with one fence timeline of its own. Linux up to
/// 6.12 at least forgets capsets above 31 (it shifts an `int`) and refuses to
/// name one here; the timeline is to be had without.
pub(super) fn context_init(node: &OwnedFd, capset: u32) -> io::Result<()> {
    let params =
        [[CONTEXT_PARAM_CAPSET_ID, u64::from(capset)], [CONTEXT_PARAM_NUM_RINGS, 1]];
    let init = |params: &[[u64; 2]]| {
        let num_params = u32::try_from(params.len()).unwrap_or(0);
        let mut argument =
            ContextInit { num_params, pad: 0, ctx_set_params: params.as_ptr() as u64 };
        ioctl(node, COMMAND_BASE + 0x0b, &mut argument)
    };
    // A refused capset comes first, so that nothing is set when it is tried again.
    init(&params).or_else(|_| init(&params[1..]))
}

/// Creates a resource of guest pages.
pub(super) fn resource_create(node: &OwnedFd, argument: &mut ResourceCreate) -> io::Result<()> {
    ioctl(node, COMMAND_BASE + 0x04, argument)
}

/// The offset at which mmap(2) of the node maps a resource.
pub(super) fn map_offset(node: &OwnedFd, handle: u32) -> io::Result<u64> {
    let mut argument = Map { handle, ..Map::default() };
    ioctl(node, COMMAND_BASE + 0x01, &mut argument)?;
    Ok(argument.offset)
}

/// TRANSFER_TO_HOST with nothing but its offset.
pub(super) fn transfer_to_host(node: &OwnedFd, handle: u32, offset: u32) -> io::Result<()> {
    let mut argument = TransferToHost {
        bo_handle: handle,
        x_y_z_w_h_d: [0, 0, 0, 1, 1, 1],
        offset,
        ..TransferToHost::default()
    };
    ioctl(node, COMMAND_BASE + 0x07, &mut argument)
}

/// SUBMIT_3D without a fence.
pub(super) fn submit(node: &OwnedFd, command: &[u8; 24]) -> io::Result<()> {
    let mut argument = ExecBuffer {
        size: 24,
        command: command.as_ptr() as u64,
        fence_fd: -1,
        ..ExecBuffer::default()
    };
    ioctl(node, COMMAND_BASE + 0x02, &mut argument)
}

/// SUBMIT_3D with a fence, returned as a descriptor that poll(2) finds
/// readable when the fence has signalled.
pub(super) fn submit_fenced(
    node: &OwnedFd,
    command: &[u8; 24],
    own_timeline: bool,
) -> io::Result<OwnedFd> {
    let timeline = if own_timeline { EXECBUF_RING_IDX } else { 0 };
    let mut argument = ExecBuffer {
        flags: EXECBUF_FENCE_FD_OUT | timeline,
        size: 24,
        command: command.as_ptr() as u64,
        fence_fd: -1,
        ..ExecBuffer::default()
    };
    ioctl(node, COMMAND_BASE + 0x02, &mut argument)?;
    if argument.fence_fd < 0 {
        return Err(io::Error::other("the kernel returned no fence"));
    }
    // SAFETY: a descriptor that the kernel has just installed for this call.
    Ok(unsafe { OwnedFd::from_raw_fd(argument.fence_fd) })
}

/// Closes a resource's handle; the kernel then takes its pages back.
pub(super) fn gem_close(node: &OwnedFd, handle: u32) -> io::Result<()> {
    // _IOW, not _IOWR: written out because it is the only one.
    let request = 1 << 30 | (size_of::<GemClose>() as u64) << 16 | u64::from(b'd') << 8 | 0x09;
    let mut argument = GemClose { handle, pad: 0 };
    // SAFETY: the structure that the request names, alive through the call.
    let rc = unsafe { libc::ioctl(node.as_raw_fd(), request, std::ptr::from_mut(&mut argument)) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
