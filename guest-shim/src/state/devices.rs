//! The host's devices as HELLO described them at cuInit: everything that the
//! device queries answer without leaving the guest.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};

use paravane_protocol::codec::Decoder;
use paravane_protocol::cuda_types::*;
use paravane_protocol::internal;
use paravane_protocol::limits::{DEVICES_MAX, VISIBLE_BYTES_MAX};
use paravane_protocol::visible::ENV_VISIBLE;

use crate::boundary::Answer;
use crate::connection::with_ring;
use crate::handles;

/// One device.
pub(crate) struct Device {
    pub(crate) name: Vec<u8>,
    pub(crate) uuid: CUuuid,
    pub(crate) total_bytes: u64,
    pub(crate) pci_bus_id: Vec<u8>,
    /// By attribute number; `i32::MIN` where the host's library has none.
    pub(crate) attributes: Vec<i32>,
    /// The id of the primary context, active or not.
    pub(crate) primary: CUcontext,
    /// Times that this process retained it and did not release it.
    retained: AtomicU32,
    /// What the host last told of it: epoch, [`PRIMARY_ACTIVE`] and flags.
    primary_state: AtomicU64,
}

/// What HELLO told.
pub(crate) struct Hello {
    pub(crate) driver_version: i32,
    /// Whether an ordinal means the same device as without CUDA_VISIBLE_DEVICES.
    pub(crate) in_order: bool,
    pub(crate) devices: Vec<Device>,
}

static HELLO: OnceLock<Hello> = OnceLock::new();
/// The token of the connection that was asked; none is 0.
static ASKED: AtomicU64 = AtomicU64::new(0);
/// The device of every context that this process knows.
static CONTEXTS: RwLock<Vec<(u64, CUdevice)>> = RwLock::new(Vec::new());

/// What the host told at cuInit or to NVML; CUDA_ERROR_NOT_INITIALIZED before.
#[inline]
pub(crate) fn hello() -> Answer<&'static Hello> {
    HELLO.get().ok_or(CUDA_ERROR_NOT_INITIALIZED)
}

/// Asks the host, once for each connection. The host runs its own cuInit for this.
pub(crate) fn ask(connection: u64) -> Answer<&'static Hello> {
    if ASKED.load(Ordering::Acquire) == connection {
        return hello();
    }
    let mut devices = Vec::new();
    let visible = visible();
    loop {
        let first = devices.len() as u64;
        let (driver_version, count, in_order) = with_ring(|ring| {
            ring.call_anywhere(
                internal::HELLO,
                |to| {
                    to.word(first);
                    to.word(u64::from(visible.is_some()));
                    to.bytes(visible.as_deref().unwrap_or_default().as_bytes());
                    Ok(())
                },
                |from| read_hello(from, &mut devices),
            )
        })??;
        if devices.len() as u64 >= count {
            // A forked child that asks again has the same devices as its parent.
            if HELLO.set(Hello { driver_version, in_order, devices }).is_ok() {
                remember_primaries(&hello()?.devices);
            }
            ASKED.store(connection, Ordering::Release);
            return hello();
        }
        if devices.len() as u64 == first {
            return Err(CUDA_ERROR_UNKNOWN); // No progress: not what HELLO answers.
        }
    }
}

/// The program's CUDA_VISIBLE_DEVICES as it is now, up to the last whole element
/// that may be sent. What is not text names nothing.
fn visible() -> Option<String> {
    let mut list = std::env::var_os(ENV_VISIBLE)?.to_string_lossy().into_owned();
    if list.len() > VISIBLE_BYTES_MAX {
        let kept = list.bytes().take(VISIBLE_BYTES_MAX).rposition(|byte| byte == b',');
        list.truncate(kept.unwrap_or(0));
    }
    Some(list)
}

fn read_hello(from: &mut Decoder, devices: &mut Vec<Device>) -> Answer<(i32, u64, bool)> {
    let driver_version = i32::from_word(from.word());
    let count = from.word().min(u64::from(DEVICES_MAX));
    let present = from.word();
    let in_order = from.word() != 0;
    for _ in 0..present.min(count) {
        devices.push(read_device(from)?);
    }
    Ok((driver_version, count, in_order))
}

