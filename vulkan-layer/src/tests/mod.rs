//! The layer as Vulkan's loader meets it, between a stand-in driver and a
//! stand-in renderer.
#![allow(unsafe_code, reason = "Vulkan's functions")]

mod driver;
mod renderer;

use std::cell::Cell;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use ash::vk::{self, Handle};

use crate::chain::{DeviceLink, InstanceLink, LayerInfo};
use crate::device::cast;
use crate::entry::{self, Negotiation};
use driver::{CURRENT, Driver};
use renderer::{Renderer, Story};

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Asks { command_buffers: u64 },
    Submits { batches: u32, has_fence: bool },
    Over { ticket: u64 },
    Allocates,
    Frees,
    DeviceBegins,
    DeviceEnds,
    InstanceEnds,
    HungUp,
}
use Event::{Allocates, Asks, DeviceBegins, DeviceEnds, Frees, HungUp, InstanceEnds, Over, Submits};

/// The ticket of a device's first submit.
const FIRST: u64 = 71;

thread_local! {
    static INHERITED: Cell<Option<RawFd>> = const { Cell::new(None) };
}

/// What stands in for the environment.
pub(crate) fn inherited() -> Option<RawFd> {
    INHERITED.get()
}

/// A program with an instance, perhaps a device with a queue.
struct Program {
    story: Arc<Story>,
    driver: Arc<Driver>,
    renderer: Arc<Renderer>,
    get_instance_proc_addr: vk::PFN_vkGetInstanceProcAddr,
    get_device_proc_addr: vk::PFN_vkGetDeviceProcAddr,
    instance: vk::Instance,
    device: vk::Device,
    queue: vk::Queue,
}

impl Program {
    fn with_instance() -> Self {
        let story = Arc::new(Story::default());
        let (driver, renderer) = (Driver::new(&story), Renderer::start(&story));
        CURRENT.set(Some(Arc::clone(&driver)));
        INHERITED.set(Some(renderer.number()));
        let mut layer = Negotiation {
            s_type: entry::NEGOTIATION,
            p_next: ptr::null_mut(),
            version: 7,
            get_instance_proc_addr: None,
            get_device_proc_addr: None,
            get_physical_device_proc_addr: ptr::null(),
        };
        // SAFETY: a structure as the loader has it.
        let agreed = unsafe { entry::vkNegotiateLoaderLayerInterfaceVersion(&raw mut layer) };
        assert_eq!((agreed, layer.version), (vk::Result::SUCCESS, entry::VERSION));
        let (get_instance_proc_addr, get_device_proc_addr) = (layer.get_instance_proc_addr.unwrap(), layer.get_device_proc_addr.unwrap());
        let (instance, device, queue) = Default::default();
        let mut program = Self { story, driver, renderer, get_instance_proc_addr, get_device_proc_addr, instance, device, queue };
        let create: vk::PFN_vkCreateInstance = program.of_instance(c"vkCreateInstance").unwrap();
        let get_instance_proc_addr = driver::get_instance_proc_addr;
        let mut link = InstanceLink { next: ptr::null_mut(), get_instance_proc_addr, get_physical_device_proc_addr: ptr::null() };
        let chained = LayerInfo {
            s_type: vk::StructureType::LOADER_INSTANCE_CREATE_INFO,
            p_next: ptr::null(),
            function: 0,
            link: &raw mut link,
        };
        let info = vk::InstanceCreateInfo { p_next: (&raw const chained).cast(), ..Default::default() };
        // SAFETY: structures as the loader has them.
        let made = unsafe { create(&raw const info, ptr::null(), &raw mut program.instance) };
        assert_eq!((made, chained.link.is_null()), (vk::Result::SUCCESS, true), "the next one has its own link");
        program
    }

    fn new() -> Self {
        let mut program = Self::with_instance();
        assert_eq!(program.create_device(), vk::Result::SUCCESS);
        let get: vk::PFN_vkGetDeviceQueue = program.function(c"vkGetDeviceQueue").unwrap();
        // SAFETY: the device is there.
        unsafe { get(program.device, 0, 0, &raw mut program.queue) };
        assert_eq!(program.story.take(), [DeviceBegins]);
        program
    }

