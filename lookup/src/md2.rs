//! The MD2 digest (RFC 1319), and the keyed digest made of it (RFC 2104 with
//! MD2's block of 16 bytes). No secret is kept with it: it is broken as a hash,
//! and here only what cudart compares.

const BLOCK: usize = 16;

/// RFC 1319's table, made of the digits of pi.
const PI: [u8; 256] = [
    41, 46, 67, 201, 162, 216, 124, 1, 61, 54, 84, 161, 236, 240, 6, 19, 98, 167, 5, 243, 192, 199, 115, 140, 152,
    147, 43, 217, 188, 76, 130, 202, 30, 155, 87, 60, 253, 212, 224, 22, 103, 66, 111, 24, 138, 23, 229, 18, 190, 78,
    196, 214, 218, 158, 222, 73, 160, 251, 245, 142, 187, 47, 238, 122, 169, 104, 121, 145, 21, 178, 7, 63, 148, 194,
    16, 137, 11, 34, 95, 33, 128, 127, 93, 154, 90, 144, 50, 39, 53, 62, 204, 231, 191, 247, 151, 3, 255, 25, 48, 179,
    72, 165, 181, 209, 215, 94, 146, 42, 172, 86, 170, 198, 79, 184, 56, 210, 150, 164, 125, 182, 118, 252, 107, 226,
    156, 116, 4, 241, 69, 157, 112, 89, 100, 113, 135, 32, 134, 91, 207, 101, 230, 45, 168, 2, 27, 96, 37, 173, 174,
    176, 185, 246, 28, 70, 97, 105, 52, 64, 126, 15, 85, 71, 163, 35, 221, 81, 175, 58, 195, 92, 249, 206, 186, 197,
    234, 38, 44, 83, 13, 110, 133, 40, 132, 9, 211, 223, 205, 244, 65, 129, 77, 82, 106, 220, 55, 200, 108, 193, 171, 250,
    36, 225, 123, 8, 12, 189, 177, 74, 120, 136, 149, 139, 227, 99, 232, 109, 233, 203, 213, 254, 59, 0, 29, 57, 242,
    239, 183, 14, 102, 88, 208, 228, 166, 119, 114, 248, 235, 117, 75, 10, 49, 68, 80, 180, 143, 237, 31, 26, 219, 153,
    141, 51, 159, 17, 131, 20,
];

fn substituted(byte: u8) -> u8 {
    PI.get(usize::from(byte)).copied().unwrap_or(0)
}

/// One round over a block: the state's three parts are state, block, and both
/// combined.
fn compress(state: &mut [u8; BLOCK], block: &[u8]) {
    let mixed = state.iter().zip(block).map(|(state, byte)| state ^ byte);
    let mut all: Vec<u8> = state.iter().copied().chain(block.iter().copied()).chain(mixed).collect();
    let mut last = 0_u8;
    for round in 0..18_u8 {
        for byte in &mut all {
            *byte ^= substituted(last);
            last = *byte;
        }
        last = last.wrapping_add(round);
    }
    for (to, from) in state.iter_mut().zip(all) {
        *to = from;
    }
}

fn add_to_checksum(checksum: &mut [u8; BLOCK], block: &[u8]) {
    let [.., mut last] = *checksum;
    for (sum, byte) in checksum.iter_mut().zip(block) {
        *sum ^= substituted(byte ^ last);
        last = *sum;
    }
}

/// MD2 of a message.
pub(crate) fn md2(message: &[u8]) -> [u8; BLOCK] {
    let padding = BLOCK - message.len() % BLOCK;
    let mut padded = message.to_vec();
    padded.resize(message.len() + padding, u8::try_from(padding).unwrap_or(0));
    let (mut state, mut checksum) = ([0; BLOCK], [0; BLOCK]);
    for block in padded.chunks(BLOCK) {
        compress(&mut state, block);
        add_to_checksum(&mut checksum, block);
    }
    compress(&mut state, &checksum);
    state
}

/// HMAC with MD2 for a key of one block.
pub(crate) fn hmac(key: [u8; BLOCK], message: &[u8]) -> [u8; BLOCK] {
    let padded = |pad: u8, rest: &[u8]| -> Vec<u8> {
        key.iter().map(|byte| byte ^ pad).chain(rest.iter().copied()).collect()
    };
    md2(&padded(0x5c, &md2(&padded(0x36, message))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(digest: [u8; 16]) -> String {
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// RFC 1319, A.5.
    #[test]
    fn the_rfcs_messages_have_the_rfcs_digests() {
        let known = [
            ("", "8350e5a3e24c153df2275c9f80692773"),
            ("a", "32ec01ec4a6dac72c0ab96fb34c0b5d1"),
            ("abc", "da853b0d3f88d99b30283a69e6ded6bb"),
            ("message digest", "ab4f496bfb2a530b219ff33031fe06b0"),
            ("abcdefghijklmnopqrstuvwxyz", "4e8ddff3650292ab5a4108c3aa47940b"),
            (
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
                "da33def2a42df13975352846c30338cd",
            ),
            (
                "12345678901234567890123456789012345678901234567890123456789012345678901234567890",
                "d5976f79d83d3a0dc9806c3c66f3efd8",
            ),
        ];
        for (message, digest) in known {
            assert_eq!(hex(md2(message.as_bytes())), digest, "{message:?}");
        }
    }

    /// RFC 2104's construction, written out for an empty message.
    #[test]
    fn the_keyed_digest_is_two_nested_digests() {
        let key = *b"0123456789abcdef";
        let inner = md2(&key.map(|byte| byte ^ 0x36));
        let outer: Vec<u8> = key.iter().map(|byte| byte ^ 0x5c).chain(inner).collect();
        assert_eq!(hmac(key, b""), md2(&outer));
        assert_ne!(hmac(key, b""), hmac(key, b"\0"));
    }
}
