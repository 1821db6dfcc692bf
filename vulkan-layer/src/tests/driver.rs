//! A driver that does nothing but keep Vulkan's rules of fences, and writes down
//! what it is called for. One to a test; calls find it by their handles.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CStr, c_char};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::time::Duration;

use ash::vk::{self, Handle};

use super::Event;
use super::renderer::Story;

/// Whose handles are whose.
static DRIVERS: LazyLock<Mutex<HashMap<u64, Arc<Driver>>>> = LazyLock::new(Mutex::default);
/// Handles that nobody reads are numbers.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

thread_local! {
    /// What instances and devices are made by that are made in this thread.
    pub(super) static CURRENT: RefCell<Option<Arc<Driver>>> = const { RefCell::new(None) };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fence {
    Free,
    Pending,
    Signalled,
}

#[derive(Debug)]
pub(super) struct Driver {
    story: Arc<Story>,
    fences: Mutex<HashMap<vk::Fence, Fence>>,
    changed: Condvar,
    /// The device is lost.
    pub(super) lost: AtomicBool,
    /// The next call for memory, or submit, fails.
    pub(super) fails: AtomicBool,
    /// It has no vkQueueSubmit2.
    pub(super) is_old: AtomicBool,
    /// What its instance's and its physical device's handles are.
    pub(super) handle: u64,
}

impl Driver {
    pub(super) fn new(story: &Arc<Story>) -> Arc<Self> {
        // The first word of a handle tells instances apart.
        let object = Box::leak(Box::new(0_usize));
        *object = std::ptr::from_mut(object).expose_provenance();
        let handle = u64::try_from(*object).unwrap();
        let [lost, fails, is_old] = [(); 3].map(|()| AtomicBool::new(false));
        let (fences, changed) = (Mutex::default(), Condvar::new());
        let driver = Arc::new(Self { story: Arc::clone(story), fences, changed, lost, fails, is_old, handle });
        driver.owns(handle);
        driver
    }

    fn owns(self: &Arc<Self>, handle: u64) {
        DRIVERS.lock().unwrap().insert(handle, Arc::clone(self));
    }

    fn new_handle(self: &Arc<Self>) -> u64 {
        let number = NUMBERS.fetch_add(1, Ordering::SeqCst);
        self.owns(number);
        number
    }

    /// A fence of the program's.
    pub(super) fn fence(&self) -> vk::Fence {
        let fence = vk::Fence::from_raw(NUMBERS.fetch_add(1, Ordering::SeqCst));
        self.fences.lock().unwrap().insert(fence, Fence::Free);
        fence
    }

    /// All that was submitted is done.
    pub(super) fn finish(&self) {
        for state in self.fences.lock().unwrap().values_mut() {
            if *state == Fence::Pending {
                *state = Fence::Signalled;
            }
        }
        self.changed.notify_all();
    }

    pub(super) fn lose(&self) {
        self.lost.store(true, Ordering::SeqCst);
        self.changed.notify_all();
    }

    /// How many fences there are.
    pub(super) fn fences(&self) -> usize {
        self.fences.lock().unwrap().len()
    }

    /// What is submitted with a fence, or nothing but that.
    fn submitted(&self, count: u32, fence: vk::Fence) -> vk::Result {
        if self.lost.load(Ordering::SeqCst) {
            return vk::Result::ERROR_DEVICE_LOST;
        }
        if self.fails.swap(false, Ordering::SeqCst) {
            return vk::Result::ERROR_OUT_OF_HOST_MEMORY;
        }
        if fence != vk::Fence::null() {
            let before = self.fences.lock().unwrap().insert(fence, Fence::Pending);
            assert_eq!(before, Some(Fence::Free), "a fence that cannot be submitted");
        }
        self.story.tell(Event::Submits { batches: count, has_fence: fence != vk::Fence::null() });
        vk::Result::SUCCESS
    }
}

fn of(handle: impl Handle) -> Arc<Driver> {
    Arc::clone(&DRIVERS.lock().unwrap()[&handle.as_raw()])
}

fn current() -> Arc<Driver> {
    CURRENT.with_borrow(|current| Arc::clone(current.as_ref().unwrap()))
}

type Info<'a, T> = *const T;
type Callbacks<'a> = *const vk::AllocationCallbacks<'a>;

unsafe extern "system" fn create_instance(_: Info<vk::InstanceCreateInfo<'_>>, _: Callbacks<'_>, made: *mut vk::Instance) -> vk::Result {
    // SAFETY: the caller's place for it.
    unsafe { *made = vk::Instance::from_raw(current().handle) };
    vk::Result::SUCCESS
}

unsafe extern "system" fn destroy_instance(instance: vk::Instance, _: Callbacks<'_>) {
    of(instance).story.tell(Event::InstanceEnds);
}

unsafe extern "system" fn create_device(
    _: vk::PhysicalDevice,
    _: Info<vk::DeviceCreateInfo<'_>>,
    _: Callbacks<'_>,
    made: *mut vk::Device,
) -> vk::Result {
    current().story.tell(Event::DeviceBegins);
    // SAFETY: the caller's place for it.
    unsafe { *made = vk::Device::from_raw(current().new_handle()) };
    vk::Result::SUCCESS
}

unsafe extern "system" fn destroy_device(device: vk::Device, _: Callbacks<'_>) {
    of(device).story.tell(Event::DeviceEnds);
}

unsafe extern "system" fn get_queue(device: vk::Device, _: u32, _: u32, queue: *mut vk::Queue) {
    // SAFETY: the caller's place for it.
    unsafe { *queue = vk::Queue::from_raw(of(device).new_handle()) };
}

unsafe extern "system" fn get_queue2(device: vk::Device, _: Info<vk::DeviceQueueInfo2<'_>>, queue: *mut vk::Queue) {
    // SAFETY: the caller's arguments.
    unsafe { get_queue(device, 0, 0, queue) }
}

unsafe extern "system" fn submit(queue: vk::Queue, count: u32, _: Info<vk::SubmitInfo<'_>>, fence: vk::Fence) -> vk::Result {
    of(queue).submitted(count, fence)
}

unsafe extern "system" fn submit2(queue: vk::Queue, count: u32, _: Info<vk::SubmitInfo2<'_>>, fence: vk::Fence) -> vk::Result {
    of(queue).submitted(count, fence)
}

unsafe extern "system" fn bind_sparse(queue: vk::Queue, count: u32, _: Info<vk::BindSparseInfo<'_>>, fence: vk::Fence) -> vk::Result {
    of(queue).submitted(count, fence)
}

unsafe extern "system" fn allocate(
    device: vk::Device,
    _: Info<vk::MemoryAllocateInfo<'_>>,
    _: Callbacks<'_>,
    memory: *mut vk::DeviceMemory,
) -> vk::Result {
    let driver = of(device);
    if driver.fails.swap(false, Ordering::SeqCst) {
        return vk::Result::ERROR_OUT_OF_DEVICE_MEMORY;
    }
    driver.story.tell(Event::Allocates);
    // SAFETY: the caller's place for it.
    unsafe { *memory = vk::DeviceMemory::from_raw(NUMBERS.fetch_add(1, Ordering::SeqCst)) };
    vk::Result::SUCCESS
}

unsafe extern "system" fn free(device: vk::Device, _: vk::DeviceMemory, _: Callbacks<'_>) {
    of(device).story.tell(Event::Frees);
}

unsafe extern "system" fn create_fence(
    device: vk::Device,
    _: Info<vk::FenceCreateInfo<'_>>,
    _: Callbacks<'_>,
    made: *mut vk::Fence,
) -> vk::Result {
    // SAFETY: the caller's place for it.
    unsafe { *made = of(device).fence() };
    vk::Result::SUCCESS
}

unsafe extern "system" fn destroy_fence(device: vk::Device, fence: vk::Fence, _: Callbacks<'_>) {
    let driver = of(device);
    let state = driver.fences.lock().unwrap().remove(&fence).unwrap();
    assert!(state != Fence::Pending || driver.lost.load(Ordering::SeqCst), "a fence that is in use");
}

unsafe extern "system" fn reset_fences(device: vk::Device, count: u32, fences: *const vk::Fence) -> vk::Result {
    assert_eq!(count, 1);
    // SAFETY: the caller's array of one.
    let fence = unsafe { *fences };
    let before = of(device).fences.lock().unwrap().insert(fence, Fence::Free);
    assert!(matches!(before, Some(Fence::Signalled | Fence::Free)), "a fence that is in use");
    vk::Result::SUCCESS
}

unsafe extern "system" fn wait_for_fences(
    device: vk::Device,
    count: u32,
    fences: *const vk::Fence,
    _: vk::Bool32,
    timeout: u64,
) -> vk::Result {
    assert_eq!(count, 1);
    // SAFETY: the caller's array of one.
    let fence = unsafe { *fences };
    let driver = of(device);
    let waits = |states: &mut HashMap<_, _>| states[&fence] != Fence::Signalled && !driver.lost.load(Ordering::SeqCst);
    let timeout = Duration::from_nanos(timeout);
    let (states, waited) = driver.changed.wait_timeout_while(driver.fences.lock().unwrap(), timeout, waits).unwrap();
    match (states[&fence], waited.timed_out()) {
        (Fence::Signalled, _) => vk::Result::SUCCESS,
        (_, true) => vk::Result::TIMEOUT,
        _ => vk::Result::ERROR_DEVICE_LOST,
    }
}

unsafe extern "system" fn other(_: vk::Device) -> vk::Result {
    vk::Result::INCOMPLETE
}

macro_rules! function {
    ($kind:ident, $function:expr) => {{
        let function: vk::$kind = $function;
        // SAFETY: who asks for it by its name casts it back.
        Some(unsafe { std::mem::transmute::<vk::$kind, unsafe extern "system" fn()>(function) })
    }};
}

pub(super) unsafe extern "system" fn get_instance_proc_addr(_: vk::Instance, name: *const c_char) -> vk::PFN_vkVoidFunction {
    // SAFETY: the caller's string.
    match unsafe { CStr::from_ptr(name) }.to_bytes() {
        b"vkCreateInstance" => function!(PFN_vkCreateInstance, create_instance),
        b"vkDestroyInstance" => function!(PFN_vkDestroyInstance, destroy_instance),
        b"vkCreateDevice" => function!(PFN_vkCreateDevice, create_device),
        b"vkQueueSubmit" => function!(PFN_vkQueueSubmit, submit),
        _ => None,
    }
}

pub(super) unsafe extern "system" fn get_device_proc_addr(device: vk::Device, name: *const c_char) -> vk::PFN_vkVoidFunction {
    // SAFETY: the caller's string.
    match unsafe { CStr::from_ptr(name) }.to_bytes() {
        b"vkDestroyDevice" => function!(PFN_vkDestroyDevice, destroy_device),
        b"vkGetDeviceQueue" => function!(PFN_vkGetDeviceQueue, get_queue),
        b"vkGetDeviceQueue2" => function!(PFN_vkGetDeviceQueue2, get_queue2),
        b"vkQueueSubmit" => function!(PFN_vkQueueSubmit, submit),
        b"vkQueueSubmit2" if of(device).is_old.load(Ordering::SeqCst) => None,
        b"vkQueueSubmit2" | b"vkQueueSubmit2KHR" => function!(PFN_vkQueueSubmit2, submit2),
        b"vkQueueBindSparse" => function!(PFN_vkQueueBindSparse, bind_sparse),
        b"vkAllocateMemory" => function!(PFN_vkAllocateMemory, allocate),
        b"vkFreeMemory" => function!(PFN_vkFreeMemory, free),
        b"vkCreateFence" => function!(PFN_vkCreateFence, create_fence),
        b"vkDestroyFence" => function!(PFN_vkDestroyFence, destroy_fence),
        b"vkResetFences" => function!(PFN_vkResetFences, reset_fences),
        b"vkWaitForFences" => function!(PFN_vkWaitForFences, wait_for_fences),
        b"vkDeviceWaitIdle" => function!(PFN_vkDeviceWaitIdle, other),
        _ => None,
    }
}
