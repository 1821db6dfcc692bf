//! The EDID of the one display (VESA E-EDID 1.4), made here: 1024 by 768 at
//! 60 Hz, digital, no extension.

/// Preferred width in pixels.
pub const WIDTH: u32 = 1024;
/// Preferred height in pixels.
pub const HEIGHT: u32 = 768;

/// Size on the wall in millimetres, as of 96 dots per inch.
const WIDTH_MM: u16 = 271;
const HEIGHT_MM: u16 = 203;

/// VESA DMT of 1024x768 at 60 Hz: pixel clock in 10 kHz, then active, blanking,
/// front porch and pulse of both directions.
const CLOCK_10KHZ: u16 = 6500;
const HORIZONTAL: [u16; 4] = [1024, 320, 24, 136];
const VERTICAL: [u16; 4] = [768, 38, 3, 6];

/// The base block.
pub fn block() -> [u8; 128] {
    let mut block = [0; 128];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        if let Some(place) = block.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
        at += bytes.len();
    };
    put(&[0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00]);
    put(&maker(*b"PVN").to_be_bytes());
    // Product 1, serial 0, model year 2025, version 1.4.
    put(&[1, 0, 0, 0, 0, 0, 0xff, 35, 1, 4]);
    // Digital, 8 bits a colour; size in cm; gamma 2.2; RGB, first timing preferred.
    put(&[0xa0, 27, 20, 120, 0x06]);
    // sRGB's chromaticities.
    put(&[0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54]);
    // Established: 640x480, 800x600, 1024x768, all at 60 Hz.
    put(&[0x21, 0x08, 0x00]);
    put(&[0x01; 16]);
    put(&timing());
    put(&text(0xfc, b"Paravane\n    "));
    put(&[0, 0, 0, 0xfd, 0, 50, 75, 30, 80, 17, 1, 0x0a, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20]);
    put(&text(0xfe, b"virtio-gpu\n  "));
    // No extension; the sum of all bytes is 0.
    put(&[0]);
    let sum = block.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    block[127] = sum.wrapping_neg();
    block
}

/// Three capital letters in five bits each.
fn maker(letters: [u8; 3]) -> u16 {
    letters.iter().fold(0, |id, letter| id << 5 | u16::from(letter - b'A' + 1))
}

/// A display descriptor with text.
fn text(tag: u8, text: &[u8; 13]) -> [u8; 18] {
    let mut descriptor = [0; 18];
    descriptor[3] = tag;
    descriptor[5..].copy_from_slice(text);
    descriptor
}

/// The detailed timing of the preferred mode.
fn timing() -> [u8; 18] {
    let [clock_low, clock_high] = CLOCK_10KHZ.to_le_bytes();
    let low = |value: u16| value.to_le_bytes()[0];
    let high = |value: u16| value.to_le_bytes()[1];
    let [active, blank, front, pulse] = HORIZONTAL;
    let [lines, vblank, vfront, vpulse] = VERTICAL;
    [
        clock_low,
        clock_high,
        low(active),
        low(blank),
        high(active) << 4 | high(blank),
        low(lines),
        low(vblank),
        high(lines) << 4 | high(vblank),
        low(front),
        low(pulse),
        low(vfront) << 4 | low(vpulse),
        high(front) << 6 | high(pulse) << 4 | (low(vfront) >> 4) << 2 | low(vpulse) >> 4,
        low(WIDTH_MM),
        low(HEIGHT_MM),
        high(WIDTH_MM) << 4 | high(HEIGHT_MM),
        0,
        0,
        // Digital separate sync, both negative.
        0x18,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_sums_to_zero_and_names_itself() {
        let block = block();
        assert_eq!(block.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)), 0);
        assert_eq!(block[..8], [0, 255, 255, 255, 255, 255, 255, 0]);
        assert_eq!(block[18..20], [1, 4]);
        assert_eq!(&block[77..85], b"Paravane");
        assert_eq!(block[126], 0);
    }

    #[test]
    fn the_first_timing_is_the_preferred_mode() {
        let block = block();
        let timing = &block[54..72];
        let width = u32::from(timing[2]) | u32::from(timing[4] >> 4) << 8;
        let height = u32::from(timing[5]) | u32::from(timing[7] >> 4) << 8;
        assert_eq!((width, height), (WIDTH, HEIGHT));
        let total = |active: u32, blank: u32| active + blank;
        let horizontal = total(width, u32::from(timing[3]) | u32::from(timing[4] & 15) << 8);
        let vertical = total(height, u32::from(timing[6]) | u32::from(timing[7] & 15) << 8);
        let clock = u32::from(u16::from_le_bytes([timing[0], timing[1]])) * 10_000;
        assert_eq!(clock / (horizontal * vertical), 60);
    }
}
