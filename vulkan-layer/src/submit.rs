//! Submits: what has command buffers is admitted by the renderer, goes on, and
//! has a fence behind it. The queue is the caller's during the call, so what the layer
//! submits itself it submits within.
#![allow(unsafe_code, reason = "Vulkan's functions")]

use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

use ash::vk;

use crate::device::Device;
use crate::fences::Follower;
use crate::registry;

/// A queue.
pub(crate) struct Queue {
    pub(crate) device: Arc<Device>,
    handle: vk::Queue,
    family: u32,
    follower: Mutex<Option<Follower>>,
}

/// What is submitted, as the renderer hears of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Work {
    /// Equal for what probably costs the same: as many batches with as many command
    /// buffers and semaphores each. Which command buffers does not count, for most
    /// programs record them anew.
    alike: u64,
    pub(crate) command_buffers: u64,
}

impl Work {
    /// FNV-1a's beginning.
    fn begin(queue: &Queue, kind: u32) -> Self {
        let begin = Self { alike: 0xcbf2_9ce4_8422_2325, command_buffers: 0 };
        begin.and([queue.family, kind, 0])
    }

    fn and(mut self, numbers: [u32; 3]) -> Self {
        for byte in numbers.into_iter().flat_map(u32::to_le_bytes) {
            self.alike = (self.alike ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        self
    }

    /// One batch more, with so many command buffers.
    fn batch(self, command_buffers: u32, waits: u32, signals: u32) -> Self {
        let all = self.command_buffers.saturating_add(command_buffers.into());
        Self { command_buffers: all, ..self.and([command_buffers, waits, signals]) }
    }
}

/// So many structures of the caller's.
///
/// # Safety
/// They are there, as Vulkan demands.
unsafe fn all_of<'a, T>(first: *const T, count: u32) -> &'a [T] {
    let count = usize::try_from(count).unwrap_or(0);
    if count == 0 || first.is_null() {
        return &[];
    }
    // SAFETY: the caller's array of so many.
    unsafe { std::slice::from_raw_parts(first, count) }
}

impl Queue {
    pub(crate) fn new(device: Arc<Device>, handle: vk::Queue, family: u32) -> Self {
        Self { device, handle, family, follower: Mutex::default() }
    }

    /// Waits for what was submitted.
    pub(crate) fn close(&self) {
        let follower = self.follower.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(follower) = follower {
            follower.end();
        }
    }

    /// Submits by `forward`, which is told the fence. Nothing is submitted without the
    /// renderer.
    fn submit(&self, work: Work, fence: vk::Fence, forward: impl Fn(vk::Fence) -> vk::Result) -> vk::Result {
        if work.command_buffers == 0 {
            return forward(fence);
        }
        let (device, lost) = (&self.device, vk::Result::ERROR_DEVICE_LOST);
        if device.is_lost() {
            return lost;
        }
        let own = match device.fence() {
            Ok(own) => own,
            Err(error) => return error,
        };
        let Ok(ticket) = device.lease.admit(work.alike, work.command_buffers) else {
            device.keep(own);
            device.lose();
            return lost;
        };
        let has_fence = fence != vk::Fence::null();
        let result = forward(if has_fence { fence } else { own });
        if result != vk::Result::SUCCESS {
            device.keep(own);
            device.lease.over(ticket);
            if result == lost {
                device.lose();
            }
            return result;
        }
        if has_fence && self.put_fence(own) != vk::Result::SUCCESS {
            // Whose end nobody would see.
            device.keep(own);
            device.lease.over(ticket);
            device.lose();
            return lost;
        }
        self.follow(own, ticket);
        vk::Result::SUCCESS
    }

    fn put_fence(&self, fence: vk::Fence) -> vk::Result {
        // SAFETY: the caller's queue, within the caller's call; the fence is in no queue.
        unsafe { (self.device.next.submit)(self.handle, 0, ptr::null(), fence) }
    }

    fn follow(&self, fence: vk::Fence, ticket: u64) {
        let mut follower = self.follower.lock().unwrap_or_else(PoisonError::into_inner);
        if follower.is_none() {
            *follower = Follower::start(&self.device);
        }
        let is_followed = follower.as_ref().is_some_and(|follower| follower.add(fence, ticket));
        drop(follower);
        if !is_followed {
            self.device.follow(fence, ticket);
        }
    }
}

/// vkQueueSubmit.
pub(crate) unsafe extern "system" fn queue_submit(
    handle: vk::Queue,
    count: u32,
    submits: *const vk::SubmitInfo<'_>,
    fence: vk::Fence,
) -> vk::Result {
    let Some(queue) = registry::queue(handle) else { return vk::Result::ERROR_DEVICE_LOST };
    // SAFETY: the caller's submits.
    let all = unsafe { all_of(submits, count) };
    let work = all.iter().fold(Work::begin(&queue, 1), |work, of| {
        work.batch(of.command_buffer_count, of.wait_semaphore_count, of.signal_semaphore_count)
    });
    // SAFETY: the caller's arguments go on, perhaps with a fence where the caller has none.
    queue.submit(work, fence, |fence| unsafe { (queue.device.next.submit)(handle, count, submits, fence) })
}

/// vkQueueSubmit2, and vkQueueSubmit2KHR.
pub(crate) unsafe extern "system" fn queue_submit2(
    handle: vk::Queue,
    count: u32,
    submits: *const vk::SubmitInfo2<'_>,
    fence: vk::Fence,
) -> vk::Result {
    let Some(queue) = registry::queue(handle) else { return vk::Result::ERROR_DEVICE_LOST };
    let Some(next) = queue.device.next.submit2 else { return vk::Result::ERROR_DEVICE_LOST };
    // SAFETY: the caller's submits.
    let all = unsafe { all_of(submits, count) };
    let work = all.iter().fold(Work::begin(&queue, 1), |work, of| {
        work.batch(of.command_buffer_info_count, of.wait_semaphore_info_count, of.signal_semaphore_info_count)
    });
    // SAFETY: as for vkQueueSubmit.
    queue.submit(work, fence, |fence| unsafe { next(handle, count, submits, fence) })
}

/// vkQueueBindSparse. It has no command buffers and takes the device's time all the same:
/// each batch counts as one.
pub(crate) unsafe extern "system" fn queue_bind_sparse(
    handle: vk::Queue,
    count: u32,
    binds: *const vk::BindSparseInfo<'_>,
    fence: vk::Fence,
) -> vk::Result {
    let Some(queue) = registry::queue(handle) else { return vk::Result::ERROR_DEVICE_LOST };
    // SAFETY: the caller's binds.
    let all = unsafe { all_of(binds, count) };
    let work = all.iter().fold(Work::begin(&queue, 2), |work, of| {
        work.batch(1, of.wait_semaphore_count, of.signal_semaphore_count)
    });
    // SAFETY: as for vkQueueSubmit.
    queue.submit(work, fence, |fence| unsafe { (queue.device.next.bind_sparse)(handle, count, binds, fence) })
}
