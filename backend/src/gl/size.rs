//! How much memory a texture, a buffer or whatever else virgl makes takes on
//! the host, as the VM's budget counts it: what OpenGL itself allocates is
//! nowhere to be asked.
#![deny(clippy::indexing_slicing)]

use paravane_protocol::virtio_gpu::ResourceCreate3d;

/// What drivers allocate at least.
const GRANULE: u64 = 4096;

/// pipe_texture_target: what has no format, what has depth, what has six sides.
const BUFFER: u32 = 0;
const VOLUME: u32 = 3;
const CUBE: u32 = 4;

/// For each of virgl's formats, the power of two of a pixel's bytes, as drivers
/// pad it; `a` and `b` for those of 8 and 16 bytes for four by four pixels. What
/// is not in the list is taken for 16 bytes.
const FORMATS: &[u8] = b"\
      4222211120001122122222203444234423442344234423441233123312331233\
      01222012240122444401224234412330122222222aabbaabbaabb22212122230\
      220224212220211aabb001011211121223222222001122222012201221233123\
      3234423440001000111121112222322232a2222222333334441222311223321b\
      bbb1112112222aaaabbaabbbbbbbbbbbbbbbbbbbbbbbbbbbbbb4244101333201\
      1102220212111122221112222222";

fn picture(format: u32, width: u64, height: u64) -> u64 {
    let blocks = || width.div_ceil(4).saturating_mul(height.div_ceil(4));
    let pixels = width.saturating_mul(height);
    match usize::try_from(format).ok().and_then(|format| FORMATS.get(format)) {
        Some(b'a') => blocks().saturating_mul(8),
        Some(b'b') => blocks().saturating_mul(16),
        Some(power @ b'0'..=b'4') => pixels.saturating_mul(1 << (power - b'0')),
        _ => pixels.saturating_mul(16),
    }
}

/// The bytes of all levels, layers and samples.
pub(super) fn bytes(of: &ResourceCreate3d) -> u64 {
    let [width, height, depth, layers, samples] =
        [of.width, of.height, of.depth, of.array_size, of.nr_samples].map(|side| u64::from(side.get()).max(1));
    let (target, format) = (of.target.get(), of.format.get());
    let level = |level: u32| {
        let shrunk = |side: u64| (side >> level).max(1);
        let depth = if target == VOLUME { shrunk(depth) } else { depth };
        picture(format, shrunk(width), shrunk(height)).saturating_mul(depth)
    };
    let bytes = match target {
        BUFFER => width,
        _ => (0..=of.last_level.get().min(31)).map(level).fold(0, u64::saturating_add),
    };
    let layers = if target == CUBE { layers.max(6) } else { layers };
    let bytes = bytes.saturating_mul(layers).saturating_mul(samples);
    bytes.checked_next_multiple_of(GRANULE).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RGBA: u32 = 67;
    const TEXTURE: u32 = 2;

    fn of(target: u32, format: u32, [width, height, depth]: [u32; 3], layers: u32, last_level: u32, samples: u32) -> u64 {
        bytes(&ResourceCreate3d {
            target: target.into(),
            format: format.into(),
            width: width.into(),
            height: height.into(),
            depth: depth.into(),
            array_size: layers.into(),
            last_level: last_level.into(),
            nr_samples: samples.into(),
            ..Default::default()
        })
    }

    #[test]
    fn levels_layers_and_samples_count() {
        assert_eq!(of(BUFFER, 64, [10_000, 1, 1], 1, 0, 0), 12_288);
        assert_eq!(of(TEXTURE, RGBA, [1024, 512, 1], 1, 0, 0), 2 << 20);
        assert_eq!(of(TEXTURE, RGBA, [1024, 512, 1], 1, 0, 4), 8 << 20);
        // All levels of a square: four thirds, and the last one's pixel.
        assert_eq!(of(TEXTURE, RGBA, [1024, 1024, 1], 1, 10, 0), 5_595_136);
        assert_eq!(of(CUBE, RGBA, [64, 64, 1], 6, 0, 0), 6 * 16_384);
        assert_eq!(of(VOLUME, RGBA, [64, 64, 64], 1, 1, 0), (1 << 20) + (1 << 17));
        assert_eq!(of(7, RGBA, [64, 64, 1], 10, 0, 0), 10 * 16_384);
    }

    #[test]
    fn formats_differ() {
        let half_mebi = |format| of(TEXTURE, format, [1024, 1024, 1], 1, 0, 0) >> 19;
        // R8, B5G6R5, Z24S8, RGBA16F, RGBA32F, DXT1, DXT5, ETC2 RGB, ASTC 4x4, unknown.
        let formats = [64, 7, 19, 94, 31, 105, 108, 269, 279, 4000];
        let sizes: Vec<u64> = formats.iter().map(|format| half_mebi(*format)).collect();
        assert_eq!(sizes, [2, 4, 8, 16, 32, 1, 2, 1, 2, 32]);
    }

    #[test]
    fn absurd_sizes_are_more_than_any_budget() {
        assert_eq!(of(VOLUME, 31, [u32::MAX; 3], u32::MAX, u32::MAX, u32::MAX), u64::MAX);
        assert_eq!(of(TEXTURE, RGBA, [0; 3], 0, 0, 0), GRANULE);
    }
}
