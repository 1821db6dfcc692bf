//! The device's configuration space (virtio 1.3, 5.7.4) and features.

use paravane_protocol::virtio_gpu::{Config, feature};
use zerocopy::IntoBytes;

use crate::scanout::SCANOUTS;

/// Ring and transport features: indirect descriptors, event index, version 1,
/// vhost-user's protocol features, and queue reset: QEMU's vhost-user-gpu-pci
/// acknowledges that one on its own, whatever the back end offers.
const RING_FEATURES: u64 = 1 << 28 | 1 << 29 | 1 << 30 | 1 << 32 | 1 << 40;

/// What a virtio-gpu adds to the ring's features.
const DEVICE_FEATURES: u64 = 1 << feature::VIRGL
    | 1 << feature::EDID
    | 1 << feature::RESOURCE_BLOB
    | 1 << feature::CONTEXT_INIT;

/// The features that the device offers. Without `with_3d` those of the ring
/// only: what a front end negotiates that knows no device's own features. `uuids`:
/// textures can be what other devices have too.
pub fn features(with_3d: bool, uuids: bool) -> u64 {
    match (with_3d, uuids) {
        (true, true) => RING_FEATURES | DEVICE_FEATURES | 1 << feature::RESOURCE_UUID,
        (true, false) => RING_FEATURES | DEVICE_FEATURES,
        (false, _) => RING_FEATURES,
    }
}

/// The bytes that a front end asks for; zero past the end. `capsets` are those of OpenGL.
pub fn read(offset: u32, size: u32, capsets: usize) -> Vec<u8> {
    let capsets = u32::try_from(capsets).unwrap_or(0) + 1;
    let config =
        Config { num_scanouts: SCANOUTS.into(), num_capsets: capsets.into(), ..Config::default() };
    let bytes = config.as_bytes();
    (u64::from(offset)..u64::from(offset) + u64::from(size))
        .map(|at| usize::try_from(at).ok().and_then(|at| bytes.get(at)).copied().unwrap_or(0))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_has_the_length_that_was_asked_for() {
        assert_eq!(read(8, 8, 0), [1, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(read(12, 12, 2), [3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(read(u32::MAX, 2, 0), [0, 0]);
    }

    #[test]
    fn without_3d_only_the_rings_features_are_offered() {
        assert_eq!(features(false, true) & 0xff_ffff, 0, "the device's own bits (5.7.3)");
        assert_eq!(features(true, false) & DEVICE_FEATURES, DEVICE_FEATURES);
        assert_eq!(features(true, false) & 1 << feature::RESOURCE_UUID, 0);
        assert_eq!(features(true, true) & 1 << feature::RESOURCE_UUID, 1 << feature::RESOURCE_UUID);
    }
}
