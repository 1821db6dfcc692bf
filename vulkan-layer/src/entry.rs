//! How Vulkan's loader finds the layer's functions, and instances, of which
//! nothing is wanted but who is next.
#![allow(unsafe_code, reason = "Vulkan's functions")]

use std::ffi::{CStr, c_char, c_void};

use ash::vk;

use crate::chain::{self, InstanceLink};
use crate::registry::{self, Instance, Key};
use crate::{device, memory, submit};

/// VkNegotiateLayerInterface, of LAYER_NEGOTIATE_INTERFACE_STRUCT.
#[repr(C)]
pub(crate) struct Negotiation {
    pub(crate) s_type: u32,
    pub(crate) p_next: *mut c_void,
    pub(crate) version: u32,
    pub(crate) get_instance_proc_addr: Option<vk::PFN_vkGetInstanceProcAddr>,
    pub(crate) get_device_proc_addr: Option<vk::PFN_vkGetDeviceProcAddr>,
    pub(crate) get_physical_device_proc_addr: *const c_void,
}

/// LAYER_NEGOTIATE_INTERFACE_STRUCT.
pub(crate) const NEGOTIATION: u32 = 1;
/// The loader's interface that is spoken here.
pub(crate) const VERSION: u32 = 2;

/// The loader's first call.
///
/// # Safety
/// As the loader's interface has it.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "the loader's name")]
pub(crate) unsafe extern "system" fn vkNegotiateLoaderLayerInterfaceVersion(wanted: *mut Negotiation) -> vk::Result {
    // SAFETY: the loader's structure, or null.
    let Some(wanted) = (unsafe { wanted.as_mut() }) else { return vk::Result::ERROR_INITIALIZATION_FAILED };
    if wanted.s_type != NEGOTIATION || wanted.version < VERSION {
        return vk::Result::ERROR_INITIALIZATION_FAILED;
    }
    wanted.version = VERSION;
    wanted.get_instance_proc_addr = Some(get_instance_proc_addr);
    wanted.get_device_proc_addr = Some(get_device_proc_addr);
    wanted.get_physical_device_proc_addr = std::ptr::null();
    vk::Result::SUCCESS
}

/// A function of this layer's, of the type that Vulkan has.
macro_rules! pointer {
    ($kind:ty, $function:expr) => {{
        let function: $kind = $function;
        function as *const ()
    }};
}

/// Any function, as Vulkan tells of it.
fn any(function: *const ()) -> vk::PFN_vkVoidFunction {
    // SAFETY: made by pointer! of a function. Who asked for it by its name casts it back to its type.
    Some(unsafe { std::mem::transmute::<*const (), unsafe extern "system" fn()>(function) })
}

fn of_instances(name: &CStr) -> Option<*const ()> {
    Some(match name.to_bytes() {
        b"vkGetInstanceProcAddr" => pointer!(vk::PFN_vkGetInstanceProcAddr, get_instance_proc_addr),
        b"vkCreateInstance" => pointer!(vk::PFN_vkCreateInstance, create_instance),
        b"vkDestroyInstance" => pointer!(vk::PFN_vkDestroyInstance, destroy_instance),
        b"vkCreateDevice" => pointer!(vk::PFN_vkCreateDevice, device::create_device),
        b"vkGetDeviceProcAddr" => pointer!(vk::PFN_vkGetDeviceProcAddr, get_device_proc_addr),
        _ => return None,
    })
}

fn of_devices(name: &CStr) -> Option<*const ()> {
    Some(match name.to_bytes() {
        b"vkGetDeviceProcAddr" => pointer!(vk::PFN_vkGetDeviceProcAddr, get_device_proc_addr),
        b"vkDestroyDevice" => pointer!(vk::PFN_vkDestroyDevice, device::destroy_device),
        b"vkGetDeviceQueue" => pointer!(vk::PFN_vkGetDeviceQueue, device::get_device_queue),
        b"vkGetDeviceQueue2" => pointer!(vk::PFN_vkGetDeviceQueue2, device::get_device_queue2),
        b"vkQueueSubmit" => pointer!(vk::PFN_vkQueueSubmit, submit::queue_submit),
        b"vkQueueSubmit2" | b"vkQueueSubmit2KHR" => pointer!(vk::PFN_vkQueueSubmit2, submit::queue_submit2),
        b"vkQueueBindSparse" => pointer!(vk::PFN_vkQueueBindSparse, submit::queue_bind_sparse),
        b"vkAllocateMemory" => pointer!(vk::PFN_vkAllocateMemory, memory::allocate_memory),
        b"vkFreeMemory" => pointer!(vk::PFN_vkFreeMemory, memory::free_memory),
        _ => return None,
    })
}

