//! Fences behind what is submitted, and who waits for them: a thread for each
//! queue, in the order in which they were submitted.
#![allow(unsafe_code, reason = "Vulkan's functions")]

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ash::vk;

use crate::device::Device;

/// How often who waits looks whether the device is about to be destroyed.
const LOOK: Duration = Duration::from_millis(200);
/// How long it looks away where waiting has failed for want of memory.
const PAUSE: Duration = Duration::from_millis(1);

impl Device {
    fn pool(&self) -> MutexGuard<'_, Vec<vk::Fence>> {
        self.fences.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fence that is not signalled.
    pub(crate) fn fence(&self) -> Result<vk::Fence, vk::Result> {
        let pooled = self.pool().pop();
        if let Some(fence) = pooled {
            // SAFETY: a fence of this device that nobody else has.
            let reset = unsafe { (self.next.reset_fences)(self.handle, 1, &raw const fence) };
            if reset != vk::Result::SUCCESS {
                self.keep(fence);
                return Err(reset);
            }
            return Ok(fence);
        }
        let (info, mut fence) = (vk::FenceCreateInfo::default(), vk::Fence::null());
        // SAFETY: the device is there, for it has submitted something.
        let made = unsafe { (self.next.create_fence)(self.handle, &raw const info, std::ptr::null(), &raw mut fence) };
        if made == vk::Result::SUCCESS { Ok(fence) } else { Err(made) }
    }

    /// Nobody waits for this one any more.
    pub(crate) fn keep(&self, fence: vk::Fence) {
        self.pool().push(fence);
    }

    /// Destroys those that nobody waits for.
    pub(crate) fn destroy_fences(&self) {
        for fence in self.pool().drain(..) {
            // SAFETY: a fence of this device, in no queue.
            unsafe { (self.next.destroy_fence)(self.handle, fence, std::ptr::null()) };
        }
    }

    /// Waits for a fence; then what has this ticket is over. A device that is lost has
    /// nothing more to do. One that is destroyed while it has waits no longer; then
    /// the fence is still the queue's and stays.
    pub(crate) fn follow(&self, fence: vk::Fence, ticket: u64) {
        let look = u64::try_from(LOOK.as_nanos()).unwrap_or(u64::MAX);
        let is_free = loop {
            // SAFETY: a fence of this device that was submitted, and is waited for here alone.
            let waited = unsafe { (self.next.wait_for_fences)(self.handle, 1, &raw const fence, vk::TRUE, look) };
            match waited {
                vk::Result::SUCCESS => break true,
                vk::Result::ERROR_DEVICE_LOST => {
                    self.lose();
                    break true;
                }
                _ if self.is_closing() => break false,
                vk::Result::TIMEOUT => {}
                _ => thread::sleep(PAUSE),
            }
        };
        if is_free {
            self.keep(fence);
        }
        self.lease.over(ticket);
    }
}

/// The thread that waits for a queue's fences.
pub(crate) struct Follower {
    submitted: Sender<(vk::Fence, u64)>,
    thread: JoinHandle<()>,
}

impl Follower {
    /// `None`: the system has no thread.
    pub(crate) fn start(device: &Arc<Device>) -> Option<Self> {
        let device = Arc::clone(device);
        let (submitted, fences): (_, Receiver<(vk::Fence, u64)>) = channel();
        let follow = move || fences.into_iter().for_each(|(fence, ticket)| device.follow(fence, ticket));
        let thread = thread::Builder::new().name("paravane-fences".to_owned()).spawn(follow).ok()?;
        Some(Self { submitted, thread })
    }

    /// A fence more; `false`: the thread has ended.
    pub(crate) fn add(&self, fence: vk::Fence, ticket: u64) -> bool {
        self.submitted.send((fence, ticket)).is_ok()
    }

    /// Waits for those that there are.
    pub(crate) fn end(self) {
        drop(self.submitted);
        // One that has panicked has ended.
        let _ = self.thread.join();
    }
}