    fn create_device(&mut self) -> vk::Result {
        let create: vk::PFN_vkCreateDevice = self.of_instance(c"vkCreateDevice").unwrap();
        let (get_instance_proc_addr, get_device_proc_addr) = (driver::get_instance_proc_addr, driver::get_device_proc_addr);
        let mut link = DeviceLink { next: ptr::null_mut(), get_instance_proc_addr, get_device_proc_addr };
        let s_type = vk::StructureType::LOADER_DEVICE_CREATE_INFO;
        let chained = LayerInfo { s_type, p_next: ptr::null(), function: 0, link: &raw mut link };
        // One that is not the layer's to take comes before it.
        let p_next = (&raw const chained).cast();
        let other = LayerInfo::<DeviceLink> { s_type, p_next, function: 1, link: ptr::null_mut() };
        let info = vk::DeviceCreateInfo { p_next: (&raw const other).cast(), ..Default::default() };
        let physical = vk::PhysicalDevice::from_raw(self.driver.handle);
        // SAFETY: structures as the loader has them.
        unsafe { create(physical, &raw const info, ptr::null(), &raw mut self.device) }
    }

    fn of_instance<F: Copy>(&self, name: &CStr) -> Option<F> {
        // SAFETY: the instance is there, or is none.
        let found = unsafe { (self.get_instance_proc_addr)(self.instance, name.as_ptr()) };
        // SAFETY: tests ask for functions by their types.
        unsafe { cast(found) }
    }

    fn function<F: Copy>(&self, name: &CStr) -> Option<F> {
        // SAFETY: the device is there.
        let found = unsafe { (self.get_device_proc_addr)(self.device, name.as_ptr()) };
        // SAFETY: as above.
        unsafe { cast(found) }
    }

    /// Submits two batches with so many command buffers each.
    fn submit(&self, command_buffers: u32, fence: vk::Fence) -> vk::Result {
        let submit: vk::PFN_vkQueueSubmit = self.function(c"vkQueueSubmit").unwrap();
        let batches = [vk::SubmitInfo { command_buffer_count: command_buffers, ..Default::default() }; 2];
        // SAFETY: the stand-in driver reads no command buffers.
        unsafe { submit(self.queue, 2, batches.as_ptr(), fence) }
    }

    fn submit2(&self, command_buffers: u32, fence: vk::Fence) -> vk::Result {
        let submit: vk::PFN_vkQueueSubmit2 = self.function(c"vkQueueSubmit2KHR").unwrap();
        let batch = vk::SubmitInfo2 { command_buffer_info_count: command_buffers, ..Default::default() };
        // SAFETY: as above.
        unsafe { submit(self.queue, 1, &raw const batch, fence) }
    }

    fn bind_sparse(&self) -> vk::Result {
        let bind: vk::PFN_vkQueueBindSparse = self.function(c"vkQueueBindSparse").unwrap();
        let batch = vk::BindSparseInfo::default();
        // SAFETY: it binds nothing.
        unsafe { bind(self.queue, 1, &raw const batch, vk::Fence::null()) }
    }

    fn allocate(&self, info: &vk::MemoryAllocateInfo<'_>) -> Result<vk::DeviceMemory, vk::Result> {
        let allocate: vk::PFN_vkAllocateMemory = self.function(c"vkAllocateMemory").unwrap();
        let mut memory = vk::DeviceMemory::null();
        // SAFETY: the device is there.
        match unsafe { allocate(self.device, info, ptr::null(), &raw mut memory) } {
            vk::Result::SUCCESS => Ok(memory),
            error => Err(error),
        }
    }

    fn free(&self, memory: vk::DeviceMemory) {
        let free: vk::PFN_vkFreeMemory = self.function(c"vkFreeMemory").unwrap();
        // SAFETY: nobody uses it.
        unsafe { free(self.device, memory, ptr::null()) }
    }

    fn destroy_device(&self) {
        let destroy: vk::PFN_vkDestroyDevice = self.function(c"vkDestroyDevice").unwrap();
        // SAFETY: nothing uses it any more.
        unsafe { destroy(self.device, ptr::null()) }
    }

    fn left(&self) -> u64 {
        self.renderer.left.load(Ordering::SeqCst)
    }

    fn wait_for(&self, event: Event) {
        until(|| self.story.has(event));
    }
}

/// Waits until what another thread does is so.
fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        thread::yield_now();
    }
}

const NO_FENCE: vk::Fence = vk::Fence::null();