/// Where the next layer has a function, this one's of that name; else the next one's.
fn instead(name: &CStr, next: vk::PFN_vkVoidFunction) -> vk::PFN_vkVoidFunction {
    next.and_then(|next| of_devices(name).map_or(Some(next), any))
}

/// vkGetInstanceProcAddr.
pub(crate) unsafe extern "system" fn get_instance_proc_addr(
    instance: vk::Instance,
    name: *const c_char,
) -> vk::PFN_vkVoidFunction {
    // SAFETY: the caller's string, as Vulkan demands.
    let symbol = unsafe { CStr::from_ptr(name) };
    if let Some(function) = of_instances(symbol) {
        return any(function);
    }
    if instance == vk::Instance::null() {
        return None;
    }
    // SAFETY: an instance of the loader's.
    let key = unsafe { Key::of(instance) };
    let next = registry::read().instances.get(&key)?.get_instance_proc_addr;
    // SAFETY: the caller's arguments go on.
    instead(symbol, unsafe { next(instance, name) })
}

/// vkGetDeviceProcAddr.
pub(crate) unsafe extern "system" fn get_device_proc_addr(device: vk::Device, name: *const c_char) -> vk::PFN_vkVoidFunction {
    // SAFETY: the caller's string, as Vulkan demands.
    let symbol = unsafe { CStr::from_ptr(name) };
    let next = registry::device(device)?.next.get_device_proc_addr;
    // SAFETY: the caller's arguments go on.
    instead(symbol, unsafe { next(device, name) })
}

/// vkCreateInstance.
unsafe extern "system" fn create_instance(
    info: *const vk::InstanceCreateInfo<'_>,
    allocator: *const vk::AllocationCallbacks<'_>,
    instance: *mut vk::Instance,
) -> vk::Result {
    let failed = vk::Result::ERROR_INITIALIZATION_FAILED;
    // SAFETY: the caller's structure.
    let Some(of_caller) = (unsafe { info.as_ref() }) else { return failed };
    // SAFETY: its pNext, which has come through the loader.
    let Some(link) = (unsafe { chain::take::<InstanceLink>(of_caller.p_next) }) else { return failed };
    let next = link.get_instance_proc_addr;
    // SAFETY: a function of no instance, which the next one's must tell of.
    let create = unsafe { next(vk::Instance::null(), c"vkCreateInstance".as_ptr()) };
    // SAFETY: a function of this name has this type.
    let Some(create) = (unsafe { device::cast::<vk::PFN_vkCreateInstance>(create) }) else { return failed };
    // SAFETY: the caller's arguments go on.
    let result = unsafe { create(info, allocator, instance) };
    if result != vk::Result::SUCCESS {
        return result;
    }
    // SAFETY: written by the call that has succeeded.
    let handle = unsafe { *instance };
    // SAFETY: the instance is there.
    let destroy = unsafe { next(handle, c"vkDestroyInstance".as_ptr()) };
    // SAFETY: a function of this name has this type.
    let Some(destroy) = (unsafe { device::cast::<vk::PFN_vkDestroyInstance>(destroy) }) else { return failed };
    // SAFETY: the loader's instance.
    let key = unsafe { Key::of(handle) };
    registry::write().instances.insert(key, Instance { handle, get_instance_proc_addr: next, destroy });
    result
}

/// vkDestroyInstance.
unsafe extern "system" fn destroy_instance(instance: vk::Instance, allocator: *const vk::AllocationCallbacks<'_>) {
    if instance == vk::Instance::null() {
        return;
    }
    // SAFETY: an instance of the loader's, still there.
    let key = unsafe { Key::of(instance) };
    let known = registry::write().instances.remove(&key);
    if let Some(known) = known {
        // SAFETY: the caller's arguments go on.
        unsafe { (known.destroy)(instance, allocator) };
    }
}
