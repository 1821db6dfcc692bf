//! The handshake by which cudart makes sure that its driver library fits it
//! (export table d4082055, slot 1). It covers the calling process, thread and
//! addresses in it, so it is computed where it is asked.

use crate::libcuda::Identity;
use crate::md2;

/// The key, which NVIDIA's runtime has too.
const KEY: [u8; 16] =
    [0x14, 0x6a, 0xdd, 0xae, 0x53, 0xa9, 0xa7, 0x52, 0xaa, 0x08, 0x41, 0x36, 0x0b, 0xf5, 0x5a, 0x9f];
/// The answers where the version's last digit is 0 or 1.
const FIXED: [u64; 2] = [0x3341_181c_03cb_675c, 0x1841_181c_03cb_675c];
const FIXED_SECOND: u64 = 0x8ed3_83aa_1f4c_d1e8;

/// What the digest covers, in this order.
pub(crate) struct Facts {
    pub(crate) driver_version: u32,
    pub(crate) process: u32,
    /// The low half of pthread_self().
    pub(crate) thread: u32,
    /// Addresses of table 6bd5fb6c, of table d4082055, and of the latter's
    /// slot 1 as it points.
    pub(crate) addresses: [usize; 3],
    pub(crate) devices: Vec<Identity>,
}

/// The answer for a runtime version and the time that the runtime gives.
pub(crate) fn answer(version: u32, time: u64, facts: impl FnOnce() -> Facts) -> [u64; 2] {
    match version % 10 {
        0 => [FIXED[0], FIXED_SECOND],
        1 => [FIXED[1], FIXED_SECOND],
        _ => {
            let digest = md2::hmac(KEY, &message(version, time, &facts()));
            let (words, _) = digest.as_chunks();
            [word(words.first()), word(words.get(1))]
        }
    }
}

fn word(bytes: Option<&[u8; 8]>) -> u64 {
    bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn message(version: u32, time: u64, facts: &Facts) -> Vec<u8> {
    let numbers = [facts.driver_version, version, facts.process, facts.thread];
    let mut bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    bytes.extend(facts.addresses.iter().flat_map(|address| address.to_le_bytes()));
    bytes.extend(time.to_le_bytes());
    for device in &facts.devices {
        bytes.extend(device.uuid.bytes);
        bytes.extend(device.pci.iter().flat_map(|number| number.to_le_bytes()));
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use paravane_protocol::cuda_types::CUuuid;

    fn facts(thread: u32) -> Facts {
        let uuid = CUuuid { bytes: *b"0123456789abcdef" };
        Facts {
            driver_version: 13_050,
            process: 4711,
            thread,
            addresses: [0x1000, 0x2000, 0x3000],
            devices: vec![Identity { uuid, pci: [0, 59, 0] }],
        }
    }

    #[test]
    fn two_versions_of_ten_have_fixed_answers() {
        let none = || -> Facts { panic!("a fixed answer looks at nothing") };
        assert_eq!(answer(13_050, 9, none), [0x3341_181c_03cb_675c, 0x8ed3_83aa_1f4c_d1e8]);
        assert_eq!(answer(12_091, 9, none), [0x1841_181c_03cb_675c, 0x8ed3_83aa_1f4c_d1e8]);
    }

    #[test]
    fn the_message_holds_every_fact_in_order() {
        let message = message(13_052, 0x0102_0304, &facts(7));
        assert_eq!(message.len(), 16 + 24 + 8 + 28);
        assert_eq!(message[..4], 13_050_u32.to_le_bytes());
        assert_eq!(message[12..16], 7_u32.to_le_bytes());
        assert_eq!(message[40..48], 0x0102_0304_u64.to_le_bytes());
        assert_eq!(message[48..64], *b"0123456789abcdef");
        assert_eq!(message[68..72], 59_i32.to_le_bytes());
    }

    #[test]
    fn another_thread_gets_another_answer() {
        assert_ne!(answer(13_052, 9, || facts(7)), answer(13_052, 9, || facts(8)));
    }
}
