//! Devices: each has a connection to the renderer, and the functions of the next
//! layer.
#![allow(unsafe_code, reason = "Vulkan's functions")]

use std::collections::HashMap;
use std::ffi::CStr;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once};

use ash::vk;

use crate::chain::{self, DeviceLink};
use crate::lease::Lease;
use crate::registry::{self, Key};
use crate::submit::Queue;

/// Vulkan's function of a type, where there is one.
///
/// # Safety
/// `F` is the type of the function that was asked for.
pub(crate) unsafe fn cast<F: Copy>(function: vk::PFN_vkVoidFunction) -> Option<F> {
    const { assert!(size_of::<F>() == size_of::<vk::PFN_vkVoidFunction>()) };
    // SAFETY: both are addresses of functions, and the caller knows the type.
    function.map(|function| unsafe { std::mem::transmute_copy(&function) })
}

/// The next layer's functions.
pub(crate) struct Next {
    pub(crate) get_device_proc_addr: vk::PFN_vkGetDeviceProcAddr,
    destroy_device: vk::PFN_vkDestroyDevice,
    get_queue: vk::PFN_vkGetDeviceQueue,
    /// Of Vulkan 1.1.
    get_queue2: Option<vk::PFN_vkGetDeviceQueue2>,
    pub(crate) submit: vk::PFN_vkQueueSubmit,
    /// Of Vulkan 1.3 or an extension.
    pub(crate) submit2: Option<vk::PFN_vkQueueSubmit2>,
    pub(crate) bind_sparse: vk::PFN_vkQueueBindSparse,
    pub(crate) allocate: vk::PFN_vkAllocateMemory,
    pub(crate) free: vk::PFN_vkFreeMemory,
    pub(crate) create_fence: vk::PFN_vkCreateFence,
    pub(crate) destroy_fence: vk::PFN_vkDestroyFence,
    pub(crate) reset_fences: vk::PFN_vkResetFences,
    pub(crate) wait_for_fences: vk::PFN_vkWaitForFences,
}

impl Next {
    /// # Safety
    /// `device` has just been made by the layer whose function this is.
    unsafe fn load(device: vk::Device, get: vk::PFN_vkGetDeviceProcAddr) -> Option<Self> {
        // SAFETY: the device is there.
        let find = |name: &CStr| unsafe { get(device, name.as_ptr()) };
        macro_rules! function {
            ($kind:ident) => {
                // SAFETY: the function of this name has the type of this name.
                unsafe { cast::<vk::$kind>(find(name_of(concat!(stringify!($kind), "\0"))?)) }
            };
        }
        let later = || {
            // SAFETY: the extension's function has the type of the one that it became.
            unsafe { cast::<vk::PFN_vkQueueSubmit2>(find(c"vkQueueSubmit2KHR")) }
        };
        Some(Self {
            get_device_proc_addr: get,
            destroy_device: function!(PFN_vkDestroyDevice)?,
            get_queue: function!(PFN_vkGetDeviceQueue)?,
            get_queue2: function!(PFN_vkGetDeviceQueue2),
            submit: function!(PFN_vkQueueSubmit)?,
            submit2: function!(PFN_vkQueueSubmit2).or_else(later),
            bind_sparse: function!(PFN_vkQueueBindSparse)?,
            allocate: function!(PFN_vkAllocateMemory)?,
            free: function!(PFN_vkFreeMemory)?,
            create_fence: function!(PFN_vkCreateFence)?,
            destroy_fence: function!(PFN_vkDestroyFence)?,
            reset_fences: function!(PFN_vkResetFences)?,
            wait_for_fences: function!(PFN_vkWaitForFences)?,
        })
    }
}

