//! What Vulkan's loader hangs into pNext for layers (vk_layer.h, the loader's
//! interface version 2): whom to call next.
#![allow(unsafe_code, reason = "the loader's structures are read here")]

use std::ffi::c_void;

use ash::vk;

/// VK_LAYER_LINK_INFO.
const LINK_INFO: u32 = 0;

/// VkLayerInstanceLink.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct InstanceLink {
    pub(crate) next: *mut InstanceLink,
    pub(crate) get_instance_proc_addr: vk::PFN_vkGetInstanceProcAddr,
    /// Not used: the layer has no functions of physical devices that the loader does not know.
    pub(crate) get_physical_device_proc_addr: *const c_void,
}

/// VkLayerDeviceLink.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct DeviceLink {
    pub(crate) next: *mut DeviceLink,
    pub(crate) get_instance_proc_addr: vk::PFN_vkGetInstanceProcAddr,
    pub(crate) get_device_proc_addr: vk::PFN_vkGetDeviceProcAddr,
}

/// VkLayerInstanceCreateInfo and VkLayerDeviceCreateInfo, where `function` is [`LINK_INFO`].
#[repr(C)]
pub(crate) struct LayerInfo<L> {
    pub(crate) s_type: vk::StructureType,
    pub(crate) p_next: *const c_void,
    pub(crate) function: u32,
    pub(crate) link: *mut L,
}

/// A link of the chain of layers.
pub(crate) trait Link: Copy {
    /// The structure that it comes in.
    const INFO: vk::StructureType;

    /// The next layer's.
    fn next(&self) -> *mut Self;
}

impl Link for InstanceLink {
    const INFO: vk::StructureType = vk::StructureType::LOADER_INSTANCE_CREATE_INFO;

    fn next(&self) -> *mut Self {
        self.next
    }
}

impl Link for DeviceLink {
    const INFO: vk::StructureType = vk::StructureType::LOADER_DEVICE_CREATE_INFO;

    fn next(&self) -> *mut Self {
        self.next
    }
}

/// This layer's link in a pNext chain; the chain has the next layer's from here on.
///
/// # Safety
/// `p_next` is a create info's pNext, as the loader hands it to a layer.
pub(crate) unsafe fn take<L: Link>(p_next: *const c_void) -> Option<L> {
    let mut at = p_next.cast::<vk::BaseInStructure>();
    loop {
        // SAFETY: the caller's pNext chain: each of its structures begins so.
        let base = unsafe { at.as_ref() }?;
        if base.s_type == L::INFO {
            // SAFETY: a structure of this type, which the loader has made for layers to change.
            let info = unsafe { &mut *at.cast_mut().cast::<LayerInfo<L>>() };
            if info.function == LINK_INFO {
                // SAFETY: the loader's link, which lives while the call does.
                let link = *unsafe { info.link.as_ref() }?;
                info.link = link.next();
                return Some(link);
            }
        }
        at = base.p_next.cast();
    }
}
