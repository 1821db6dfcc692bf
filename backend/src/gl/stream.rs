//! What a look at a stream of virgl commands tells, without executing it.
#![deny(clippy::indexing_slicing)]

/// VIRGL_CCMD_PIPE_RESOURCE_CREATE.
const PIPE_RESOURCE_CREATE: u32 = 48;

/// Whether a stream makes textures by itself, which no budget would see. Guests
/// do so for blobs of the host's memory only, and those are not offered.
pub(super) fn makes_resources(stream: &[u8]) -> bool {
    let (words, _) = stream.as_chunks::<4>();
    let mut at = 0_usize;
    while let Some(header) = words.get(at).map(|word| u32::from_le_bytes(*word)) {
        if header & 0xff == PIPE_RESOURCE_CREATE {
            return true;
        }
        // The upper half says how many words follow.
        at += (header >> 16) as usize + 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn a_resource_is_found_where_a_command_begins() {
        assert!(!makes_resources(&stream(&[0, 2 << 16 | 7, 48, 48, 0])));
        assert!(makes_resources(&stream(&[0, 2 << 16 | 7, 1, 2, 11 << 16 | 48])));
        assert!(!makes_resources(&stream(&[u32::MAX, 48])) && !makes_resources(&[48, 0, 0]));
    }
}