/// A function's name, by that of its type: PFN_ and the name, with its NUL.
fn name_of(kind: &'static str) -> Option<&'static CStr> {
    CStr::from_bytes_with_nul(kind.strip_prefix("PFN_")?.as_bytes()).ok()
}

/// A device.
pub(crate) struct Device {
    pub(crate) handle: vk::Device,
    pub(crate) next: Next,
    pub(crate) lease: Lease,
    /// Fences that nobody waits for.
    pub(crate) fences: Mutex<Vec<vk::Fence>>,
    /// Memory that is counted, and how much it is.
    pub(crate) memory: Mutex<HashMap<vk::DeviceMemory, u64>>,
    /// Nothing is submitted any more: the device is lost, or the renderer.
    lost: AtomicBool,
    /// It is about to be destroyed.
    closing: AtomicBool,
}

impl Device {
    fn new(handle: vk::Device, next: Next, lease: Lease) -> Self {
        let (fences, memory) = (Mutex::default(), Mutex::default());
        Self { handle, next, lease, fences, memory, lost: AtomicBool::new(false), closing: AtomicBool::new(false) }
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Nothing is submitted from here on.
    pub(crate) fn lose(&self) {
        self.lost.store(true, Ordering::Release);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }
}

/// vkCreateDevice.
pub(crate) unsafe extern "system" fn create_device(
    physical: vk::PhysicalDevice,
    info: *const vk::DeviceCreateInfo<'_>,
    allocator: *const vk::AllocationCallbacks<'_>,
    device: *mut vk::Device,
) -> vk::Result {
    let failed = vk::Result::ERROR_INITIALIZATION_FAILED;
    // SAFETY: the caller's structure.
    let Some(of_caller) = (unsafe { info.as_ref() }) else { return failed };
    // SAFETY: its pNext, which has come through the loader.
    let Some(link) = (unsafe { chain::take::<DeviceLink>(of_caller.p_next) }) else { return failed };
    // SAFETY: a physical device of the loader's.
    let key = unsafe { Key::of(physical) };
    let Some(instance) = registry::read().instances.get(&key).copied() else { return failed };
    let lease = match Lease::open() {
        Ok(lease) => lease,
        Err(error) => {
            // A guest may try for ever; and who has no standard error hears nothing.
            static TOLD: Once = Once::new();
            TOLD.call_once(|| {
                let _ = writeln!(std::io::stderr(), "paravane-vulkan-layer: no Vulkan without a lease: {error}");
            });
            return failed;
        }
    };
    // SAFETY: the instance is there.
    let create = unsafe { (link.get_instance_proc_addr)(instance.handle, c"vkCreateDevice".as_ptr()) };
    // SAFETY: a function of this name has this type.
    let Some(create) = (unsafe { cast::<vk::PFN_vkCreateDevice>(create) }) else { return failed };
    // SAFETY: the caller's arguments go on.
    let result = unsafe { create(physical, info, allocator, device) };
    if result != vk::Result::SUCCESS {
        return result;
    }
    // SAFETY: written by the call that has succeeded.
    let handle = unsafe { *device };
    // SAFETY: made just now by the layer whose function this is.
    let Some(next) = (unsafe { Next::load(handle, link.get_device_proc_addr) }) else { return failed };
    registry::write().devices.insert(handle, Arc::new(Device::new(handle, next, lease)));
    result
}

/// vkDestroyDevice.
pub(crate) unsafe extern "system" fn destroy_device(handle: vk::Device, allocator: *const vk::AllocationCallbacks<'_>) {
    let mut all = registry::write();
    let Some(device) = all.devices.remove(&handle) else { return };
    let queues: Vec<Arc<Queue>> =
        all.queues.extract_if(|_, queue| Arc::ptr_eq(&queue.device, &device)).map(|(_, queue)| queue).collect();
    drop(all);
    device.closing.store(true, Ordering::Release);
    queues.iter().for_each(|queue| queue.close());
    device.destroy_fences();
    // SAFETY: the caller's arguments go on; the layer uses the device no more.
    unsafe { (device.next.destroy_device)(handle, allocator) };
}

/// A queue of a family has been given out.
fn note_queue(device: &Arc<Device>, handle: vk::Queue, family: u32) {
    if handle != vk::Queue::null() {
        let queue = || Arc::new(Queue::new(Arc::clone(device), handle, family));
        registry::write().queues.entry(handle).or_insert_with(queue);
    }
}

/// vkGetDeviceQueue.
pub(crate) unsafe extern "system" fn get_device_queue(handle: vk::Device, family: u32, index: u32, queue: *mut vk::Queue) {
    let Some(device) = registry::device(handle) else { return };
    // SAFETY: the caller's arguments go on.
    unsafe { (device.next.get_queue)(handle, family, index, queue) };
    // SAFETY: the call has written it.
    note_queue(&device, unsafe { *queue }, family);
}

/// vkGetDeviceQueue2.
pub(crate) unsafe extern "system" fn get_device_queue2(
    handle: vk::Device,
    info: *const vk::DeviceQueueInfo2<'_>,
    queue: *mut vk::Queue,
) {
    let Some(device) = registry::device(handle) else { return };
    let Some(next) = device.next.get_queue2 else { return };
    // SAFETY: the caller's arguments go on.
    unsafe { next(handle, info, queue) };
    // SAFETY: the caller's structure, which the call has just read.
    let family = unsafe { (*info).queue_family_index };
    // SAFETY: the call has written it.
    note_queue(&device, unsafe { *queue }, family);
}