#[test]
fn a_submit_is_admitted_before_and_has_a_fence_behind() {
    let program = Program::new();
    assert_eq!(program.submit(3, NO_FENCE), vk::Result::SUCCESS);
    assert_eq!(program.story.take(), [Asks { command_buffers: 6 }, Submits { batches: 2, has_fence: true }]);
    program.driver.finish();
    program.wait_for(Over { ticket: FIRST });
    program.story.take();
    let theirs = program.driver.fence();
    assert_eq!(program.submit2(1, theirs), vk::Result::SUCCESS);
    let own = Submits { batches: 0, has_fence: true };
    assert_eq!(program.story.take(), [Asks { command_buffers: 1 }, Submits { batches: 1, has_fence: true }, own]);
    program.driver.finish();
    program.wait_for(Over { ticket: FIRST + 1 });
    program.story.take();
    assert_eq!(program.bind_sparse(), vk::Result::SUCCESS);
    assert_eq!(program.story.take(), [Asks { command_buffers: 1 }, Submits { batches: 1, has_fence: true }]);
    program.driver.finish();
    program.wait_for(Over { ticket: FIRST + 2 });
    assert_eq!(program.driver.fences(), 2, "the layer's one fence, and the program's");
}

#[test]
fn nothing_is_submitted_before_the_renderer_says_so() {
    let program = Program::new();
    program.renderer.holds.store(true, Ordering::SeqCst);
    thread::scope(|scope| {
        let (program, held) = (&program, scope.spawn(|| program.submit(1, NO_FENCE)));
        program.wait_for(Asks { command_buffers: 2 });
        // What is not work passes meanwhile, and so does memory.
        assert_eq!(program.submit(0, NO_FENCE), vk::Result::SUCCESS);
        assert!(program.allocate(&vk::MemoryAllocateInfo::default().allocation_size(7)).is_ok());
        let passed = [Asks { command_buffers: 2 }, Submits { batches: 2, has_fence: false }, Allocates];
        assert_eq!(program.story.take(), passed);
        program.renderer.holds.store(false, Ordering::SeqCst);
        assert_eq!(held.join().unwrap(), vk::Result::SUCCESS);
        assert_eq!(program.story.take(), [Submits { batches: 2, has_fence: true }]);
    });
}

#[test]
fn a_submit_that_fails_is_over() {
    let program = Program::new();
    program.driver.fails.store(true, Ordering::SeqCst);
    assert_eq!(program.submit(1, NO_FENCE), vk::Result::ERROR_OUT_OF_HOST_MEMORY);
    program.wait_for(Over { ticket: FIRST });
    assert_eq!(program.submit(1, NO_FENCE), vk::Result::SUCCESS);
    program.driver.finish();
    program.wait_for(Over { ticket: FIRST + 1 });
}

#[test]
fn a_lost_device_ends_what_is_outstanding() {
    let program = Program::new();
    for _ in 0..3 {
        assert_eq!(program.submit(1, NO_FENCE), vk::Result::SUCCESS);
    }
    program.driver.lose();
    (FIRST..FIRST + 3).for_each(|ticket| program.wait_for(Over { ticket }));
    program.story.take();
    assert_eq!(program.submit(1, NO_FENCE), vk::Result::ERROR_DEVICE_LOST);
    program.destroy_device();
    program.wait_for(HungUp);
    assert!(program.story.has(DeviceEnds) && !program.story.has(Asks { command_buffers: 2 }));
    assert_eq!(program.driver.fences(), 0);
}