fn read_device(from: &mut Decoder) -> Answer<Device> {
    let name = from.bytes().to_vec();
    let uuid = from.bytes().try_into().map_err(|_| CUDA_ERROR_UNKNOWN)?;
    let total_bytes = from.word();
    let pci_bus_id = from.bytes().to_vec();
    let (attributes, _) = from.bytes().as_chunks();
    let attributes = attributes.iter().map(|raw| i32::from_le_bytes(*raw)).collect();
    let primary = handles::mint()?;
    Ok(Device { name, uuid: CUuuid { bytes: uuid }, total_bytes, pci_bus_id, attributes, primary, retained: AtomicU32::new(0), primary_state: AtomicU64::new(0) })
}

fn remember_primaries(devices: &[Device]) {
    for (ordinal, device) in (0..).zip(devices) {
        remember_context(device.primary, CUdevice(ordinal));
    }
}

/// The device with an ordinal; CUDA_ERROR_INVALID_DEVICE for none.
#[inline]
pub(crate) fn device(device: CUdevice) -> Answer<&'static Device> {
    let ordinal = usize::try_from(device.0).map_err(|_| CUDA_ERROR_INVALID_DEVICE)?;
    hello()?.devices.get(ordinal).ok_or(CUDA_ERROR_INVALID_DEVICE)
}

impl Device {
    /// An attribute's value; CUDA_ERROR_INVALID_VALUE for an unknown one.
    pub(crate) fn attribute(&self, attribute: CUdevice_attribute) -> Answer<i32> {
        match self.attributes.get(attribute.0 as usize) {
            Some(&i32::MIN) | None => Err(CUDA_ERROR_INVALID_VALUE),
            Some(&value) => Ok(value),
        }
    }
}

impl Device {
    /// The primary context was retained.
    pub(crate) fn retain(&self) {
        self.retained.fetch_add(1, Ordering::Relaxed);
    }

    /// The primary context was released.
    pub(crate) fn release(&self) {
        let less = |count: u32| Some(count.saturating_sub(1));
        let _ = self.retained.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// How often the primary context is retained.
    pub(crate) fn retained(&self) -> u32 {
        self.retained.load(Ordering::Relaxed)
    }
}

/// Counts the calls that may have changed a primary context; from 1.
static PRIMARY_EPOCH: AtomicU32 = AtomicU32::new(1);
const PRIMARY_ACTIVE: u64 = 1 << 31;

/// A call has returned that may have changed a primary context.
pub(crate) fn primary_may_differ() {
    PRIMARY_EPOCH.fetch_add(1, Ordering::Release);
}

/// To be read before the host is asked.
pub(crate) fn primary_epoch() -> u32 {
    PRIMARY_EPOCH.load(Ordering::Acquire)
}

impl Device {
    /// Flags and activity of the primary context, if they were told in this epoch.
    pub(crate) fn primary_state(&self, epoch: u32) -> Option<(u32, bool)> {
        let state = self.primary_state.load(Ordering::Acquire);
        let flags = u32::try_from(state & (PRIMARY_ACTIVE - 1)).ok()?;
        (state >> 32 == u64::from(epoch)).then_some((flags, state & PRIMARY_ACTIVE != 0))
    }

    /// The host has told them; the epoch is of before it was asked.
    pub(crate) fn note_primary_state(&self, epoch: u32, flags: u32, active: bool) {
        let state = u64::from(epoch) << 32 | u64::from(flags & 0x7fff_ffff);
        let active = if active { PRIMARY_ACTIVE } else { 0 };
        self.primary_state.store(state | active, Ordering::Release);
    }
}

/// Whether the host has the context: a primary one is known here before it is
/// retained, and may even be current.
pub(crate) fn is_active(context: u64) -> bool {
    let inactive = |device: &Device| device.primary.0 == context && device.retained() == 0;
    !HELLO.get().is_some_and(|hello| hello.devices.iter().any(inactive))
}

/// A context exists on a device.
pub(crate) fn remember_context(context: CUcontext, device: CUdevice) {
    let mut contexts = CONTEXTS.write().unwrap_or_else(PoisonError::into_inner);
    contexts.push((context.0, device));
}

/// A context is gone.
pub(crate) fn forget_context(context: CUcontext) {
    let mut contexts = CONTEXTS.write().unwrap_or_else(PoisonError::into_inner);
    contexts.retain(|(number, _)| *number != context.0);
}

/// The device of a context; CUDA_ERROR_INVALID_CONTEXT for an unknown one.
pub(crate) fn of_context(context: CUcontext) -> Answer<CUdevice> {
    let contexts = CONTEXTS.read().unwrap_or_else(PoisonError::into_inner);
    let found = contexts.iter().find(|(number, _)| *number == context.0);
    found.map(|(_, device)| *device).ok_or(CUDA_ERROR_INVALID_CONTEXT)
}
