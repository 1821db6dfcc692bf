//! Which instance, device and queue a handle is.
#![allow(unsafe_code, reason = "a handle's first word is read here")]

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ash::vk::{self, Handle};

use crate::device::Device;
use crate::submit::Queue;

/// An instance.
#[derive(Clone, Copy)]
pub(crate) struct Instance {
    pub(crate) handle: vk::Instance,
    pub(crate) get_instance_proc_addr: vk::PFN_vkGetInstanceProcAddr,
    pub(crate) destroy: vk::PFN_vkDestroyInstance,
}

/// What an instance and its physical devices have in common.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key(usize);

impl Key {
    /// That of an instance or a physical device.
    ///
    /// # Safety
    /// The handle is the loader's.
    pub(crate) unsafe fn of(handle: impl Handle) -> Self {
        let raw = usize::try_from(handle.as_raw()).unwrap_or(0);
        // SAFETY: behind such a handle the loader has the address of its dispatch table first.
        Self(unsafe { *std::ptr::with_exposed_provenance::<usize>(raw) })
    }
}

/// All that there are.
#[derive(Default)]
pub(crate) struct Registry {
    pub(crate) instances: HashMap<Key, Instance>,
    pub(crate) devices: HashMap<vk::Device, Arc<Device>>,
    pub(crate) queues: HashMap<vk::Queue, Arc<Queue>>,
}

static ALL: LazyLock<RwLock<Registry>> = LazyLock::new(RwLock::default);

/// To look something up.
pub(crate) fn read() -> RwLockReadGuard<'static, Registry> {
    ALL.read().unwrap_or_else(PoisonError::into_inner)
}

/// To change it.
pub(crate) fn write() -> RwLockWriteGuard<'static, Registry> {
    ALL.write().unwrap_or_else(PoisonError::into_inner)
}

/// A device.
pub(crate) fn device(handle: vk::Device) -> Option<Arc<Device>> {
    read().devices.get(&handle).cloned()
}

/// A queue.
pub(crate) fn queue(handle: vk::Queue) -> Option<Arc<Queue>> {
    read().queues.get(&handle).cloned()
}