#[test]
fn memory_is_asked_for_and_given_back() {
    let program = Program::new();
    let of = |bytes| vk::MemoryAllocateInfo::default().allocation_size(bytes);
    let memory = program.allocate(&of(900)).unwrap();
    assert_eq!(program.allocate(&of(101)), Err(vk::Result::ERROR_OUT_OF_DEVICE_MEMORY));
    assert_eq!(program.story.take(), [Allocates], "what is refused is not called for");
    program.driver.fails.store(true, Ordering::SeqCst);
    assert_eq!(program.allocate(&of(100)), Err(vk::Result::ERROR_OUT_OF_DEVICE_MEMORY));
    until(|| program.left() == 100);
    let fd = vk::ExternalMemoryHandleTypeFlags::OPAQUE_FD;
    let mut import = vk::ImportMemoryFdInfoKHR::default().handle_type(fd);
    let imported = program.allocate(&of(u64::MAX).push_next(&mut import)).unwrap();
    let mut import = vk::ImportMemoryHostPointerInfoEXT::default().handle_type(fd);
    assert!(program.allocate(&of(u64::MAX).push_next(&mut import)).is_ok());
    let mut nothing = vk::ImportMemoryFdInfoKHR::default();
    assert!(program.allocate(&of(u64::MAX).push_next(&mut nothing)).is_err(), "that imports nothing");
    let mut export = vk::ExportMemoryAllocateInfo::default().handle_types(fd);
    assert!(program.allocate(&of(1).push_next(&mut export)).is_err(), "a whole page, for which there is no room");
    assert_eq!(program.left(), 100);
    [memory, imported, vk::DeviceMemory::null()].into_iter().for_each(|memory| program.free(memory));
    until(|| program.left() == 1000);
    assert_eq!(program.story.take()[2..], [Frees; 3]);
}

#[test]
fn without_the_renderer_nothing_is_submitted() {
    let program = Program::new();
    assert_eq!(program.submit(1, NO_FENCE), vk::Result::SUCCESS);
    program.renderer.hang_up();
    program.wait_for(HungUp);
    program.story.take();
    for _ in 0..2 {
        assert_eq!(program.submit(1, NO_FENCE), vk::Result::ERROR_DEVICE_LOST);
    }
    assert!(program.allocate(&vk::MemoryAllocateInfo::default().allocation_size(1)).is_err());
    assert!(!program.story.has(Submits { batches: 2, has_fence: true }) && !program.story.has(Allocates));
    program.driver.finish();
    program.destroy_device();
    assert_eq!(program.driver.fences(), 0);
}

#[test]
fn a_device_that_is_destroyed_while_it_works_is_over() {
    let program = Program::new();
    assert_eq!(program.submit(1, NO_FENCE), vk::Result::SUCCESS);
    program.destroy_device();
    // One socket may have ended before the other was read.
    program.wait_for(Over { ticket: FIRST });
    program.wait_for(HungUp);
    assert_eq!(program.driver.fences(), 1, "the queue's, still");
}

#[test]
fn without_a_lease_there_is_no_device() {
    let mut program = Program::with_instance();
    let file = std::fs::File::open("/dev/null").unwrap();
    for inherited in [None, Some(file.as_raw_fd())] {
        INHERITED.set(inherited);
        assert_eq!(program.create_device(), vk::Result::ERROR_INITIALIZATION_FAILED);
    }
    assert_eq!(program.story.take(), []);
    let destroy: vk::PFN_vkDestroyInstance = program.of_instance(c"vkDestroyInstance").unwrap();
    // SAFETY: nothing uses it.
    unsafe { destroy(program.instance, ptr::null()) };
    assert_eq!(program.story.take(), [InstanceEnds]);
}

#[test]
fn what_the_driver_lacks_the_layer_lacks_and_the_rest_is_the_drivers() {
    let program = Program::new();
    let wait: vk::PFN_vkDeviceWaitIdle = program.function(c"vkDeviceWaitIdle").unwrap();
    // SAFETY: the device is there.
    assert_eq!(unsafe { wait(program.device) }, vk::Result::INCOMPLETE);
    assert!(program.function::<vk::PFN_vkQueueSubmit2>(c"vkQueueSubmit2").is_some());
    program.driver.is_old.store(true, Ordering::SeqCst);
    assert!(program.function::<vk::PFN_vkQueueSubmit2>(c"vkQueueSubmit2").is_none());
    assert!(program.function::<vk::PFN_vkVoidFunction>(c"vkNoSuchFunction").is_none());
    assert!(program.of_instance::<vk::PFN_vkQueueSubmit>(c"vkQueueSubmit").is_some());
    assert!(program.of_instance::<vk::PFN_vkFreeMemory>(c"vkFreeMemory").is_none(), "the driver's instance has none");
    let mut queue = vk::Queue::null();
    let get: vk::PFN_vkGetDeviceQueue2 = program.function(c"vkGetDeviceQueue2").unwrap();
    let info = vk::DeviceQueueInfo2::default();
    // SAFETY: the device is there.
    unsafe { get(program.device, &raw const info, &raw mut queue) };
    assert_eq!(Program { queue, ..program }.submit(1, NO_FENCE), vk::Result::SUCCESS);
}
