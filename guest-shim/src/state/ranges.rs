//! Where device memory lies: what was allocated and which globals were asked
//! for. Unified copies need to know whether an address is the device's.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

static DEVICE: RwLock<BTreeMap<u64, u64>> = RwLock::new(BTreeMap::new());

/// Device memory of `bytes` from `start` exists.
pub(crate) fn insert(start: u64, bytes: u64) {
    DEVICE.write().unwrap_or_else(PoisonError::into_inner).insert(start, bytes.max(1));
}

/// The device memory that starts at `start` is gone.
pub(crate) fn remove(start: u64) {
    DEVICE.write().unwrap_or_else(PoisonError::into_inner).remove(&start);
}

/// Whether `address` lies in device memory.
pub(crate) fn is_device(address: u64) -> bool {
    let device = DEVICE.read().unwrap_or_else(PoisonError::into_inner);
    let before = device.range(..=address).next_back();
    before.is_some_and(|(start, bytes)| address - start < *bytes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_address_is_the_devices_from_its_first_to_its_last_byte() {
        super::insert(0x9_0000, 0x100);
        assert!(super::is_device(0x9_0000) && super::is_device(0x9_00ff));
        assert!(!super::is_device(0x8_ffff) && !super::is_device(0x9_0100));
        super::remove(0x9_0000);
        assert!(!super::is_device(0x9_0000));
    }
}
