//! Device memory: asked for at the renderer before the next layer is. What is
//! imported is memory that somebody has already.
#![allow(unsafe_code, reason = "Vulkan's functions")]

use std::sync::PoisonError;

use ash::vk;

use crate::device::Device;
use crate::registry;

/// Whether this allocation brings memory that is there already.
///
/// # Safety
/// The caller's structure, as vkAllocateMemory demands.
unsafe fn imports(info: &vk::MemoryAllocateInfo<'_>) -> bool {
    let mut at = info.p_next.cast::<vk::BaseInStructure>();
    loop {
        // SAFETY: a pNext chain, whose structures begin so.
        let Some(base) = (unsafe { at.as_ref() }) else { return false };
        let imports = match base.s_type {
            vk::StructureType::IMPORT_MEMORY_FD_INFO_KHR => {
                // SAFETY: a structure of this type.
                let import = unsafe { &*at.cast::<vk::ImportMemoryFdInfoKHR>() };
                // Without a type nothing is imported.
                !import.handle_type.is_empty()
            }
            vk::StructureType::IMPORT_MEMORY_HOST_POINTER_INFO_EXT => {
                // SAFETY: a structure of this type.
                let import = unsafe { &*at.cast::<vk::ImportMemoryHostPointerInfoEXT>() };
                !import.handle_type.is_empty()
            }
            _ => false,
        };
        if imports {
            return true;
        }
        at = base.p_next.cast();
    }
}

/// vkAllocateMemory.
pub(crate) unsafe extern "system" fn allocate_memory(
    handle: vk::Device,
    info: *const vk::MemoryAllocateInfo<'_>,
    allocator: *const vk::AllocationCallbacks<'_>,
    memory: *mut vk::DeviceMemory,
) -> vk::Result {
    let refused = vk::Result::ERROR_OUT_OF_DEVICE_MEMORY;
    let Some(device) = registry::device(handle) else { return refused };
    // SAFETY: the caller's structure.
    let Some(of_caller) = (unsafe { info.as_ref() }) else { return refused };
    // SAFETY: the caller's structure.
    let bytes = if unsafe { imports(of_caller) } { 0 } else { of_caller.allocation_size };
    if bytes > 0 && !device.lease.take(bytes) {
        return refused;
    }
    // SAFETY: the caller's arguments go on.
    let result = unsafe { (device.next.allocate)(handle, info, allocator, memory) };
    if bytes == 0 {
        return result;
    }
    match result {
        vk::Result::SUCCESS => {
            // SAFETY: written by the call that has succeeded.
            let made = unsafe { *memory };
            device.memory.lock().unwrap_or_else(PoisonError::into_inner).insert(made, bytes);
        }
        _ => device.lease.give_back(bytes),
    }
    result
}

/// vkFreeMemory.
pub(crate) unsafe extern "system" fn free_memory(
    handle: vk::Device,
    memory: vk::DeviceMemory,
    allocator: *const vk::AllocationCallbacks<'_>,
) {
    let Some(device) = registry::device(handle) else { return };
    // Before it is free: another thread may be given the handle again.
    let bytes = counted(&device, memory);
    // SAFETY: the caller's arguments go on.
    unsafe { (device.next.free)(handle, memory, allocator) };
    if let Some(bytes) = bytes {
        device.lease.give_back(bytes);
    }
}

fn counted(device: &Device, memory: vk::DeviceMemory) -> Option<u64> {
    device.memory.lock().unwrap_or_else(PoisonError::into_inner).remove(&memory)
}
