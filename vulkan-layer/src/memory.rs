//! Device memory: asked for at the renderer before the next layer is. What is
//! imported is memory that somebody has already.
#![allow(unsafe_code, reason = "Vulkan's functions")]

use std::sync::PoisonError;

use ash::vk;

use crate::device::Device;
use crate::registry;

/// Guests map whole pages.
const PAGE_BYTES: u64 = 4096;

/// What a chain says of an allocation.
#[derive(Default)]
struct Asked {
    /// It brings memory that is there already.
    imports: bool,
    /// It is to be handed out as a descriptor of the driver's own kind.
    opaque: bool,
}

/// Reads a chain.
///
/// # Safety
/// The caller's structure, as vkAllocateMemory demands.
unsafe fn asked(info: &vk::MemoryAllocateInfo<'_>) -> Asked {
    let mut at = info.p_next.cast::<vk::BaseInStructure>();
    let mut asked = Asked::default();
    loop {
        // SAFETY: a pNext chain, whose structures begin so.
        let Some(base) = (unsafe { at.as_ref() }) else { return asked };
        asked.imports |= match base.s_type {
            vk::StructureType::EXPORT_MEMORY_ALLOCATE_INFO => {
                // SAFETY: a structure of this type.
                let export = unsafe { &*at.cast::<vk::ExportMemoryAllocateInfo>() };
                asked.opaque |= export.handle_types.contains(vk::ExternalMemoryHandleTypeFlags::OPAQUE_FD);
                false
            }
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
    let asked = unsafe { asked(of_caller) };
    let mut passed = *of_caller;
    if asked.opaque && !asked.imports {
        // The guest maps the last page too, which the driver's file need not have whole.
        passed.allocation_size = passed.allocation_size.checked_next_multiple_of(PAGE_BYTES).unwrap_or(u64::MAX);
    }
    let bytes = if asked.imports { 0 } else { passed.allocation_size };
    if bytes > 0 && !device.lease.take(bytes) {
        return refused;
    }
    // SAFETY: the caller's arguments go on.
    let result = unsafe { (device.next.allocate)(handle, &raw const passed, allocator, memory) };
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
